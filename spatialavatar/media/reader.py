"""Reading videos as a stream of (H, W, 3) uint8 sRGB arrays."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Final

import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.media.ffmpeg import Watchdog, ffmpeg_output, input_arguments, read_log, run_ffmpeg
from spatialavatar.media.filters import frame_filters
from spatialavatar.media.limits import FRAME_SECONDS, MIN_SIDE
from spatialavatar.media.paths import PathLike, existing_file
from spatialavatar.media.probe import StreamLength, count_packets, probe_video

_ALPHA_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders ignore these codecs' alpha


class VideoReader:
    """A video as a stream of frames at a constant rate. Each iteration starts from the beginning.

    Frames are always converted to 8-bit sRGB: colour tags are followed (an HD stream without tags is BT.709),
    HDR is tone-mapped, interlaced fields are merged, transparency is laid over white. Rotation metadata and non-square
    pixels are applied. A variable frame rate becomes the mean one by repeating or dropping frames. Where the picture
    changes its shape, the later frames are scaled into the first one's and padded with black.

    Attributes:
        path: the file.
        fps: frames per second of the stream.
        size: width, height of the frames, pixels.
        duration: seconds, as the file declares; measured where it does not.
        frame_count_estimate: ``duration`` times ``fps``; the number of frames can differ.
        has_audio: whether there is a sound track.
        warnings: sentences about damage in the file; filled while iterating.
    """

    def __init__(self, path: PathLike, max_side: int | None = None, max_fps: float = 60.0) -> None:
        """Open a video and decode its first frame.

        Args:
            path: the file.
            max_side: larger frames are scaled down to this many pixels on the longer side; None keeps them.
            max_fps: faster videos are thinned to this rate.

        Raises:
            InputError: the file is missing, not a video, too large, damaged from the start, or without frames.
        """
        self.path = existing_file(path, "video")
        self._max_side = max_side
        self.warnings: list[str] = []
        facts, self._video = probe_video(self.path)
        result = run_ffmpeg(self._first_frame_command(), self.path, FRAME_SECONDS)
        frame = _read_frame(io.BytesIO(result.output))
        if frame is None:
            raise InputError(f"The video {self.path.name} holds no readable frame; save or download it again.")
        self.size: tuple[int, int] = (frame.shape[1], frame.shape[0])
        if min(self.size) < MIN_SIDE:
            raise InputError(
                f"The video {self.path.name} is only {self.size[0]} x {self.size[1]} pixels; give one of at least "
                f"{MIN_SIDE} x {MIN_SIDE}."
            )
        self._rate = min(self._video.rate, Fraction(max_fps).limit_denominator(1001))
        shown = re.search(r"pts_time:(-?[\d.]+)", result.log)
        self._start = float(shown[1]) if shown else 0.0  # seconds from the first packet to the first frame
        self._audio_index = facts.audio_index
        self.fps = float(self._rate)
        self.duration = facts.seconds or self._measured_seconds()
        self.frame_count_estimate = max(1, round(self.duration * self.fps))
        self.has_audio = facts.audio_index is not None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 sRGB frames.

        Raises:
            InputError: decoding fails before the first frame.
        """
        count = 0
        with (
            tempfile.TemporaryFile() as log,
            ffmpeg_output(self._command(), self.path, log) as process,
            Watchdog(process, FRAME_SECONDS) as watchdog,
        ):
            assert process.stdout is not None  # stdout is a pipe
            while True:
                with watchdog.limit():
                    frame = _read_frame(process.stdout)
                if frame is None:
                    break
                count += 1
                yield frame
            with watchdog.limit():
                process.wait()
            complained = bool(read_log(log)) or process.returncode != 0
        if count == 0:
            raise InputError(f"The video {self.path.name} holds no readable frame; save or download it again.")
        self._note_missing(count, complained)

    def _note_missing(self, count: int, complained: bool) -> None:
        """Warn about a stream that is shorter than declared, or damaged."""
        seconds = count / self.fps
        if self._is_short(seconds) and not self._ends_elsewhere(complained):
            sentence = (
                f"The video {self.path.name} is damaged: only the first {seconds:.1f} of {self.duration:.1f} seconds "
                "could be read."
            )
        elif complained:
            sentence = f"The video {self.path.name} is damaged in places; the frames that could be read are used."
        else:
            return
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _is_short(self, seconds: float) -> bool:
        return self.duration - seconds > max(0.5, 0.05 * self.duration)

    def _ends_elsewhere(self, complained: bool) -> bool:
        """Whether the declared duration is that of the sound, which is complete and longer than the pictures."""
        if complained or self._audio_index is None:
            return False
        sound = self._measured().get(self._audio_index)
        return sound is not None and not self._is_short(sound.end)

    def _measured_seconds(self) -> float:
        length = self._measured().get(self._video.index)
        return 0.0 if length is None else length.video_seconds(self._video)

    def _measured(self) -> dict[int, StreamLength]:
        streams = (self._video.index,) if self._audio_index is None else (self._video.index, self._audio_index)
        return count_packets(self.path, streams)

    def _first_frame_command(self) -> list[str]:
        """The first frame as a PPM picture; its time is in the log."""
        # fmt: off
        return [
            *input_arguments("info", decoder=self._decoder()), "-map", f"0:{self._video.index}", "-an",
            "-frames:v", "1", "-vf", f"showinfo=checksum=0,{frame_filters(self._video, None, self._max_side)}",
            "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "pipe:1",
        ]
        # fmt: on

    def _command(self) -> list[str]:
        """All frames as PPM pictures.

        The first frame comes first, whenever it is shown: a constant rate would repeat it from the start of the sound
        on. ffmpeg builds the filters anew where the picture changes its shape; the encoder needs one size for all.
        """
        width, height = self.size
        fit = f"scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:-1:-1"
        # fmt: off
        return [
            *input_arguments(decoder=self._decoder(), shift=-self._start), "-map", f"0:{self._video.index}", "-an",
            "-vf", f"{frame_filters(self._video, self._rate, self._max_side)},{fit}",
            "-fps_mode", "cfr", "-f", "image2pipe", "-c:v", "ppm", "pipe:1",
        ]
        # fmt: on

    def _decoder(self) -> str | None:
        return _ALPHA_DECODERS.get(self._video.codec) if self._video.has_alpha else None


def _read_frame(stream: IO[bytes]) -> np.ndarray | None:
    """Read one binary PPM picture of a stream; None at its end, also where the last one is cut."""
    magic, size, depth = stream.readline(), stream.readline(), stream.readline()
    if magic != b"P6\n" or depth != b"255\n":
        return None
    width, height = map(int, size.split())
    data = stream.read(width * height * 3)
    if len(data) < width * height * 3:
        return None
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(height, width, 3)
