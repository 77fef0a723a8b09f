"""Drive an avatar with a camera, frame by frame, to a video file, a window or a virtual camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, FrameRenderer, avatar_gains, picture_size, require_opaque
from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.live.follower import CameraMotion
from spatialavatar.live.outputs import VirtualCamera, opened
from spatialavatar.progress import Progress, no_progress
from spatialavatar.provenance import marked
from spatialavatar.records import Camera as HeadCamera
from spatialavatar.records import HeadParams
from spatialavatar.render import best_device
from spatialavatar.streams import MotionSender
from spatialavatar.threads import newest, one_ahead
from spatialavatar.tracking.live import LiveFrame, LiveTracker

NAME: Final = "webcam"
"""The value of ``drive --motion`` that selects the camera; ``webcam:1`` selects the second one."""

_WIDTH, _HEIGHT = 640, 480


class Camera(Protocol):
    """A source of frames: iterating yields (seconds since the start, (H, W, 3) uint8 sRGB)."""

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]: ...


class Webcam:
    """A camera of this machine, opened by OpenCV, that yields the newest frame. Use it as a context manager."""

    def __init__(self, number: int = 0) -> None:
        """Open camera ``number``.

        Raises:
            InputError: there is no such camera, or it yields no picture.
        """
        self._closed, self._in_use = False, threading.Lock()
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its messages repeat ours
        try:
            self._capture: Any = cv2.VideoCapture(number)
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, _WIDTH)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, _HEIGHT)
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            works = self._capture.isOpened() and self._capture.read()[0]
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not works:
            self.close()
            raise InputError(
                f"Camera {number} of this machine returns no picture; connect one and allow access to it, or drive "
                "with a video: --motion clip.mp4."
            )

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield frames until the camera ends; those that come while the caller has one are dropped."""
        return newest(self._frames())

    def _frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """All frames of the camera."""
        start = time.perf_counter()
        while True:
            with self._in_use:
                good, frame = (False, None) if self._closed else self._capture.read()
            if not good:
                return
            yield time.perf_counter() - start, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def __enter__(self) -> Webcam:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the camera."""
        self._closed = True
        with self._in_use:  # OpenCV must not release a camera that it reads
            self._capture.release()


@dataclass(frozen=True)
class LiveReport:
    """The result of a live drive.

    Attributes:
        path: the video or the device; None where it was shown in a window.
        frames: camera frames.
        lost: those without a face.
        seconds: camera time.
        tracking: median tracking time of a frame, seconds.
        rendering: median rendering time of a frame, seconds.
        latency: median time from the camera's frame to the shown picture, seconds.
    """

    path: Path | None
    frames: int
    lost: int
    seconds: float
    tracking: float
    rendering: float
    latency: float


def camera_number(motion: str) -> int | None:
    """The number of the camera in ``webcam`` or ``webcam:N``; None for any other value.

    Raises:
        InputError: the text after the colon is not a number from 0 to 99.
    """
    name, colon, number = motion.partition(":")
    if name != NAME:
        return None
    if colon and not (number.isdecimal() and len(number) <= 2):
        raise InputError(f"{motion!r} names no camera; use webcam, or webcam:1 for the second one.")
    return int(number or 0)


def drive_live(
    avatar: Avatar,
    camera: Camera,
    out: str | Path | VirtualCamera | None = None,
    config: DriveConfig | None = None,
    *,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> LiveReport:
    """Render ``avatar`` moving like the person in front of ``camera``.

    A thread tracks the next frame while the calling one draws and shows a picture. Every frame of ``camera`` is shown,
    in their order; a :class:`Webcam` drops those that come too fast.

    It ends with the camera, after ``seconds``, or on an interrupt. During the first second, which calibrates the
    tracker, the avatar rests.

    Args:
        avatar: the avatar.
        camera: a :class:`Webcam`.
        out: the mp4 to write, or a virtual camera; None shows a window, which Esc closes.
        config: how the performance is transferred; smoothing has no effect, since the tracker has a filter of its own.
        seconds: when to stop.
        progress: called with (fraction, message).

    Raises:
        InputError: there is no ``out`` and this machine opens no windows, or the camera yields no frame.
        OutputError: ``out`` cannot be written.
    """
    config = config or DriveConfig()
    require_opaque(config)
    report = progress or no_progress
    avatar = avatar.to(best_device())
    renderer = FrameRenderer(avatar, config, avatar_gains(avatar) if config.relative else None)
    motion = _motion(camera, LiveTracker(avatar.head), renderer, avatar.shape.device)
    times: dict[str, list[float]] = {"track": [], "render": [], "latency": []}
    lost, at = 0, 0.0
    with opened(out, picture_size(avatar, config)) as show, closing(one_ahead(motion)) as moves:
        try:
            for move in moves:
                at = move.at
                if seconds is not None and at >= seconds:
                    break
                lost += move.found.state == "lost"
                start = time.perf_counter()
                picture = renderer.drawn(move.params, move.camera)
                picture = marked(picture) if config.mark else picture
                times["track"].append(move.found.seconds)
                times["render"].append(time.perf_counter() - start)
                if not show(picture, at):
                    break
                times["latency"].append(time.perf_counter() - move.taken)
                report(min(1.0, at / seconds) if seconds else 0.0, f"{state_word(move.found.state)}, second {at:.0f}")
        except KeyboardInterrupt:
            pass  # the way to end it; the frames so far are kept
        if not times["track"]:
            raise InputError("The camera returned no picture; drive with a video: --motion clip.mp4.")
    median = {name: float(np.median(values)) if values else 0.0 for name, values in times.items()}
    path = out.path if isinstance(out, VirtualCamera) else None if out is None else Path(out)
    return LiveReport(path, len(times["track"]), lost, at, median["track"], median["render"], median["latency"])


@dataclass(frozen=True)
class _Move:
    """What the avatar does in one frame of the camera.

    Attributes:
        at: time of the frame, seconds.
        taken: ``time.perf_counter()`` when the camera gave the frame.
        found: the result of the tracker.
        params: the avatar's parameters, one frame.
        camera: the camera that sees them.
    """

    at: float
    taken: float
    found: LiveFrame
    params: HeadParams
    camera: HeadCamera


def _motion(camera: Camera, tracker: LiveTracker, renderer: FrameRenderer, device: torch.device) -> Iterator[_Move]:
    """The avatar in the person's pose and expression, frame by frame; at rest until the tracker is calibrated."""
    for at, frame in camera:
        taken = time.perf_counter()
        found = tracker.update(frame, at)
        track = tracker.track() if tracker.calibrated else None
        if track is None:
            track = tracker.resting()
        yield _Move(at, taken, found, *renderer.moved(track.to(device)))


