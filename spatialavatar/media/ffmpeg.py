"""The ffmpeg program that imageio-ffmpeg carries, and the arguments that open a file safely."""

from __future__ import annotations

import threading
from pathlib import Path

_ffmpeg_lock = threading.Lock()


def input_arguments(path: Path, verbosity: str = "info") -> list[str]:
    """Open a local file and nothing else, whatever the file refers to."""
    # fmt: off
    return [
        ffmpeg_program(), "-hide_banner", "-nostdin", "-v", verbosity, "-protocol_whitelist", "file,pipe",
        "-i", f"file:{path}",
    ]
    # fmt: on


def ffmpeg_program() -> str:
    """The ffmpeg program."""
    import imageio_ffmpeg

    with _ffmpeg_lock:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
