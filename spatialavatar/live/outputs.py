"""Outputs of a live drive: a video file, a window, or a virtual camera.

Each output is a context manager that yields a function of (picture, seconds since the start), which returns False once
the person has closed the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.media import DeviceWriter, VideoWriter, check_video_device, check_writable

Show = Callable[[np.ndarray, float], bool]

RATE: Final = 25.0
"""Frames per second of files and virtual cameras; pictures are repeated or dropped to keep the time."""

_ESCAPE: Final = 27
_TITLE: Final = "SpatialAvatar"


@dataclass(frozen=True)
class VirtualCamera:
    """A video device that other programs see as a camera, such as one of v4l2loopback.

    Attributes:
        path: the device, such as /dev/video9.
    """

    path: Path

    def __post_init__(self) -> None:
        """Check the device.

        Raises:
            InputError: this system has no such devices, or the path is none that can be written.
        """
        check_video_device(self.path)


def opened(out: str | Path | VirtualCamera | None, size: tuple[int, int]) -> AbstractContextManager[Show]:
    """The output: a virtual camera, a file by its path, or a window for None.

    Args:
        out: the output.
        size: width and height of the pictures, pixels.

    Raises:
        InputError: this machine opens no windows, or the device cannot be used.
        OutputError: the file cannot be written.
    """
    if out is None:
        return _window()
    return _device(out, size) if isinstance(out, VirtualCamera) else _file(Path(out), size)


@contextmanager
def _file(path: Path, size: tuple[int, int]) -> Iterator[Show]:
    check_writable(path)
    with VideoWriter(path, size, RATE, synthetic=True) as writer:

        def show(picture: np.ndarray, at: float) -> bool:
            while writer.frame_count <= at * RATE:
                writer.write(picture)
            return True

        yield show


@contextmanager
def _device(device: VirtualCamera, size: tuple[int, int]) -> Iterator[Show]:
    """Each picture once, as soon as it arrives: readers of the device need the newest."""
    with DeviceWriter(device.path, size, RATE) as writer:

        def show(picture: np.ndarray, _at: float) -> bool:
            writer.write(picture)
            return True

        yield show


@contextmanager
def _window() -> Iterator[Show]:
    try:
        cv2.namedWindow(_TITLE)
    except cv2.error as error:
        raise InputError(
            "This OpenCV cannot open a window; write a video with -o out.mp4, or install opencv-python in place of "
            "opencv-python-headless."
        ) from error

    def show(picture: np.ndarray, _at: float) -> bool:
        cv2.imshow(_TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        return key not in (_ESCAPE, ord("q")) and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1

    try:
        yield show
    finally:
        cv2.destroyWindow(_TITLE)
