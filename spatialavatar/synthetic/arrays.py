"""Array types of the generator: single precision for stored values, double for computation."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
"""Numbers in single or double precision, indices, or masks; docstrings give the shape and the unit."""
