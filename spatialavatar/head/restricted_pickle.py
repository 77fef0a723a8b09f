"""Reading the arrays in a FLAME pickle without running the code that a pickle may carry.

A pickle is a program. This reader lets it build plain containers and NumPy arrays and nothing else: every global that
it names is looked up in a short list of our own, never imported. The chumpy arrays and SciPy sparse matrices of the
official files become :class:`Opaque` records, whose state is turned into arrays afterwards; neither package is needed.
"""

from __future__ import annotations

import codecs
import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialavatar.errors import FormatError, InputError

_SPARSE = {f"{layout}_{kind}" for layout in ("csc", "csr", "coo") for kind in ("matrix", "array")}


class Opaque:
    """Stands for an object of a class that is not imported; keeps the state that the pickle gives it.

    Attributes:
        origin: dotted name of the class in the pickle.
        state: what the pickle wanted to restore.
    """

    origin = ""
    state: Any = None

    def __new__(cls, *_args: object) -> Opaque:
        """An empty record, whatever the class would have been called with."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Refused(Exception):
    """The pickle names a global that is not on the list."""


def _new_opaque(cls: type, *_base: object) -> Opaque:
    """Stands for ``copy_reg._reconstructor`` and ``__newobj__``: only our own records are made."""
    if not (isinstance(cls, type) and issubclass(cls, Opaque)):
        raise _Refused(f"an object of {cls!r}")
    return cls()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands for ``_codecs.encode``, by which Python 2's protocol carries bytes."""
    if codecs.lookup(encoding).name not in ("iso8859-1", "utf-8", "ascii"):
        raise _Refused(f"the codec {encoding}")
    return text.encode(encoding)


def _from_buffer(data: bytes, dtype: Any, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    """Stands for NumPy's ``_frombuffer``, which protocol 5 uses."""
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    """The globals a pickle may name, Python 2's and 3's spellings, NumPy's before and after 2.0."""
    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("_codecs", "encode"): _encode,
    }
    for module in ("__builtin__", "builtins"):
        for kind in (list, dict, tuple, set, frozenset, int, float, complex, bool, str, object):
            known[module, kind.__name__] = kind
        known[module, "unicode"] = str
        known[module, "long"] = int
    for module in ("copy_reg", "copyreg"):
        known[module, "_reconstructor"] = known[module, "__newobj__"] = _new_opaque
    known["numpy", "ndarray"] = np.ndarray
    known["numpy", "dtype"] = np.dtype
    for package in ("numpy.core", "numpy._core"):
        known[f"{package}.multiarray", "_reconstruct"] = _callable_of(np.zeros(1).__reduce__())
        known[f"{package}.multiarray", "scalar"] = _callable_of(np.float64(0).__reduce__())
        known[f"{package}.numeric", "_frombuffer"] = _from_buffer
    return known


def _callable_of(reduced: str | tuple[Any, ...]) -> Callable[..., Any]:
    """NumPy's own function that rebuilds an array, wherever this version keeps it."""
    return reduced[0]  # type: ignore[return-value]


class _Reader(pickle.Unpickler):
    _known = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._known:
            return self._known[module, name]
        is_chumpy = module.split(".")[0] == "chumpy"
        is_sparse = module.split(".")[:2] == ["scipy", "sparse"] and name in _SPARSE
        if is_chumpy or is_sparse:
            return type("Opaque", (Opaque,), {"origin": f"{module}.{name}"})
        raise _Refused(f"{module}.{name}")


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle file, its NumPy, chumpy and SciPy values as plain arrays.

    Raises:
        InputError: the file cannot be opened.
        FormatError: it is no pickle of a dictionary, or it names anything but arrays and containers.
    """
    try:
        with open(path, "rb") as file:
            content = _Reader(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error.strerror}); check the path.") from error
    except _Refused as error:
        raise FormatError(
            f"The pickle {path} asks for {error}, which a head model never needs; nothing of it was run, and a file "
            "from another source should be used."
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way at all
        raise FormatError(f"The file {path} is not a readable pickle ({error}); download it again.") from error
    if not isinstance(content, dict):
        raise FormatError(f"The pickle {path} holds a {type(content).__name__}, not the dictionary of a head model.")
    return {str(key): _plain(value) for key, value in content.items()}


def _plain(value: Any) -> Any:
    """``value`` with records turned into arrays; other values as they are."""
    if not isinstance(value, Opaque):
        return value
    state = value.state
    if isinstance(state, tuple) and state:
        state = state[0]
    if not isinstance(state, dict):
        raise FormatError(f"A value of the type {value.origin} cannot be read; convert the file to .npz first.")
    if value.origin.startswith("chumpy"):
        if "x" not in state:
            raise FormatError(
                f"A chumpy expression of the type {value.origin} cannot be read; convert the file to .npz."
            )
        return _plain(state["x"])
    try:
        return _dense(value.origin.rsplit(".", 1)[1][:3], state)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FormatError(f"The file's sparse matrix ({value.origin}) is damaged; download it again.") from error


def _dense(layout: str, state: dict[str, Any]) -> NDArray[np.float64]:
    """The matrix that the state of a SciPy csc, csr or coo matrix describes; repeated entries add up."""
    dense = np.zeros(state["_shape"] if "_shape" in state else state["shape"], np.float64)
    values = np.asarray(state["data"], np.float64)
    if layout == "coo":
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
    else:
        minor = np.asarray(state["indices"])
        major = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
        row, column = (minor, major) if layout == "csc" else (major, minor)
    np.add.at(dense, (row, column), values)
    return dense
