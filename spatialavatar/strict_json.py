"""JSON from untrusted files: plain values of bounded depth, every number finite and of 64 bits."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 32
_MAX_INTEGER: Final = 1 << 63


def parse_json(text: str | bytes) -> Any:
    """Parse JSON more strictly than :func:`json.loads`.

    Args:
        text: at most a few megabytes; the caller limits it, since memory grows with it. Bytes are UTF-8.

    Raises:
        ValueError: it is not JSON, is nested more than 32 levels deep, or contains NaN, infinity or an integer of more
            than 64 bits.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check(value)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it contains {constant}")


def _check(value: Any) -> None:
    """Check depth and numbers, level by level, so that nothing here recurses."""
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError("it contains a number that is too large")
            elif isinstance(item, int) and abs(item) >= _MAX_INTEGER:
                raise ValueError("it contains an integer of more than 64 bits")
        if not deeper:
            return
        level = deeper
    raise ValueError("it is nested too deeply")
