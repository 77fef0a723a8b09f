"""Driving: retargeting rules, and a stream that becomes a whole video or nothing."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spatialavatar import staging
from spatialavatar.driving import (
    UNIT_LIMITS,
    DriveConfig,
    FrameRenderer,
    drive,
    drive_frames,
    drive_still,
    portrait_view,
    retarget,
)
from spatialavatar.errors import FormatError, InputError, OutputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.media import VideoReader
from spatialavatar.records import Evidence, Neutral, Track, as_uint8_image
from spatialavatar.render.kernels import thread_count
from spatialavatar.transfer_gain import amplified_gaze, amplified_jaw, amplified_units

from .support.avatars import make_ball_avatar
from .support.tracks import make_track
from .support.videos import make_video


@pytest.fixture(scope="module")
def avatar():
    return make_ball_avatar()


STILL = DriveConfig(smoothing=0.0, size=64)


def test_a_driver_in_neutral_leaves_the_avatar_in_neutral(avatar):
    neutral = torch.cat([torch.tensor([0.4, 0.1]), torch.full((9,), 0.05)])
    track = make_track(
        avatar,
        expression=neutral[:2].repeat(6, 1),
        jaw=neutral[2:5].repeat(6, 1),
        eyes=neutral[5:].repeat(6, 1),
        rotation=torch.tensor([[0.1, 0.3, 0.0]]).repeat(6, 1),
    ).with_motion(neutral=Neutral(neutral))
    params, _ = retarget(track, avatar, STILL)
    for name in ("expression", "jaw", "eyes", "rotation", "neck"):
        torch.testing.assert_close(getattr(params, name), torch.zeros_like(getattr(params, name)), atol=1e-6, rtol=0)


def test_torso_and_neck_rotations_compose_to_the_drivers(avatar):
    turn = torch.zeros(6, 3)
    turn[:, 1] = torch.tensor([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5])
    params, _ = retarget(make_track(avatar, rotation=turn), avatar, STILL)
    whole = axis_angle_to_matrix(params.rotation) @ axis_angle_to_matrix(params.neck)
    torch.testing.assert_close(whole, axis_angle_to_matrix(turn), atol=1e-5, rtol=0)
    assert params.neck[5, 1] > params.rotation[5, 1] > 0


def test_strength_scales_the_expression_but_not_the_gaze(avatar):
    track = make_track(avatar, expression=torch.full((6, 2), 0.4), eyes=torch.full((6, 6), 0.2))
    params, _ = retarget(track, avatar, DriveConfig(strength=0.5, smoothing=0.0))
    torch.testing.assert_close(params.expression, torch.full((6, 2), 0.2))
    torch.testing.assert_close(params.eyes, track.params.eyes)


def test_absolute_driving_keeps_the_track_and_its_camera(avatar):
    track = make_track(avatar, rotation=torch.full((6, 3), 0.1))
    params, camera = retarget(track, avatar, DriveConfig(relative=False, smoothing=0.0, size=256))
    torch.testing.assert_close(params.rotation, track.params.rotation)
    torch.testing.assert_close(camera.intrinsics[0, 0], 2 * track.camera.intrinsics[0, 0])
    torch.testing.assert_close(params.shape, avatar.shape)


def test_a_driver_who_walks_away_stays_in_the_picture(avatar):
    walk = torch.zeros(6, 3)
    walk[:, 0] = torch.linspace(-2, 2, 6)
    params, camera = retarget(
        make_track(avatar).with_motion(params=make_track(avatar).params.replace(translation=walk)), avatar, STILL
    )
    pixels = camera.project(params.translation + avatar.identity().vertices.mean(0))
    assert ((pixels > 0) & (pixels < camera.width)).all()


def test_portrait_view_centres_the_head(avatar):
    camera, home = portrait_view(avatar, 256, framing=0.5)
    pixels = camera.project(avatar.identity().vertices + home)
    height = float(pixels[:, 1].max() - pixels[:, 1].min())
    assert 0.45 < height / 256 < 0.58
    torch.testing.assert_close(pixels.mean(0), torch.tensor([128.0, 128.0]), atol=14, rtol=0)


def test_there_is_one_frame_for_each_of_the_track(avatar):
    frames = list(drive_frames(avatar, make_track(avatar), STILL))
    assert len(frames) == 6
    assert frames[0].shape == (64, 64, 3)
    assert frames[0].min() < 250  # the ball is there
    assert (frames[0][0, 0] == 255).all()  # the background is white


def test_a_video_has_every_frame_at_the_tracks_rate(avatar, tmp_path):
    seen = []
    report = drive(avatar, make_track(avatar), tmp_path / "out.mp4", STILL, progress=lambda f, m: seen.append(f))
    reader = VideoReader(tmp_path / "out.mp4")
    assert sum(1 for _ in reader) == report.frames == 6
    assert reader.fps == pytest.approx(25)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_held_frames_are_counted(avatar, tmp_path):
    track = make_track(avatar)
    track = track.with_motion(confidence=torch.tensor([1.0, 1, 0, 0, 1, 1]))
    assert drive(avatar, track, tmp_path / "out.mp4", STILL).held == 2


def test_motion_of_another_head_is_refused(avatar):
    with pytest.raises(FormatError, match="tracked with the head model 'cube'"):
        retarget(make_track(avatar).with_motion(head_id="cube"), avatar, STILL)


def test_motion_of_another_number_of_coefficients_is_refused(avatar):
    track = make_track(avatar)
    wide = track.with_motion(params=track.params.replace(expression=torch.zeros(6, 5)))
    with pytest.raises(FormatError, match="has 5 expression coefficients and the avatar's head has 2"):
        retarget(wide, avatar, STILL)


def test_the_track_of_a_photo_is_refused_and_leaves_no_video(avatar, tmp_path):
    with pytest.raises(InputError, match="track of a photo"):
        drive(avatar, make_track(avatar, 1).with_motion(fps=0.0), tmp_path / "out.mp4", STILL)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_output_is_refused_before_any_work(avatar, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        drive(avatar, tmp_path / "never_looked_at.json", tmp_path / "file" / "out.mp4", STILL)


def test_a_failure_half_way_leaves_no_video(avatar, tmp_path):
    def fail(fraction, message):
        if fraction > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(avatar, make_track(avatar), tmp_path / "out.mp4", STILL, progress=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"strength": -1.0},
        {"strength": float("nan")},
        {"size": 511},
        {"background": (2.0, 0.0, 0.0)},
        {"smoothing": -1},
        {"neck_share": 2.0},
        {"framing": 0.0},
        {"max_shift": float("nan")},
        {"head_pose": "sideways"},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError):
        DriveConfig(**bad)


def test_a_motion_with_a_neutral_rotation_is_not_centred_on_its_mean(avatar):
    turn = torch.tensor([[0.0, 0.4, 0.0]]).repeat(6, 1)
    track = make_track(avatar, rotation=turn)
    centred, _ = retarget(track, avatar, STILL)
    known, _ = retarget(track.with_motion(neutral=Neutral(rotation=torch.zeros(3))), avatar, STILL)
    torch.testing.assert_close(centred.rotation + centred.neck, torch.zeros(6, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.rotation + known.neck, turn, atol=1e-5, rtol=0)


def test_gradients_and_threads_are_unchanged_between_frames(avatar):
    threads = torch.get_num_threads()
    for _ in drive_frames(avatar, make_track(avatar, 2), STILL):
        assert not torch.is_inference_mode_enabled()
        assert torch.get_num_threads() == threads


def test_the_drivers_sound_is_kept(avatar, tmp_path, monkeypatch):
    talking = make_video(tmp_path / "driver.mp4", seconds=1.0, sound=True)
    monkeypatch.setattr("spatialavatar.tracking.track_video", lambda *_, **__: make_track(avatar))
    drive(avatar, talking, tmp_path / "out.mp4", STILL)
    assert VideoReader(tmp_path / "out.mp4").has_audio


def test_a_still_over_white_is_the_frame_of_the_video(avatar):
    track = make_track(avatar)
    still = drive_still(avatar, track, STILL).astype(float)
    over_white = still[..., :3] * still[..., 3:] / 255.0 + (255.0 - still[..., 3:])
    frame = next(drive_frames(avatar, track, STILL)).astype(float)
    assert still.shape == (64, 64, 4)
    assert still[0, 0, 3] == 0
    assert still[32, 32, 3] == 255
    assert abs(over_white - frame).max() <= 2.0


def test_the_watch_callback_receives_every_frame(avatar, tmp_path):
    seen = []
    drive(avatar, make_track(avatar), tmp_path / "out.mp4", STILL, watch=seen.append)
    assert len(seen) == len(list(VideoReader(tmp_path / "out.mp4")))
    assert seen[0].shape == (64, 64, 3)


# -- the head's direction ---------------------------------------------------------------------------------------------


def whole_turn(params) -> torch.Tensor:
    return matrix_to_axis_angle(axis_angle_to_matrix(params.rotation) @ axis_angle_to_matrix(params.neck))


def test_a_drive_holds_few_frames_however_long_it_is(avatar, tmp_path, monkeypatch):
    """Counts the pictures that exist while a slow encoder takes them one by one."""
    alive: list[weakref.ref] = []
    most = 0

    class Kept(np.ndarray):
        """An array that weak references can follow."""

    def kept(image: torch.Tensor) -> np.ndarray:
        picture = as_uint8_image(image).view(Kept)
        alive.append(weakref.ref(picture))
        return picture

    def watch(_: np.ndarray) -> None:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in alive))

    monkeypatch.setattr(staging, "as_uint8_image", kept)
    track = make_track(avatar, frames=300)
    drive(avatar, track, tmp_path / "out.mp4", STILL, device="cpu", watch=watch)
    assert len(alive) == 300
    assert most <= 2 * thread_count() + 2


def test_a_live_frame_has_one_torch_thread_and_all_threads_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[int, int]] = []
    draw = staging.render

    def watched(*arguments: Any, **options: Any) -> Any:
        found.append((torch.get_num_threads(), thread_count()))
        return draw(*arguments, **options)

    monkeypatch.setattr(staging, "render", watched)
    avatar = make_ball_avatar()
    FrameRenderer(avatar, STILL).frame(make_track(avatar))
    assert found == [(1, thread_count())]


def test_as_filmed_keeps_most_of_the_drivers_resting_turn(avatar):
    turn = torch.zeros(6, 3)
    turn[:, 1] = 0.4 + torch.tensor([-0.2, -0.1, 0.0, 0.0, 0.1, 0.2])
    filmed, _ = retarget(make_track(avatar, rotation=turn), avatar, replace(STILL, head_pose="as filmed"))
    torch.testing.assert_close(whole_turn(filmed)[:, 1], turn[:, 1] - 0.12, atol=1e-4, rtol=0)


def test_absolute_driving_does_not_depend_on_the_head_pose_mode(avatar):
    track = make_track(avatar, rotation=torch.full((6, 3), 0.1))
    absolute = replace(STILL, relative=False)
    plain, _ = retarget(track, avatar, absolute)
    filmed, _ = retarget(track, avatar, replace(absolute, head_pose="as filmed"))
    assert torch.equal(plain.rotation, filmed.rotation)


# -- amplitude --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(avatar):
    """The ball with two named units, a raised inner brow and a blink."""
    info = {**avatar.head.info, "expressions": ["browInnerUp", "eyeBlinkLeft"]}
    return replace(avatar, head=HeadModel(avatar.head.tensors(), info))


def seen(track: Track) -> Track:
    """The track as one of a video, with landmarks."""
    frames = len(track)
    return track.replace(evidence=Evidence(torch.zeros(frames, 478, 2), torch.zeros(frames, 52)))


def test_a_tracked_brow_is_raised_more_than_its_weight(named):
    track = make_track(named, expression=torch.tensor([[0.5, 0.0]]).repeat(6, 1))
    tracked, _ = retarget(seen(track), named, STILL)
    file, _ = retarget(track, named, STILL)
    assert float(tracked.expression[0, 0]) > 0.9
    assert float(file.expression[0, 0]) == pytest.approx(0.5)


def test_absolute_driving_of_a_tracked_video_is_not_amplified(named):
    track = seen(make_track(named, expression=torch.full((6, 2), 0.5), eyes=torch.full((6, 6), 0.2)))
    params, _ = retarget(track, named, replace(STILL, relative=False))
    assert torch.equal(params.expression, track.params.expression)
    assert torch.equal(params.eyes, track.params.eyes)


def test_curves_rise_and_start_at_zero():
    weights = torch.linspace(-0.25, 1.25, 61)[:, None].repeat(1, 52)
    result = amplified_units(weights, ARKIT_52, UNIT_LIMITS)
    assert bool((result.diff(dim=0) >= 0).all())
    torch.testing.assert_close(result[10], torch.zeros(52), atol=1e-6, rtol=0)


def test_a_wide_gaze_stays_between_the_lids():
    assert float(amplified_gaze(torch.full((1, 6), 3.0)).max()) <= 0.5


def test_both_eyes_share_one_direction_but_for_their_convergence():
    left, right = [0.10, -0.05, 0.0], [0.02, 0.05, 0.0]
    moved = amplified_gaze(torch.tensor([[*left, *right]]))[0]
    assert moved[0] == moved[3]
    assert float(moved[4] - moved[1]) == pytest.approx(0.10, abs=1e-6)


def test_eyes_that_squint_apart_are_made_parallel():
    moved = amplified_gaze(torch.tensor([[0.0, 0.2, 0.0, 0.0, -0.2, 0.0]]))[0]
    assert abs(float(moved[4] - moved[1])) < 0.05


def test_the_jaw_does_not_close_through_the_teeth():
    assert float(amplified_jaw(torch.tensor([[-0.4, 0.0, 0.0]]))[0, 0]) == pytest.approx(-0.03)


def test_smoothing_keeps_the_peak_of_a_blink(named):
    expression = torch.zeros(12, 2)
    expression[5:8, 1] = torch.tensor([0.6, 1.0, 0.6])
    params, _ = retarget(make_track(named, frames=12, expression=expression), named, DriveConfig(size=64))
    assert torch.equal(params.expression[:, 1], expression[:, 1])
