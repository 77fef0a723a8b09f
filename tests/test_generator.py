"""The base on a painted mean head, where every colour is known."""

from __future__ import annotations

import socket
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.generator import BaseConfig, GeneratorConfig, SpatialAvatar, build_base
from spatialavatar.generator.carving import carve
from spatialavatar.generator.completion.complete import squareness
from spatialavatar.generator.completion.mirror_fill import KnownColors, fill_from_mirror
from spatialavatar.generator.completion.smooth_fill import fill_smoothly
from spatialavatar.generator.config import SurfelConfig
from spatialavatar.generator.evidence import observe
from spatialavatar.generator.exposure import apply_gain, exposure_gains, match_light
from spatialavatar.generator.network import EncoderConfig, NetworkConfig
from spatialavatar.generator.numerics import bilinear, graph_laplacian, neighbour_means, solve_directly
from spatialavatar.generator.pooling import Pooled, mean_pool
from spatialavatar.generator.silhouette import fit_silhouette
from spatialavatar.generator.sources import SourceView, source_views
from spatialavatar.generator.surface import TexelSurface, texel_surface
from spatialavatar.generator.visibility import visibility
from spatialavatar.generator.warping import Warp, sample, warp
from spatialavatar.head import build_layout, to_world
from spatialavatar.hub import weights_dir
from spatialavatar.records import HAIR, Track
from spatialavatar.render import render
from spatialavatar.render.mesh import rasterize_mesh, vertex_normals

from .support.painted_head import CONFIG, SIZE, base, model, paint, painted_track


def template_points() -> np.ndarray:
    return model().layout.surface(model().head, model().head.template).double().numpy()


def surface() -> TexelSurface:
    return texel_surface(model().head, model().layout, CONFIG)


def seen_by(view: SourceView, warped: Warp) -> np.ndarray:
    return visibility(surface(), view, None, warped)


def silhouette_offsets(track: Track) -> torch.Tensor:
    head = model().head
    return torch.from_numpy(fit_silhouette(head, source_views([track], head), CONFIG.silhouette))


def test_colours_come_back_where_the_photo_shows_them_and_are_not_mirrored():
    result = base()
    skin = surface().mask("face", "scalp", "neck")
    seen = skin & (result.visibility.numpy() > 0.95)
    assert seen.mean() > 0.1
    points = template_points()[seen]
    error = np.abs(result.sampled.numpy()[seen] - paint(points)).mean()
    mirrored = np.abs(result.sampled.numpy()[seen] - paint(points * [-1, 1, 1])).mean()
    assert error < 0.02
    assert mirrored > 5 * error


def test_the_source_view_renders_like_the_photo():
    track, result = painted_track(0.15), base()
    vertices = model().head.vertices(track.params, result.vertex_offsets)[0]
    world = to_world(result.gaussians, model().head, model().layout, vertices)
    image, alpha = render(world, track.camera)
    inside = ((track.pictures.mattes[0] > 127) & (alpha > 0.9)).numpy()
    assert inside.sum() > 0.8 * (track.pictures.mattes[0] > 127).sum()
    error = (image.numpy() - track.pictures.images[0].numpy() / 255.0)[inside]
    assert -10 * np.log10((error**2).mean()) > 26


def test_one_source_passes_the_pool_unchanged():
    colors, weights = np.random.default_rng(0).random((50, 3)), np.random.default_rng(1).random(50)
    (gain,) = exposure_gains([colors], [weights], weights > 0)
    pooled = mean_pool([apply_gain(colors, gain)], [weights])
    assert (pooled.colors == colors).all()
    assert (pooled.visibility == weights).all()


def test_the_order_of_photos_changes_nothing():
    tracks = [painted_track(0.0), painted_track(0.4), painted_track(-0.3, 0.8)]
    forward = build_base(model().head, model().layout, tracks, CONFIG)
    backward = build_base(model().head, model().layout, tracks[::-1], CONFIG)
    assert torch.equal(forward.gaussians.colors, backward.gaussians.colors)
    assert torch.equal(forward.gaussians.scales, backward.gaussians.scales)
    assert torch.equal(forward.vertex_offsets, backward.vertex_offsets)


def test_a_darker_photo_is_brought_to_the_exposure_of_the_others():
    views = source_views([painted_track(0.0), painted_track(0.2, 0.7)], model().head)
    warps = [warp(surface(), view, None) for view in views]
    weights = [seen_by(view, w) for view, w in zip(views, warps)]
    samples = [sample(view.image, w) for view, w in zip(views, warps)]
    both = np.minimum(*weights) > 0.9
    skin = surface().mask("face")
    balanced = [apply_gain(s, g) for s, g in zip(samples, exposure_gains(samples, weights, skin))]
    before = np.abs(samples[0] - samples[1])[both].mean()
    after = np.abs(balanced[0] - balanced[1])[both].mean()
    assert after < 0.35 * before


