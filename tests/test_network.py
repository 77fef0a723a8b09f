"""Stage 1's network on a ball: shapes, what holds exactly, and that every parameter can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from spatialavatar.errors import FormatError, InputError
from spatialavatar.generator.network import (
    CorrectionNetwork,
    Corrections,
    EncoderConfig,
    NetworkConfig,
    apply_corrections,
    network_inputs,
)
from spatialavatar.generator.network.encoders import ConvPyramid, TransformerEncoder, build_encoder
from spatialavatar.generator.network.heads import (
    VIEW_CHANNELS,
    expression_code,
    harmonic_encoding,
    view_direction,
)
from spatialavatar.generator.network.style_unet import ModulatedConv, StyleUNet
from spatialavatar.generator.network.unwrapping import pool_seen, pool_sources, sample_at
from spatialavatar.head import build_layout
from spatialavatar.head.binding import triangle_frames
from spatialavatar.records import Camera, Gaussians

from .support.painted_head import base, model, painted_track
from .support.small_network import TINY, ball, code, inputs, shaken, tiny, view

VALUES = ("positions", "rotations", "scales", "colors", "opacities")


def test_the_untrained_network_leaves_every_bit_of_the_base():
    network = CorrectionNetwork(TINY, model().head, model().layout)
    track = painted_track(0.15)
    direction = harmonic_encoding(view_direction(track.camera, track.params))
    output = network(network_inputs(base(), TINY.image_size), direction, expression_code(track.params))
    corrected = apply_corrections(base().gaussians, output.corrections[0])
    for name in ("means", "quats", "scales", "opacities"):
        assert torch.equal(getattr(corrected, name), getattr(base().gaussians, name)), name
    assert torch.equal(corrected.colors[:, :3], base().gaussians.colors)
    assert (corrected.colors[:, 3:] == 0).all()


def test_a_batch_of_people_gives_one_correction_per_texel():
    output = tiny()(inputs(people=2, sources=3), view(2), code(2))
    count = len(ball()[1])
    shapes = {name: tuple(getattr(output.corrections, name).shape) for name in VALUES}
    assert shapes == {
        "positions": (2, count, 3),
        "rotations": (2, count, 3),
        "scales": (2, count, 3),
        "colors": (2, count, 4),
        "opacities": (2, count),
    }
    assert set(output.residual) == {"positions", "rotations", "scales", "colors"}


@pytest.mark.parametrize("visibility_damping", [1.0, 0.5, 0.0])
def test_what_the_sources_show_is_corrected_less(visibility_damping):
    torch.manual_seed(0)
    network = shaken(CorrectionNetwork(replace(TINY, visibility_damping=visibility_damping), *ball()))
    seen = inputs().replace(known=inputs().known.index_fill(-1, torch.tensor([6]), 1.0))
    with torch.no_grad():
        feature = network.features(seen)
        held = network.decode(feature, view(), code()).corrections
        free = network.decode(
            feature.replace(correction_weight=torch.ones_like(feature.correction_weight)), view(), code()
        ).corrections
    for name in VALUES:
        torch.testing.assert_close(getattr(held, name), (1.0 - visibility_damping) * getattr(free, name))
    for name, value in free.residual.items():
        assert value.abs().max() > 0
        torch.testing.assert_close(held.residual[name], (1.0 - visibility_damping) * value)


def test_skin_moves_along_its_normal_only():
    head, layout = ball()
    part = head.parts[0]
    torch.manual_seed(0)
    network = shaken(CorrectionNetwork(replace(TINY, along_normal=(part, "no such part")), head, layout))
    with torch.no_grad():
        corrections = network(inputs(), view(), code()).corrections
    skin = layout.mask(head, part)
    assert 0 < int(skin.sum()) < len(layout)
    assert (corrections.positions[0, ~skin & ~network.behind] != 0.0).float().mean() > 0.9
    normals = triangle_frames(head.template[head.faces]).rotation[layout.faces][skin, :, 1]
    outward = torch.nn.functional.normalize(layout.surface(head, head.template)[skin], dim=-1)
    moved = corrections.positions[0, skin]
    assert (moved[:, [0, 2]] == 0.0).all()
    assert (moved[:, 1] != 0.0).float().mean() > 0.9
    assert (normals * outward).sum(-1).abs().median() > 0.9  # the second axis is the normal


def test_no_gaussian_shrinks_where_no_photo_shows_it():
    torch.manual_seed(0)
    network = shaken(tiny())
    least = {}
    for visibility in (0.0, 0.6):
        given = inputs().replace(known=inputs().known.index_fill(-1, torch.tensor([6]), visibility))
        with torch.no_grad():
            least[visibility] = float(network(given, view(), code()).corrections.scales.min())
    assert least[0.0] >= 0.0 > least[0.6]


def test_gaussians_on_the_back_stay_where_no_photo_shows_them():
    torch.manual_seed(0)
    network = shaken(tiny())
    assert 0 < int(network.behind.sum()) < len(network.behind)
    for visibility in (0.0, 0.6):
        given = inputs().replace(known=inputs().known.index_fill(-1, torch.tensor([6]), visibility))
        with torch.no_grad():
            corrections = network(given, view(), code()).corrections
        for name in ("positions", "rotations", "scales"):
            moved = getattr(corrections, name)[0].abs().sum(-1) > 0
            assert bool(moved[network.behind].any()) == (visibility > 0.5), name
            assert name == "scales" or moved[~network.behind].float().mean() > 0.9, name


def test_opacity_is_left_alone_where_its_gain_is_zero():
    torch.manual_seed(0)
    network = shaken(CorrectionNetwork(replace(TINY, opacity_gain=0.0), *ball()))
    with torch.no_grad():
        corrections = network(inputs(), view(), code()).corrections
    assert (corrections.opacities == 0.0).all()
    assert corrections.positions.abs().max() > 0


def test_features_have_one_length_whatever_the_photos_are():
    given = inputs()
    with torch.no_grad():
        values = shaken(tiny()).features(given.replace(images=1e4 * given.images, known=1e4 * given.known)).values
    torch.testing.assert_close(values.square().mean(-1), torch.ones(values.shape[:2]), atol=0.05, rtol=0.0)


def test_every_block_of_the_unet_reads_places_of_unit_length(monkeypatch):
    seen = []
    plain = ModulatedConv.forward

    def watched(self, x, style):
        seen.append(x.square().mean(1))
        return plain(self, x, style)

    monkeypatch.setattr(ModulatedConv, "forward", watched)
    grid = 100.0 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with torch.no_grad():
        StyleUNet(3, 5, 6, 8, (4, 6, 8))(grid, torch.ones(1, 6))
    assert len(seen) == 10
    assert all(0.5 < float(places.median()) <= 1.0 + 1e-4 for places in seen)


def test_the_order_of_the_sources_changes_no_bit():
    network, given = shaken(tiny()), inputs(sources=4)
    turned = given.replace(**{name: getattr(given, name)[:, [2, 0, 3, 1]] for name in ("images", "places", "weights")})
    with torch.no_grad():
        first, second = (network(i, view(), code()).corrections for i in (given, turned))
    assert first.positions.abs().max() > 0
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in VALUES)
    assert all(torch.equal(first.residual[name], second.residual[name]) for name in first.residual)


def test_pools_are_the_identity_for_one_source_and_equal_in_any_order():
    values, weights = torch.randn(4, 200, 5), torch.rand(4, 200)
    assert torch.equal(pool_sources(values[:1]), values[0])
    assert torch.equal(pool_seen(values[:1], torch.zeros(1, 200)), values[0])
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        assert torch.equal(pool_sources(values), pool_sources(values[order]))
        assert torch.equal(pool_seen(values, weights), pool_seen(values[order], weights[order]))
    torch.testing.assert_close(pool_sources(values), values.mean(0))


def test_the_pool_takes_what_is_seen_and_the_plain_mean_where_nothing_is():
    values = torch.tensor([[[1.0], [1.0]], [[3.0], [3.0]]])
    pooled = pool_seen(values, torch.tensor([[0.5, 0.0], [0.0, 0.0]]))
    assert pooled.flatten().tolist() == [1.0, 2.0]


def test_every_parameter_learns_within_two_steps_of_the_zero_start():
    network = tiny()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    # The first step moves the output layers, the second FiLM behind them; then the MLP behind FiLM hears of it too.
    for _ in range(3):
        optimiser.zero_grad()
        output = network(inputs(), view(), code()).corrections
        values = [*(getattr(output, name) for name in VALUES), *output.residual.values()]
        sum((v * torch.randn(v.shape, generator=generator)).sum() for v in values).backward()
        optimiser.step()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_a_base_learns_through_the_corrections_from_the_first_step():
    start = Gaussians(
        means=torch.zeros(2, 3),
        quats=torch.tensor([[1.0, 0, 0, 0], [0.0, 0.6, 0.8, 0]]),
        scales=torch.full((2, 3), 0.1),
        opacities=torch.tensor([0.95, 0.5]),
        colors=torch.full((2, 3), 0.5),
    )
    sizes = ((2, 3), (2, 3), (2, 3), (2, 3), (2,))
    zero = Corrections(*(torch.zeros(size, requires_grad=True) for size in sizes))
    changed = apply_corrections(start, zero)
    sum(
        (getattr(changed, n) * torch.rand(getattr(start, n).shape)).sum() for n in vars(start) if n != "space"
    ).backward()
    assert all(getattr(zero, name).grad.abs().max() > 0 for name in VALUES)


def test_an_opacity_moves_as_its_logit():
    start = Gaussians(
        torch.zeros(3, 3), torch.eye(4)[:3], torch.ones(3, 3), torch.tensor([0.0, 0.3, 1.0]), torch.zeros(3, 3)
    )
    shift = Corrections(
        torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3, 3), torch.full((3,), 0.7)
    )
    expected = torch.tensor([0.0, torch.sigmoid(torch.logit(torch.tensor(0.3)) + 0.7), 1.0])
    torch.testing.assert_close(apply_corrections(start, shift).opacities, expected)
    with pytest.raises(InputError, match="layout"):
        apply_corrections(start, Corrections(*(torch.zeros(2, 3) for _ in range(5))))


def test_modulated_convolution_is_the_one_with_weights_scaled_and_brought_to_unit_length():
    layer, x, style = ModulatedConv(3, 5, 4), torch.randn(2, 3, 7, 7), torch.randn(2, 4)
    expected = []
    for picture, scales in zip(x, layer.style(style)):
        weight = layer.weight * scales[None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        expected.append(nn.functional.conv2d(picture[None], weight, layer.bias, padding=1))
    torch.testing.assert_close(layer(x, style), torch.cat(expected))


def test_samples_are_read_at_pixel_centres():
    picture = torch.arange(12.0).reshape(1, 1, 3, 4)
    places = torch.tensor([[[0.5 / 4, 0.5 / 3], [2.5 / 4, 1.5 / 3], [5.0, 5.0], [float("nan"), 0.5]]])
    sampled = sample_at(picture, places)
    assert sampled[0, :3, 0].tolist() == pytest.approx([0.0, 6.0, 11.0], abs=1e-5)
    assert torch.isfinite(sampled).all()


def test_the_view_is_encoded_in_27_numbers():
    direction = torch.tensor([[0.0, 0.6, -0.8]])
    encoded = harmonic_encoding(direction)
    assert encoded.shape == (1, VIEW_CHANNELS) == (1, 27)
    assert torch.equal(encoded[:, :3], direction)
    torch.testing.assert_close(encoded[:, 4], torch.sin(torch.pi * direction[:, 1]))
    torch.testing.assert_close(encoded[:, -1], torch.cos(8 * torch.pi * direction[:, 2]))


def test_a_head_that_turns_is_a_camera_that_turns():
    head, camera = ball()[0], Camera.frontal(64)
    params = head.neutral()
    assert view_direction(camera, params)[0].tolist() == [0.0, 0.0, -1.0]
    halves = params.replace(rotation=torch.tensor([[0.0, 0.2, 0.0]]), neck=torch.tensor([[0.0, 0.1, 0.0]]))
    whole = params.replace(rotation=torch.tensor([[0.0, 0.3, 0.0]]))
    torch.testing.assert_close(view_direction(camera, halves), view_direction(camera, whole))
    assert expression_code(params).shape == (1, head.expression_count + 12)


def test_the_small_network_is_within_its_budget():
    with torch.device("meta"):
        head, layout = ball()
        network = CorrectionNetwork(NetworkConfig.small(), head, layout)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count <= 20_000_000
    assert 2 * count <= 40_000_000


def test_a_layout_that_cannot_be_halved_is_refused():
    head = ball()[0]
    with pytest.raises(InputError, match="halved"):
        CorrectionNetwork(TINY, head, build_layout(head, 30))


def test_an_unknown_encoder_is_refused():
    with pytest.raises(FormatError, match="pyramid"):
        build_encoder(EncoderConfig(kind="oracle"))


def test_the_pyramid_takes_pictures_of_any_size():
    encoder = ConvPyramid((4, 6, 8, 10), (1, 1, 1, 1))
    encoded = encoder(torch.rand(2, 3, 96, 70))
    assert [tuple(m.shape[1:]) for m in encoded.maps][::3] == [(4, 24, 18), (10, 3, 3)]
    assert encoded.cls.shape == (2, 10)
    covered = sum(p.numel() for layer in encoder.layers() for p in layer.parameters())
    assert covered == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_vit"])
def test_a_vision_transformer_fits_the_same_place(kind):
    transformers = pytest.importorskip("transformers")
    patch = {"dinov2": 14, "dinov3_vit": 16}[kind]
    config = transformers.AutoConfig.for_model(
        kind, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, patch_size=patch
    )
    encoder = TransformerEncoder(transformers.AutoModel.from_config(config))
    encoded = encoder(torch.rand(2, 3, 64, 100))
    assert {tuple(m.shape) for m in encoded.maps} == {(2, 16, round(64 / patch), round(100 / patch))}
    assert encoded.cls.shape == (2, 16)
    covered = sum(p.numel() for layer in encoder.layers() for p in layer.parameters())
    assert covered == sum(p.numel() for p in encoder.parameters())
    network = tiny()
    network.encoder = encoder
    network.dense = type(network.dense)(encoder.widths, encoder.scaling, TINY.dense_channels)
    network.unet = type(network.unet)(TINY.dense_channels + 7, TINY.uv_channels, 16, 8, TINY.unet_channels)
    assert (network(inputs(), view()).corrections.positions == 0).all()


def test_another_transformer_is_refused():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    with pytest.raises(FormatError, match="dinov2"):
        TransformerEncoder(transformers.AutoModel.from_config(config))
