"""Headers of arrays in NumPy's format, whose length is checked before they are read."""

from __future__ import annotations

import io
import warnings
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy_format

MAX_HEADER_BYTES: Final = 10_000
"""Longest header that NumPy parses."""


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array of version 1.0 or 2.0; the stream then stands at the array's content.

    Returns:
        The shape, whether the first axis varies fastest, and the type of the numbers.

    Raises:
        ValueError: it is no such header, or is longer than ``MAX_HEADER_BYTES``.
    """
    version = npy_format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of NumPy's format, which only structured arrays need")
    length = stream.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > MAX_HEADER_BYTES:
        raise ValueError("a header that is too long")
    header = io.BytesIO(length + stream.read(int.from_bytes(length, "little")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if version == (1, 0):
            return npy_format.read_array_header_1_0(header)
        return npy_format.read_array_header_2_0(header)
