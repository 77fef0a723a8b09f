"""The photometric pass on a puppet whose true pose is known."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import build_layout
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import Camera, Gaussians, HeadMotion, HeadParams, Neutral, Pictures, Track
from spatialavatar.refinement.photometric import (
    PhotometricConfig,
    WarmUp,
    align,
    aligned_heads,
    photometric_pass,
    smooth_corrections,
)
from spatialavatar.render import render

from .support.puppet_head import make_puppet_head

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 96
FREE = PhotometricConfig(sizes=(48, 96, 96, 96), landmark_evidence=0.0)
"""The landmark fit is wrong on purpose here, by more than real landmarks are, so it must not hold the head."""


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    """The puppet in a smooth pattern of opaque flat Gaussians."""
    head = make_puppet_head()
    layout = build_layout(head, 72)
    surface = layout.surface(head, head.template)
    count = len(layout)
    gaussians = Gaussians(
        means=torch.zeros(count, 3),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).clone(),
        scales=torch.tensor([0.6, 0.1, 0.6]).expand(count, 3).clone(),
        opacities=torch.full((count,), 0.95),
        colors=0.5 + 0.3 * torch.sin(90.0 * surface + torch.tensor([0.0, 2.0, 4.0])),
    )
    reference = HeadParams.cat([head.neutral()]).replace(
        rotation=torch.tensor([[0.05, 0.2, 0.0]]), translation=torch.tensor([[0.0, 0.0, -0.6]])
    )
    return Avatar(head, layout, torch.zeros(head.shape_count), gaussians, reference, Camera.frontal(SIZE))


def filmed(avatar: Avatar, frames: int = 1) -> Track:
    """The avatar in its reference pose, over white, as a track with the true parameters."""
    image, alpha = render(avatar.pose(avatar.reference), avatar.camera, (1.0, 1.0, 1.0))
    params = HeadParams.cat([avatar.reference] * frames)
    pictures = Pictures(
        images=(image.clamp(0, 1) * 255).round().byte()[None].repeat(frames, 1, 1, 1),
        mattes=(alpha * 255).round().byte()[None].repeat(frames, 1, 1),
    )
    return Track(HeadMotion(params, 25.0, avatar.head.id, torch.ones(frames)), avatar.camera, pictures=pictures)


def with_pixels(track: Track, **changes: torch.Tensor) -> Track:
    return track.replace(pictures=track.pictures.replace(**changes))


def off(track: Track) -> Track:
    """The track, wrong by three degrees, six millimetres and some of a smile."""
    params, expression = track.params, track.params.expression.clone()
    expression[:, 0] += 0.3
    moved = params.replace(
        rotation=params.rotation + torch.tensor([0.03, -0.04, 0.02]),
        translation=params.translation + torch.tensor([0.005, -0.003, 0.002]),
        expression=expression,
    )
    return track.with_motion(params=moved)


def degrees_between(a: HeadParams, b: HeadParams) -> float:
    turn = axis_angle_to_matrix(a.rotation) @ axis_angle_to_matrix(b.rotation).mT
    return float(torch.rad2deg((0.5 * (turn.diagonal(dim1=1, dim2=2).sum(1) - 1)).clamp(-1, 1).acos()).max())


def test_a_wrong_pose_is_corrected(avatar):
    truth = filmed(avatar)
    found = align(avatar, off(truth), FREE)
    assert degrees_between(off(truth).params, truth.params) > 2.5
    assert degrees_between(found.track.params, truth.params) < 0.3
    away = (found.track.params.translation - truth.params.translation)[0]
    assert float(away[:2].norm()) < 5e-4
    assert float(away.norm()) < 2e-3
    assert abs(float((found.track.params.expression - truth.params.expression)[0, 0])) < 0.1
    assert float(found.after) < 0.3 * float(found.before)


def test_a_right_pose_does_not_change(avatar):
    truth = filmed(avatar)
    found = align(avatar, truth).track.params
    assert degrees_between(found, truth.params) < 0.05
    assert float((found.translation - truth.params.translation).norm()) < 2e-4


def test_a_change_of_light_does_not_change_the_pose(avatar):
    truth = filmed(avatar)
    dim = with_pixels(truth, images=(truth.pictures.images.float() * torch.tensor([0.8, 0.7, 0.6])).byte())
    found = align(avatar, dim, FREE).track.params
    assert degrees_between(found, truth.params) < 0.1
    assert float((found.translation - truth.params.translation)[0, :2].norm()) < 2e-4


def test_pixels_outside_the_mask_do_not_influence_the_pose(avatar):
    track = off(filmed(avatar))
    seen = (torch.arange(SIZE)[:, None] // 16 + torch.arange(SIZE) // 16) % 2 == 0
    noisy = torch.randint(
        0, 256, track.pictures.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    spoilt = with_pixels(track, images=torch.where(seen[None, ..., None], track.pictures.images, noisy))
    one, other = (align(avatar, t, FREE, seen=seen).track.params for t in (track, spoilt))
    assert torch.equal(one.rotation, other.rotation)
    assert torch.equal(one.translation, other.translation)
    assert not torch.equal(one.rotation, track.params.rotation)


def test_a_frame_without_a_face_does_not_change(avatar):
    track = off(filmed(avatar, frames=3)).with_motion(confidence=torch.tensor([1.0, 0.0, 1.0]))
    found = align(avatar, track, FREE)
    assert torch.equal(found.track.params.rotation[1], track.params.rotation[1])
    assert torch.equal(found.track.params.expression[1], track.params.expression[1])
    assert torch.isnan(found.before).tolist() == [False, True, False]
    assert not torch.equal(found.track.params.rotation[2], track.params.rotation[2])


def test_the_landmark_fit_stays_where_the_matte_is_empty(avatar):
    track = off(filmed(avatar))
    track = with_pixels(track, mattes=torch.zeros_like(track.pictures.mattes))
    found = align(avatar, track)
    assert torch.allclose(found.track.params.rotation, track.params.rotation, atol=1e-5)
    assert math.isnan(float(found.before))


def test_corrections_are_smoothed_but_not_across_a_cut():
    changes = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64)
    information = torch.ones(3, 1, 1, dtype=torch.float64)
    found = smooth_corrections(changes, information, torch.tensor([1e6], dtype=torch.float64), [False, True, False])
    assert found[:, 0].tolist() == pytest.approx([0.5, 0.5, 5.0], abs=1e-4)


def test_a_frame_with_more_information_moves_less():
    changes = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    sure = torch.diag(torch.tensor([99.0, 1.0], dtype=torch.float64))
    information = torch.stack([sure, torch.eye(2, dtype=torch.float64)])
    found = smooth_corrections(changes, information, torch.tensor([1e6, 0.0], dtype=torch.float64), [False, True])
    assert found[:, 0].tolist() == pytest.approx([0.01, 0.01], abs=1e-3)
    assert found[:, 1].tolist() == pytest.approx([0.0, 1.0])


def test_a_track_of_another_head_is_refused(avatar):
    with pytest.raises(FormatError, match="tracked with the head model 'other'"):
        align(avatar, filmed(avatar).with_motion(head_id="other"))


def test_a_track_without_pictures_is_refused(avatar):
    with pytest.raises(InputError, match="holds no pictures"):
        align(avatar, filmed(avatar).without_pictures())


def test_the_neutral_expression_moves_with_the_corrections(avatar):
    wrong = off(filmed(avatar))
    neutral = torch.cat([wrong.params.expression, wrong.params.jaw, wrong.params.eyes], 1)[0]
    found = align(avatar, wrong.with_motion(neutral=Neutral(neutral)), FREE).track
    moved = torch.cat([found.params.expression, found.params.jaw, found.params.eyes], 1)[0]
    assert torch.allclose(found.neutral.expression, moved, atol=1e-6)


def test_the_warm_up_adapts_an_avatar_of_other_colours(avatar):
    dull = dataclasses.replace(
        avatar, gaussians=avatar.gaussians.replace(colors=0.3 + 0.2 * avatar.gaussians.colors.flip(-1))
    )
    track = off(filmed(avatar, frames=9))
    plain = align(dull, track)
    fitted = photometric_pass(dull, track, warm_up=WarmUp(steps=10))
    assert float(fitted.after.mean()) < 0.9 * float(plain.after.mean())
    assert "9 of 9 frames were aligned" in str(fitted)


def test_a_continued_run_reads_its_aligned_heads(avatar, tmp_path, monkeypatch):
    from spatialavatar.refinement.photometric import run as photometric

    track, kept = off(filmed(avatar)), tmp_path / "run.heads"
    first, warnings = aligned_heads(avatar, track, kept, warm_up=WarmUp(steps=0))
    assert not torch.equal(first.params.translation, track.params.translation)
    assert "1 of 1 frames were aligned" in warnings[0]
    monkeypatch.setattr(photometric, "photometric_pass", None)
    again, warnings = aligned_heads(avatar, track, kept, warm_up=WarmUp(steps=0))
    assert torch.equal(again.params.translation, first.params.translation)
    assert torch.equal(again.pictures.images, track.pictures.images)
    assert warnings == []
    with pytest.raises(FormatError, match="belongs to another clip"):
        aligned_heads(avatar, off(filmed(avatar, frames=2)), kept, warm_up=WarmUp(steps=0))


def test_aligned_heads_of_other_pictures_are_refused(avatar, tmp_path):
    track, path = off(filmed(avatar)), tmp_path / "run.heads"
    aligned_heads(avatar, track, path, warm_up=WarmUp(steps=0))
    brighter = track.replace(pictures=track.pictures.replace(images=255 - track.pictures.images))
    with pytest.raises(FormatError, match="belongs to another clip, avatar or setting"):
        aligned_heads(avatar, brighter, path, warm_up=WarmUp(steps=0))


def test_aligned_heads_of_another_avatar_are_refused(avatar, tmp_path):
    track, path = off(filmed(avatar)), tmp_path / "run.heads"
    aligned_heads(avatar, track, path, warm_up=WarmUp(steps=0))
    flat = dataclasses.replace(avatar, gaussians=avatar.gaussians.replace(scales=0.5 * avatar.gaussians.scales))
    with pytest.raises(FormatError, match="belongs to another clip, avatar or setting"):
        aligned_heads(flat, track, path, warm_up=WarmUp(steps=0))


def test_a_truncated_file_of_aligned_heads_is_refused_in_one_sentence(avatar, tmp_path):
    track, path = off(filmed(avatar)), tmp_path / "run.heads"
    aligned_heads(avatar, track, path, warm_up=WarmUp(steps=0))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FormatError, match=r"file of aligned heads run\.heads is damaged; delete it"):
        aligned_heads(avatar, track, path, warm_up=WarmUp(steps=0))


def test_the_warm_up_is_never_longer_than_the_refinement():
    assert WarmUp.before(40, 0.2) == WarmUp(steps=40, holdout=0.2)
    assert WarmUp.before(10_000, 0.0) == WarmUp()


@pytest.mark.parametrize("change", [{"sizes": (8,)}, {"evidence": -1.0}, {"sigma.jaw": 0.0}], ids=str)
def test_a_constant_of_the_pass_outside_its_range_is_refused(change):
    with pytest.raises(InputError, match="give a value from"):
        PhotometricConfig().changed(change)
