"""Videos as people have them: every kind ends in a track with a report, or in one clear sentence."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from spatialavatar import hub
from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.head import HeadModel, load_head
from spatialavatar.media import VideoReader, VideoWriter, read_image
from spatialavatar.records import FRAME_STATES, Track
from spatialavatar.tracking import track_video
from spatialavatar.tracking.clip_fit import Timing, smoothed, unbroken
from spatialavatar.tracking.quality import clip_quality

SENTENCE = re.compile(r"^[A-Z][^\n]*[.]$")
FPS = 25.0


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head(hub.weights_dir() / "head")


@pytest.fixture(scope="module")
def moods(examples) -> list[np.ndarray]:
    """12 frames of the example clip, 640 x 360."""
    frames = []
    for frame in VideoReader(examples / "clips" / "moods.mp4", max_side=640):
        frames.append(frame)
        if len(frames) == 12:
            break
    return frames


@pytest.fixture(scope="module")
def stranger(examples, moods) -> list[np.ndarray]:
    """12 frames of somebody else, a photo that drifts, in the same size."""
    photo = read_image(examples / "portraits" / "lake.jpg")
    height, width = moods[0].shape[:2]
    photo = cv2.resize(photo, None, fx=height / photo.shape[0], fy=height / photo.shape[0])
    canvas = cv2.copyMakeBorder(photo, 0, 0, width, width, cv2.BORDER_REPLICATE)
    first = photo.shape[1] // 2 + width // 2
    return [np.ascontiguousarray(canvas[:height, first + step : first + step + width]) for step in range(12)]


def write_video(path: Path, frames: list[np.ndarray], fps: float = FPS) -> Path:
    with VideoWriter(path, (frames[0].shape[1], frames[0].shape[0]), fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def remux(source: Path, target: Path, *options: str, before: tuple[str, ...] = ()) -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *before, "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


def states(tracked: Track) -> list[str]:
    assert tracked.quality is not None
    return [FRAME_STATES[code] for code in tracked.quality.state.tolist()]


# -- shots and people -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_stranger(moods, stranger, head, tmp_path_factory) -> Track:
    frames = [*moods, *stranger[:8], *moods]
    return track_video(write_video(tmp_path_factory.mktemp("cut") / "cut.mp4", frames), head)


def test_a_cut_to_another_person_is_held_and_said(with_stranger):
    assert states(with_stranger) == ["ok"] * 12 + ["other_person"] * 8 + ["ok"] * 12
    assert (with_stranger.confidence[12:20] == 0).all()
    assert any("8 of the 32 frames" in sentence and "another person" in sentence for sentence in with_stranger.warnings)
    assert clip_quality(with_stranger).cuts == (12, 20)


def test_a_strangers_frames_leave_no_trace(with_stranger):
    held = with_stranger.params[slice(12, 20)]
    torch.testing.assert_close(held.expression, with_stranger.params.expression[11:12].expand(8, -1))
    assert (with_stranger.evidence.landmarks[12:20] == 0).all()
    assert (with_stranger.evidence.blendshapes[12:20] == 0).all()


def test_the_person_seen_most_is_kept_even_where_another_comes_first(moods, stranger, head, tmp_path):
    tracked = track_video(write_video(tmp_path / "cut.mp4", [*stranger[:5], *moods]), head)
    assert states(tracked) == ["other_person"] * 5 + ["ok"] * 12


def test_each_shot_has_a_crop_of_its_own_and_all_one_camera(moods, head, tmp_path):
    near = [cv2.resize(frame[40:320, 160:480], (640, 560)) for frame in moods]
    frames = [cv2.resize(frame, (640, 360)) for frame in [*moods, *(frame[100:460] for frame in near)]]
    tracked = track_video(write_video(tmp_path / "zoom.mp4", frames), head)
    assert clip_quality(tracked).cuts == (12,)
    assert len(tracked.crop.unique(dim=0)) == 2
    widths = tracked.crop[:, 2] - tracked.crop[:, 0]
    assert widths[12] > 1.5 * widths[0]
    depth = tracked.params.translation[:, 2]
    assert abs(float(depth[:12].mean() - depth[12:].mean())) < 0.05  # the zoom is the lens's, not the head's


def test_smoothing_reaches_over_neither_gap_nor_cut(head):
    seen = torch.tensor([True] * 10 + [False] * 2 + [True] * 20)
    shot = torch.tensor([0] * 22 + [1] * 10)
    stretches = unbroken(seen, shot)
    assert [len(stretch) for stretch in stretches] == [10, 10, 10]
    params = head.neutral(30)
    params.expression[10:20] = 1.0
    smooth = smoothed(params, Timing(stretches, FPS))
    assert (smooth.expression[:10] == 0).all()
    assert (smooth.expression[10:20] == 1).all()


def test_black_frames_are_dark_and_held(moods, head, tmp_path):
    black = np.zeros_like(moods[0])
    tracked = track_video(write_video(tmp_path / "black.mp4", [*moods[:6], *[black] * 4, *moods[6:]]), head)
    assert states(tracked) == ["ok"] * 6 + ["dark"] * 4 + ["ok"] * 6
    assert len(tracked.crop.unique(dim=0)) == 1  # the view that comes back is the same shot


def test_a_person_who_leaves_and_comes_back_is_the_same_one(moods, head, tmp_path):
    """An empty room between: the wall beside him, in place of him."""
    empty = cv2.resize(moods[0][:, :40], (640, 360))
    tracked = track_video(write_video(tmp_path / "away.mp4", [*moods[:6], *[empty] * 5, *moods[6:]]), head)
    assert states(tracked) == ["ok"] * 6 + ["lost"] * 5 + ["ok"] * 6
    assert clip_quality(tracked).verdicts[0].startswith("12 of 17 frames tracked")


# -- files ------------------------------------------------------------------------------------------------------------


def test_one_frame_is_enough(moods, head, tmp_path):
    tracked = track_video(write_video(tmp_path / "one.mp4", moods[:1]), head)
    assert states(tracked) == ["ok"]
    assert clip_quality(tracked).verdicts[0].startswith("1 of 1 frames")


@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.webm", "a.avi", "a.mpg", "a.gif"])
def test_every_container_is_read(moods, head, tmp_path, name):
    source = write_video(tmp_path / "source.mp4", moods[:4])
    tracked = track_video(remux(source, tmp_path / name, "-r", "25"), head)
    assert "ok" in states(tracked)
    assert len(tracked) == pytest.approx(4, abs=1)


def test_a_large_picture_is_scaled_down_before_the_networks_see_it(moods, head, tmp_path):
    large = [cv2.resize(frame, (3840, 2160)) for frame in moods[:2]]
    tracked = track_video(write_video(tmp_path / "4k.mp4", large), head)
    assert states(tracked) == ["ok"] * 2
    assert tracked.crop[0, 2] - tracked.crop[0, 0] < 1920


def test_a_high_speed_recording_is_thinned_to_sixty(moods, head, tmp_path):
    source = write_video(tmp_path / "fast.mp4", [frame for frame in moods[:6] for _ in range(4)], fps=240.0)
    tracked = track_video(source, head)
    assert tracked.fps == 60.0
    assert len(tracked) == pytest.approx(6, abs=1)
    assert set(states(tracked)) == {"ok"}


def test_an_upright_recording_is_tracked_upright(moods, head, tmp_path):
    """Phones store upright recordings lying, with a note to turn them."""
    upright = [np.ascontiguousarray(frame[:, 180:460]) for frame in moods[:3]]
    lying = [np.ascontiguousarray(np.rot90(frame, -1)) for frame in upright]
    noted = remux(
        write_video(tmp_path / "lying.mp4", lying),
        tmp_path / "phone.mp4",
        "-c",
        "copy",
        before=("-display_rotation", "90"),
    )
    tracked = track_video(noted, head)
    plain = track_video(write_video(tmp_path / "upright.mp4", upright), head)
    assert set(states(tracked)) == {"ok"}
    torch.testing.assert_close(tracked.params.rotation, plain.params.rotation, atol=0.05, rtol=0)


def test_a_variable_frame_rate_keeps_its_time(moods, head, tmp_path):
    source = write_video(tmp_path / "even.mp4", moods[:8])
    uneven = remux(source, tmp_path / "uneven.mkv", "-vf", "setpts='if(lt(N,4),N,4+(N-4)*3)/25/TB'", "-fps_mode", "vfr")
    tracked = track_video(uneven, head)
    assert len(tracked) / tracked.fps == pytest.approx(16 / 25, abs=0.2)
    assert "ok" in states(tracked)


def test_a_video_cut_in_the_middle_is_tracked_as_far_as_it_goes(moods, head, tmp_path):
    whole = write_video(tmp_path / "whole.mp4", moods * 3)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    tracked = track_video(cut, head)
    assert 1 <= len(tracked) < 36
    assert any("damaged" in sentence for sentence in tracked.warnings)
    assert tracked.quality is not None


def test_a_video_without_its_end_and_index_is_refused_in_a_sentence(moods, head, tmp_path):
    whole = remux(write_video(tmp_path / "whole.mp4", moods), tmp_path / "late.mp4", "-c", "copy")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError) as caught:
        track_video(cut, head)
    assert SENTENCE.match(str(caught.value))


def test_only_black_frames_are_refused_in_a_sentence(head, tmp_path):
    source = write_video(tmp_path / "night.mp4", [np.zeros((180, 320, 3), dtype=np.uint8)] * 4)
    with pytest.raises(NoFaceError) as caught:
        track_video(source, head)
    assert SENTENCE.match(str(caught.value))
