"""Safetensors files: written atomically, and read by a schema that is checked before memory is allocated.

Our files carry a JSON header under the metadata key ``spatialavatar``. A reader opens the file, which reads and checks
the list of tensors only, and then reads the tensors by a schema: name, types, shape, range. Tensors that pass need no
further checks of this kind.

Tensors are read into memory of their own and not mapped: a mapped file that is cut short while it is in use ends the
process.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.files import atomic_output
from spatialavatar.strict_json import parse_json

HEADER_KEY: Final = "spatialavatar"
MAX_HEADER_BYTES: Final = 4 << 20
MAX_AXIS: Final = 1 << 28
"""Largest size of an axis that a schema leaves open."""

FLOATS: Final = ("F32", "F16", "BF16", "F64")
INTEGERS: Final = ("I64", "I32", "I16", "I8", "U8")

_DTYPES: Final[dict[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMED_FAULTS: Final = 3
_NAME_LENGTH: Final = 60


@dataclass(frozen=True)
class TensorSpec:
    """Specification of one tensor of a format.

    Attributes:
        shape: sizes; a name is a size that is given to :meth:`TensorFile.read`, or else is that of the first tensor
            that has it, at least 1.
        dtypes: permitted types, in safetensors' codes.
        low: least value.
        high: greatest value.
        finite: whether NaN and infinity are refused. Where they are not, NaN passes the range too.
        optional: whether the file may lack it.
    """

    shape: tuple[int | str, ...]
    dtypes: Sequence[str] = FLOATS
    low: float = -math.inf
    high: float = math.inf
    finite: bool = True
    optional: bool = False


Schema = Mapping[str, TensorSpec]


def bounded(limit: float, *shape: int | str, **options: Any) -> TensorSpec:
    """The spec of finite numbers from ``-limit`` to ``limit``; the options are those of :class:`TensorSpec`."""
    return TensorSpec(shape, low=-limit, high=limit, **options)


@dataclass(frozen=True)
class Entry:
    """A tensor in a file's list: type, shape, and its first byte after the list."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """Its length."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


class TensorFile:
    """A safetensors file whose list of tensors has been read and checked; the tensors have not.

    Attributes:
        name: of the file, for messages.
        entries: the tensors by name.
        metadata: the file's own texts.
        header: the JSON object under ``spatialavatar`` in them; empty in other files.
    """

    def __init__(self, source: str | Path | bytes, damaged: str, name: str = "") -> None:
        """Read the list of tensors.

        Args:
            source: path of a file, or its content.
            damaged: the sentence of the error where it cannot be read.
            name: of the file, for messages; by default that of the path.

        Raises:
            FormatError: it is not a safetensors file, or is damaged.
        """
        self.name = name or ("the file" if isinstance(source, bytes) else Path(source).name)
        self._source = source
        self._damaged = damaged
        try:
            with self._opened() as file:
                self.entries, self.metadata, self._data = _read_list(file)
            header = parse_json(self.metadata.get(HEADER_KEY, "{}"))
        except (ValueError, OSError) as error:
            raise FormatError(damaged) from error
        self.header: dict[str, Any] = header if isinstance(header, dict) else {}

    def size(self, name: str, axis: int) -> int:
        """The size of an axis of a tensor; 0 where the file has no such tensor or axis."""
        entry = self.entries.get(name)
        return entry.shape[axis] if entry is not None and -len(entry.shape) <= axis < len(entry.shape) else 0

    def read(self, schema: Schema, sizes: Mapping[str, int] | None = None, advice: str = "") -> dict[str, Tensor]:
        """Read the tensors of a schema; unknown tensors and missing required ones are errors.

        Args:
            schema: the specs by name.
            sizes: values of the schema's named sizes; the others are the file's own.
            advice: how to fix the problem; the end of error sentences.

        Returns:
            The tensors by name, on the CPU, in the types of the file.

        Raises:
            FormatError: a tensor is missing, unknown, of the wrong type or shape, out of range, or cannot be read.
        """
        self.check(schema, sizes, advice)
        tensors = self._tensors([name for name in schema if name in self.entries])
        self._refuse([f for name, tensor in tensors.items() for f in value_faults(name, tensor, schema[name])], advice)
        return tensors

    def check(self, schema: Schema, sizes: Mapping[str, int] | None = None, advice: str = "") -> None:
        """Compare the list of tensors with a schema, without reading any; :meth:`read` does so too.

        Raises:
            FormatError: a tensor is missing, unknown, or of the wrong type or shape.
        """
        self._refuse(_list_faults(self.entries, schema, dict(sizes or {})), advice)

    def read_all(self) -> dict[str, Tensor]:
        """Read every tensor without a schema. Use it only for files that the user's own runs have written.

        Raises:
            FormatError: the file cannot be read.
        """
        return self._tensors(list(self.entries))

    def _refuse(self, faults: Sequence[str], advice: str) -> None:
        if faults:
            raise FormatError(f"{self.name} {listed(faults)}; {advice or 'the file is damaged, make it again'}.")

    def _tensors(self, names: Sequence[str]) -> dict[str, Tensor]:
        try:
            with self._opened() as file:
                return {name: _read_tensor(file, self._data, self.entries[name]) for name in names}
        except (ValueError, OSError) as error:
            raise FormatError(self._damaged) from error

    def _opened(self) -> BinaryIO:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else open(self._source, "rb")


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, in the precision that they have; the file appears whole or not at all.

    Args:
        path: the file.
        tensors: by name, on any device.
        metadata: texts by name.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_output(path) as temporary:
        try:
            save_file(stored, temporary, dict(metadata))
        except SafetensorError as error:  # the library's name for a full disk
            raise OSError(str(error)) from error


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], more: Mapping[str, str] | None = None
) -> None:
    """Write tensors with a JSON header; the file appears whole or not at all.

    Args:
        path: the file.
        tensors: by name, on any device.
        header: JSON-ready.
        more: further metadata.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    write_safetensors(path, tensors, {HEADER_KEY: json.dumps(header), **(more or {})})


def read_tensors(path: Path, damaged: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that :func:`write_tensors` wrote; no schema is applied.

    Args:
        path: the file.
        damaged: the sentence of the error where it cannot be read.

    Raises:
        FormatError: the file is not safetensors, or is damaged.
    """
    file = TensorFile(path, damaged)
    return file.read_all(), file.header


