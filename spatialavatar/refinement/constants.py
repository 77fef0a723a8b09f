"""Base class of the refinement's configurations: constants with a valid range, nested by stage of the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from spatialavatar.errors import InputError

C = TypeVar("C", bound="Constants")


def constant(default: Any, low: float, high: float) -> Any:
    """A dataclass field whose value, or each of whose values, lies in [low, high]; None is valid where it is typed."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Constants:
    """Base class: checks ranges when it is made, and converts to plain values."""

    def __post_init__(self) -> None:
        """Check every field that has a range.

        Raises:
            InputError: a value is not a number or outside its range.
        """
        for one in dataclasses.fields(self):
            if "range" not in one.metadata:
                continue
            low, high = one.metadata["range"]
            value = getattr(self, one.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if value is None and "None" in str(one.type):
                continue
            whole = str(one.type) == "int"
            kinds = (int,) if whole else (int, float)
            if not all(isinstance(number, kinds) and low <= number <= high for number in numbers):
                raise InputError(
                    f"The constant {one.name!r} of {type(self).__name__} is {value!r}; give a "
                    f"{'whole number' if whole else 'value'} from {low:g} to {high:g}."
                )

    def as_dict(self) -> dict[str, Any]:
        """The constants by name, nested as they are, in types that JSON has."""
        return _plain(dataclasses.asdict(self))

    def changed(self: C, changes: Mapping[str, Any]) -> C:
        """A copy with changed constants.

        Args:
            changes: values by dotted name, for example ``{"iterations": 300, "rates.color": 1e-2}``.

        Raises:
            InputError: no constant has one of the names, or a value is outside its range.
        """
        own: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        names = [one.name for one in dataclasses.fields(self)]
        for name, value in changes.items():
            first, _, rest = name.partition(".")
            if first not in names or (rest and not isinstance(getattr(self, first), Constants)):
                raise InputError(f"{type(self).__name__} has no constant {name!r}; it has {', '.join(names)}.")
            if rest:
                nested.setdefault(first, {})[rest] = value
            else:
                own[first] = value
        groups = {name: getattr(self, name).changed(group) for name, group in nested.items()}
        return dataclasses.replace(self, **own, **groups)


def _plain(value: Any) -> Any:
    """The same with lists instead of tuples."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value
