"""Stage 2: the loss and its parts against slow truths, the loop on a ball whose true colours are known."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from spatialavatar import avatar as avatar_module
from spatialavatar import cli, tensor_files
from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError, OutputError
from spatialavatar.head import HeadModel, to_world
from spatialavatar.metrics import ssim_map
from spatialavatar.records import Camera, HeadParams, Pictures, Track
from spatialavatar.refinement import RateConfig, RefineConfig, refine, write_report
from spatialavatar.refinement.anti_spike import (
    aspect_loss,
    aspect_penalty,
    clamp_scales,
    largest_aspect,
    log_aspect,
    projected_axes,
)
from spatialavatar.refinement.attributes import Attributes
from spatialavatar.refinement.clip import screen_blur
from spatialavatar.refinement.deformation import Deformer
from spatialavatar.refinement.frame_views import FrameViews
from spatialavatar.refinement.frames import reference_frame, split_frames
from spatialavatar.refinement.joint_adam import JointAdam
from spatialavatar.refinement.losses import compare, composite, l1_loss, ssim, ssim_loss
from spatialavatar.refinement.near_side import NearSide
from spatialavatar.refinement.polish import PolishConfig, polish
from spatialavatar.refinement.run import RefinementRun
from spatialavatar.refinement.scores import FrameScorer
from spatialavatar.refinement.turned_views import interior_difference, turned_camera
from spatialavatar.render import rasterize, render
from spatialavatar.tracking import save_track

from .support.ball_head import make_ball_head
from .support.filmed_ball import FRAMES, SIZE, filmed, in_grey, patterned_ball, turning, with_images

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = RefineConfig(iterations=60, size=SIZE, rates=RateConfig(color=2e-2))


@pytest.fixture(scope="module")
def truth() -> Avatar:
    return patterned_ball()


@pytest.fixture(scope="module")
def track(truth: Avatar) -> Track:
    return filmed(truth, turning(truth.head, truth.shape))


@pytest.fixture(scope="module")
def grey(truth: Avatar) -> Avatar:
    return in_grey(truth)


def run(avatar: Avatar, track: Track, config: RefineConfig = QUICK, **options) -> Avatar:
    """The last avatar of a refinement."""
    result = None
    for step in refine(avatar, track, config, **options):
        if step.fraction == 1.0:
            result = step.avatar
    assert result is not None
    return result


def layout_hash(avatar: Avatar) -> str:
    digest = hashlib.sha256()
    for tensor in (avatar.layout.texels, avatar.layout.faces, avatar.layout.bary):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _gaussian_tensors(avatar: Avatar) -> list[torch.Tensor]:
    g = avatar.gaussians
    return [g.means, g.quats, g.scales, g.opacities, g.colors]


# -- the loss ---------------------------------------------------------------------------------------------------------


def slow_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """SSIM (H, W, C) window by window, written as the paper has it."""
    axis = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5).double() ** 2)
    window = torch.outer(axis, axis)[..., None] / axis.sum() ** 2
    pad = [torch.nn.functional.pad(t.double(), (0, 0, 5, 5, 5, 5)) for t in (x, y)]
    result = torch.zeros(x.shape, dtype=torch.float64)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            a, b = (t[row : row + 11, column : column + 11] for t in pad)
            mean_a, mean_b = (window * a).sum((0, 1)), (window * b).sum((0, 1))
            var_a, var_b = (window * a * a).sum((0, 1)) - mean_a**2, (window * b * b).sum((0, 1)) - mean_b**2
            both = (window * a * b).sum((0, 1)) - mean_a * mean_b
            result[row, column] = ((2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)) / (
                (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
            )
    return result


def test_ssim_equals_its_definition():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(17, 14, 3, generator=generator), torch.rand(17, 14, 3, generator=generator)
    torch.testing.assert_close(ssim_map(x, y).double(), slow_ssim(x, y), atol=2e-5, rtol=1e-4)
    assert float(ssim(x, x)) == pytest.approx(1.0, abs=1e-5)


def test_the_gradient_of_ssim_equals_finite_differences():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(16, 15, 3, generator=generator).requires_grad_(), torch.rand(16, 15, 3, generator=generator)
    ssim(x, y).backward()
    direction = torch.randn(x.shape, generator=generator)
    step = 1e-2
    change = float(
        slow_ssim(x.detach() + step * direction, y).mean() - slow_ssim(x.detach() - step * direction, y).mean()
    )
    assert float((x.grad * direction).sum()) == pytest.approx(change / (2 * step), rel=2e-2)


def test_render_and_frame_agree_over_any_background_where_alpha_equals_the_matte():
    photo, matte = torch.rand(5, 6, 3), torch.rand(5, 6)
    for background in (torch.zeros(3), torch.tensor([0.2, 0.9, 0.4])):
        ours = composite(photo * matte[..., None], matte, background, premultiplied=True)
        torch.testing.assert_close(ours, composite(photo, matte, background, premultiplied=False))


def test_the_compiled_comparison_equals_its_parts_in_pytorch():
    generator = torch.Generator().manual_seed(3)
    height, width = 41, 27  # no multiples of eight, and more rows than one task takes
    image, color = (torch.rand(height, width, 3, generator=generator) for _ in range(2))
    matte, alpha, weight = (torch.rand(height, width, generator=generator) for _ in range(3))
    background = torch.tensor([0.2, 0.7, 0.4])
    results = []
    for compiled in (True, False):
        leaves = color.clone().requires_grad_(), alpha.clone().requires_grad_()
        if compiled:
            l1, dissimilarity = compare(*leaves, image, matte, weight, background)
        else:
            rendered = composite(*leaves, background, premultiplied=True)
            target = composite(image, matte, background, premultiplied=False)
            target = torch.lerp(rendered.detach(), target, weight[..., None])
            rendered = torch.lerp(rendered.detach(), rendered, weight[..., None])
            l1, dissimilarity = l1_loss(rendered, target), ssim_loss(rendered, target)
        (0.3 * l1 + 0.9 * dissimilarity).backward()
        results.append((l1.detach(), dissimilarity.detach(), *(leaf.grad for leaf in leaves)))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-7)


# -- needles ----------------------------------------------------------------------------------------------------------


def test_the_clamp_limits_range_and_spread_only():
    low, high = torch.tensor(-4.0), torch.tensor(0.0)
    fine = torch.tensor([[-1.0, -2.0, -1.5]])
    torch.testing.assert_close(clamp_scales(fine, low, high, 3.0), fine)
    wild = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 20
    clamped = clamp_scales(wild, low, high, 3.0)
    assert float(clamped.max()) <= 0.0
    assert float(clamped.min()) >= -4.0
    assert float((clamped.amax(1) - clamped.amin(1)).max()) <= 3.0 + 1e-5
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert bool((clamped[:, a] >= clamped[:, b] - 1e-6)[wild[:, a] >= wild[:, b]].all())


def test_the_aspect_on_screen_equals_that_of_the_eigenvalues():
    generator = torch.Generator().manual_seed(2)
    camera = Camera.frontal(128)
    means = torch.randn(50, 3, generator=generator) * 0.1 - torch.tensor([0.0, 0.0, 0.7])
    quats = torch.nn.functional.normalize(torch.randn(50, 4, generator=generator), dim=-1)
    scales = torch.rand(50, 3, generator=generator).double().mul(6).sub(9).exp().float()
    axes = projected_axes(means, quats, scales, camera)
    values = torch.linalg.eigvalsh((axes @ axes.transpose(1, 2)).double())
    torch.testing.assert_close(
        log_aspect(axes).double(), 0.5 * (values[:, 1] / values[:, 0]).log(), atol=1e-3, rtol=1e-3
    )


def test_the_projected_axes_equal_the_rasterisers(truth):
    world = truth.pose(truth.reference)
    camera = truth.camera
    _, _, info = rasterize(
        world.means,
        world.quats,
        world.scales,
        world.opacities,
        world.colors,
        camera.world_to_camera[None],
        camera.intrinsics[None],
        camera.width,
        camera.height,
        eps2d=0.0,
    )
    seen = (info["radii"][0] > 0).all(-1)
    axes = projected_axes(world.means, world.quats, world.scales, camera)[seen]
    covariance = axes @ axes.transpose(1, 2)
    inverse = torch.linalg.inv(covariance.double())
    conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)
    drawn = info["conics"][0][seen].double()
    assert float(((drawn - conics).abs().amax(1) / conics.abs().amax(1)).median()) < 1e-3


def test_the_penalty_is_zero_for_round_gaussians_and_shortens_needles():
    camera = Camera.frontal(128)
    log_scales = torch.tensor([[-5.0, -5.0, -5.0], [-2.0, -7.0, -7.0]], requires_grad=True)
    means, quats = torch.tensor([[0.0, 0.0, -0.7]] * 2), torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    axes = projected_axes(means, quats, log_scales.exp(), camera)
    assert largest_aspect(axes) == pytest.approx(math.exp(5.0), rel=1e-3)
    aspect_loss(axes, 2.0).backward()
    assert bool(torch.isfinite(log_scales.grad).all())
    assert float(log_scales.grad[0].abs().max()) == 0.0
    assert float(log_scales.grad[1, 0]) > 0 > float(log_scales.grad[1, 1])


# -- frames -----------------------------------------------------------------------------------------------------------


def test_the_compiled_penalty_equals_the_formula_in_pytorch(truth):
    generator = torch.Generator().manual_seed(4)
    world = truth.pose(truth.reference.replace(translation=torch.tensor([[0.0, 0.0, -0.6]])))
    count = len(world)
    scales = 0.01 * torch.randn(count, 3, generator=generator).exp()
    quats = torch.randn(count, 4, generator=generator)
    chosen = torch.arange(0, count, 3)
    camera = Camera.frontal(SIZE)
    results = []
    for compiled in (True, False):
        leaves = quats.clone().requires_grad_(), scales.clone().requires_grad_()
        if compiled:
            penalty = aspect_penalty(world.replace(quats=leaves[0], scales=leaves[1]), chosen, camera, 0.7)
        else:
            penalty = aspect_loss(projected_axes(world.means[chosen], *(t[chosen] for t in leaves), camera), 0.7)
        (3.0 * penalty).backward()
        results.append((penalty.detach(), *(leaf.grad for leaf in leaves)))
    assert float(results[0][0]) > 0.1
    torch.testing.assert_close(*results, rtol=2e-3, atol=1e-4)


def test_the_reference_is_the_first_frame_of_the_most_closed_jaw():
    jaw = torch.tensor([[0.3, 0, 0], [0.1, 0, 0], [-0.05, 0.05, 0], [0.2, 0, 0]])
    assert reference_frame(jaw, torch.Generator()) == 1


def test_with_closed_jaws_the_reference_is_drawn_from_the_bottom_decile():
    jaw = torch.zeros(40, 3)
    jaw[:, 0] = torch.linspace(0.5, 0.0, 40)
    drawn = {reference_frame(jaw, torch.Generator().manual_seed(seed)) for seed in range(30)}
    assert drawn == {36, 37, 38, 39}


def test_the_last_fifth_is_held_out_and_lost_frames_are_in_neither_part(track):
    confidence = torch.ones(FRAMES)
    confidence[[2, FRAMES - 1]] = 0
    split = split_frames(track.with_motion(confidence=confidence), 0.2)
    assert split.training.tolist() == [0, 1, *range(3, 12)]
    assert split.held_out.tolist() == [12, 13]


def test_torso_and_repeated_borders_have_no_weight(truth, track):
    images, mattes = track.pictures.images.clone(), track.pictures.mattes.clone()
    segments = torch.where(mattes > 127, 3, 0).to(torch.uint8)
    images[:, 40:] = torch.randint(0, 256, (FRAMES, 24, SIZE, 3), generator=torch.Generator().manual_seed(0)).byte()
    mattes[:, 40:], segments[:, 40:] = 255, 4
    smooth = torch.linspace(60, 90, 5)[:, None, None] + torch.linspace(0, 100, SIZE)[:, None]
    images[:, 55:60] = smooth.byte()
    images[:, 60:], mattes[:, 60:] = images[:, 59:60], 0
    source = FrameViews(track.replace(pictures=Pictures(images, mattes, segments)), truth.head)
    vertices = truth.head.pose(truth.identity(), track.params[7])[0]
    weight = source.view(7, vertices, SIZE, whole=True).weight
    assert float(weight[40:].max()) == 0.0
    assert float(weight[24:38, 24:40].min()) == 1.0
    assert float(weight[2, 2]) == 1.0


def test_a_window_equals_that_part_of_the_whole_frame(truth, track):
    source = FrameViews(track, truth.head)
    vertices = truth.head.pose(truth.identity(), track.params[3])[0]
    part, whole = source.view(3, vertices, SIZE), source.view(3, vertices, SIZE, whole=True)
    x0, y0, x1, y1 = part.box
    assert (x1 - x0) * (y1 - y0) < SIZE * SIZE
    torch.testing.assert_close(part.image, whole.image[y0:y1, x0:x1])
    assert float(whole.matte.sum()) == pytest.approx(float(part.matte.sum()))
    seen, _ = render(truth.pose(track.params[3]), part.window(track.camera))
    every, _ = render(truth.pose(track.params[3]), track.camera)
    torch.testing.assert_close(seen, every[y0:y1, x0:x1], atol=1e-5, rtol=1e-4)


def test_the_deformation_equals_the_avatars(truth, track):
    deformer = Deformer(truth.head, truth.layout, truth.identity())
    ours = deformer.to_world(truth.gaussians, deformer.pose(track.params[3], 3))
    theirs = to_world(truth.gaussians, truth.head, truth.layout, truth.head.pose(truth.identity(), track.params[3])[0])
    for name in ("means", "quats", "scales"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-6, rtol=1e-5)


def test_the_compiled_deformation_has_the_gradients_of_the_one_in_pytorch(truth, track):
    deformer = Deformer(truth.head, truth.layout, truth.identity())
    results = []
    for params in (track.params[3], track.params[3].replace(jaw=torch.zeros(1, 3).requires_grad_())):
        names = ("means", "quats", "scales")
        leaves = [getattr(truth.gaussians, name).clone().requires_grad_() for name in names]
        world = deformer.to_world(truth.gaussians.replace(**dict(zip(names, leaves))), deformer.pose(params))
        sum((i * getattr(world, name).square()).sum() for i, name in enumerate(names, 1)).backward()
        results.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


# -- the loop ---------------------------------------------------------------------------------------------------------


def test_refinement_improves_held_out_frames(grey, track, tmp_path):
    refined = run(grey, track)
    curve = [(10, {"l1": 0.1}), (20, {"l1": 0.05, "aspect": 0.0})]
    report = write_report(tmp_path / "report", grey, refined, track, QUICK, curve)
    assert report.held_out
    assert report.after.psnr > report.before.psnr + 5.0
    assert report.after.inner_psnr > report.before.inner_psnr + 5.0
    assert report.after.ssim > report.before.ssim
    names = [path.name for path in report.files]
    assert names == ["frames.png", "frames.csv", "curve.csv"]
    rows = (tmp_path / "report" / "frames.csv").read_text().splitlines()
    assert len(rows) == 1 + FRAMES // 5
    assert (tmp_path / "report" / "curve.csv").read_text().splitlines()[0] == "iteration,aspect,l1"


def test_layout_and_input_do_not_change(grey, track):
    before, tensors = layout_hash(grey), [t.clone() for t in _gaussian_tensors(grey)]
    refined = run(grey, track, QUICK.changed({"iterations": 12}))
    assert layout_hash(refined) == before == layout_hash(grey)
    assert refined.layout.id == grey.layout.id
    assert len(refined.gaussians) == len(grey.gaussians)
    assert all(torch.equal(a, b) for a, b in zip(tensors, _gaussian_tensors(grey)))
    assert not torch.equal(refined.gaussians.colors, grey.gaussians.colors)


def test_held_out_frames_change_nothing(grey, track):
    held = split_frames(track, 0.2).held_out
    images = track.pictures.images.clone()
    images[held] = 255 - images[held]
    config = QUICK.changed({"iterations": 10})
    ours, theirs = run(grey, track, config), run(grey, with_images(track, images), config)
    assert torch.equal(ours.gaussians.colors, theirs.gaussians.colors)


def test_scales_are_frozen_during_the_warm_up(grey, track):
    config = QUICK.changed(
        {"iterations": 40, "anti_spike.scale_freeze": 3, "anti_spike.clamp": False, "anti_spike.aspect_weight": 0.0}
    )
    moved = [
        not torch.allclose(step.avatar.gaussians.scales, grey.gaussians.scales, rtol=1e-6)
        for step in refine(grey, track, config)
        if step.iteration <= 5
    ]
    assert moved == [False, False, False, False, True, True]


def test_alpha_is_fitted_to_the_matte_only_with_random_backgrounds(grey, track):
    """A ball as grey as the fixed background equals the background; over random colours it does not."""
    images = torch.full_like(track.pictures.images, 128)
    faint = dataclasses.replace(
        grey, gaussians=grey.gaussians.replace(opacities=torch.full_like(grey.gaussians.opacities, 0.3))
    )
    cover = {}
    for random in (True, False):
        config = QUICK.changed({"iterations": 40, "rates.opacity": 0.1, "loss.random_background": random})
        refined = run(faint, with_images(track, images), config)
        cover[random] = float(refined.render(track.params[7], track.camera)[1][26:38, 26:38].mean())
    assert cover[True] > cover[False] + 0.1


def _stopped_at(iteration: int, steps) -> None:
    """Take steps until one of them is the given one, then close."""
    with contextlib.closing(steps):
        next(step for step in steps if step.iteration == iteration)


def test_a_killed_run_resumes_to_the_result_of_an_unbroken_one(grey, track, tmp_path):
    config = QUICK.changed({"iterations": 30})
    whole = run(grey, track, config, seed=3)
    path = tmp_path / "run.safetensors"
    _stopped_at(13, refine(grey, track, config, checkpoint=path, seed=3))
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    resumed = refine(grey, track, config, checkpoint=path, seed=3)
    first = next(resumed)
    assert first.iteration == 14
    for step in resumed:
        last = step
    for ours, theirs in zip(_gaussian_tensors(last.avatar), _gaussian_tensors(whole)):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


def test_a_finished_run_resumes_to_its_result(grey, track, tmp_path):
    config = QUICK.changed({"iterations": 6})
    path = tmp_path / "run.safetensors"
    whole = run(grey, track, config, checkpoint=path)
    again = run(grey, track, config, checkpoint=path)
    assert torch.equal(whole.gaussians.colors, again.gaussians.colors)


def test_a_time_budget_ends_the_run(grey, track):
    *_, last = refine(grey, track, QUICK.changed({"iterations": 100_000}), minutes=0.5 / 60)
    assert last.fraction == 1.0
    assert 1 < last.iteration < 5000
    assert last.preview is not None


def test_gaussians_that_no_frame_shows_squarely_keep_their_colour(grey, track):
    free = run(grey, track, QUICK.changed({"iterations": 15, "colors.gate": None}))
    gated = run(grey, track, QUICK.changed({"iterations": 15, "colors.gate": (0.5, 0.7)}))
    params = track.params
    squarest = torch.stack(
        [torch.nn.functional.normalize(v, dim=-1)[:, 2] for v in _ball_points(grey, params, range(12))]
    ).amax(0)
    rim = squarest < 0.4
    assert torch.equal(gated.gaussians.colors[rim], grey.gaussians.colors[rim])
    assert not torch.equal(free.gaussians.colors[rim], grey.gaussians.colors[rim])
    assert not torch.equal(gated.gaussians.colors[~rim], grey.gaussians.colors[~rim])


def test_the_pull_keeps_colours_near_their_initial_values(grey, track):
    def moved(pull: float) -> float:
        after = run(grey, track, QUICK.changed({"iterations": 30, "colors.pull": pull}))
        return float((after.gaussians.colors - grey.gaussians.colors).abs().mean())

    assert moved(0.1) < 0.7 * moved(0.0)


def test_smoothing_keeps_common_changes_and_reduces_noise(grey):
    layout = grey.layout
    attributes = Attributes(grey.gaussians)
    noise = torch.randn(len(layout), 3, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        attributes.tensors["color"].add_(0.1)
    attributes.smooth_colors(0.5, layout)
    torch.testing.assert_close(attributes.tensors["color"].detach(), grey.gaussians.colors + 0.1)
    with torch.no_grad():
        attributes.tensors["color"].copy_(grey.gaussians.colors + 0.1 * noise)
    before = float((attributes.tensors["color"].detach() - grey.gaussians.colors).std())
    attributes.smooth_colors(0.5, layout)
    assert float((attributes.tensors["color"].detach() - grey.gaussians.colors).std()) < 0.75 * before


def test_joint_steps_do_not_depend_on_the_choice_of_axes():
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    gradients = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(2))

    def path(gradients: torch.Tensor) -> torch.Tensor:
        value = torch.zeros(4, 3, requires_grad=True)
        optimiser = JointAdam([{"params": [value], "lr": 0.1}])
        for gradient in gradients:
            value.grad = gradient
            optimiser.step()
        return value.detach()

    torch.testing.assert_close(path(gradients @ turn), path(gradients) @ turn)


def test_a_joint_step_of_one_axis_equals_adams():
    gradients = torch.randn(20, 4, 1, generator=torch.Generator().manual_seed(2))
    values = [torch.zeros(4, 1, requires_grad=True) for _ in range(2)]
    optimisers = [JointAdam([{"params": values[:1], "lr": 0.1}]), torch.optim.Adam(values[1:], 0.1)]
    for gradient in gradients:
        for value, optimiser in zip(values, optimisers):
            value.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(*values)


def test_joint_steps_hardly_move_unconstrained_depth(grey, track):
    def depth_share(joint: bool) -> float:
        config = QUICK.changed({"iterations": 30, "rates.joint_steps": joint})
        after = run(grey, track, config)
        moved = (after.pose(track.params[0]).means - grey.pose(track.params[0]).means).abs().mean(0)
        return float(moved[2] / moved[:2].mean())

    assert depth_share(True) < 0.8 * depth_share(False)


def test_the_far_side_and_the_parts_behind_the_lips_are_hidden(grey, track):
    head, layout = grey.head, grey.layout
    posed = Deformer(head, layout, grey.identity()).pose(track.params[0])
    world = grey.pose(track.params[0])
    facing = torch.nn.functional.normalize(_ball_points(grey, track.params, range(1))[0], dim=-1)[:, 2]
    inside = torch.arange(len(layout)) % 2 == 0

    class Parts:
        parts = ("face", "mouth")
        faces = head.faces
        available_parts = HeadModel.available_parts

    class Layout:
        faces = layout.faces

        def mask(self, head: Parts, *parts: str) -> torch.Tensor:
            return inside if parts == ("mouth",) else ~inside

    near_side = NearSide(Parts(), Layout(), 0.0)  # type: ignore[arg-type]
    shown = near_side(world, posed, track.camera).opacities > 0.0
    assert shown[inside | (facing > 0.3)].all()
    assert not shown[~inside & (facing < -0.3)].any()
    assert not near_side(world, posed, track.camera, mouth=False).opacities[inside].any()


def test_a_surface_does_not_open_where_the_far_side_is_dark(grey, track):
    def opacity(far_side: float | None) -> float:
        near = torch.nn.functional.normalize(_ball_points(grey, track.params, range(1))[0], dim=-1)[:, 2] > 0.0
        two_sided = dataclasses.replace(
            grey, gaussians=grey.gaussians.replace(colors=0.5 * near[:, None].float().expand(-1, 3))
        )
        # Only opacity may move: the light side can become darker by nothing but holes.
        fixed = {f"rates.{name}": 0.0 for name in ("color", "scale", "position", "rotation")}
        config = QUICK.changed(
            {"loss.near_side_cosine": far_side, "turned_views.weight": 0.0, "rates.opacity": 0.2, **fixed}
        )
        return float(run(two_sided, still, config).gaussians.opacities[near].mean())

    still = with_images(
        track.with_motion(params=track.params[[0] * len(track.params)]), torch.full_like(track.pictures.images, 100)
    )
    assert opacity(-0.3) > opacity(None) + 0.05


def test_a_turned_camera_keeps_its_distance_and_target():
    camera, center = Camera.frontal(64), torch.tensor([0.02, 0.01, 0.1])

    def seen(one: Camera) -> torch.Tensor:
        return one.world_to_camera[:3, :3] @ center + one.world_to_camera[:3, 3]

    generator = torch.Generator().manual_seed(3)
    moved = [turned_camera(camera, center, (15.0, 35.0), generator) for _ in range(50)]
    for one in moved:
        torch.testing.assert_close(seen(one), seen(camera))
    cosines = torch.stack([(one.world_to_camera[:3, :3] @ camera.world_to_camera[:3, :3].T)[2, 2] for one in moved])
    assert 25.0 < float(cosines.min().acos().rad2deg()) <= 38.1


def test_a_hole_is_penalised_and_another_outline_is_not():
    cover = torch.zeros(32, 32, 1)
    cover[8:24, 8:24] = 1.0
    shapes = {name: cover.clone() for name in ("grown", "carved", "torn")}
    shapes["grown"][4:28, 4:28] = 1.0
    shapes["carved"][8, 8:24] = 0.0
    shapes["torn"][15, 15] = 0.0
    color = cover.expand(-1, -1, 3) * 0.5
    costs = {n: float(interior_difference(c.expand(-1, -1, 3) * 0.5, c, color, cover)) for n, c in shapes.items()}
    assert costs == {"grown": 0.0, "carved": 0.0, "torn": pytest.approx(1.5 / 32**2)}


def test_turned_views_prevent_holes_from_the_side(grey, track):
    def holes(weight: float) -> float:
        config = QUICK.changed({"iterations": 60, "rates.joint_steps": False, "turned_views.weight": weight})
        after = run(grey, track, config)
        camera = turned_camera(track.camera, torch.zeros(3), (0.0, 35.0), torch.Generator().manual_seed(1))
        covers = [one.render(track.params[0], camera)[1] for one in (grey, after)]
        return float((covers[0] - covers[1]).clamp_min(0.0)[covers[0] > 0.98].mean())

    assert holes(4.0) < 0.6 * holes(0.0)


def _ball_points(avatar: Avatar, params: HeadParams, frames: range) -> list[torch.Tensor]:
    """The Gaussians' places relative to the ball's centre, which point along its normals."""
    points = [avatar.pose(params[frame]).means for frame in frames]
    return [p - params.translation[0] for p in points]


def test_a_small_render_equals_the_large_one_scaled_down(truth, track):
    world, camera = truth.pose(track.params[7]), Camera.frontal(256)
    views = {}
    for size, eps2d in ((256, 0.3), (128, screen_blur(0.5))):
        small = camera.resized(size, size)
        image, _, _ = rasterize(
            world.means,
            world.quats,
            world.scales,
            world.opacities,
            world.colors,
            small.world_to_camera[None],
            small.intrinsics[None],
            size,
            size,
            eps2d=eps2d,
        )
        views[size] = image[0].movedim(-1, 0)
    expected = torch.nn.functional.avg_pool2d(views[256], 2)
    assert float((views[128] - expected).abs().mean()) < 2e-3


def test_the_scorers_alignment_finds_the_true_pose(truth, track):
    wrong = track.with_motion(
        params=track.params.replace(translation=track.params.translation + torch.tensor([0.004, 0.0, 0.0]))
    )
    scorer = FrameScorer(wrong, truth, SIZE)
    off, found = (scorer.score(truth, 14, params)[2] for params in (None, scorer.aligned(truth, 14)))
    assert found.inner_psnr > off.inner_psnr + 1.0


def test_polish_fits_the_visible_side_and_keeps_the_far_side(truth, grey, track):
    photo = track[7].replace(crop=None)
    polished = polish(grey, [photo], PolishConfig(iterations=60, color_rate=0.05, max_color=1.0, rim=1))
    error = (polished.gaussians.colors - truth.gaussians.colors).abs().mean(1)
    before = (grey.gaussians.colors - truth.gaussians.colors).abs().mean(1)
    depth = polished.pose(photo.params).means[:, 2]
    near, far = depth > depth.max() - 0.02, depth < depth.median()
    assert float(error[near].mean()) < 0.6 * float(before[near].mean())
    assert torch.equal(polished.gaussians.colors[far], grey.gaussians.colors[far])
    assert polish(grey, [photo], PolishConfig(iterations=0)) is grey


def test_polish_leaves_what_stage_1_did_not_see(grey, track):
    photo = track[7].replace(crop=None)
    seen = (torch.arange(len(grey.gaussians)) % 2).float()
    polished = polish(grey, [photo], PolishConfig(iterations=3, rim=1), seen=seen).gaussians
    for name in ("means", "scales", "opacities", "colors"):
        assert torch.equal(getattr(polished, name)[seen == 0], getattr(grey.gaussians, name)[seen == 0])
    assert not torch.equal(polished.colors, grey.gaussians.colors)


def test_polish_changes_no_colour_by_more_than_its_limit(grey, track):
    config = PolishConfig(iterations=20, color_rate=0.2, max_color=0.05, rim=1)
    change = polish(grey, [track[7].replace(crop=None)], config).gaussians.colors - grey.gaussians.colors
    assert 0.04 < float(change.abs().max()) <= 0.05 + 1e-6


def test_polish_limits_growth_towards_hair_beyond_the_head(grey, track):
    matte = torch.from_numpy(cv2.dilate(track.pictures.mattes[7].numpy(), np.ones((25, 25), np.uint8)))
    photo = track[7].replace(pictures=track.pictures[7].replace(mattes=matte[None]), crop=None)
    config = PolishConfig(iterations=20, scale_rate=0.2, rim=1)
    growth = [
        (polish(grey, [photo], one).gaussians.scales / grey.gaussians.scales).log().abs().max()
        for one in (config, dataclasses.replace(config, max_growth=10.0))
    ]
    assert float(growth[0]) <= config.max_growth + 1e-5 < float(growth[1])


def test_photos_of_different_exposure_do_not_change_the_colours(truth, track):
    photos = [
        with_images(track[frame], (track[frame].pictures.images.float() * light).byte()).replace(crop=None)
        for frame, light in ((6, 1.0), (8, 0.6))
    ]
    config = PolishConfig(iterations=20, position_rate=0.0, scale_rate=0.0, rim=1, facing=(0.1, 0.4))
    polished = polish(truth, photos, config)
    assert float((polished.gaussians.colors - truth.gaussians.colors).abs().mean()) < 0.01
    dark = polish(truth, photos[1:], config)
    assert float((dark.gaussians.colors - truth.gaussians.colors).abs().mean()) > 0.02


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_track_of_another_head_is_refused(grey, track):
    with pytest.raises(FormatError, match="tracked with the head model 'cube'"):
        refine(grey, track.with_motion(head_id="cube"), QUICK)


def test_an_avatar_of_another_layout_is_refused(grey, track):
    other = make_ball_head(segments=15)
    with pytest.raises(FormatError, match="another UV layout"):
        refine(dataclasses.replace(grey, head=other, vertex_offsets=None), track, QUICK)


def test_a_short_clip_is_refused(grey, track):
    three = track.with_motion(confidence=torch.tensor([1.0] * 3 + [0.0] * (FRAMES - 3)))
    with pytest.raises(InputError, match="only 3 frames for training"):
        refine(grey, three, QUICK)


def test_a_black_clip_is_refused(grey, track):
    with pytest.raises(InputError, match="in the video is black"):
        refine(grey, with_images(track, torch.zeros_like(track.pictures.images)), QUICK)


def test_a_track_without_pictures_is_refused(grey, track):
    with pytest.raises(InputError, match="holds no pictures"):
        refine(grey, track.without_pictures(), QUICK)


def test_a_checkpoint_of_another_run_is_refused_and_kept(grey, track, tmp_path):
    path = tmp_path / "run.safetensors"
    run(grey, track, QUICK.changed({"iterations": 3}), checkpoint=path)
    kept = path.read_bytes()
    with pytest.raises(FormatError, match="belongs to another avatar, video or setting"):
        refine(grey, track, QUICK.changed({"iterations": 3}), checkpoint=path, seed=1)
    assert path.read_bytes() == kept


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(grey, track, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run(grey, track, QUICK.changed({"iterations": 3}), checkpoint=tmp_path / "file" / "run.safetensors")


def test_a_full_disk_leaves_the_last_checkpoint(grey, track, tmp_path, monkeypatch):
    config, path = QUICK.changed({"iterations": 8}), tmp_path / "run.safetensors"
    whole = run(grey, track, config)
    _stopped_at(5, refine(grey, track, config, checkpoint=path))
    kept = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "save_file", full)
        with pytest.raises(OutputError, match="No space left"):
            _stopped_at(7, refine(grey, track, config, checkpoint=path))
    assert path.read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    resumed = run(grey, track, config, checkpoint=path)
    torch.testing.assert_close(resumed.gaussians.colors, whole.gaussians.colors, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"iterations": 0}, "at least 1"), ({"size": 100_000}, "multiple of 4"), ({"holdout": 1.0}, "held-out")],
)
def test_constants_outside_their_range_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        RefineConfig(**change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 10**9),
        ("rates.color", -1e-3),
        ("rates.position", math.nan),
        ("loss.ssim_weight", "0.2"),
        ("loss.near_side_cosine", 2.0),
        ("anti_spike.scale_range", (0.0, 8e-3)),
        ("anti_spike.aspect_share", 0.0),
        ("colors.gate", (0.1, 40.0)),
        ("turned_views.every", 0),
        ("bases.inputs", 8.5),
        ("bases.color", -1.0),
    ],
)
def test_a_constant_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=name.rpartition(".")[2]) as caught:
        RefineConfig().changed({name: value})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["color_rate", "rates.colour", "iterations.more"])
def test_a_constant_that_does_not_exist_is_refused(name):
    with pytest.raises(InputError, match="has no constant"):
        RefineConfig().changed({name: 1.0})


def test_changed_constants_leave_the_others_as_they_are():
    config = RefineConfig(rates=RateConfig(scale=0.5)).changed({"rates.color": 1e-2, "colors.gate": None})
    assert (config.rates.color, config.rates.scale, config.colors.gate) == (1e-2, 0.5, None)
    assert config.loss == RefineConfig().loss
    assert config.as_dict()["anti_spike"]["scale_range"] == [2e-5, 8e-3]


def test_the_first_and_last_step_have_previews(grey, track):
    shown = {
        s.iteration: s.preview for s in refine(grey, track, QUICK.changed({"iterations": 5})) if s.preview is not None
    }
    assert list(shown) == [0, 5]
    assert shown[5].shape == (SIZE, SIZE, 3)
    assert shown[5].dtype == np.uint8


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def files(grey, track, tmp_path, monkeypatch) -> tuple[str, str, str]:
    """Paths of the avatar, of the track, and of what is to be written."""
    monkeypatch.setattr(avatar_module, "default_head", lambda: grey.head)
    save_track(track, tmp_path / "clip.safetensors")
    return (
        str(grey.save(tmp_path / "ball.safetensors")),
        str(tmp_path / "clip.safetensors"),
        str(tmp_path / "refined.safetensors"),
    )


def test_the_command_writes_avatar_and_report_and_deletes_its_checkpoint(files, grey, tmp_path, capsys):
    avatar, clip, output = files
    given = Path(avatar).read_bytes()
    line = ["refine", avatar, clip, "-o", output, "--iterations", "20", "--size", "64", "--report", str(tmp_path / "r")]
    assert cli.main(line) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == output
    assert "On held-out frames: PSNR" in err
    refined = Avatar.load(output, grey.head)
    assert refined.info["refined"] == {"iterations": 20, "frames": 12, "seed": 0}
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "curve.csv",
        "frames.csv",
        "frames.png",
        "preview_00000.png",
        "preview_00020.png",
    ]
    assert not list(tmp_path.glob("*.checkpoint.safetensors"))
    assert Path(avatar).read_bytes() == given


def test_an_interrupted_command_is_resumed(files, tmp_path, monkeypatch, capsys):
    avatar, clip, output = files
    line = ["refine", avatar, clip, "-o", output, "--iterations", "12", "--size", "64", "--no-photometric"]
    assert cli.main([*line, "--resume"]) == 1
    assert "no interrupted run" in capsys.readouterr().err
    step = RefinementRun.step

    def interrupted(self):
        if self.iteration == 7:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(RefinementRun, "step", interrupted)
        assert cli.main(line) == 130
    assert not Path(output).exists()
    seen = []
    monkeypatch.setattr(RefinementRun, "step", lambda self: (seen.append(self.iteration), step(self))[1])
    assert cli.main([*line, "--resume"]) == 0
    assert seen == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("wrong", ["head", "black", "three frames", "no pictures"])
def test_an_unusable_video_is_refused_in_one_sentence_and_nothing_is_written(wrong, files, track, tmp_path, capsys):
    avatar, _, output = files
    given = Path(avatar).read_bytes()
    changed = {
        "head": lambda: track.with_motion(head_id="cube"),
        "black": lambda: with_images(track, torch.zeros_like(track.pictures.images)),
        "three frames": lambda: track.with_motion(confidence=(torch.arange(FRAMES) < 3).float()),
        "no pictures": lambda: track.without_pictures(),
    }[wrong]()
    save_track(changed, tmp_path / "wrong.safetensors")
    assert cli.main(["refine", avatar, str(tmp_path / "wrong.safetensors"), "-o", output]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert Path(avatar).read_bytes() == given
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [Path(avatar).name, Path(files[1]).name, "wrong.safetensors"]
    )
