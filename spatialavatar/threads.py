"""The number of threads that torch uses during a stretch of work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_open_blocks = 0
_outside = 1
"""Threads that torch used before the first of the open blocks began."""
_this_thread = threading.local()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch's CPU operators run on the calling thread alone inside the block.

    A frame takes some hundred operators on small tensors: distributing each over OpenMP's threads gains little, and
    where other work runs on the machine at the same time it costs several times as much. The rasteriser has its own
    pool.

    Blocks can be nested, and blocks of several threads can overlap. The setting is each thread's own, but a thread that
    uses torch for the first time inherits the last value that any thread set: it is therefore not the value found at
    the beginning of a block that is restored at its end, but the one from before the first of the overlapping blocks.
    """
    global _open_blocks, _outside
    depth = getattr(_this_thread, "depth", 0)
    found = torch.get_num_threads()  # also settles a new thread's value, which the first use would otherwise overwrite
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
