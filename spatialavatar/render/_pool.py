"""Threads for kernels that release the interpreter lock.

Each process creates one pool on first use. The thread that calls :func:`run` executes tasks too, so any number of
threads may call it at once. A forked child starts without a pool, because it inherits no threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

THREADS_VARIABLE = "SPATIALAVATAR_THREADS"

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None
_executor_size = 0
_this_thread = threading.local()


def thread_count() -> int:
    """Return the number of threads for kernels that the calling thread starts.

    It is that of the environment variable ``SPATIALAVATAR_THREADS``, else that of :func:`kernel_threads`, else torch's.
    """
    value = os.environ.get(THREADS_VARIABLE, "")
    if value.isdecimal():
        return max(1, int(value))
    return getattr(_this_thread, "count", None) or torch.get_num_threads()


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Run the kernels that this thread starts inside the block on ``count`` threads, whatever torch's count is."""
    before = getattr(_this_thread, "count", None)
    _this_thread.count = count
    try:
        yield
    finally:
        _this_thread.count = before


def run(task: Callable[[int], None], count: int, threads: int | None = None) -> None:
    """Call ``task(0)`` .. ``task(count - 1)`` on the calling thread and the pool; re-raise an exception."""
    threads = min(count, threads or thread_count())
    indices = itertools.count()  # next() on it is atomic

    def work() -> None:
        while (index := next(indices)) < count:
            task(index)

    helpers = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        # Cancel helpers that have not started: no index is left, and the pool may be busy for another caller.
        waiting = [helper for helper in helpers if not helper.cancel()]
        for helper in waiting:
            helper.result()


def run_ranges(task: Callable[[int, int], None], count: int, step: int) -> None:
    """Call ``task(first, last)`` on ranges of at most ``step`` of ``count`` items, with :func:`run`."""
    run(lambda index: task(index * step, min((index + 1) * step, count)), -(-count // step))


def _pool(size: int) -> ThreadPoolExecutor:
    """Return the executor of the process; replace it if it has fewer than ``size`` threads."""
    global _executor, _executor_size
    with _lock:
        if _executor is None or size > _executor_size:
            # The replaced executor finishes its tasks; its threads end when it is collected.
            _executor = ThreadPoolExecutor(size, thread_name_prefix="rasterize")
            _executor_size = size
        return _executor


def _forget_pool() -> None:
    """Reset the pool in a forked child, where neither its threads nor the holder of the lock exist."""
    global _lock, _executor, _executor_size
    _lock, _executor, _executor_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
