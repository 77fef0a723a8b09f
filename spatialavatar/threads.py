"""Limits the number of threads of torch during a block of work."""

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
