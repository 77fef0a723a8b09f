"""The ablations' variants are what their names say, and their table is made from start to end."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from spatialavatar.generator import BaseConfig
from spatialavatar.generator.config import SharpeningConfig, SilhouetteConfig
from spatialavatar.generator.network import UVFeature
from spatialavatar.generator.network.heads import FRONTAL, harmonic_encoding
from spatialavatar.training.losses import jacobian_energy
from spatialavatar.training.shards import join, write_person

from .support.painted_head import clip
from .support.small_network import TINY, ball, code, inputs, shaken, tiny, view

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("stage1_ablations", repository / "benchmarks" / "stage1_ablations.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attention(script: ModuleType):
    torch.manual_seed(0)
    return script.AttentionPool(TINY, *ball())


def test_attention_begins_as_the_weighted_mean_and_leaves_one_source_as_it_is(script):
    plain, attending = tiny(), attention(script)
    with torch.no_grad():
        several = inputs(sources=3)
        torch.testing.assert_close(
            attending.features(several).values, plain.features(several).values, atol=1e-3, rtol=0
        )
        shaken(attending.score)
        one = inputs(sources=1)
        assert torch.equal(attending.features(one).values, plain.features(one).values)
        changed = attending.features(several).values - plain.features(several).values
    assert changed.abs().max() > 1e-5


def test_without_a_residual_head_an_expression_changes_nothing_after_training(script):
    network = script.WithoutResidual(TINY, *ball())
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        network(inputs(), view(), code()).corrections.positions.sub(1.0).square().sum().backward()
        optimiser.step()
    output = network(inputs(), view(), code())
    assert output.corrections.positions.abs().max() > 0
    assert all((value == 0).all() for value in output.residual.values())


def test_the_energy_is_what_the_penalty_estimates(script, monkeypatch):
    network = shaken(tiny())
    with torch.no_grad():
        feature = network.features(inputs())
    monkeypatch.setattr(script, "encoded", lambda network, examples: [(None, UVFeature(*vars(feature).values()))])
    exact = script.view_changes(network, None)["energy"]
    direction = harmonic_encoding(torch.tensor([FRONTAL])).requires_grad_()
    part = network.decode(feature, direction).view_part
    signs = torch.Generator().manual_seed(0)
    drawn = [
        float(sum(jacobian_energy(getattr(part, name), direction, signs) for name in ("positions", "scales")).detach())
        for _ in range(400)
    ]
    assert exact == pytest.approx(sum(drawn) / len(drawn), rel=0.15)


@pytest.mark.slow
def test_variants_are_trained_evaluated_and_tabled_once(script, tmp_path, monkeypatch):
    """Two steps of two variants on painted heads; a second call reads what the first one found."""
    folders = []
    for kind in ("cameras", "photos"):
        folders.append(tmp_path / kind)
        folders[-1].mkdir()
        parts = []
        for name, gain in (("ann", 1.0), ("judy", 0.9)):
            parts.append(tmp_path / f"{name}.part")
            tracks = [clip(gain)] * 5 if kind == "cameras" else [clip(gain)]
            write_person(parts[-1], name, kind, tracks)
        join(parts, folders[-1] / "shard-00000.tar")
    setting = script.Setting(
        *folders,
        tmp_path / "out",
        ("judy",),
        steps=2,
        second_steps=1,
        size=64,
        eval_size=64,
        resolution=64,
        network=TINY,
        base=BaseConfig(silhouette=SilhouetteConfig(rounds=0), sharpening=SharpeningConfig(rounds=0)),
    )
    full, *_ = script.VARIANTS
    attention = next(variant for variant in script.VARIANTS if variant.network is script.AttentionPool)
    monkeypatch.setattr(script.Evaluator, "_csim", lambda *_: 0.5)
    text = script.run(setting, [full, attention])
    assert "| base |" in text
    assert "| attention pool - full |" in text
    assert "full: another order of three sources changes no bit" in text
    found = json.loads((tmp_path / "out" / "full" / "scores.json").read_text())["people"]
    assert found["judy"]["camera 1 psnr"] > 10.0
    monkeypatch.setattr(script, "train", lambda *_: pytest.fail("it was trained again"))
    assert script.run(setting, [full, attention]) == text
