"""Writing pictures to a virtual camera of Linux (v4l2), which other programs show as a webcam."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from spatialavatar.errors import InputError, OutputError
from spatialavatar.media.ffmpeg import Watchdog, ffmpeg_program, read_log
from spatialavatar.media.limits import FRAME_SECONDS

_QUERY_CAPABILITIES: Final = 0x80685600  # VIDIOC_QUERYCAP of linux/videodev2.h
_CAPABILITIES: Final = struct.Struct("=16s32s32sIII12x")  # struct v4l2_capability
_VIDEO_OUTPUT: Final = 0x2
_PER_DEVICE: Final = 0x80000000  # whether the last field has the capabilities of this node
_VIDEO_MAJOR: Final = 81  # number of the driver family of all video devices


def check_video_device(path: Path) -> None:
    """Refuse a path to which no pictures can be sent.

    Raises:
        InputError: this is not Linux, or the path is not a v4l2 output device.
    """
    if not sys.platform.startswith("linux"):
        raise InputError(
            "Virtual cameras are devices of Linux; elsewhere, show the avatar in OBS as a browser source "
            "(docs/guide/live.md)."
        )
    advice = "create one with 'sudo modprobe v4l2loopback', and give its path, such as /dev/video9."
    try:
        status = path.stat()
    except OSError:
        raise InputError(f"There is no device {path}; {advice}") from None
    if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) != _VIDEO_MAJOR:
        raise InputError(f"{path} is not a video device; {advice}")
    if not _takes_pictures(path):
        raise InputError(f"{path} is a camera, to which no pictures can be sent; {advice}")


def _takes_pictures(path: Path) -> bool:
    """Whether the device is a v4l2 output.

    Raises:
        InputError: it cannot be opened.
    """
    from fcntl import ioctl

    answer = bytearray(_CAPABILITIES.size)
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); allow this user to use it.") from None
    try:
        ioctl(device, _QUERY_CAPABILITIES, answer)
    except OSError:
        return False
    finally:
        os.close(device)
    *_, whole, own = _CAPABILITIES.unpack(answer)
    return bool((own if whole & _PER_DEVICE else whole) & _VIDEO_OUTPUT)


class DeviceWriter:
    """Sends pictures to a v4l2 output device by ffmpeg. Use it as a context manager."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        """Start ffmpeg.

        Args:
            path: the device.
            size: width, height of the pictures, pixels, even.
            fps: frames per second that the device states.
        """
        self.path = path
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        command = device_command(path, size, fps)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)
        self._watchdog = Watchdog(self._process, FRAME_SECONDS)

    def __enter__(self) -> DeviceWriter:
        self._watchdog.start()
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.close()
        self._watchdog.close()
        try:
            self._process.wait(timeout=FRAME_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def write(self, frame: np.ndarray) -> None:
        """Send one (H, W, 3) uint8 sRGB picture.

        Raises:
            OutputError: the device takes no more, for instance because it was removed.
        """
        assert self._process.stdin is not None
        try:
            with self._watchdog.limit():
                self._process.stdin.write(np.ascontiguousarray(frame).data)
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            lines = read_log(self._log).strip().splitlines()
            reason = f" ({lines[-1].strip()})" if lines else ""
            raise OutputError(
                f"The device {self.path} accepts no pictures{reason}; close other programs that send to it."
            ) from error


def device_command(path: Path, size: tuple[int, int], fps: float) -> list[str]:
    """The ffmpeg command that copies raw pictures from standard input to the device."""
    # fmt: off
    return [
        ffmpeg_program(), "-hide_banner", "-v", "error",
        "-probesize", "32", "-analyzeduration", "0",  # the first picture must not wait for more
        "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{size[0]}x{size[1]}", "-framerate", f"{fps:g}",
        "-i", "pipe:0", "-vf", "scale=out_color_matrix=bt601:out_range=tv", "-pix_fmt", "yuv420p",
        "-f", "v4l2", str(path),
    ]
    # fmt: on
