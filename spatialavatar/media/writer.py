"""Writing videos frame by frame."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import numpy as np

from spatialavatar import provenance
from spatialavatar.errors import InputError, OutputError
from spatialavatar.media.ffmpeg import Watchdog, ffmpeg_program
from spatialavatar.media.limits import FRAME_SECONDS
from spatialavatar.media.paths import PathLike, check_writable, existing_file
from spatialavatar.media.sound import SoundTrack, add_sound, sound_of

_VIDEO_SUFFIXES: Final = (".mp4", ".m4v", ".mov", ".mkv")
_SECONDS_PER_FRAME: Final = 0.05  # time limit to finish a file, in addition to FRAME_SECONDS


TO_YUV: Final = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
"""ffmpeg's filter from RGB to the colours of HDTV."""


def container_arguments(path: Path) -> list[str]:
    """Arguments of ffmpeg for the container that a file's suffix names."""
    return ["-movflags", "+faststart"] if path.suffix.lower() in _VIDEO_SUFFIXES else []


def check_frame(frame: np.ndarray, size: tuple[int, int], channels: int) -> None:
    """Refuse a frame that is not (H, W, channels) uint8 of ``size`` (width, height).

    Raises:
        InputError: it is.
    """
    shape = (size[1], size[0], channels)
    if frame.shape != shape or frame.dtype != np.uint8:
        raise InputError(f"A frame must be ({size[1]}, {size[0]}, {channels}) uint8, not {frame.shape} {frame.dtype}.")


class VideoWriter:
    """A video file written frame by frame: H.264, 4:2:0, BT.709, playable everywhere.

    The file appears under its name only when it is complete; on failure nothing is left behind. Use it as a context
    manager.

    Attributes:
        path: the file to make.
        size: width, height of the frames, pixels.
        frame_count: frames written so far.
        warnings: plain sentences about the sound, complete after :meth:`close`.
    """

    _channels = 3

    def __init__(
        self,
        path: PathLike,
        size: tuple[int, int],
        fps: float,
        audio_from: PathLike | None = None,
        crf: int = 18,
        synthetic: bool = False,
    ) -> None:
        """Start writing.

        Args:
            path: the file to make; mp4, m4v, mov or mkv.
            size: width, height of the frames, pixels.
            fps: frames per second.
            audio_from: a file whose sound track is added. Of a video, the sound starts with its first picture. It is
                cut or padded with silence to the length of the frames.
            crf: x264's constant rate factor: 0 is lossless, 18 looks like it, 28 is small.
            synthetic: write metadata that declare the frames as synthetic.

        Raises:
            OutputError: the file cannot be written.
            InputError: ``audio_from`` cannot be read, or the frame rate is not a positive number.
        """
        self.path = Path(path)
        self._check_suffix()
        if not (math.isfinite(fps) and fps > 0):
            raise InputError(f"A video cannot have {fps} frames per second; give a positive number.")
        check_writable(self.path)
        self.size = (int(size[0]), int(size[1]))
        self.frame_count = 0
        self._partial = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(4)}{self.path.suffix}")
        self.warnings: list[str] = []
        self._sound = None
        if audio_from is not None:
            source = existing_file(audio_from, "sound file")
            self._sound = sound_of(source)
            if self._sound is None:
                self.warnings.append(f"The file {source.name} has no sound track; the video is silent.")
        width, height = self.size
        self._rate = rate = Fraction(fps).limit_denominator(1001)
        # fmt: off
        command = [
            ffmpeg_program(), "-hide_banner", "-v", "error", "-y",
            "-f", "rawvideo", "-pixel_format", "rgba" if self._channels == 4 else "rgb24",
            "-video_size", f"{width}x{height}", "-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0",
            *self._encoder(crf), *(provenance.ffmpeg_arguments() if synthetic else ()),
            *container_arguments(self.path), f"file:{self._partial}",
        ]
        # fmt: on
        self._synthetic = synthetic
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close() and _abort()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)
        self._watchdog = Watchdog(self._process, FRAME_SECONDS)
        self._watchdog.start()

    def _check_suffix(self) -> None:
        """Refuse a name whose suffix is that of no such video.

        Raises:
            OutputError: it is.
        """
        if self.path.suffix.lower() not in _VIDEO_SUFFIXES:
            raise OutputError(f"A video cannot be written to {self.path.name}; give a name that ends in .mp4.")

    def _encoder(self, crf: int) -> list[str]:
        """Arguments of ffmpeg for the pictures."""
        tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
        # fmt: off
        return [
            "-vf", f"pad=ceil(iw/2)*2:ceil(ih/2)*2,{TO_YUV},format=yuv420p,{tags}",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", str(int(crf)),
        ]
        # fmt: on

    def write(self, frame: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 sRGB frame.

        Raises:
            InputError: the frame has the wrong size or type.
            OutputError: writing fails, for instance because the disk is full.
        """
        check_frame(frame, self.size, self._channels)
        assert self._process.stdin is not None
        try:
            with self._watchdog.limit():
                self._process.stdin.write(np.ascontiguousarray(frame).data)
        except (BrokenPipeError, ValueError) as error:  # ValueError: closed before
            reason = self._abort()
            raise OutputError(f"The video {self.path} cannot be written{reason}; check the disk.") from error
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file and move it to its name.

        Raises:
            OutputError: that fails, or no frame was written.
        """
        if self._log.closed:
            return
        if self.frame_count == 0:
            self._abort()
            raise OutputError(f"The video {self.path} would be empty: no frame was written to it.")
        assert self._process.stdin is not None
        with self._watchdog.limit(), contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._watchdog.close()
        if self._wait() != 0:
            reason = self._abort()
            raise OutputError(f"The video {self.path} cannot be written{reason}; check the disk.")
        if self._sound is not None:
            self._add_sound(self._sound)
        self._log.close()
        try:
            if self._synthetic:
                provenance.add_xmp(self._partial)
            os.replace(self._partial, self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise OutputError(
                f"The video {self.path} cannot be written ({error.strerror}); check the folder."
            ) from error

    def _wait(self) -> int:
        """The encoder's exit status, after it has written the frames that it still has and moved the index forward."""
        try:
            return self._process.wait(timeout=FRAME_SECONDS + self.frame_count * _SECONDS_PER_FRAME)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _add_sound(self, sound: SoundTrack) -> None:
        """Add the sound to the finished pictures.

        A second pass, because in one pass the length depends on which stream is ahead when the frames end.
        """
        whole = self._partial.with_name(f".{self.path.stem}.{secrets.token_hex(4)}{self.path.suffix}")
        try:
            if add_sound(self._partial, sound, float(self.frame_count / self._rate), whole, self._log):
                os.replace(whole, self._partial)
            else:
                self.warnings.append(
                    f"The sound of {sound.path.name} cannot be put into {self.path.name}; the video is silent."
                )
        finally:
            whole.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

    def _abort(self) -> str:
        """Stop, delete the partial file, and return the encoder's last message in brackets."""
        if self._log.closed:
            return ""
        self._watchdog.close()
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", errors="replace").strip().splitlines()
        self._log.close()
        self._partial.unlink(missing_ok=True)
        return f" ({lines[-1].strip()})" if lines else ""