def test_a_shadow_in_one_photo_leaves_no_edge_where_another_takes_over():
    tables = surface().tables
    x = template_points()[:, 0]
    skin = surface().mask("face")
    plain = np.full((len(x), 3), 0.5)
    weights = [np.clip(0.5 + x / 0.01, 0, 1), np.clip(0.5 - x / 0.01, 0, 1)]
    shaded = [plain, 0.6 * plain]

    def edge(colors: list[np.ndarray]) -> float:
        pooled = mean_pool(colors, weights).colors
        return np.abs(pooled[:, None] - pooled[tables.neighbours])[skin].max()

    assert edge(match_light(surface(), shaded, weights)) < 0.5 * edge(shaded)
    assert match_light(surface(), [plain], [weights[0]])[0] is plain


def test_a_texel_behind_another_surface_is_not_seen():
    (view,) = source_views([painted_track(0.0)], model().head)
    warped = warp(surface(), view, None)
    weight = seen_by(view, warped)
    assert weight[warped.facing < 0].max() == 0
    assert weight[surface().mask("mouth", "tongue")].max() < 0.3
    nose = np.argmax(template_points()[:, 2] * surface().mask("face"))
    assert weight[nose] > 0.9


def test_fill_keeps_seen_texels_and_gives_unseen_ones_finite_colours():
    tables = surface().tables
    generator = np.random.default_rng(0)
    colors = generator.uniform(0.2, 0.8, (len(model().layout), 3))
    seen = (generator.random(len(colors)) < 0.3).astype(np.float64)
    keep = (seen == 1) & (tables.lid == 0)
    colors[seen == 0] = 0.0
    filled = fill_smoothly(surface(), KnownColors(colors, seen, np.ones(len(seen))), np.ones(len(seen)))
    assert (filled[keep] == colors[keep]).all()
    assert np.isfinite(filled).all()
    assert filled[seen == 0].min() > 0


def test_fill_does_not_cross_from_scalp_to_skin():
    tables = surface().tables
    scalp = surface().mask("scalp")
    colors = np.where(scalp, 1.0, 0.0)[:, None].repeat(3, 1)
    seen = (template_points()[:, 2] > 0.06).astype(np.float64)
    filled = fill_smoothly(surface(), KnownColors(colors, seen, np.ones(len(seen))), np.ones(len(seen)))
    unseen = (seen == 0) & (tables.border < 0.02)
    assert filled[scalp & unseen].min() > 0.9
    assert filled[surface().mask("face", "ears", "neck") & unseen].max() < 0.1


def test_twins_lie_at_the_mirrored_place():
    tables = surface().tables
    points = template_points()
    distance = np.linalg.norm(points[tables.twin] * [-1, 1, 1] - points, axis=1)
    assert np.quantile(distance, 0.99) < 0.006


def test_hair_moves_out_to_the_matte_and_the_face_stays():
    track = painted_track(0.0, hair=0.02)
    head = model().head
    offsets = silhouette_offsets(track)
    landmarks = head.landmarks(head.template + offsets) - head.landmarks(head.template)
    assert landmarks.norm(dim=1).max() < 0.0015
    fixed = head.part_vertices("lips", "mouth", "eye_left", "eye_right", "tongue")
    assert offsets[fixed].abs().max() == 0
    vertices = track.camera.to_camera(head.vertices(track.params, offsets)[0]).numpy()
    fragments = rasterize_mesh(vertices, head.faces.numpy(), track.camera.intrinsics.numpy(), SIZE, SIZE)
    bare = painted_track(0.0).pictures.mattes[0].numpy() > 127
    wanted, got = track.pictures.mattes[0].numpy() > 127, fragments.face >= 0
    assert (wanted ^ got).sum() < 0.25 * (wanted ^ bare).sum()


def test_a_photo_without_hair_leaves_the_head_as_it_is():
    track = painted_track(0.0)
    offsets = silhouette_offsets(track)
    assert offsets.norm(dim=1).max() < 0.004


def with_hair(track: Track) -> Track:
    """The track with the whole person marked as hair."""
    segments = torch.where(track.pictures.mattes > 127, HAIR, 0).to(torch.uint8)
    return track.replace(pictures=track.pictures.replace(segments=segments))


