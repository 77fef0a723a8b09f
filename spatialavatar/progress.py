"""Progress of long work: a plain callback, for a terminal, a page or a test, without a dependency."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done, in [0, 1], and a message for users."""


def no_progress(fraction: float, message: str) -> None:
    """Discard the report: the callback of callers that pass none."""


def part(report: Progress, start: float, end: float) -> Progress:
    """Return a callback that maps [0, 1] to the interval from ``start`` to ``end`` of ``report``."""
    return lambda fraction, message: report(start + (end - start) * fraction, message)
