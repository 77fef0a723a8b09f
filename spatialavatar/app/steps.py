"""Long work as a stream of steps that the page and clients can show and stop."""

from __future__ import annotations

import ctypes
import logging
import queue
import re
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from spatialavatar.errors import SpatialAvatarError

_HEARTBEAT = 0.25  # seconds between steps of work that reports nothing; a stop is noticed at the next step
_ABSOLUTE_PATH = re.compile(r"(?<![\w/.])/(?!/)(?:[^/\s'\"]+/)+([^/\s'\"]*)")
_PATIENCE = 0.8  # seconds from a stop to the next report, after which the thread is interrupted


@dataclass(frozen=True)
class Step:
    """The progress of work; plain values, since it crosses a process boundary on ZeroGPU.

    Attributes:
        fraction: of the work, in [0, 1].
        message: name of the current step, a few words.
        files: paths of files that exist from now on, by role: ``preview``, and at the end ``avatar``, ``video``, ...
        facts: plain facts by name: ``iteration``, and at the end ``warnings``, ``frames``, ...
    """

    fraction: float
    message: str
    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Steps = Generator[Step, None, None]


class Report(Protocol):
    """The callback with which work reports its progress."""

    def __call__(self, fraction: float, message: str, files: Mapping[str, str] | None = None, **facts: Any) -> None:
        """Pass on a step; raises after the work was stopped."""


class _Cancelled(BaseException):
    """Raised inside the work after a stop; no handler of errors may swallow it."""


def steps_of(work: Callable[[Report], None]) -> Steps:
    """Run ``work`` in a thread and yield its steps; closing the generator stops the work within two seconds.

    The work stops at its next report or, where that takes long, between two instructions. While the work reports
    nothing, the last step is repeated four times a second: only a generator that yields can be closed.

    Raises:
        gr.Error: with the sentence of the error that the work raised.
    """
    reports: queue.Queue[Step | None] = queue.Queue()
    cancelled = threading.Event()
    failure: list[BaseException] = []

    def report(fraction: float, message: str, files: Mapping[str, str] | None = None, **facts: Any) -> None:
        if cancelled.is_set():
            raise _Cancelled
        reports.put(Step(fraction, message, files or {}, facts))

    def run() -> None:
        try:
            work(report)
        except BaseException as error:
            failure.append(error)
        finally:
            reports.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    last = Step(0.0, "Starting")
    try:
        while True:
            try:
                step = reports.get(timeout=_HEARTBEAT)
            except queue.Empty:
                yield last
                continue
            if step is None:
                break
            yield step
            last = Step(step.fraction, step.message)
    finally:
        cancelled.set()
        thread.join(_PATIENCE)
        if thread.is_alive():
            _interrupt(thread)
            thread.join(_PATIENCE)
    if failure:
        raise for_people(failure[0])


def for_people(error: BaseException) -> BaseException:
    """The error as a gr.Error, the only kind whose text gradio and ZeroGPU pass on."""
    if isinstance(error, gr.Error) or not isinstance(error, Exception):
        return error
    if isinstance(error, SpatialAvatarError):
        return complaint(str(error))
    logging.getLogger(__name__).error("The work failed.", exc_info=error)
    if isinstance(error, MemoryError):
        return complaint("There is not enough memory for this; give smaller pictures or a shorter video.")
    return complaint(f"Something went wrong that should not have ({type(error).__name__}); try again, or report it.")


def complaint(sentence: str) -> gr.Error:
    """A sentence as the error that gradio passes to the page and to programs."""
    return gr.Error(plain(without_folders(sentence)), title="That did not work", print_exception=False)


def without_folders(text: str) -> str:
    """The text with every absolute path reduced to its last part: folders of this server are private."""
    for folder in (Path(tempfile.gettempdir()), Path.cwd(), Path.home(), Path(__file__).resolve().parents[2]):
        if folder.name:  # not the root, whose name stands in every address
            text = text.replace(f"{folder}/", "")  # folders whose names hold spaces too
    return _ABSOLUTE_PATH.sub(r"\1", text)


def plain(text: str) -> str:
    """One line without angle brackets and control characters: file names and avatars' texts come from visitors."""
    visible = "".join(letter for letter in text if letter.isprintable() or letter.isspace())
    return " ".join(visible.replace("<", "").replace(">", "").split())


def _interrupt(thread: threading.Thread) -> None:
    """Raise :class:`_Cancelled` in another thread, at its next instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Cancelled))
