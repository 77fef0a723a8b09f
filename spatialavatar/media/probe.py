"""What ffmpeg reports about a media file, read in this one place."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from spatialavatar.media.ffmpeg import input_arguments


@dataclass(frozen=True)
class VideoFacts:
    """What ffmpeg says about a file when it opens it."""

    has_video: bool
    has_audio: bool
    rate: Fraction
    duration: float


def parse_facts(log: str) -> VideoFacts:
    """Read the stream description that ffmpeg prints of its input."""
    log = log.split("Output #0")[0]
    video = re.search(r"Stream #0.*: Video: .*", log)
    rate = Fraction(25)
    if video is not None:
        # The mean rate first; "tbr" is the container's guess, the only one there is for some streams.
        found = re.search(r"([\d.]+)(k?) fps", video[0]) or re.search(r"([\d.]+)(k?) tbr", video[0])
        if found is not None and float(found[1]) > 0:
            rate = _exact_rate(float(found[1]) * (1000 if found[2] else 1))
    duration = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", log)
    seconds = sum(float(v) * f for v, f in zip(duration.groups(), (3600, 60, 1))) if duration else 0.0
    return VideoFacts(video is not None, re.search(r"Stream #0.*: Audio: ", log) is not None, rate, seconds)


def _exact_rate(printed: float) -> Fraction:
    """The rate behind a printed one, which is rounded to two digits: 29.97 stands for 30000/1001."""
    whole = round(printed)
    for exact in (Fraction(whole), Fraction(whole * 1000, 1001)):
        if abs(float(exact) - printed) < 0.006:
            return exact
    return Fraction(printed).limit_denominator(1000)


def sound_of(path: Path) -> Path | None:
    """The path itself where the file has a sound track."""
    probe = subprocess.run(input_arguments(path), capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return path if parse_facts(probe.stderr.decode("utf-8", errors="replace")).has_audio else None
