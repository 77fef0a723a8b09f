"""Progress of long work: a plain callback, so that a terminal, a page or a test can listen without a dependency."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done, in [0, 1], and what is being done, for people."""


def silent(fraction: float, message: str) -> None:
    """Progress for callers who asked for none."""


def part(report: Progress, start: float, end: float) -> Progress:
    """A callback that fills only the stretch of ``report`` from ``start`` to ``end``."""
    return lambda fraction, message: report(start + (end - start) * fraction, message)
