"""Reading videos as a stream of (H, W, 3) uint8 sRGB arrays."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import IO

import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.media.ffmpeg import input_arguments
from spatialavatar.media.limits import MIN_SIDE
from spatialavatar.media.paths import PathLike, existing_file
from spatialavatar.media.probe import parse_facts


class VideoReader:
    """A video as a stream of frames at a constant rate. Iterating starts from the beginning, as often as wanted.

    Rotation metadata and non-square pixels are applied; a variable frame rate becomes the mean one by repeating or
    dropping frames.

    Attributes:
        path: the file.
        fps: frames per second of the stream.
        size: width, height of the frames, pixels.
        duration: seconds, as the file says; 0 where it does not.
        frame_count_estimate: what ``duration`` promises; the stream itself is the truth.
        has_audio: whether there is a sound track.
        warnings: plain sentences about what was wrong with the file; filled while iterating.
    """

    def __init__(self, path: PathLike, max_side: int | None = None, max_fps: float = 60.0) -> None:
        """Open a video and look at its first frame.

        Args:
            path: the file.
            max_side: larger frames are scaled down to this many pixels on the longer side; None keeps them.
            max_fps: faster videos are thinned to this rate.

        Raises:
            InputError: where the file is missing, no video, damaged from the start, or without frames.
        """
        self.path = existing_file(path, "video")
        self._max_side = max_side
        self.warnings: list[str] = []
        command = [*input_arguments(self.path), "-frames:v", "1", *self._output_arguments(None)]
        result = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        facts = parse_facts(result.stderr.decode("utf-8", errors="replace"))
        if not facts.has_video:
            kind = "holds sound but no pictures" if facts.has_audio else "is not a video that can be read"
            raise InputError(f"The file {self.path.name} {kind}; give an MP4, MOV, MKV or WebM video.")
        frame = _read_frame(io.BytesIO(result.stdout))
        if frame is None:
            raise InputError(f"The video {self.path.name} holds no readable frame; save or download it again.")
        self.size: tuple[int, int] = (frame.shape[1], frame.shape[0])
        if min(self.size) < MIN_SIDE:
            raise InputError(
                f"The video {self.path.name} is only {self.size[0]} x {self.size[1]} pixels; give one of at least "
                f"{MIN_SIDE} x {MIN_SIDE}."
            )
        self._rate = min(facts.rate, Fraction(max_fps).limit_denominator(1001))
        self.fps = float(self._rate)
        self.duration = facts.duration
        self.frame_count_estimate = max(1, round(self.duration * self.fps))
        self.has_audio = facts.has_audio

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 sRGB frames.

        Raises:
            InputError: where decoding breaks off before the first frame.
        """
        command = [*input_arguments(self.path, "error"), *self._output_arguments(self._rate)]
        count = 0
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=1 << 20
            )
            try:
                assert process.stdout is not None
                while (frame := _read_frame(process.stdout)) is not None:
                    count += 1
                    yield frame
                process.wait()
                log.seek(0)
                complaints = log.read(4096)
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        if count == 0:
            raise InputError(f"The video {self.path.name} holds no readable frame; save or download it again.")
        self._note_missing(count, bool(complaints) or process.returncode != 0)

    def _note_missing(self, count: int, complained: bool) -> None:
        """Warn where the stream was shorter than promised, or damaged on the way."""
        seconds = count / self.fps
        if self.duration - seconds > max(0.5, 0.05 * self.duration):
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

    def _output_arguments(self, rate: Fraction | None) -> list[str]:
        """Frames as a stream of PPM pictures: each carries its own size, after rotation and scaling."""
        filters = [] if rate is None else [f"fps={rate.numerator}/{rate.denominator}"]
        filters += ["scale=round(iw*sar):ih:flags=bicubic+accurate_rnd+full_chroma_int", "setsar=1"]
        if self._max_side is not None:
            side = int(self._max_side)
            filters.append(f"scale='min(iw,{side})':'min(ih,{side})':force_original_aspect_ratio=decrease:flags=area")
        return ["-map", "0:v:0", "-an", "-vf", ",".join(filters), "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]


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
