"""The process of a command: signals that end it, and standard streams that are closed, full or not UTF-8."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from spatialavatar.errors import OutputError
from spatialavatar.text import for_terminal

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT."""

PIPE_CLOSED = 141
"""Exit status where the reader of the results is gone, as in ``| head``: 128 and the number of SIGPIPE."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived. It unwinds the stack as Ctrl-C does, so that every temporary file is removed."""


class Termination:
    """Which signal ended the process, if one did.

    Attributes:
        status: the exit status, 128 and the signal's number; None where no signal arrived.
    """

    status: int | None = None


@contextmanager
def catch_termination() -> Iterator[Termination]:
    """Raise :class:`Terminated` in the main thread on a request to end the process.

    A second signal has no effect, so that it cannot interrupt the clean-up. A signal that the parent process ignores
    (``nohup``) stays ignored.
    """
    caught = Termination()
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python sets signal handlers in its main thread only
        return

    def stop(number: int, _frame: Any) -> None:
        for other in previous:
            signal.signal(other, signal.SIG_IGN)
        caught.status = 128 + number
        raise Terminated

    previous = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, stop)
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def standard_output() -> Iterator[None]:
    """Print to stdout inside; buffered text is written at the end.

    File names that are not UTF-8 are printed as the bytes that they are.

    Raises:
        BrokenPipeError: the reader is gone; later output goes nowhere.
        OutputError: stdout cannot be written, on a full disk for instance.
    """
    # pytest and notebooks put other objects here, and a closed stdout is None.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="surrogateescape" if _is_utf8() else "backslashreplace")
    try:
        try:
            yield
        finally:  # argparse leaves by SystemExit after --help
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        raise
    except OSError as error:
        _discard_stdout()
        raise OutputError(
            f"The results cannot be printed ({error.strerror or error}); redirect the output elsewhere."
        ) from error


def print_error(text: str) -> None:
    """Print a line on stderr, with control characters shown as escapes.

    Where stderr is closed, full or a broken pipe, the line is lost and the work continues.
    """
    if sys.stderr is None:
        return  # print() would take stdout
    try:
        print(for_terminal(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        sys.stderr = None  # type: ignore[assignment] - or Python reports the lost buffer once more when it exits


def stderr_is_terminal() -> bool:
    """Whether a person watches stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def mute_native_libraries() -> None:
    """Keep Python's stderr, and discard what the networks' C++ runtimes print to file descriptor 2."""
    if sys.stderr is None:
        return
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _is_utf8() -> bool:
    return str(getattr(sys.stdout, "encoding", "")).lower().replace("-", "") == "utf8"


def _discard_stdout() -> None:
    """Point stdout at nothing, or Python reports the lost buffer once more when it exits."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
