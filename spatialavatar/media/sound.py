"""Putting the sound of one file beside the pictures of another."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from spatialavatar.media.ffmpeg import input_arguments
from spatialavatar.media.probe import first_frame_time, probe

_SECONDS_FOR_SECONDS: Final = 2.0  # time limit of the work, per second of sound; a processor needs a hundredth of it


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
        sound: what to put beside them.
        seconds: duration of the pictures.
        out: the file to make.
        log: receives ffmpeg's messages.

    Returns:
        Whether that succeeded.
    """
    shift = "asetpts=PTS-STARTPTS"
    if sound.start is not None:
        shift = f"atrim=start={sound.start:.6f},asetpts=PTS-{sound.start:.6f}/TB"
    # fmt: off
    command = [
        *input_arguments(), "-i", f"file:{pictures}", "-y", "-copyts", "-map", "1:v", "-map", f"0:{sound.index}",
        "-map_metadata", "1",
        "-c:v", "copy", "-c:a", "aac", "-b:a", "160k", "-af", f"{shift},aresample=async=1:first_pts=0,apad",
        "-t", f"{seconds:.6f}", "-movflags", "+faststart", f"file:{out}",
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
