"""Arrays of plain numbers from ``.npy``, ``.npz`` and ``.pt`` files.

Headers are read first: an array is refused by its dtype or its size before memory is taken for it, and no code of a
file is run. Of a ``.pt`` file only the pickle opcodes that one tensor needs are accepted, so it can neither nest nor
refer to anything but numbers.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch

from spatialavatar.errors import FormatError, InputError, SpatialAvatarError
from spatialavatar.motion.schema import MAX_FRAMES, MAX_VALUES
from spatialavatar.npy_header import read_npy_header

_MAX_PICKLE: Final = 64 * 1024  # bytes; the pickle of one tensor has about 200
_MAX_RANK: Final = 8
# fmt: off
_OPCODES: Final = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GLOBAL", "STACK_GLOBAL",
    "REDUCE", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE",
    "SHORT_BINUNICODE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "MEMOIZE",
})
# fmt: on
_MEMO_OPCODES: Final = ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET")
_STORAGES: Final = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}


class Budget:
    """Numbers that a motion may still expand to."""

    def __init__(self, owner: str) -> None:
        """A budget of ``MAX_VALUES`` for the file that messages call ``owner``."""
        self._owner = owner
        self._left = MAX_VALUES

    def take(self, shape: Sequence[int]) -> int:
        """Take the numbers of an array of ``shape`` from the budget, and return their count.

        Raises:
            FormatError: the shape is none.
            InputError: there are too many.
        """
        if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
            raise FormatError(
                f"{self._owner} has an array of impossible shape; it is damaged, export the motion again."
            )
        count = math.prod(shape)
        if count > self._left:
            raise InputError(
                f"{self._owner} expands to more than {MAX_VALUES} numbers; split it into motions of at most "
                f"{MAX_FRAMES} frames."
            )
        self._left -= count
        return count


def read_npz(path: Path, names: Sequence[str], budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of an archive that have one of ``names``; others are not opened.

    Raises:
        InputError: the file cannot be read, or is too large.
        FormatError: it is not an archive of plain numbers.
    """

    def read() -> dict[str, np.ndarray]:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for name in names:
                if f"{name}.npy" in archive.NameToInfo:
                    with archive.open(f"{name}.npy") as stream:
                        arrays[name] = _read_array(stream, f"The {name} in {path.name}", path.name, budget)
            return arrays

    return _guarded(path, read)


def read_npy(path: Path, budget: Budget) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises:
        InputError: the file cannot be read, or is too large.
        FormatError: it is not an array of plain numbers.
    """

    def read() -> np.ndarray:
        with path.open("rb") as stream:
            return _read_array(stream, path.name, path.name, budget)

    return _guarded(path, read)


def read_tensor(path: Path, budget: Budget) -> np.ndarray:
    """The one tensor of a ``.pt`` file that :func:`torch.save` wrote, without :func:`torch.load`.

    Raises:
        InputError: the file cannot be read, or is too large.
        FormatError: it holds something other than one tensor of plain numbers.
    """

    def read() -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            entry = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
            root = entry.filename.removesuffix("data.pkl")
            with archive.open(entry) as stream:
                reference = _tensor_reference(stream.read(_MAX_PICKLE + 1))
            order = _byte_order(archive, f"{root}byteorder")
            budget.take([max(math.prod(reference.size), reference.end)])
            size = reference.end * reference.dtype.itemsize
            with archive.open(f"{root}data/{reference.key}") as stream:
                data = bytearray(stream.read(size))
        if len(data) < size or order != b"little":
            raise ValueError("truncated or big-endian")
        if reference.end == 0:
            return np.zeros(reference.size, np.float32)
        flat = torch.frombuffer(data, dtype=reference.dtype)
        tensor = torch.as_strided(flat, reference.size, reference.stride, reference.offset)
        return tensor.double().numpy()

    return _guarded(path, read)


def _byte_order(archive: zipfile.ZipFile, name: str) -> bytes:
    """The byte order that a member states, which old files lack."""
    if name not in archive.NameToInfo:
        return b"little"
    with archive.open(name) as stream:
        return stream.read(len(b"little") + 1)


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Call ``read()``; every exception of a damaged file becomes one sentence."""
    try:
        return read()
    except SpatialAvatarError:
        raise
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error}); check the file.") from error
    except Exception as error:  # a damaged archive, header or pickle can fail in any way at all
        raise FormatError(
            f"{path.name} holds no plain arrays: it is damaged, or has Python objects in it (a pickle), which are "
            "never run; export the motion again."
        ) from error


def _read_array(stream: IO[bytes], name: str, owner: str, budget: Budget) -> np.ndarray:
    """One array in NumPy's format, after its header has been checked."""
    shape, fortran, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if dtype.kind not in "fiu":
        raise FormatError(f"{name} is not an array of numbers; export the motion again.")
    size = budget.take(shape) * dtype.itemsize
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("the file ends within an array")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


@dataclass(frozen=True)
class _TensorReference:
    """Where the numbers of a tensor are: strides and offset count elements of the storage ``key``."""

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def end(self) -> int:
        """Elements of the storage up to the last one that the tensor uses."""
        if 0 in self.size:
            return 0
        return self.offset + 1 + sum((size - 1) * step for size, step in zip(self.size, self.stride))


class _TensorUnpickler(pickle.Unpickler):
    """Resolves the few names in the pickle of a tensor to functions of ours that keep its arguments."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _reference
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if (module, name) == ("collections", "OrderedDict"):
            return lambda *_: None  # of the tensor's backward hooks
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a tensor")

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("no storage")
        return key, dtype


def _reference(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _TensorReference:
    key, dtype = storage
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("no tensor")
    return _TensorReference(key, dtype, offset, size, stride)


def _tensor_reference(data: bytes) -> _TensorReference:
    """The description of one tensor in its pickle."""
    if len(data) > _MAX_PICKLE:
        raise pickle.UnpicklingError("longer than the pickle of a tensor")
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"the opcode {opcode.name}, which no tensor needs")
        if opcode.name in _MEMO_OPCODES and not 0 <= int(argument or 0) < _MAX_PICKLE:
            raise pickle.UnpicklingError("a memo index that no tensor needs: the memo is allocated up to it")
    found = _TensorUnpickler(io.BytesIO(data)).load()
    if not isinstance(found, _TensorReference):
        raise pickle.UnpicklingError("something other than one tensor")
    return found
