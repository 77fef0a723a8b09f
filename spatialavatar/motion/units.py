"""Names of the ARKit units as other programs spell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52

_INDEX: Final = {name.lower(): index for index, name in enumerate(ARKIT_52)}
_PREFIX: Final = "blendshapes."  # of the columns of Audio2Face


def unit_index(name: str) -> int | None:
    """Index into ``ARKIT_52`` of ``jawOpen``, ``JawOpen`` or ``blendShapes.JawOpen``; None for no ARKit unit."""
    return _INDEX.get(name.strip().lower().removeprefix(_PREFIX))


def unit_columns(names: Sequence[str], owner: str) -> list[int]:
    """Indices into ``ARKIT_52`` of all ``names``.

    Raises:
        FormatError: a name is not an ARKit unit, or two names are the same unit.
    """
    columns = [unit_index(name) for name in names]
    for name, column in zip(names, columns):
        if column is None:
            raise FormatError(
                f"{owner} names {name[:40]!r}, which is not an ARKit unit; docs/reference/motion.md lists all 52."
            )
    known = [column for column in columns if column is not None]
    if len(set(known)) != len(known):
        raise FormatError(f"{owner} names a unit twice; export the motion again.")
    return known
