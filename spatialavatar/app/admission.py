"""Admission of calls to a bounded queue, and calls that end early: the caller left, or cancelled before the start.

Gradio bounds its queue without a sentence, checks a call only after it has fetched every address in it, runs a call
without a listener until its end, and loses a cancel that arrives while a call is still being checked. A subclass of
its queue and a middleware add what is missing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs

import gradio as gr
from gradio.queueing import Event, Queue, process_validation_response
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import run_coro_in_background
from starlette.types import ASGIApp, Receive, Scope, Send

from spatialavatar.app import jobs

GPU_QUEUE: Final = "gpu"
"""The ``concurrency_id`` of every event that computes: one runs at a time, over all callers."""
MAX_WAITING: Final = 20
"""Calls that may wait for the worker, and events of any kind that may wait at all times ten."""
UNHEARD_SECONDS: Final = 10.0
"""Seconds after which a call without a listener ends."""

_BUSY: Final = f"The app is busy: {MAX_WAITING} calls are waiting already; try again in a few minutes."
_UNUSABLE: Final = (
    "A value of this call cannot be used; upload each file first and pass the path that the upload returns."
)
_CANCELLED: Final = "This call was cancelled before it started."
_UNHEARD: Final = (
    f"Nobody listened to this call for {UNHEARD_SECONDS:.0f} seconds, so it ended; read its events at once."
)
_CANCEL_SECONDS: Final = 30.0  # how long a cancel that names no event waits for the event to arrive
_WATCH_SECONDS: Final = 0.5
_MAX_CANCEL_BYTES: Final = 10_000
_log = logging.getLogger(__name__)


def check_before_files(validator: Callable[..., Any], check: Callable[[list[Any]], list[dict[str, Any]]]) -> None:
    """Have ``check`` called on the values of a call as they were sent, before ``validator`` and before any fetch.

    Args:
        validator: the validator of the event.
        check: from the values to a ``gr.validate`` for each.
    """
    validator.check_before_files = check  # type: ignore[attr-defined]


class BoundedQueue(Queue):
    """Gradio's queue with a limit, which ends calls that nobody listens to."""

    def __init__(self, demo: gr.Blocks) -> None:
        """Make the queue of ``demo``."""
        super().__init__(
            live_updates=True,
            concurrency_count=demo.max_threads,
            update_intervals=1,
            max_size=None,
            blocks=demo,
        )
        self._being_checked: Counter[str | None] = Counter()  # calls by concurrency id
        self._listeners: Counter[str] = Counter()  # by session
        self._last_heard: dict[str, float] = {}
        self._early_cancels: dict[tuple[str | None, int | None], float] = {}

    def start(self) -> None:
        """Start the workers, and the watch over callers."""
        super().start()
        run_coro_in_background(self._end_unheard)

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Check a call and queue it; refuse it with a sentence where that is not possible."""
        fn = self.blocks.fns.get(body.fn_index)
        queue_id = None if fn is None else fn.concurrency_id
        if self._is_full(queue_id):
            return False, _BUSY, "queue_full"
        if self._was_cancelled(body.session_hash, body.fn_index):
            return False, _CANCELLED, "error"
        check = getattr(getattr(fn, "validator", None), "check_before_files", None)
        if check is not None and isinstance(body.data, list):
            valid, answers = process_validation_response(check(body.data), fn)
            if not valid:
                return False, answers, "validator_error"
        self._being_checked[queue_id] += 1
        try:
            accepted, answer, state = await super().push(body, request, username)
        finally:
            self._being_checked[queue_id] -= 1
        if state == "error":  # gradio's own text names paths of this server
            _log.warning("A call was refused: %s", answer)
            return False, _UNUSABLE, "error"
        if accepted and self._was_cancelled(body.session_hash, body.fn_index):
            await self._end(self.event_ids_to_events.get(str(answer)), _CANCELLED)
        return accepted, answer, state

    def cancel_next(self, session: str | None, fn_index: int | None) -> None:
        """Cancel the call of this session and function that is on its way and has no event yet."""
        now = time.monotonic()
        self._early_cancels = {key: at for key, at in self._early_cancels.items() if now - at < _CANCEL_SECONDS}
        self._early_cancels[session, fn_index] = now

    @contextmanager
    def listener(self, session: str) -> Iterator[None]:
        """While the context is open, somebody reads the events of the session."""
        self._listeners[session] += 1
        try:
            yield
        finally:
            self._listeners[session] -= 1
            if self._listeners[session] <= 0:
                del self._listeners[session]
            self._last_heard[session] = time.monotonic()

    def session_of(self, event_id: str) -> str:
        """The session of an event; callers without a session have one by the name of the event."""
        event = self.event_ids_to_events.get(event_id)
        return event_id if event is None else event.session_hash

    def _is_full(self, queue_id: str | None) -> bool:
        in_line = self.event_queue_per_concurrency_id.get(str(queue_id))
        waiting = len(in_line.queue) if in_line is not None else 0
        if queue_id == GPU_QUEUE and waiting + self._being_checked[queue_id] >= MAX_WAITING:
            return True
        return len(self) + self._being_checked.total() >= 10 * MAX_WAITING

    def _was_cancelled(self, session: str | None, fn_index: int | None) -> bool:
        at = self._early_cancels.pop((session, fn_index), None)
        return at is not None and time.monotonic() - at < _CANCEL_SECONDS

    async def _end_unheard(self) -> None:
        while not self.stopped:
            await asyncio.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            events = list(self.event_ids_to_events.values())
            sessions = {event.session_hash for event in events}
            self._last_heard = {session: at for session, at in self._last_heard.items() if session in sessions}
            for event in events:
                heard = max(event.enqueue_time, self._last_heard.get(event.session_hash, 0.0))
                if not self._listeners[event.session_hash] and now - heard > UNHEARD_SECONDS:
                    await self._end(event, _UNHEARD)

    async def _end(self, event: Event | None, sentence: str) -> None:
        """Take an event out of the queue or stop its work; later listeners receive the sentence."""
        if event is None or not event.alive:
            return
        self.send_message(event, ProcessCompletedMessage(output={"error": sentence}, success=False))
        await self.clean_events(event_id=event._id)
        event.alive = False
        await asyncio.to_thread(jobs.stop, event._id)


def bound_queue(demo: gr.Blocks) -> None:
    """Give ``demo`` a :class:`BoundedQueue`."""
    demo.queue()
    demo._queue = BoundedQueue(demo)


class ClientWatch:
    """ASGI middleware that reports listeners of sessions and cancelled calls to the queue."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        queue = _queue_of(scope)
        if queue is None:
            await self._app(scope, receive, send)
        elif session := _listened_session(scope, queue):
            with queue.listener(session):
                await self._app(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/gradio_api/cancel"):
            await self._cancel(queue, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _cancel(self, queue: BoundedQueue, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        try:
            values = json.loads(body)
            event_id, session, fn_index = (values.get(name) for name in ("event_id", "session_hash", "fn_index"))
        except (ValueError, AttributeError, RecursionError):
            event_id, session, fn_index = None, None, None
        if not event_id and isinstance(session, str) and isinstance(fn_index, int):
            queue.cancel_next(session, fn_index)
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": b'{"success": true}'})
            return
        sent = False

        async def replay() -> Any:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)
        if isinstance(event_id, str) and queue.session_of(event_id) in (session, event_id):
            await asyncio.to_thread(jobs.stop, event_id)


def _queue_of(scope: Scope) -> BoundedQueue | None:
    if scope["type"] != "http" or "/gradio_api/" not in scope["path"]:
        return None
    queue = scope["app"].get_blocks()._queue
    return queue if isinstance(queue, BoundedQueue) else None


def _listened_session(scope: Scope, queue: BoundedQueue) -> str | None:
    """The session whose events a request reads; None for any other request."""
    if scope["method"] != "GET":
        return None
    path = scope["path"].rpartition("/gradio_api/")[2].rstrip("/")
    if path == "queue/data":
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[0]
    if path.startswith("call/"):
        return queue.session_of(path.rpartition("/")[2])
    return None


async def _body(receive: Receive) -> bytes:
    """The body of a request, or nothing where it is longer than a cancel can be."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MAX_CANCEL_BYTES:
            return b""
    return body
