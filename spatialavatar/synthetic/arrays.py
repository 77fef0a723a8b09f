"""The array type of the generator: single precision for what is stored, double for what is computed."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
"""Numbers in single or double precision, indices, or masks; docstrings give the shape and the unit."""
