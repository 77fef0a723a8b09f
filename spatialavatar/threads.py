"""How many threads torch may use for a stretch of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch's CPU operators run on the calling thread alone inside the block.

    A frame is some hundred operators on small tensors: handing each to OpenMP's threads gains little, and where other
    work runs on the machine at the same time it costs several times as much. The rasteriser has its own pool.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
