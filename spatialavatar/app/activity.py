"""Work that the page starts: a start button, a stop button, and a progress bar between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from spatialavatar.app.admission import GPU_QUEUE
from spatialavatar.app.fragments import notice, progress_bar
from spatialavatar.app.steps import Step

Updates = dict[Any, Any]
"""New values by component; other components keep theirs."""
Work = Callable[..., Iterator[tuple[Step, Updates]]]
"""Called with the request and the inputs' values; yields each step and what to show with it."""

_ESTIMATE_FROM = 0.15  # share of the work after which the remaining time is estimated
_BUSY = "The app is busy now; please try again in a few minutes."
_log = logging.getLogger(__name__)


class Activity:
    """Two buttons and a bar, created at their place on the page.

    Args:
        label: of the start button.
        done: the sentence at the end.
        stopped: the sentence after a stop.
        warns: show the work's warnings below ``done``.
    """

    def __init__(self, label: str, done: str, stopped: str = "Stopped.", warns: bool = False) -> None:
        self._done, self._stopped, self._warns = done, stopped, warns
        with gr.Row(elem_classes="sa-actions", equal_height=True):
            self.start = gr.Button(label, variant="primary")
            self.bar = gr.HTML("", visible=False)
            self.stop = gr.Button("Stop", visible=False, elem_classes="sa-stop", min_width=100, scale=0)
        self.note = gr.HTML("")

    @property
    def outputs(self) -> list[Any]:
        """The components that each run changes."""
        return [self.start, self.stop, self.bar, self.note]

    def resting(self, message: str = "", kind: str = "good") -> Updates:
        """The updates that end a run."""
        return {
            self.start: gr.Button(visible=True),
            self.stop: gr.Button(visible=False),
            self.bar: gr.HTML(visible=False),
            self.note: notice(message, kind) if message else "",
        }

    def on(
        self,
        triggers: Sequence[Any],
        work: Work,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        *,
        stopped: Callable[..., Updates] | None = None,
        stopped_inputs: Sequence[Any] = (),
    ) -> None:
        """Run ``work`` when one of ``triggers`` fires.

        Args:
            triggers: events, such as ``activity.start.click``.
            work: the work.
            inputs: components whose values it receives.
            outputs: components that it may change.
            stopped: returns further updates after a stop.
            stopped_inputs: components whose values it receives.
        """

        def wait() -> Updates:
            return {
                self.start: gr.Button(visible=False),
                self.stop: gr.Button(visible=True),
                self.bar: gr.HTML(progress_bar(0.0, "Waiting in the queue"), visible=True),
                self.note: "",
            }

        def run(request: gr.Request, *values: Any) -> Iterator[Updates]:
            began = time.monotonic()
            yield {self.bar: progress_bar(0.0, "Starting")}  # at once, so that an early stop finds something to close
            warnings: Sequence[str] = ()
            try:
                for step, updates in work(request, *values):
                    warnings = step.facts.get("warnings", ()) if self._warns else ()
                    left = _time_left(step.fraction, time.monotonic() - began)
                    yield {self.bar: progress_bar(step.fraction, step.message, left), **updates}
            except gr.Error as error:
                yield self.resting(error.message, "problem")
            except Exception:
                _log.exception("The work behind the page failed")
                yield self.resting("Something went wrong on the server; please try again.", "problem")
            else:
                words = "".join(notice(warning, "stopped") for warning in warnings)
                yield {**self.resting(), self.note: notice(self._done) + words}

        def stop(*values: Any) -> Updates:
            return {**self.resting(self._stopped, "stopped"), **(stopped(*values) if stopped else {})}

        private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        event = gr.on(list(triggers), wait, None, self.outputs, queue=False, **private).then(
            run,
            list(inputs),
            [*self.outputs, *outputs],
            concurrency_id=GPU_QUEUE,
            concurrency_limit=1,
            **private,
        )
        # A full queue refuses the run before it starts.
        event.failure(lambda: self.resting(_BUSY, "problem"), None, self.outputs, queue=False, **private)
        self.stop.click(
            stop,
            list(stopped_inputs),
            [*self.outputs, *outputs],
            cancels=[event],
            queue=False,
            **private,
        )


def _time_left(fraction: float, elapsed: float) -> str:
    """The remaining time in words; empty while too little is done for an estimate."""
    if not _ESTIMATE_FROM <= fraction < 1.0 or elapsed < 2.0:
        return ""
    seconds = elapsed * (1.0 - fraction) / fraction
    if seconds < 5.0:
        return "a few seconds left"
    if seconds < 55.0:
        return f"about {5 * round(seconds / 5)} seconds left"
    minutes = max(1, round(seconds / 60.0))
    return f"about {minutes} minute{'s' * (minutes > 1)} left"
