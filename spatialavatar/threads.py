"""Threads: a limit on torch's threads during a block, results computed ahead, and the newest item of a stream."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import torch

_T = TypeVar("_T")

_INTERRUPT_SECONDS: Final = 0.5  # Windows cannot interrupt a longer wait

_lock = threading.Lock()
_open_blocks = 0
_outside = 1
"""Threads that torch used before the first of the open blocks began."""
_this_thread = threading.local()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's CPU operators on the calling thread alone inside the block.

    A frame takes about a hundred operators on small tensors. Distributing each over OpenMP's threads gains little, and
    takes several times as long if other work runs on the machine. The rasteriser has its own pool.

    Blocks can be nested, and blocks of several threads can overlap. The setting belongs to a thread, but a thread that
    uses torch for the first time inherits the last value set by any thread. The end of a block therefore restores the
    value from before the first of the overlapping blocks, not the value at its own beginning.
    """
    global _open_blocks, _outside
    depth = getattr(_this_thread, "depth", 0)
    found = torch.get_num_threads()  # also initialises a new thread's value, which its first use would overwrite
    with _lock:
        if _open_blocks == 0:
            _outside = found
        _open_blocks += 1
    _this_thread.depth = depth + 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _this_thread.depth = depth
        with _lock:
            _open_blocks -= 1
            outside = _outside
        if depth == 0:
            torch.set_num_threads(outside)


def in_order(task: Callable[[int], _T], count: int, workers: int) -> Iterator[_T]:
    """Yield ``task(0)`` .. ``task(count - 1)`` in this order, computed ahead by threads.

    At most ``2 * workers`` results exist at a time, so memory does not grow with ``count``. An exception of a task is
    raised in its place. When the iterator is closed, no further task starts, and those that run are waited for.

    Args:
        task: independent of the other indices; it runs in another thread where there are several workers.
        count: number of results.
        workers: threads; with one, each task runs in the caller's thread when its result is requested.
    """
    if workers <= 1 or count <= 1:
        for index in range(count):
            yield task(index)
        return
    waiting: deque[Future[_T]] = deque()
    executor = ThreadPoolExecutor(min(workers, count), thread_name_prefix="ahead")
    try:
        for index in range(count):
            waiting.append(executor.submit(task, index))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def one_ahead(items: Iterable[_T]) -> Generator[_T, None, None]:
    """Yield ``items`` in their order; another thread computes the next one while the caller has the one before.

    An exception of ``items`` is raised in its place. When the iterator is closed, the item that is being computed is
    waited for and dropped.
    """
    source = iter(items)
    executor = ThreadPoolExecutor(1, thread_name_prefix="one-ahead")
    try:
        waiting = executor.submit(_next_of, source)
        while found := waiting.result():
            waiting = executor.submit(_next_of, source)
            yield found[0]
    finally:
        executor.shutdown(wait=True)
        if isinstance(source, Generator):
            source.close()


def _next_of(source: Iterator[_T]) -> tuple[_T] | None:
    """The next item, or None at the end."""
    for item in source:
        return (item,)
    return None


def newest(items: Iterable[_T]) -> Generator[_T, None, None]:
    """Yield the newest of ``items``, which another thread reads; those that come while the caller has one are dropped.

    The last item is never dropped. An exception of ``items`` is raised after the items before it. When the iterator is
    closed, the item that the thread waits for is its last.
    """
    reader = _Reader(items)
    thread = threading.Thread(target=reader.run, name="newest", daemon=True)
    thread.start()
    try:
        yield from reader
    finally:
        reader.stopped = True
        thread.join()


class _Reader(Generic[_T]):
    """What the two threads of :func:`newest` share."""

    def __init__(self, items: Iterable[_T]) -> None:
        self.stopped = False
        self._items = items
        self._changed = threading.Condition()
        self._unread: deque[_T] = deque(maxlen=1)
        self._ended = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Read the items, in the thread."""
        try:
            for item in self._items:
                with self._changed:
                    self._unread.append(item)
                    self._changed.notify()
                if self.stopped:
                    break
        except BaseException as error:  # raised in the caller's thread
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def __iter__(self) -> Iterator[_T]:
        while True:
            with self._changed:
                while not self._unread and not self._ended:
                    self._changed.wait(_INTERRUPT_SECONDS)
                item = (self._unread.pop(),) if self._unread else None
            if item is None:
                break
            yield item[0]
        if self._error is not None:
            raise self._error
