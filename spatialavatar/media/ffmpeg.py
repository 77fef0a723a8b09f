"""The ffmpeg program of imageio-ffmpeg, and its options for opening untrusted files.

Three rules hold for every call:

* The file arrives on ffmpeg's standard input (the ``fd`` protocol, which can seek), and no other protocol is allowed.
  So ffmpeg cannot open other files that the file refers to.
* Only containers that hold their own pictures and sound are allowed. Playlists, manifests, concatenation scripts,
  image sequences, devices and subtitles are not among them.
* Pictures have a maximum number of pixels, and the process has a time limit.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from spatialavatar.errors import InputError
from spatialavatar.media.limits import MAX_VIDEO_PIXELS, PROBE_SECONDS

CONTAINERS: Final = (
    # video
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "mxf", "nut", "ivf", "rm", "dv"),
    *("yuv4mpegpipe", "h264", "hevc", "m4v", "obu"),
    # animations
    *("gif", "apng", "webp_anim"),
    # sound
    *("wav", "w64", "mp3", "aac", "flac", "aiff", "caf", "amr", "ac3", "eac3"),
)
"""Names of ffmpeg's demuxers that may open a file. None of them reads a second file."""

_LOG_BYTES: Final = 1 << 18  # of ffmpeg's messages, how much is read


@dataclass(frozen=True)
class FfmpegResult:
    """Result of a finished ffmpeg process.

    Attributes:
        returncode: its exit status.
        output: its standard output.
        log: its messages.
    """

    returncode: int
    output: bytes
    log: str


_program_lock = threading.Lock()


def ffmpeg_program() -> str:
    """Path of the ffmpeg program."""
    import imageio_ffmpeg

    with _program_lock:
        return str(imageio_ffmpeg.get_ffmpeg_exe())


def input_arguments(verbosity: str = "error", *, decoder: str | None = None, shift: float = 0.0) -> list[str]:
    """The start of a command that reads its input from standard input.

    Args:
        verbosity: ffmpeg's log level.
        decoder: name of the video decoder; None leaves the choice to ffmpeg.
        shift: seconds that are added to all times of the file.
    """
    # fmt: off
    return [
        ffmpeg_program(), "-hide_banner", "-nostdin", "-v", verbosity,
        "-protocol_whitelist", "fd", "-format_whitelist", ",".join(CONTAINERS), "-max_pixels", str(MAX_VIDEO_PIXELS),
        *(() if decoder is None else ("-c:v", decoder)), *(("-itsoffset", f"{shift:.6f}") if shift else ()),
        "-i", "fd:",
    ]
    # fmt: on


def run_ffmpeg(command: Sequence[str], path: Path, seconds: float = PROBE_SECONDS) -> FfmpegResult:
    """Run a short command on one input file.

    Args:
        command: starts with :func:`input_arguments`.
        path: the input file.
        seconds: time limit.

    Raises:
        InputError: the time limit is exceeded.
    """
    with path.open("rb") as source, tempfile.TemporaryFile() as log:
        try:
            done = subprocess.run(
                command, stdin=source, stdout=subprocess.PIPE, stderr=log, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"The file {path.name} takes longer than {seconds:.0f} seconds to open; convert it to MP4 first."
            ) from error
        return FfmpegResult(done.returncode, done.stdout, read_log(log))


def read_log(log: IO[bytes]) -> str:
    """The first part of the messages that a process wrote to a temporary file."""
    log.seek(0)
    return log.read(_LOG_BYTES).decode("utf-8", errors="replace")


@contextlib.contextmanager
def ffmpeg_output(command: Sequence[str], path: Path, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads ``path`` and writes to its ``stdout``. It has ended when the block is left."""
    with path.open("rb") as source:
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=log, bufsize=1 << 20)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Watchdog:
    """Kills a process that makes its caller wait for too long.

    Each ``with watchdog.limit():`` block may take ``seconds``; time outside of such blocks does not count.

    Attributes:
        expired: whether the process was killed.
    """

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.expired = False
        self._process, self._seconds = process, seconds
        self._deadline: float | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @contextlib.contextmanager
    def limit(self) -> Iterator[None]:
        """The time limit applies to this block."""
        self._deadline = time.monotonic() + self._seconds
        try:
            yield
        finally:
            self._deadline = None

    def start(self) -> None:
        """Begin to watch; a context manager does so on entry."""
        self._thread.start()

    def close(self) -> None:
        """End the watch."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> Watchdog:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._closed.wait(min(0.5, self._seconds)):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self.expired = True
                self._process.kill()
                return
