"""Read the sound of a file, and add it to the pictures of another file."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.media.ffmpeg import Watchdog, ffmpeg_output, input_arguments
from spatialavatar.media.limits import FRAME_SECONDS
from spatialavatar.media.paths import PathLike, existing_file
from spatialavatar.media.probe import MediaFacts, count_packets, first_frame_time, probe

_SECONDS_FOR_SECONDS: Final = 2.0  # time limit of the work, per second of sound; a processor needs a hundredth of it
_SOUNDS: Final = "a WAV, MP3, M4A, FLAC or OGG file"


@dataclass(frozen=True)
class SoundTrack:
    """The first sound track of a file.

    Attributes:
        path: the file.
        index: of the stream in the file.
        start: when the file's first picture is shown, seconds of the file's own clock; None without pictures.
    """

    path: Path
    index: int
    start: float | None

    @property
    def filters(self) -> str:
        """Filters of ffmpeg that make it start with the pictures, and its gaps (lost packets) silence."""
        shift = "asetpts=PTS-STARTPTS"
        if self.start is not None:
            shift = f"atrim=start={self.start:.6f},asetpts=PTS-{self.start:.6f}/TB"
        return f"{shift},aresample=async=1:first_pts=0"


class SoundReader:
    """The sound of a file as mono blocks, in constant memory. Iterating starts from the beginning, as often as wanted.

    Any container, codec, sample rate and number of channels that ffmpeg reads. The sound of a video starts with its
    first picture, as in the files that :class:`spatialavatar.media.VideoWriter` writes.

    Attributes:
        path: the file.
        rate: samples per second of the blocks.
        duration: seconds, as the file declares; 0 where it does not.
        warnings: sentences about the sound; filled while iterating.
    """

    def __init__(self, path: PathLike, rate: int) -> None:
        """Open a file; only its header is read.

        Args:
            path: a sound file, or a video with sound.
            rate: samples per second of the blocks; other rates are resampled.

        Raises:
            InputError: the file is missing, is not a container of sound, or has no sound track.
        """
        self.path = existing_file(path, "sound file")
        self.rate = rate
        self.warnings: list[str] = []
        self.duration = _probe_sound(self.path).seconds
        sound = sound_of(self.path)
        assert sound is not None  # _probe_sound found it
        self._sound = sound

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield blocks (N,) float32 in [-1, 1] of ``size`` samples, the last one shorter.

        Samples that are not finite numbers become silence, with a warning.

        Raises:
            InputError: no sample can be decoded.
        """
        # fmt: off
        command = [
            *input_arguments(), "-copyts", "-map", f"0:{self._sound.index}", "-vn", "-af", self._sound.filters,
            "-ac", "1", "-ar", str(self.rate), "-f", "f32le", "pipe:1",
        ]
        # fmt: on
        count = 0
        with (
            tempfile.TemporaryFile() as log,
            ffmpeg_output(command, self.path, log) as process,
            Watchdog(process, FRAME_SECONDS) as watchdog,
        ):
            assert process.stdout is not None  # stdout is a pipe
            while True:
                with watchdog.limit():
                    data = process.stdout.read(4 * size)
                if len(data) < 4:
                    break
                block = np.frombuffer(data[: len(data) // 4 * 4], np.float32)
                count += len(block)
                yield self._finite(block)
        if count == 0:
            raise InputError(f"The file {self.path.name} holds no sound that can be decoded; save or record it again.")

    def _finite(self, block: np.ndarray) -> np.ndarray:
        finite = np.isfinite(block)
        if not finite.all():
            sentence = f"The file {self.path.name} has samples that are not finite numbers; they are played as silence."
            if sentence not in self.warnings:
                self.warnings.append(sentence)
            block = np.where(finite, block, np.float32(0.0))
        return block.clip(-1.0, 1.0)


def sound_seconds(path: PathLike) -> float:
    """Duration of a file's sound, counted, not the one that the header declares; nothing is decoded.

    The cost is two ffmpeg processes, each of which ends after ``limits.PROBE_SECONDS``.

    Raises:
        InputError: the file is missing, is not a container of sound, or has no sound that can be read.
    """
    path = existing_file(path, "sound file")
    index = _probe_sound(path).audio_index
    assert index is not None  # _probe_sound found it
    length = count_packets(path, (index,)).get(index)
    if length is None:
        raise InputError(f"The file {path.name} holds no sound that can be decoded; save or record it again.")
    return length.end - length.start


def _probe_sound(path: Path) -> MediaFacts:
    """Facts from the header of a file with sound.

    Raises:
        InputError: it is not a container of sound, or has no sound track.
    """
    try:
        facts = probe(path)
    except InputError as error:
        raise InputError(f"The file {path.name} is not sound that can be read; give {_SOUNDS}.") from error
    if facts.audio_index is None:
        raise InputError(f"The file {path.name} has no sound track; give {_SOUNDS}.")
    return facts


def has_sound(path: Path) -> bool:
    """Whether a video or sound file has a sound track; only its header is read.

    Raises:
        InputError: the file is not a container of pictures or sound.
    """
    return probe(path).audio_index is not None


def sound_of(path: Path) -> SoundTrack | None:
    """The sound track of a file, placed in time as a reader of its pictures sees it; None without one.

    Raises:
        InputError: the file is not a container of pictures or sound.
    """
    facts = probe(path)
    if facts.audio_index is None:
        return None
    start = None if facts.video is None else first_frame_time(path, facts.video)
    return SoundTrack(path, facts.audio_index, start)


def add_sound(pictures: Path, sound: SoundTrack, seconds: float, out: Path, log: IO[bytes]) -> bool:
    """Write ``out``: the pictures of one file and the sound of another, exactly as long as the pictures.

    The sound starts with the pictures, gaps in it (lost packets) become silence, and it is cut or padded at its end.

    Args:
        pictures: a file of ours.
        sound: the sound to add.
        seconds: duration of the pictures.
        out: the file to make.
        log: receives ffmpeg's messages.

    Returns:
        Whether that succeeded.
    """
    webm = out.suffix.lower() == ".webm"
    codec = "libopus" if webm else "aac"
    # fmt: off
    command = [
        *input_arguments(), "-i", f"file:{pictures}", "-y", "-copyts", "-map", "1:v", "-map", f"0:{sound.index}",
        "-map_metadata", "1",
        "-c:v", "copy", "-c:a", codec, "-b:a", "160k", "-af", f"{sound.filters},apad",
        "-t", f"{seconds:.6f}", *(() if webm else ("-movflags", "+faststart")), f"file:{out}",
    ]
    # fmt: on
    limit = 60.0 + _SECONDS_FOR_SECONDS * seconds
    with sound.path.open("rb") as source:
        try:
            done = subprocess.run(
                command, stdin=source, stdout=subprocess.DEVNULL, stderr=log, check=False, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