def with_matte(track: Track, hidden: np.ndarray) -> Track:
    """The track with no person in the hidden pixels (H, W)."""
    mattes = track.pictures.mattes.clone()
    mattes[:, torch.from_numpy(hidden)] = 0
    return track.replace(pictures=track.pictures.replace(mattes=mattes))


def cut_off_at(track: Track, row: int) -> Track:
    """The track as the tracker makes it of a photo that ends at a row: the border repeated, no person beyond it."""
    images = track.pictures.images.clone()
    images[:, row:] = images[:, row - 1 : row]
    hidden = np.zeros((SIZE, SIZE), bool)
    hidden[row:] = True
    cut = track.replace(pictures=track.pictures.replace(images=images))
    return with_matte(cut, hidden)


def test_a_head_that_leaves_the_photo_is_not_carved_at_its_border():
    row = int(0.7 * SIZE)
    (view,) = source_views([cut_off_at(painted_track(), row)], model().head)
    assert np.abs(view.extent[1] - [SIZE, row]).max() <= 2
    photo = observe(surface(), view, None)
    beyond = surface().mask("neck") & (photo.warp.pixels[:, 1] > row + 8)
    assert beyond.sum() > 100
    assert carve(surface(), [photo])[beyond].min() > 0.99
    assert photo.weight[beyond].max() == 0.0


def test_hair_of_one_side_of_a_turned_photo_is_given_to_the_other():
    track = with_hair(painted_track(0.5, hair=0.02))
    offsets = silhouette_offsets(track)
    head = model().head
    sides = head.part_vertices("scalp").numpy() & (np.abs(head.template[:, 0].numpy()) > 0.05)
    heights = offsets.norm(dim=1).numpy()
    left, right = heights[sides & (head.template[:, 0].numpy() > 0)], heights[sides & (head.template[:, 0].numpy() < 0)]
    assert min(left.mean(), right.mean()) > 0.75 * max(left.mean(), right.mean())


def test_a_covered_ear_on_the_far_side_lies_flat_as_well():
    head = model().head
    rest = head.template.numpy()
    flat = rest + silhouette_offsets(with_hair(painted_track(0.6, hair=0.02))).numpy()
    ears = head.part_vertices("ears").numpy()
    agreement = [
        np.linalg.norm(vertex_normals(flat, head.faces.numpy())[ears & side].mean(0))
        for side in (rest[:, 0] > 0, rest[:, 0] < 0)
    ]
    assert min(agreement) > 0.8 * max(agreement)


def test_skin_just_beside_the_nose_does_not_count_where_the_nose_is_in_front():
    (view,) = source_views([painted_track(0.7)], model().head)
    strict = surface()
    warped = warp(strict, view, None)
    loose = replace(strict.config, visibility=replace(strict.config.visibility, occluder_margin=0.0))
    without = visibility(replace(strict, config=loose), view, None, warped)
    with_margin = visibility(strict, view, None, warped)
    lost = without - with_margin
    face = strict.mask("face", "lips")
    assert lost.min() >= 0.0
    assert lost[~face].max() == 0.0
    assert 20 < (lost > 0.5).sum() < 0.1 * face.sum()


