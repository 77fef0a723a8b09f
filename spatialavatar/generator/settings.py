"""Configuration fields that carry their unit and valid range, and dataclasses that check them.

A configuration comes from a file that anyone may have edited, so every number has a range: outside of it the work would
take for ever, divide by zero, or make no sense.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from spatialavatar.errors import InputError

_RANGE = "range"


def setting(default: Any, unit: str, low: float, high: float) -> Any:
    """A dataclass field with a unit and a range.

    Args:
        default: an int, a float, or an increasing pair of floats.
        unit: of the value, for documentation.
        low: least valid value (of each number of a pair).
        high: greatest valid value.
    """
    return dataclasses.field(default=default, metadata={"unit": unit, _RANGE: (low, high)})


class Checked:
    """Base of configuration dataclasses: checks type and range of every :func:`setting` when it is made."""

    def __post_init__(self) -> None:
        """Check all fields.

        Raises:
            InputError: a value is of the wrong type or out of range.
        """
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            if _RANGE in entry.metadata:
                _check(f"{type(self).__name__}.{entry.name}", value, entry)
            elif isinstance(entry.type, str) and entry.type.endswith("Config") and not dataclasses.is_dataclass(value):
                raise InputError(f"{type(self).__name__}.{entry.name} is {value!r}; give a table of settings.")


def _check(name: str, value: Any, entry: dataclasses.Field[Any]) -> None:
    low, high = entry.metadata[_RANGE]
    if isinstance(entry.default, tuple):
        pair = isinstance(value, tuple) and len(value) == 2 and all(_within(v, float, low, high) for v in value)
        if not pair or not value[0] < value[1]:
            raise InputError(f"{name} is {value!r}; give two increasing numbers from {low:g} to {high:g}.")
    elif not _within(value, type(entry.default), low, high):
        kind = "a whole number" if isinstance(entry.default, int) else "a number"
        raise InputError(f"{name} is {value!r}; give {kind} from {low:g} to {high:g}.")


def _within(value: Any, kind: type, low: float, high: float) -> bool:
    allowed = (int,) if kind is int else (int, float)
    return isinstance(value, allowed) and not isinstance(value, bool) and low <= value <= high
