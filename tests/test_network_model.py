"""A model with a network: generating, saving and loading, and one sentence for what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.generator import GeneratorConfig, SpatialAvatar
from spatialavatar.generator.network import CorrectionNetwork, NetworkConfig, apply_corrections, network_inputs
from spatialavatar.generator.network.heads import FRONTAL, expression_code, harmonic_encoding
from spatialavatar.generator.network.weights import NETWORK_FILE

from .support.ball_head import make_ball_head
from .support.painted_head import base, model, painted_track
from .support.small_network import TINY, shaken

CONFIG = replace(TINY, color_channels=3)


@lru_cache
def trained() -> SpatialAvatar:
    """The painted head's model with a network of weights that are not zero, as half precision holds them."""
    torch.manual_seed(2)
    network = shaken(CorrectionNetwork(CONFIG, model().head, model().layout))
    network.load_state_dict({name: value.half().float() for name, value in network.state_dict().items()})
    return SpatialAvatar(GeneratorConfig(resolution=128, network=CONFIG), model().head, network=network.eval())


@lru_cache
def small_model(resolution: int = 48) -> SpatialAvatar:
    """The ball's, with an untrained network: quick to save and load."""
    torch.manual_seed(0)
    return SpatialAvatar(GeneratorConfig(resolution=resolution, network=CONFIG), make_ball_head())


@pytest.fixture
def same_base(monkeypatch):
    """Every avatar is made of the one base, which takes seconds to build."""
    monkeypatch.setattr("spatialavatar.generator.model.build_base", lambda *_: base())


def edited(folder: Path, change, header=None) -> Path:
    """The folder with its weights, or what they say of themselves, changed."""
    path = folder / NETWORK_FILE
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["spatialavatar"])
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"spatialavatar": json.dumps(facts | (header or {}))})
    return folder


def test_an_untrained_network_generates_the_base_to_the_last_bit(same_base):
    network = CorrectionNetwork(CONFIG, model().head, model().layout)
    config = GeneratorConfig(resolution=128, network=CONFIG)
    avatar = SpatialAvatar(config, model().head, network=network).generate(painted_track(0.15), polish=0)
    plain = model().generate(painted_track(0.15), polish=0)
    assert plain.residual is None
    params = avatar.reference.replace(expression=torch.full_like(avatar.reference.expression, 0.5))
    for found, expected in ((avatar.gaussians, plain.gaussians), (avatar.pose(params), plain.pose(params))):
        for name in ("means", "quats", "scales", "opacities", "colors"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_a_generated_avatar_has_the_networks_corrections_in_every_frame(same_base):
    avatar = trained().generate(painted_track(0.15), polish=0)
    network, start = trained().network, base()
    params = avatar.reference.replace(expression=torch.full_like(avatar.reference.expression, 0.5))
    with torch.no_grad():
        view = harmonic_encoding(torch.tensor([FRONTAL]))
        output = network(network_inputs(start, CONFIG.image_size), view, expression_code(params))
        expected = apply_corrections(start.gaussians, output.corrections[0])
    found = avatar.local(params)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-3, rtol=2e-3)
    assert (found.means - start.gaussians.means).abs().mean() > 0.02
    assert (found.means - avatar.gaussians.means).abs().mean() > 0.02


def test_an_avatar_does_not_carry_a_residual_that_says_nothing():
    network = shaken(CorrectionNetwork(CONFIG, model().head, model().layout))
    with_it, residual = network.gaussians_and_residual(base())
    assert residual is not None
    network.residual.reset()
    without, residual = network.gaussians_and_residual(base())
    assert residual is None
    assert torch.equal(with_it.means, without.means)


def test_only_three_colours_reach_the_avatar():
    network = shaken(CorrectionNetwork(TINY, model().head, model().layout))
    gaussians, residual = network.gaussians_and_residual(base())
    assert gaussians.colors.shape[1] == 3
    assert len(residual.output_bias) == 12


def test_a_saved_network_generates_the_same_avatar(tmp_path):
    again = SpatialAvatar.from_pretrained(trained().save_pretrained(tmp_path))
    assert again.config == trained().config
    first, second = (m.network.gaussians_and_residual(base()) for m in (trained(), again))
    assert torch.equal(first[0].means, second[0].means)
    assert torch.equal(first[1].features, second[1].features)


def test_weights_take_two_bytes_each_on_disk(tmp_path):
    small_model().save_pretrained(tmp_path)
    count = sum(value.numel() for value in small_model().network.parameters())
    assert (tmp_path / NETWORK_FILE).stat().st_size < 2 * count + 20_000


def test_a_model_saved_twice_is_the_same_file(tmp_path):
    again = SpatialAvatar.from_pretrained(small_model().save_pretrained(tmp_path / "a"))
    again.save_pretrained(tmp_path / "b")
    assert (tmp_path / "a" / NETWORK_FILE).read_bytes() == (tmp_path / "b" / NETWORK_FILE).read_bytes()


def test_a_model_that_lost_its_network_leaves_no_weights_behind(tmp_path):
    loaded = SpatialAvatar.from_pretrained(small_model().save_pretrained(tmp_path / "a"))
    bare = SpatialAvatar(replace(loaded.config, network=None), loaded.head, tmp_path / "a")
    assert SpatialAvatar.from_pretrained(bare.save_pretrained(tmp_path / "b")).network is None