def test_the_far_cheek_of_a_turned_head_gets_no_weight_beside_the_background():
    (view,) = source_views([painted_track(0.7)], model().head)
    strict = surface()
    warped = warp(strict, view, None)
    loose = replace(strict.config, visibility=replace(strict.config.visibility, rim_margin=0.0))
    lost = visibility(replace(strict, config=loose), view, None, warped) - visibility(strict, view, None, warped)
    assert lost.min() >= 0.0
    assert lost[~strict.mask("face", "lips")].max() == 0.0
    rim = cv2.distanceTransform((view.matte > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    from_rim = bilinear(rim, warped.pixels)
    assert from_rim[lost > 0.1].max() < strict.config.visibility.rim_margin
    assert (lost > 0.1).sum() > 20


def _half_seen(sliver: np.ndarray) -> tuple[Pooled, np.ndarray]:
    """A head of which a photo shows the right half in white, and ``sliver`` (N,) of the left half in black."""
    right = template_points()[:, 0] < 0
    seen = (right | sliver).astype(np.float64)
    return Pooled(np.where(right, 1.0, 0.0)[:, None].repeat(3, 1), seen), right


def test_a_sliver_of_far_skin_yields_to_the_mirror_twin():
    x, _, z = template_points().T
    sliver = (x > 0.04) & (x < 0.042) & (z > 0.05)
    pooled, _ = _half_seen(sliver)
    known = fill_from_mirror(surface(), pooled, np.ones(len(x)))
    assert sliver.sum() > 10
    assert np.median(known.own[sliver]) < 0.1
    whole = (x > 0.0) & (z > 0.05)
    assert np.median(fill_from_mirror(surface(), _half_seen(whole)[0], np.ones(len(x))).own[whole]) > 0.95


def test_a_sample_at_a_grazing_angle_yields_to_a_square_twin():
    x, _, z = template_points().T
    far = (x > 0.0) & (z > 0.05)
    pooled, right = _half_seen(far)
    square = np.where(right, 1.0, 0.1)
    known = fill_from_mirror(surface(), pooled, square)
    assert known.own[far].max() < 0.2
    assert (known.own[right & (x < -0.02)] > 0.95).mean() > 0.9


def test_a_photo_from_the_front_keeps_its_samples_up_to_the_rim_of_the_face():
    x, _, z = template_points().T
    sliver = (x > 0.04) & (x < 0.042) & (z > 0.05)
    pooled, _ = _half_seen(sliver)
    assert (fill_from_mirror(surface(), pooled, np.ones(len(x)), far_side=0.0).own[sliver] == 1.0).all()
    for yaw, turned in ((0.0, False), (0.7, True)):
        (view,) = source_views([painted_track(yaw)], model().head)
        photos = [observe(surface(), view, None)]
        grazing = surface().mask("face") & (photos[0].weight > 0.1) & (photos[0].warp.facing < 0.4)
        assert (squareness(surface(), photos)[grazing] < 0.7).any() == turned


def test_a_head_that_is_seen_alike_on_both_sides_is_not_mirrored():
    count = len(model().layout)
    known = fill_from_mirror(surface(), Pooled(np.full((count, 3), 0.5), np.ones(count)), np.ones(count))
    assert (known.own == 1.0).all()


def test_the_neck_fades_out_at_its_rim():
    result = base()
    rim = surface().tables.rim
    opacity = result.gaussians.opacities.numpy()
    assert opacity[rim < CONFIG.surfels.rim_fade[0]].max() < 0.01
    inner = surface().mask("face") & (rim > CONFIG.surfels.rim_fade[1])
    assert opacity[inner].min() == pytest.approx(CONFIG.surfels.opacity)


def test_surfels_are_flat_and_no_wider_than_their_neighbours_are_far():
    result = base()
    head, layout = model().head, model().layout
    world = to_world(
        result.gaussians, head, layout, head.identity(painted_track().params.shape, result.vertex_offsets).vertices
    )
    assert (world.scales[:, 2] < 0.5 * world.scales[:, :2].amin(1)).float().mean() > 0.99
    tables = surface().tables
    near = world.means[torch.from_numpy(tables.neighbours[:, :4])]
    distance = (near - world.means[:, None]).norm(dim=-1).mean(1)
    limited = (distance > 0) & ~torch.from_numpy(surface().mask("scalp", "neck") | (tables.lid > 0.5))
    assert (world.scales.amax(1) <= 1.001 * CONFIG.surfels.tangential * CONFIG.surfels.neighbour_limit * distance)[
        limited
    ].all()


def test_bilinear_sampling_reads_pixel_centres_exactly():
    picture = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    centres = np.array([[2.5, 3.5], [0.5, 0.5], [6.5, 4.5]])
    np.testing.assert_allclose(bilinear(picture, centres), picture[[3, 0, 4], [2, 0, 6]])
    assert np.isfinite(bilinear(picture, np.array([[np.nan, 1.0], [np.inf, -5.0]]))).all()


@pytest.mark.parametrize("count", [5, 8, 12])
def test_means_over_neighbours_are_those_of_numpy_to_the_last_bit(count):
    draw = np.random.default_rng(count)
    neighbours = draw.integers(0, 300, (300, count))
    for values in (draw.standard_normal(300), draw.standard_normal((300, 3))):
        np.testing.assert_array_equal(neighbour_means(values, neighbours), values[neighbours].mean(1))


def test_graph_laplacian_is_symmetric_with_zero_row_sums():
    neighbours = np.array([[1, 2], [0, 2], [1, 3], [2, 3]])
    laplacian = graph_laplacian(neighbours).toarray()
    assert (laplacian == laplacian.T).all()
    assert (laplacian.sum(1) == 0).all()


def test_the_direct_solver_solves_each_column():
    neighbours = np.random.default_rng(0).integers(0, 200, (200, 4))
    matrix = (graph_laplacian(neighbours) + 0.01 * sp.identity(200)).tocsr()
    expected = np.random.default_rng(1).random((200, 2))
    assert np.abs(solve_directly(matrix, matrix @ expected) - expected).max() < 1e-9


def test_generate_makes_an_avatar_that_saves(tmp_path):
    avatar = model().generate([painted_track()], polish=0)
    assert avatar.info["photos"] == 1
    image, alpha = avatar.render()
    assert image.shape == (SIZE, SIZE, 3)
    assert alpha.max() > 0.9
    assert avatar.save(tmp_path / "me.safetensors").stat().st_size > 0


def test_five_photos_are_refused():
    with pytest.raises(InputError, match="1 to 4"):
        model().generate([painted_track()] * 5, polish=0)


def test_a_motion_file_is_no_photo():
    with pytest.raises(InputError, match="no pictures"):
        model().generate([painted_track().without_pictures()], polish=0)


def test_tracks_of_two_shapes_are_refused():
    other = painted_track()
    other = other.with_motion(params=other.params.replace(shape=other.params.shape + 1))
    with pytest.raises(InputError, match="one call"):
        model().generate([painted_track(), other], polish=0)


def test_the_model_loads_from_a_folder_with_the_network_off(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert SpatialAvatar.from_pretrained(weights_dir()).head.id == model().head.id


def test_a_saved_model_loads_again_with_its_configuration(tmp_path):
    config = GeneratorConfig(resolution=64, base=BaseConfig(surfels=SurfelConfig(opacity=0.5)))
    SpatialAvatar(config, model().head).save_pretrained(tmp_path)
    again = SpatialAvatar.from_pretrained(tmp_path)
    assert again.config == config
    assert again.layout.id == build_layout(model().head, 64).id
    assert "arxiv.org/abs/2606.15659" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_an_encoder_that_this_release_does_not_have_is_refused():
    network = NetworkConfig(encoder=EncoderConfig(kind="dinov9"))
    with pytest.raises(FormatError, match="no encoder 'dinov9'"):
        SpatialAvatar(GeneratorConfig(network=network), model().head)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(MissingAssetError):
        SpatialAvatar.from_pretrained(tmp_path)


def test_a_texel_outside_the_person_in_a_photo_is_not_drawn():
    track = painted_track()
    matte = track.pictures.mattes.clone()
    matte[:, :, : SIZE // 2] = 0
    (view,) = source_views([track.replace(pictures=track.pictures.replace(mattes=matte))], model().head)
    photo = observe(surface(), view, None)
    kept = carve(surface(), [photo])
    scalp = surface().mask("scalp")
    assert kept[scalp & (photo.warp.pixels[:, 0] < SIZE / 2 - 8)].max() < 0.01
    assert kept[scalp & (photo.warp.pixels[:, 0] > SIZE / 2)].min() > 0.99


def test_an_ear_under_hair_lies_flat():
    track = painted_track(hair=0.02)
    head = model().head
    ears = head.part_vertices("ears").numpy()
    thickness = []
    for one in (track, with_hair(track)):
        offsets = silhouette_offsets(one)
        normals = vertex_normals((head.template + offsets).numpy(), head.faces.numpy())[ears]
        left = head.template[ears, 0].numpy() > 0
        thickness.append(np.abs(normals[left].mean(0)).max())
    # On a flat patch the normals agree; on the folds of an ear they cancel.
    assert thickness[1] > thickness[0] + 0.2


def test_hair_over_the_top_of_an_ear_does_not_flatten_it():
    track, head = painted_track(hair=0.02), model().head
    pixels = track.camera.project(head.vertices(track.params)[0])
    ears = head.part_vertices("ears")
    middle = int(pixels[ears, 1].median())
    segments = with_hair(track).pictures.segments.clone()
    segments[:, middle - 4 :] = 0
    offsets = silhouette_offsets(track.replace(pictures=track.pictures.replace(segments=segments))).numpy()
    bare = silhouette_offsets(track).numpy()
    assert np.abs(offsets - bare)[ears.numpy()].max() < 0.01
    assert np.abs(silhouette_offsets(with_hair(track)).numpy() - bare)[ears.numpy()].max() > 0.01


def test_a_strand_pattern_stays_on_the_scalp():
    tables = surface().tables
    scalp = surface().mask("scalp")
    assert (tables.strands[~scalp] == 0).all()
    assert tables.strands[scalp].std() == pytest.approx(1.0)


def test_constants_of_another_configuration_share_the_tables_but_not_the_values():
    other = texel_surface(model().head, model().layout, BaseConfig(surfels=SurfelConfig(opacity=0.5)))
    assert other.tables is surface().tables
    assert (other.config.surfels.opacity, surface().config.surfels.opacity) == (0.5, CONFIG.surfels.opacity)
