"""The work in progress, by the id of gradio's event, so that another request can stop it.

Gradio stops a generator by closing it, and drops it unclosed where a cancel arrives during its first step. The work of
this app runs in a separate thread and would continue, so it is stopped by its id as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gradio.context import LocalContext

from spatialavatar.app.steps import Steps, complaint

_lock = threading.Lock()
_running: dict[str, _Job] = {}


class _Job:
    """One stream of steps and whether it was stopped."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.stopped = threading.Event()


def stoppable(steps: Steps) -> Steps:
    """The same steps, ended by :func:`stop` with the id of the gradio event in which they are iterated.

    Raises:
        gr.Error: the work was stopped.
    """
    job = _Job(steps)
    with _registered(LocalContext.event_id.get(None), job):
        for step in steps:
            if job.stopped.is_set():
                raise complaint("This work was stopped.")
            yield step


def stop(event_id: str) -> None:
    """Stop the work of a gradio event; without effect if there is none.

    Work whose next step is being computed ends with that step, within two seconds.
    """
    with _lock:
        job = _running.get(event_id)
    if job is None:
        return
    job.stopped.set()
    with suppress(ValueError):  # the generator is executing: it reads the flag at its next step
        job.steps.close()


@contextmanager
def _registered(event_id: str | None, job: _Job) -> Iterator[None]:
    try:
        if event_id is not None:
            with _lock:
                _running[event_id] = job
        yield
    finally:
        if event_id is not None:
            with _lock:
                _running.pop(event_id, None)
        job.steps.close()