@pytest.mark.parametrize(
    ("change", "header", "words"),
    [
        (lambda t: t.pop("dense.out.bias"), None, r"lacks dense\.out\.bias"),
        (lambda t: t.update(more=torch.zeros(1)), None, "has the unknown more"),
        (lambda t: t["dense.out.bias"].fill_(torch.nan), None, r"dense\.out\.bias that are not finite"),
        (lambda t: t.update({"dense.out.bias": torch.zeros(2)}), None, r"shape \(2,\) instead of \(6,\)"),
        (lambda t: None, {"version": 9}, "version 9, this release reads version 1"),
        (lambda t: None, {"format": "cake"}, "not a network's weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, header, words):
    folder = edited(small_model().save_pretrained(tmp_path), change, header)
    with pytest.raises(FormatError, match=words):
        SpatialAvatar.from_pretrained(folder)


def test_a_network_of_another_head_model_is_refused(tmp_path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(FormatError, match="trained on the head model 'ball' with 2 expressions, not on 'cube' with 2"):
        SpatialAvatar.from_pretrained(tmp_path, head=make_ball_head(head_id="cube"))


def test_a_network_of_another_number_of_expressions_is_refused(tmp_path):
    folder = edited(small_model().save_pretrained(tmp_path), lambda t: None, {"expressions": 100})
    with pytest.raises(FormatError, match="with 100 expressions, not on 'ball' with 2"):
        SpatialAvatar.from_pretrained(folder)


def test_a_network_of_another_resolution_is_refused(tmp_path):
    small_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"resolution": 32}))
    with pytest.raises(FormatError, match=r"layout of 48 texels a side .* the model's has 32"):
        SpatialAvatar.from_pretrained(tmp_path)


def test_a_network_whose_weights_are_missing_is_refused(tmp_path):
    small_model().save_pretrained(tmp_path)
    (tmp_path / NETWORK_FILE).unlink()
    with pytest.raises(MissingAssetError, match="fetch the model again"):
        SpatialAvatar.from_pretrained(tmp_path)


def test_weights_that_are_cut_short_are_refused(tmp_path):
    path = small_model().save_pretrained(tmp_path) / NETWORK_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="damaged"):
        SpatialAvatar.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        ("network", "more", 1, "unknown key more"),
        ("network", "uv_channels", None, "lacks uv_channels"),
        ("network", "uv_channels", "many", "uv_channels is 'many'"),
        ("network", "visibility_damping", 1.5, "visibility_damping is 1.5; give a number from 0 to 1"),
        ("network", "visibility_damping", "much", "visibility_damping is 'much'"),
        ("network", "along_normal", "face", "along_normal is 'face'; give names"),
        ("network", "along_normal", [1], r"along_normal is \(1,\); give names"),
        ("network", "opacity_gain", -0.1, "opacity_gain is -0.1; give a number from 0 to 1"),
        ("encoder", "widths", [4, 6], r"widths is \(4, 6\); give 4 whole numbers"),
        ("encoder", "kind", "oracle", "no encoder 'oracle'"),
    ],
)
def test_a_wrong_configuration_of_a_network_is_refused(tmp_path, part, key, value, words):
    small_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    changed = config["network"] if part == "network" else config["network"]["encoder"]
    changed.pop(key, None)
    if value is not None:
        changed[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((FormatError, InputError), match=words):
        SpatialAvatar.from_pretrained(tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    broken = SpatialAvatar(small_model().config, small_model().head)
    with torch.no_grad():
        broken.network.dense.out.bias[0] = torch.inf
    with pytest.raises(InputError, match=r"dense\.out\.bias"):
        broken.save_pretrained(tmp_path)
    assert not (tmp_path / NETWORK_FILE).exists()


def test_a_network_of_other_sizes_than_the_configuration_is_refused():
    network = CorrectionNetwork(CONFIG, small_model().head, small_model().layout)
    with pytest.raises(InputError, match="sizes"):
        SpatialAvatar(GeneratorConfig(resolution=48, network=NetworkConfig()), small_model().head, network=network)
    with pytest.raises(InputError, match="sizes"):
        SpatialAvatar(GeneratorConfig(resolution=48), small_model().head, network=network)


def test_a_frozen_transformer_stays_its_publishers(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}

    def fetched(name, revision=None):
        torch.manual_seed(7)
        return transformers.AutoModel.from_config(transformers.Dinov2Config(**sizes, patch_size=14))

    monkeypatch.setattr("spatialavatar.generator.network.encoders.load_transformer", fetched)
    encoder = replace(CONFIG.encoder, kind="transformers", name="some/vit", frozen=True)
    config = GeneratorConfig(resolution=48, network=replace(CONFIG, encoder=encoder))
    folder = SpatialAvatar(config, make_ball_head()).save_pretrained(tmp_path)
    assert not [name for name in load_file(folder / NETWORK_FILE) if name.startswith("encoder.")]
    assert SpatialAvatar.from_pretrained(folder).config.encoder == "some/vit"
