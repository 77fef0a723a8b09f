"""Reading the arrays in a FLAME pickle without running the code that a pickle may carry.

:mod:`.pickle_interpreter` turns the file into inert records. Here those that describe NumPy arrays, chumpy arrays and
SciPy sparse matrices become arrays of plain numbers; neither chumpy nor SciPy's classes are needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.pickle_interpreter import Damaged, Global, Instance, Refused, interpret, is_numpy, is_opaque

MAX_FILE_BYTES: Final = 1 << 28
"""Of a pickle, which is read whole; FLAME's own take 40 to 110 MB."""
MAX_ELEMENTS: Final = 1 << 24
"""Of one array; FLAME's largest has 6 million."""

_PLAIN_CODE: Final = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248])")
_MAX_AXES: Final = 4
_MAX_WRAPPERS: Final = 8  # chumpy arrays around chumpy arrays


class _NoArray(Exception):
    """A value is not an array of plain numbers."""


def read_pickle(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read the named arrays of the dictionary in a pickle file; names that it lacks are left out.

    Args:
        path: the file.
        names: keys of the dictionary; "a/b" is the key b of the dictionary under the key a.

    Raises:
        InputError: the file cannot be opened.
        FormatError: it is not a pickle of a dictionary, contains anything but arrays and containers, or one of the
            named values is not an array of plain numbers.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error.strerror}); check the path.") from error
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(f"The pickle {path} has more than {MAX_FILE_BYTES >> 20} MB, so it is not a head model.")
    try:
        content = interpret(data)
    except Refused as error:
        raise FormatError(
            f"The pickle {path} refers to {error}, which a head model never needs; nothing of it was run, and a file "
            "from another source should be used."
        ) from error
    except Damaged as error:
        raise FormatError(f"The file {path} is not a readable pickle ({error}); download it again.") from error
    if not isinstance(content, dict):
        kind = content.origin if isinstance(content, Instance) else type(content).__name__
        raise FormatError(f"The pickle {path} holds a {kind}, not the dictionary of a head model.")
    found = {}
    for name in names:
        value = content
        for key in name.split("/"):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            try:
                found[name] = _array(value)
            except _NoArray as error:
                raise FormatError(
                    f"The {name} in {path} is not an array of numbers ({error}); download the file again, or convert "
                    "it to .npz first."
                ) from error
    return found


def _array(value: Any) -> NDArray[Any]:
    """The array that a record describes.

    Raises:
        _NoArray: it describes something else.
    """
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(value, Instance):
            raise _NoArray(f"it is a {type(value).__name__}")
        if not is_opaque(value.origin):
            return _numpy_array(value)
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        if not isinstance(state, dict):
            raise _NoArray(f"the {value.origin} has no state")
        if not value.origin.module.startswith("chumpy"):
            return _dense(value.origin.name[:3], state)
        if "x" not in state:
            raise _NoArray(f"it is a chumpy expression of the type {value.origin}")
        value = state["x"]
    raise _NoArray("it is wrapped too often")


def _numpy_array(record: Instance) -> NDArray[Any]:
    """The array of ``numpy._reconstruct`` with its state, or of ``numpy._frombuffer`` (protocol 5)."""
    if is_numpy(record.origin, "multiarray", "_reconstruct") and isinstance(record.state, tuple):
        *_, shape, dtype, fortran, data = (None, None, None, *record.state)
        order = "F" if fortran else "C"
    elif is_numpy(record.origin, "numeric", "_frombuffer") and len(record.arguments) == 4:
        data, dtype, shape, order = record.arguments
    else:
        raise _NoArray(f"it is an object of {record.origin}")
    shape, dtype, data = _shape(shape), _dtype(dtype), _bytes(data)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise _NoArray(f"it has {len(data)} bytes for the shape {shape}")
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if order == "F" else "C")


def _shape(value: Any) -> tuple[int, ...]:
    """A tuple of sizes whose product is within the budget."""
    sizes = value if isinstance(value, tuple) else ()
    if not (1 <= len(sizes) <= _MAX_AXES and all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in sizes)):
        raise _NoArray("it has no valid shape")
    if math.prod(sizes) > MAX_ELEMENTS:
        raise _NoArray(f"it has more than {MAX_ELEMENTS:,} numbers")
    return sizes


def _dtype(value: Any) -> np.dtype[Any]:
    """The type of numbers that a record of ``numpy.dtype`` describes, by its code and byte order alone."""
    code = value.arguments[0] if isinstance(value, Instance) and value.arguments else None
    if not (isinstance(value, Instance) and value.origin == Global("numpy", "dtype") and isinstance(code, str)):
        raise _NoArray("it has no type")
    plain = _PLAIN_CODE.fullmatch(code[:8])
    if plain is None:
        raise _NoArray(f"it has the type {code[:8]!r}")
    order, state = "=", value.state
    if isinstance(state, tuple) and len(state) >= 5:
        if any(part is not None for part in state[2:5]):
            raise _NoArray("its type has fields")
        order = state[1] if state[1] in ("<", ">") else "="
    return np.dtype(plain[1]).newbyteorder(order)


def _bytes(value: Any) -> bytes:
    """The content of an array: bytes, or text of one character a byte (Python 2, and protocols below 3)."""
    if isinstance(value, Instance) and value.origin.name == "encode" and value.arguments:
        value = value.arguments[0]
    if isinstance(value, str):
        try:
            return value.encode("latin1")
        except UnicodeEncodeError as error:
            raise _NoArray("its content is text") from error
    if not isinstance(value, bytes):
        raise _NoArray("it has no content")
    return value


def _dense(layout: str, state: dict[str, Any]) -> NDArray[np.float64]:
    """The matrix that the state of a SciPy csc, csr or coo matrix describes; repeated entries add up."""
    shape = _shape(state.get("_shape", state.get("shape")))
    values = _array(state.get("data"))
    if layout == "coo":
        pair = state["coords"] if "coords" in state else (state.get("row"), state.get("col"))
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise _NoArray("the sparse matrix has no coordinates")
        row, column = map(_array, pair)
    else:
        minor, starts = _array(state.get("indices")), _array(state.get("indptr"))
        if starts.ndim != 1 or starts.dtype.kind not in "iu" or len(starts) < 1 or starts[0] != 0:
            raise _NoArray("the sparse matrix is damaged")
        lengths = np.diff(starts.astype(np.int64))
        if (lengths.size and lengths.min() < 0) or starts[-1] != len(values):
            raise _NoArray("the sparse matrix is damaged")
        major = np.repeat(np.arange(len(lengths)), lengths)
        row, column = (minor, major) if layout == "csc" else (major, minor)
    whole = all(index.dtype.kind in "iu" and index.shape == values.shape for index in (row, column))
    if len(shape) != 2 or values.ndim != 1 or not whole or not _within(row, shape[0]) or not _within(column, shape[1]):
        raise _NoArray("the sparse matrix is damaged")
    dense = np.zeros(shape, np.float64)
    np.add.at(dense, (row, column), values)
    return dense


def _within(indices: NDArray[Any], size: int) -> bool:
    return indices.size == 0 or (indices.min() >= 0 and indices.max() < size)