def send_live(
    head: HeadModel,
    camera: Camera,
    sender: MotionSender,
    *,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> LiveReport:
    """Track the person in front of ``camera`` and send every frame's motion, from the end of the calibration on.

    It ends with the camera, after ``seconds``, or on an interrupt.

    Args:
        head: the head model that is fitted.
        camera: a :class:`Webcam`.
        sender: an open sender.
        seconds: when to stop.
        progress: called with (fraction, message).

    Returns:
        The report, whose rendering time and latency are 0.

    Raises:
        InputError: the camera yields no frame.
        OutputError: this machine has no way to the host.
    """
    report = progress or no_progress
    motion = CameraMotion(LiveTracker(head))
    times: list[float] = []
    lost, at = 0, 0.0
    try:
        for at, picture in camera:
            if seconds is not None and at >= seconds:
                break
            found, frame = motion.update(picture, at)
            lost += found.state == "lost"
            times.append(found.seconds)
            if motion.tracker.calibrated:
                sender.send(frame)
            report(min(1.0, at / seconds) if seconds else 0.0, f"{state_word(found.state)}, second {at:.0f}")
    except KeyboardInterrupt:
        pass  # the way to end it
    if not times:
        raise InputError("The camera returned no picture; connect one and allow access to it.")
    return LiveReport(None, len(times), lost, at, float(np.median(times)), 0.0, 0.0)


def state_word(state: str) -> str:
    """Hint to the person in front of the camera for each state of the live tracker."""
    return {"calibrating": "Look into the camera with a calm face", "tracked": "Tracking", "lost": "No face"}[state]
