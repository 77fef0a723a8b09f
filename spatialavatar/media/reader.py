"""Reading videos as a stream of (H, W, 3) uint8 sRGB arrays."""

from __future__ import annotations

import io
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
    """A video as a stream of frames at a constant rate. Iterating starts from the beginning, as often as wanted.

    Frames are 8-bit sRGB whatever the file stores: colour tags are followed (an HD stream without tags is BT.709),
    HDR is tone-mapped, interlaced fields are merged, transparency is laid over white. Rotation metadata and non-square
    pixels are applied. A variable frame rate becomes the mean one by repeating or dropping frames. Where the picture
    changes its shape, the later frames are scaled into the first one's and padded with black.

    Attributes:
        path: the file.
        fps: frames per second of the stream.
        size: width, height of the frames, pixels.
        duration: seconds, as the file declares; measured where it does not.
        frame_count_estimate: what ``duration`` promises; the stream itself is the truth.
        has_audio: whether there is a sound track.
        warnings: plain sentences about what was wrong with the file; filled while iterating.
    """

    def __init__(self, path: PathLike, max_side: int | None = None, max_fps: float = 60.0) -> None:
        """Open a video and decode its first frame.

        Args:
            path: the file.
            max_side: larger frames are scaled down to this many pixels on the longer side; None keeps them.
            max_fps: faster videos are thinned to this rate.

        Raises:
            InputError: where the file is missing, no video, too large, damaged from the start, or without frames.
        """
        self.path = existing_file(path, "video")
        self._max_side = max_side
        self.warnings: list[str] = []
        facts, self._video = probe_video(self.path)
        result = run_ffmpeg(self._command(None, first=True), self.path, FRAME_SECONDS)
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
        self._audio_index = facts.audio_index
        self.fps = float(self._rate)
        self.duration = facts.seconds or self._measured_seconds()
        self.frame_count_estimate = max(1, round(self.duration * self.fps))
        self.has_audio = facts.audio_index is not None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 sRGB frames.

        Raises:
            InputError: where decoding breaks off before the first frame.
        """
        count = 0
        with (
            tempfile.TemporaryFile() as log,
            ffmpeg_output(self._command(self._rate), self.path, log) as process,
            Watchdog(process, FRAME_SECONDS) as watchdog,
        ):
            assert process.stdout is not None  # a pipe was asked for
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
        """Warn where the stream was shorter than promised, or damaged on the way."""
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
        """Whether the promised duration is that of the sound, which is complete and longer than the pictures."""
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

    def _command(self, rate: Fraction | None, *, first: bool = False) -> list[str]:
        """Frames as a stream of PPM pictures, which carry their size after rotation and scaling."""
        decoder = _ALPHA_DECODERS.get(self._video.codec) if self._video.has_alpha else None
        filters = frame_filters(self._video, rate, self._max_side)
        if not first:
            # ffmpeg builds the graph anew where the picture changes its shape; the encoder needs one size for all.
            width, height = self.size
            filters += f",scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:-1:-1"
        # fmt: off
        return [
            *input_arguments(decoder=decoder), *(("-frames:v", "1") if first else ()),
            "-map", f"0:{self._video.index}", "-an", "-vf", filters, "-fps_mode", "passthrough",
            "-f", "image2pipe", "-c:v", "ppm", "pipe:1",
        ]
        # fmt: on


def _read_frame(stream: IO[bytes]) -> np.ndarray | None:
    """One binary PPM picture of a stream; None at its end, also where the last one is cut."""
    magic, size, depth = stream.readline(), stream.readline(), stream.readline()
    if magic != b"P6\n" or depth != b"255\n":
        return None
    width, height = map(int, size.split())
    data = stream.read(width * height * 3)
    if len(data) < width * height * 3:
        return None
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(height, width, 3)
