"""Tensors and what they do not say in one safetensors file: a JSON header under the metadata key ``spatialavatar``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.files import atomic_output

HEADER_KEY = "spatialavatar"


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], more: Mapping[str, str] | None = None
) -> None:
    """Write tensors, in the precision that they have; the file appears whole or not at all.

    Args:
        path: the file.
        tensors: by name, on any device.
        header: JSON-ready.
        more: further metadata.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_output(path) as temporary:
        try:
            save_file(stored, temporary, {HEADER_KEY: json.dumps(header), **(more or {})})
        except SafetensorError as error:  # the library's name for a full disk
            raise OSError(str(error)) from error


def read_tensors(path: Path, damaged: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of what :func:`write_tensors` wrote; the header of another safetensors file is empty.

    Args:
        path: the file.
        damaged: what to say where it cannot be read.

    Raises:
        FormatError: it is no safetensors file or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValueError, OSError) as error:
        raise FormatError(damaged) from error
    return tensors, header if isinstance(header, dict) else {}
