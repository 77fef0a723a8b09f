"""Live tracking: parameters from the frames of a camera, one by one, and driving an avatar with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from spatialavatar import webcam
from spatialavatar.driving import DriveConfig, FrameRenderer, retarget
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.media import VideoReader
from spatialavatar.records import HeadParams
from spatialavatar.tracking.live import LiveTracker
from spatialavatar.webcam import Webcam, camera_number, drive_live

from .support.avatars import make_ball_avatar, make_grey_avatar
from .support.puppet_head import make_puppet_head
from .support.puppeteer import Puppeteer

FPS = 25
PICTURE = np.zeros((512, 512, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def puppet() -> HeadModel:
    return make_puppet_head()


def lag(late: np.ndarray, early: np.ndarray, reach: int = 6) -> int:
    """Frames by which ``late`` follows ``early``: where their correlation is largest."""
    late, early = late - late.mean(), early - early.mean()

    def fit(shift: int) -> float:
        first, last = max(shift, 0), len(late) + min(shift, 0)
        return float((late[first:last] * early[first - shift : last - shift]).mean())

    return max(range(-reach, reach + 1), key=fit)


def test_identity_and_neutral_are_known_after_a_second(puppet: HeadModel) -> None:
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.zeros(40), smile=0.5))
    states = [tracker.update(PICTURE).state for _ in range(40)]
    assert states[:20] == ["calibrating"] * 20
    assert states[-10:] == ["tracked"] * 10


def test_a_resting_smile_leaves_the_avatar_at_rest(puppet: HeadModel) -> None:
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.zeros(40), smile=0.5))
    for _ in range(40):
        frame = tracker.update(PICTURE)
    assert float(frame.params.expression[0, 0]) > 0.3
    avatar = SimpleNamespace(
        head=puppet,
        shape=puppet.neutral().shape,
        identity=lambda: puppet.identity(puppet.neutral().shape),
        with_torso=lambda params, *_, **__: params,
    )
    params, _ = retarget(tracker.track(), avatar, DriveConfig())
    assert float(params.expression.abs().max()) < 0.03
    assert float(params.jaw.abs().max()) < 0.01
    assert float((params.rotation + params.neck).abs().max()) < 0.01


def test_a_live_frame_has_its_landmarks_and_scores(puppet: HeadModel) -> None:
    """Driving scales what was tracked, and recognises it by its landmarks."""
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.full((3,), 0.7)))
    tracker.update(PICTURE)
    evidence = tracker.track().require_evidence()
    assert evidence.require_landmarks().shape == (1, 478, 2)
    assert float(evidence.blendshapes[0, ARKIT_INDEX["jawOpen"]]) == pytest.approx(0.7)


def test_a_smile_during_calibration_does_not_stay_the_neutral(puppet: HeadModel) -> None:
    smile = torch.cat([torch.full((30,), 0.6), torch.zeros(90)])
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.zeros(120), smile))
    rest = [tracker.track().neutral.expression for _ in range(120) if tracker.update(PICTURE)]
    assert float(rest[29][0]) > 0.4
    assert float(rest[-1][0]) < 0.1


def test_an_opening_jaw_is_tracked_without_delay(puppet: HeadModel) -> None:
    jaw = torch.zeros(70)
    for first in (35, 48, 60):  # as fast as speech: open and shut in a fifth of a second
        jaw[first : first + 5] = torch.tensor([0.4, 0.8, 1.0, 0.8, 0.4])
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, jaw))
    found = np.array([float(tracker.update(PICTURE).params.jaw[0, 0]) for _ in range(70)])
    assert abs(lag(found[30:], jaw[30:].numpy())) <= 1
    assert found.max() > 0.2  # 0.3 radians were performed


def test_a_hidden_face_is_lost_held_and_found_again(puppet: HeadModel) -> None:
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.zeros(60), hidden=range(40, 50)))
    frames = [tracker.update(PICTURE) for _ in range(60)]
    assert {frame.state for frame in frames[40:50]} == {"lost"}
    assert {frame.state for frame in frames[50:]} == {"tracked"}
    assert frames[45].landmarks is None
    torch.testing.assert_close(frames[45].params.translation, frames[39].params.translation)


def test_there_are_no_parameters_before_the_first_face(puppet: HeadModel) -> None:
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.zeros(3), hidden=range(3)))
    assert tracker.update(PICTURE).params is None
    assert tracker.track() is None
    assert len(tracker.resting()) == 1


def test_memory_does_not_grow_with_the_number_of_frames(puppet: HeadModel) -> None:
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, torch.zeros(80)))

    def tensors() -> int:
        held = [value for value in vars(tracker).values() if isinstance(value, (list, dict))]
        return sum(len(value) for value in held)

    sizes = [tensors() for _ in range(80) if tracker.update(PICTURE)]
    assert max(sizes) <= 20
    assert sizes[40] == sizes[-1]


def test_gaps_in_time_start_the_filters_anew(puppet: HeadModel) -> None:
    jaw = torch.cat([torch.zeros(40), torch.ones(5)])
    tracker = LiveTracker(puppet, FPS, networks=Puppeteer(puppet, jaw))
    for index in range(40):
        tracker.update(PICTURE, index / FPS)
    after = tracker.update(PICTURE, 10.0)
    assert float(after.params.jaw[0, 0]) > 0.2


class Clip:
    """A camera that plays a video."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        reader = VideoReader(self._path)
        for index, frame in enumerate(islice(reader, self._count)):
            yield index / reader.fps, frame


