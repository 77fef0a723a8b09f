"""The prior of whole heads: its map of the head, what goes in and comes out, its use in the base, its files."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.generator import BaseResult, GeneratorConfig, SpatialAvatar, build_base
from spatialavatar.generator.prior.applying import observe_outline, shape_head, usable
from spatialavatar.generator.prior.colors import below_temples, side_share
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.fills import measure_fills, push_pull
from spatialavatar.generator.prior.head_prior import HeadPrior, constant_maps
from spatialavatar.generator.prior.network import PriorNetwork, features_of, interpret, mirrored
from spatialavatar.generator.prior.observation import HULLS, Outline, Seen, observation
from spatialavatar.generator.prior.sphere import COLUMNS, ROWS, SphereGrid, sphere_grid
from spatialavatar.generator.prior.strands import HairTexture, seen_texture, strand_shade
from spatialavatar.generator.prior.weights import load_prior, save_prior
from spatialavatar.generator.silhouette import OutlineFit, fit_outline
from spatialavatar.generator.sources import source_views
from spatialavatar.generator.surface import TexelSurface, texel_surface
from spatialavatar.records import HAIR, SEGMENT_CLASSES, Track

from .support.painted_head import CONFIG, model, painted_track

SMALL = PriorConfig(channels=(4, 6, 6, 8))


def surface() -> TexelSurface:
    return texel_surface(model().head, model().layout, CONFIG)


def sphere() -> SphereGrid:
    return sphere_grid(model().head, model().layout)


@lru_cache
def prior() -> HeadPrior:
    """A network with small random outputs."""
    torch.manual_seed(3)
    network = PriorNetwork(SMALL)
    torch.nn.init.normal_(network.output.weight, std=0.02)
    return HeadPrior(network, model().head, model().layout)


@lru_cache
def track(yaw: float = 0.15) -> Track:
    """The painted head with hair on its upper part."""
    plain = painted_track(yaw, hair=0.02)
    pictures = plain.require_pictures()
    segments = torch.where(pictures.mattes > 127, SEGMENT_CLASSES.index("face_skin"), 0).to(torch.uint8)
    segments[:, :90] = torch.where(segments[:, :90] > 0, HAIR, 0).to(torch.uint8)
    return plain.replace(pictures=replace(pictures, segments=segments))


@lru_cache
def completed() -> BaseResult:
    return build_base(model().head, model().layout, [track()], CONFIG, prior=prior())


def test_the_map_returns_smooth_values_of_the_outer_head():
    points = surface().grid.points
    values = np.stack([np.sin(12 * points[:, 0]), np.cos(15 * points[:, 1])], 1)
    back = sphere().scatter(sphere().gather(values))
    outer = surface().mask("scalp")
    assert np.median(np.abs(back - values)[outer]) < 0.005


def test_reversed_columns_are_the_mirrored_head():
    points = surface().grid.points
    left, right = (sphere().gather(np.stack([side * points[:, 0], points[:, 1]], 1)) for side in (1.0, -1.0))
    assert np.abs(left[:, ::-1] - right)[sphere().valid].mean() < 5e-4


def test_spread_colours_lie_between_those_that_are_seen():
    draw = np.random.default_rng(0)
    colors = draw.uniform(0.3, 0.6, (ROWS, COLUMNS, 3)).astype(np.float32)
    weight = np.zeros((ROWS, COLUMNS), np.float32)
    weight[30:60, 60:130] = 1.0
    filled = push_pull(colors, weight)
    assert filled.min() > 0.29
    assert filled.max() < 0.61
    assert np.allclose(filled[40, 90], colors[40, 90], atol=1e-6)


def test_fills_tell_hair_from_skin_and_say_when_there_is_no_hair():
    colors = np.full((ROWS, COLUMNS, 3), (0.8, 0.6, 0.5), np.float32)
    colors[:40] = 0.1
    seen, hair = np.ones((ROWS, COLUMNS), np.float32), np.zeros((ROWS, COLUMNS), np.float32)
    hair[:40] = 1.0
    fills = measure_fills(colors, seen, hair)
    assert fills.hair_seen
    assert np.abs(fills.hair - 0.1).max() < 0.02
    assert np.abs(fills.skin[-20:] - (0.8, 0.6, 0.5)).max() < 0.02
    assert not measure_fills(colors, seen, 0 * hair).hair_seen


def test_an_untrained_network_mixes_the_fills_and_has_no_height():
    hair, skin = torch.rand(1, ROWS, COLUMNS, 3), torch.rand(1, ROWS, COLUMNS, 3)
    features = torch.randn(1, features_of(random_maps(), constants()).shape[1], ROWS, COLUMNS)
    found = interpret(PriorNetwork(SMALL)(features), hair, skin)
    assert torch.allclose(found.colors, 0.5 * (hair + skin), atol=1e-5)
    assert not found.height.any()


def constants() -> torch.Tensor:
    return constant_maps(model().head, model().layout)


def random_maps() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    shape = (1, ROWS, COLUMNS)
    flat = ("visibility", "hair", "height", "rim_weight", "rim_height", "hair_seen")
    maps = {name: torch.rand(shape) for name in flat}
    maps |= {name: torch.rand(*shape, 3) for name in ("colors", "hair_fill", "skin_fill")}
    return maps | {"hull": torch.rand(*shape, HULLS), "direction": torch.randn(*shape, 2)}


def test_features_of_the_mirrored_head_are_the_mirrored_features_with_both_sides_exchanged():
    maps = random_maps()
    plain, other = features_of(maps, constants()), features_of(mirrored(maps), constants())
    sided = 7 + HULLS
    assert torch.equal(other[:, :sided], plain[:, :sided].flip(-1))
    assert torch.equal(other[:, sided : 2 * sided], plain[:, sided : 2 * sided].flip(-1))
    assert all(torch.equal(value, maps[name]) for name, value in mirrored(mirrored(maps)).items())


def test_strands_vary_across_their_direction_and_hardly_along_it():
    down = np.broadcast_to(np.array([-1.0, 0.0]), (ROWS, COLUMNS, 2))  # twice 90 degrees
    shade = strand_shade(sphere(), surface().grid.points, down, HairTexture(), seed=5)
    picture = sphere().gather(shade[:, None])[20:60, 10:50, 0]
    assert np.diff(picture, axis=0).std() < 0.8 * np.diff(picture, axis=1).std()
    assert np.array_equal(shade, strand_shade(sphere(), surface().grid.points, down, HairTexture(), seed=5))


def test_lit_hair_and_the_hue_of_its_bright_strands_are_read():
    shown = surface().mask("scalp").astype(np.float64)
    light = 0.5 + 0.5 * np.sin(500.0 * surface().grid.points[:, :1])
    copper = (0.1, 0.06, 0.05) + light * (0.5, 0.22, 0.06)
    found = seen_texture(sphere(), copper, shown, (0.05, 0.2))
    assert min(found.lit) > 0.05
    assert found.tint[0] > 1.0 > found.tint[2]
    median = np.median(copper[shown > 0.5], axis=0)
    fills = [
        seen_texture(sphere(), copper, shown, (0.05, 0.2), fill).lit for fill in (median, 0.7 * median, 0.01 * median)
    ]
    assert np.allclose(fills[0], found.lit)
    assert (np.array(fills[1]) > np.array(found.lit) + 0.1).all()
    assert np.allclose(fills[2], 0.55)
    few = shown * (np.cumsum(shown) <= 300)
    assert min(seen_texture(sphere(), copper, few, (0.05, 0.2)).lit) > 0.05
    grey = seen_texture(sphere(), light * np.full(3, 0.5), shown, (0.05, 0.2))
    assert np.allclose(grey.tint, 1.0, atol=0.02)


def test_strands_of_straight_hair_are_painted_stronger_than_measured():
    down = np.broadcast_to(np.array([-1.0, 0.0]), (ROWS, COLUMNS, 2))
    straight, curly = (
        strand_shade(sphere(), surface().grid.points, down, HairTexture(0.1, 0.0, curl), seed=5)[
            surface().mask("scalp")
        ]
        for curl in (0.0, 1.0)
    )
    assert straight.std() > 1.5 * curly.std()


def test_curls_are_told_from_strands():
    points, shown = surface().grid.points, surface().mask("scalp").astype(np.float64)
    straight = 0.4 + 0.15 * np.sin(500.0 * points[:, 0])
    curly = 0.4 + 0.15 * np.sin(500.0 * points[:, 0]) * np.sin(500.0 * points[:, 1]) * np.sin(500.0 * points[:, 2])
    found = [seen_texture(sphere(), value[:, None].repeat(3, 1), shown, (0.05, 0.2)) for value in (straight, curly)]
    assert found[0].curl < 0.5 < found[1].curl
    assert found[0].locks > HairTexture().locks
    assert seen_texture(sphere(), straight[:, None].repeat(3, 1), 0.0 * shown, (0.05, 0.2)) == HairTexture()


def test_heights_are_the_expected_ones_without_an_outline_and_meet_a_measured_one():
    head = model().head
    fit = fit_outline(head, source_views([track()], head), replace(CONFIG.silhouette, rounds=2))
    expected = np.full(len(fit.heights), 0.012)
    unmeasured_again = replace(CONFIG.silhouette, rounds=0)
    free = (fit.mesh.mobility > 0.99) & (fit.field.rest[:, 1] > 0.02)
    unmeasured = replace(fit, rim_weight=0.0 * fit.rim_weight).towards(expected, [], unmeasured_again)
    assert np.abs(heights_of(fit, unmeasured) - 0.012)[free].max() < 0.001
    measured = free & (fit.rim_weight > 1.0)
    assert measured.sum() > 5
    error = np.abs(heights_of(fit, fit.towards(expected, [], unmeasured_again)) - fit.rim_height)[measured].mean()
    assert error < 0.4 * np.abs(0.012 - fit.rim_height)[measured].mean()


def test_a_wrong_expectation_is_corrected_beside_the_measured_outline_as_well():
    head = model().head
    fit = fit_outline(head, source_views([track()], head), replace(CONFIG.silhouette, rounds=2))
    expected = np.full(len(fit.heights), 0.05)
    found = heights_of(fit, fit.towards(expected, [], replace(CONFIG.silhouette, rounds=0)))
    free = (fit.mesh.mobility > 0.99) & (fit.field.rest[:, 1] > 0.02)
    measured = free & (fit.rim_weight > 1.0)
    away = cKDTree(fit.field.rest[measured]).query(fit.field.rest)[0]
    beside = free & (away > 0.015) & (away < 0.025)
    change = 0.05 - found
    assert change[beside].mean() > 0.5 * change[measured].mean()
    assert change[free & (away > 0.08)].mean() < 0.7 * change[measured].mean()


def heights_of(fit: OutlineFit, offsets: np.ndarray) -> np.ndarray:
    return ((offsets + fit.field.rest - fit.field.flat) * fit.field.directions).sum(1)


def test_a_bald_head_gets_no_colour_of_hair_at_the_back():
    outlook = Outline.unknown()
    colors = np.full((ROWS, COLUMNS, 3), (0.8, 0.6, 0.5), np.float32)
    seen = np.zeros((ROWS, COLUMNS), np.float32)
    seen[:, 60:130] = 1.0
    bald, hairy = (
        prior().complete(observation(Seen(colors, seen, np.full_like(seen, share)), outlook)) for share in (0.0, 1.0)
    )
    raw = prior().complete(observation(Seen(colors, seen, np.full_like(seen, 0.2)), outlook))
    assert bald.hair.max() < 0.5 * raw.hair.max()
    assert hairy.hair.max() > 0.5 * raw.hair.max()


def test_the_photo_s_front_stays_and_the_back_is_the_prior_s():
    plain = build_base(model().head, model().layout, [track()], CONFIG)
    ours = completed()
    core = (side_share(surface(), sphere(), SMALL) == 0.0) & surface().mask("face")
    seen = core & (plain.visibility.numpy() > 0.99) & (ours.visibility.numpy() > 0.99)
    assert seen.sum() > 500
    change = (ours.gaussians.colors - plain.gaussians.colors).abs().numpy()
    assert change[seen].mean() < 0.01
    back = surface().grid.points[:, 2] < -0.02
    assert change[back & surface().mask("scalp")].mean() > 0.01
    assert not torch.equal(ours.vertex_offsets, plain.vertex_offsets)


def test_the_prior_gives_the_same_avatar_every_time():
    again = build_base(model().head, model().layout, [track()], CONFIG, prior=prior())
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(again.gaussians, name), getattr(completed().gaussians, name))


def test_the_order_of_the_photos_changes_no_bit():
    one, other = (
        shape_head(surface(), prior(), source_views(tracks, model().head))
        for tracks in ([track(), track(-0.4)], [track(-0.4), track()])
    )
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.expected.colors, other.expected.colors)


def test_without_segments_the_rules_complete_the_head():
    assert usable(source_views([track()], model().head))
    assert not usable(source_views([painted_track(0.15)], model().head))
    assert not usable(source_views([track(), painted_track(0.15)], model().head))


def test_the_prior_completes_sides_and_back_and_leaves_eyes_and_mouth():
    share = side_share(surface(), sphere(), SMALL)
    assert share[surface().mask("scalp", "ears")].min() == 1.0
    assert share[surface().mask("eye_left", "mouth")].max() == 0.0
    look = observe_outline(surface(), sphere(), source_views([track()], model().head)).observation
    assert np.isfinite(np.concatenate([value.ravel() for value in look.arrays().values()])).all()


def test_what_is_hidden_of_an_observation_has_no_weight_in_its_fills():
    colors = np.full((ROWS, COLUMNS, 3), 0.5, np.float32)
    colors[:, :90] = (0.9, 0.1, 0.1)
    seen = np.zeros((ROWS, COLUMNS), np.float32)
    seen[:, 100:] = 1.0
    found = observation(Seen(colors, seen, 0 * seen), Outline.unknown())
    assert np.abs(found.skin_fill - 0.5).max() < 1e-3


def test_weights_come_back_in_half_precision(tmp_path: Path):
    path = save_prior(prior().network, tmp_path / "prior.safetensors", model().head, model().layout)
    again = load_prior(path, SMALL, model().head, model().layout)
    maps = random_maps()
    with torch.inference_mode():
        one, other = (p.network(features_of(maps, constants())) for p in (prior(), again))
    assert torch.allclose(one, other, atol=1e-3)
    assert path.stat().st_size < 100_000


def test_weights_of_other_sizes_or_damaged_ones_are_refused(tmp_path: Path):
    path = save_prior(prior().network, tmp_path / "prior.safetensors", model().head, model().layout)
    with pytest.raises(FormatError, match="prior"):
        load_prior(path, replace(SMALL, channels=(8, 8, 8, 8)), model().head, model().layout)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(FormatError, match="prior"):
        load_prior(path, SMALL, model().head, model().layout)
    with pytest.raises(MissingAssetError, match="fetch"):
        load_prior(tmp_path / "none.safetensors", SMALL, model().head, model().layout)


def test_a_model_keeps_its_prior_and_can_leave_it_out(tmp_path: Path):
    config = GeneratorConfig(resolution=128, prior=SMALL)
    whole = SpatialAvatar(config, model().head, prior=prior())
    whole.save_pretrained(tmp_path / "model")
    again = SpatialAvatar.from_pretrained(tmp_path / "model")
    assert again.prior is not None
    assert again.prior.config == SMALL
    assert again.without_prior().prior is None
    assert again.without_network().prior is again.prior


def test_a_prior_of_another_configuration_is_refused():
    with pytest.raises(InputError, match="prior"):
        SpatialAvatar(GeneratorConfig(resolution=128), model().head, prior=prior())


def test_channels_out_of_range_are_refused():
    with pytest.raises(InputError, match="channels"):
        PriorConfig(channels=(0, 1, 1, 1))


def test_hair_is_doubted_on_ears_neck_and_jaw_but_not_on_temples_and_cheeks():
    doubted, aside = below_temples(surface(), sphere()), np.degrees(np.abs(sphere().azimuth))
    drop = surface().grid.mesh.eye_centres()[:, 1].mean() - surface().grid.points[:, 1]
    assert (doubted[surface().mask("ears", "neck")] == 1.0).all()
    face = surface().mask("face")
    assert (doubted[face & (drop < 0.03)] == 0.0).all()
    assert (doubted[face & (aside < 50.0)] == 0.0).all()
    assert (doubted[face & (aside > 60.0) & (drop > 0.045)] == 1.0).any()
