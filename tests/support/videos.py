"""Test videos written by ffmpeg, and the check of an error sentence."""

from __future__ import annotations

import subprocess

import pytest


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> bool:
    text = str(error.value)
    return "\n" not in text and text.endswith(".")


def make_video(path, seconds=1.0, size="96x80", rate=10, sound=False, extra=()):
    """A test pattern that changes in every frame."""
    import imageio_ffmpeg

    sine = ["-f", "lavfi", "-i", f"sine=440:duration={seconds}"] if sound else []
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi"]
    command += ["-i", f"testsrc=duration={seconds}:size={size}:rate={rate}", *sine, *extra]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


def remux(source, path, before=(), after=()):
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *before, "-i", str(source), "-c", "copy", *after]
    subprocess.run([*command, str(path)], check=True)
    return path