@pytest.mark.slow
def test_blinks_and_jaw_of_a_clip_come_within_two_frames(examples: Path, repository: Path) -> None:
    head = HeadModel.load(repository / "weights" / "head")
    tracker = LiveTracker(head)
    frames = [tracker.update(frame, at) for at, frame in Clip(examples / "clips" / "moods.mp4", 160)]
    assert all(frame.state != "lost" for frame in frames)
    frames = frames[40:]
    scores = np.stack([frame.blendshapes for frame in frames])
    params = HeadParams.cat([frame.params for frame in frames])
    blink = params.expression[:, head.expressions.index("eyeBlinkLeft")].numpy()
    assert abs(lag(blink, scores[:, ARKIT_INDEX["eyeBlinkLeft"]])) <= 2
    assert abs(lag(params.jaw[:, 0].numpy(), scores[:, ARKIT_INDEX["jawOpen"]])) <= 2


def test_a_camera_drives_an_avatar_into_a_video_that_keeps_its_time(
    puppet: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar = make_ball_avatar()

    class Still(LiveTracker):
        def update(self, frame: np.ndarray, at: float | None = None):
            return SimpleNamespace(state="lost", seconds=0.01)

    monkeypatch.setattr(webcam, "LiveTracker", lambda head: Still(head, networks=Puppeteer(puppet, torch.zeros(1))))
    slow = [(index / 8, PICTURE) for index in range(16)]  # two seconds at 8 frames a second
    report = drive_live(avatar, slow, tmp_path / "out.mp4", DriveConfig(size=64), seconds=1.5)
    assert (report.frames, report.lost) == (12, 12)
    video = VideoReader(tmp_path / "out.mp4")
    assert sum(1 for _ in video) / video.fps == pytest.approx(1.4, abs=0.1)


def test_a_camera_that_shows_nothing_leaves_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture"):
        drive_live(make_ball_avatar(), [], tmp_path / "out.mp4", DriveConfig(size=64))
    assert list(tmp_path.iterdir()) == []


def shown_by(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The list that collects the pictures of a live drive, in place of its window."""
    shown: list[np.ndarray] = []

    @contextmanager
    def collector(*_: object) -> Iterator[Callable[[np.ndarray, float], bool]]:
        yield lambda picture, _: shown.append(picture) is None

    monkeypatch.setattr(webcam, "opened", collector)
    return shown


def test_tracking_ahead_shows_the_pictures_of_tracking_and_drawing_in_turns(
    puppet: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    jaw = torch.cat([torch.zeros(28), torch.linspace(0.0, 1.0, 8)])
    avatar, config = make_grey_avatar(48, puppet), DriveConfig(size=64)
    tracker, renderer = LiveTracker(puppet, networks=Puppeteer(puppet, jaw)), FrameRenderer(avatar, config)
    in_turns = []
    for index in range(len(jaw)):
        tracker.update(PICTURE, index / FPS)
        in_turns.append(renderer.frame(tracker.track() if tracker.calibrated else tracker.resting()))
    shown = shown_by(monkeypatch)
    monkeypatch.setattr(webcam, "LiveTracker", lambda head: LiveTracker(head, networks=Puppeteer(head, jaw)))
    monkeypatch.setattr(webcam, "avatar_gains", lambda _: None)
    report = drive_live(avatar, [(index / FPS, PICTURE) for index in range(len(jaw))], None, config)
    assert report.frames == len(jaw)
    assert not np.array_equal(in_turns[-1], in_turns[0])
    assert all(np.array_equal(one, other) for one, other in zip(shown, in_turns, strict=True))


def test_an_error_of_the_tracker_ends_a_live_drive_without_a_video_or_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, head: HeadModel) -> None: ...

        def update(self, *_: object) -> None:
            raise FormatError("A network file is damaged; fetch the weights again.")

    monkeypatch.setattr(webcam, "LiveTracker", Broken)
    with pytest.raises(FormatError, match="fetch the weights"):
        drive_live(make_ball_avatar(), [(0.0, PICTURE)], tmp_path / "out.mp4", DriveConfig(size=64))
    assert list(tmp_path.iterdir()) == []
    assert "one-ahead" not in "".join(thread.name for thread in threading.enumerate())


class Capture:
    """A camera in the place of OpenCV's, that is unplugged after some frames."""

    def __init__(self, frames: int) -> None:
        self.left, self.reading, self.released = frames, False, False

    def set(self, *_: object) -> bool:
        return True

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, Any]:
        assert not self.released
        self.reading, self.left = True, self.left - 1
        time.sleep(0.002)
        self.reading = False
        return self.left >= 0, np.full((4, 4, 3), self.left % 256, np.uint8)

    def release(self) -> None:
        assert not self.reading
        self.released = True


def test_a_camera_that_is_unplugged_ends_with_its_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Capture(20))
    with Webcam() as camera:
        times, pictures = zip(*((at, picture[0, 0, 0]) for at, picture in camera if not time.sleep(0.01)))
    assert pictures[-1] == 0
    assert len(pictures) < 19  # the slow reader got the newest ones
    assert list(times) == sorted(times)


def test_a_camera_is_not_released_while_its_thread_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Capture(10_000)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: capture)
    with Webcam() as camera:
        frames = iter(camera)
        next(frames)
    assert capture.released
    assert sum(1 for _ in frames) <= 1
    assert "newest" not in "".join(thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(("name", "number"), [("webcam", 0), ("webcam:2", 2), ("clip.mp4", None), ("webcam.mp4", None)])
def test_camera_names_are_parsed(name: str, number: int | None) -> None:
    assert camera_number(name) == number


@pytest.mark.parametrize("name", ["webcam:front", "webcam:", "webcam:-1", "webcam:" + "9" * 20, "webcam:" + "9" * 5000])
def test_a_wrong_camera_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="names no camera"):
        camera_number(name)