def value_faults(name: str, tensor: Tensor, spec: TensorSpec) -> list[str]:
    """Faults of a tensor's values, for messages: not finite, or out of range."""
    if spec.finite and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        return [f"has values in {name} that are not finite"]
    if math.isinf(spec.low) and math.isinf(spec.high):
        return []
    if tensor.numel() and (bool((tensor < spec.low).any()) or bool((tensor > spec.high).any())):
        return [f"has {name} with values outside of {spec.low:g} to {spec.high:g}"]
    return []


def listed(faults: Sequence[str]) -> str:
    """The first few faults, and how many more there are."""
    more = len(faults) - _NAMED_FAULTS
    return ", ".join(faults[:_NAMED_FAULTS]) + (f" and {more} more" if more > 0 else "")


def _list_faults(entries: Mapping[str, Entry], schema: Schema, sizes: dict[str, int]) -> list[str]:
    """Faults of a file's list of tensors against a schema; open sizes are added to ``sizes``."""
    faults = [f"lacks {name}" for name, spec in schema.items() if name not in entries and not spec.optional]
    faults += [f"has the unknown {name[:_NAME_LENGTH]}" for name in sorted(set(entries) - set(schema))]
    for name, spec in schema.items():
        entry = entries.get(name)
        if entry is None:
            continue
        if entry.dtype not in spec.dtypes:
            faults.append(f"has {name} of type {entry.dtype} instead of {' or '.join(spec.dtypes)}")
            continue
        if len(entry.shape) == len(spec.shape):
            for wanted, actual in zip(spec.shape, entry.shape):
                if isinstance(wanted, str) and 1 <= actual <= MAX_AXIS:
                    sizes.setdefault(wanted, actual)
        shape = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in spec.shape)
        if entry.shape != shape:
            faults.append(f"has {name} of shape {entry.shape} instead of {_shape_text(shape)}")
    return faults


def _shape_text(shape: tuple[int | str, ...]) -> str:
    """A shape as Python prints it; sizes that are open by their names."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _read_list(file: BinaryIO) -> tuple[dict[str, Entry], dict[str, str], int]:
    """The list of tensors, the metadata, and where the tensors begin.

    Raises:
        ValueError: it is not a list of a safetensors file, or does not describe the rest of the file exactly.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, end - 8):
        raise ValueError("the length of the list")
    listing = parse_json(file.read(length))
    if not isinstance(listing, dict):
        raise ValueError("the list")
    metadata = listing.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())):
        raise ValueError("the metadata")
    entries = {name: _entry(value) for name, value in listing.items()}
    position = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.bytes)):
        if entry.start != position:
            raise ValueError("the places of the tensors")
        position += entry.bytes
    if 8 + length + position != end:
        raise ValueError("the length of the file")
    return entries, metadata, 8 + length


def _entry(value: Any) -> Entry:
    """A tensor of the list.

    Raises:
        ValueError: it is of an unknown type, or its shape and its place do not fit each other.
    """
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str) or value["dtype"] not in _DTYPES:
        raise ValueError("the type of a tensor")
    shape, place = value.get("shape"), value.get("data_offsets")
    numbers = [*shape, *place] if isinstance(shape, list) and isinstance(place, list) and len(place) == 2 else [-1]
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers) or len(numbers) > 10:
        raise ValueError("the shape of a tensor")
    entry = Entry(value["dtype"], tuple(numbers[:-2]), numbers[-2])
    if entry.bytes != numbers[-1] - numbers[-2]:
        raise ValueError("the place of a tensor")
    return entry


def _read_tensor(file: BinaryIO, data: int, entry: Entry) -> Tensor:
    """A tensor in memory of its own.

    Raises:
        ValueError: the file ends before it.
    """
    dtype = _DTYPES[entry.dtype]
    tensor = torch.empty(entry.shape, dtype=torch.uint8 if dtype is torch.bool else dtype)
    if entry.bytes:
        file.seek(data + entry.start)
        if file.readinto(memoryview(tensor.reshape(-1).view(torch.uint8).numpy())) != entry.bytes:  # type: ignore[attr-defined]
            raise ValueError("the length of the file")
    return tensor != 0 if dtype is torch.bool else tensor
