"""The base of all records, and the selection of frames."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T", bound="Record")

FrameIndex = int | slice | Tensor
"""Selects frames; an int keeps the frame axis, with length 1."""


class Record:
    """Base of all records: device moves and replacing fields.

    Records hold tensors, so they compare by identity: declare subclasses with ``@dataclass(frozen=True, eq=False)``.
    """

    def to(self: _T, device: torch.device | str) -> _T:
        """Return a copy whose tensors (nested records included) are on ``device``."""
        moved = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, Record)):
                moved[field.name] = value.to(device)
        return dataclasses.replace(self, **moved)  # type: ignore[type-var]

    def replace(self: _T, **changes: object) -> _T:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def select_frames(values: Tensor, index: FrameIndex) -> Tensor:
    """Rows ``index`` of per-frame values (T, ...); an int keeps the frame axis."""
    if isinstance(index, int):
        length = len(values)
        if not -length <= index < length:
            raise IndexError(f"frame {index} of {length}")
        index = slice(index % length, index % length + 1)
    return values[index]
