"""Files of trained weights: one safetensors file per network, whose header names format, version and training setup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.tensor_files import Schema, TensorFile, bounded, listed, write_tensors

ADVICE: Final = "use the configuration it was trained with, or fetch it again"
"""End of the errors about tensors that do not fit the configuration."""

_MAX_WEIGHT: Final = 6e4  # largest absolute value that half precision can store


@dataclass(frozen=True)
class WeightFormat:
    """The format of one kind of weights file.

    Attributes:
        noun: name of the kind in error messages, such as "network".
        format: value of ``format`` in the header.
        version: the version that is written and read.
    """

    noun: str
    format: str
    version: int

    def save(self, tensors: Mapping[str, Tensor], path: str | Path, facts: Mapping[str, Any]) -> Path:
        """Write tensors to a file, which is replaced only when all is written.

        Args:
            tensors: in the precision of the file.
            path: the file.
            facts: entries of the header besides format and version.

        Raises:
            InputError: a weight is not finite, or too large for half precision.
            OutputError: the file cannot be written.
        """
        broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise InputError(f"The {self.noun}'s {listed(broken)} hold values that are not finite; train it again.")
        write_tensors(path, dict(tensors), {"format": self.format, "version": self.version, **facts})
        return Path(path)

    def open(self, path: str | Path) -> TensorFile:
        """Open a file and check its format and version. The caller checks the tensors and the other facts.

        Raises:
            MissingAssetError: there is no such file.
            FormatError: the file is damaged, not of this kind, or of an unsupported version.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingAssetError(
                f"The model has a {self.noun} by its configuration, but {path} is not there; fetch the model again."
            )
        file = TensorFile(path, f"{path.name} holds no weights or is damaged; fetch the model again.")
        if file.header.get("format") != self.format:
            raise FormatError(
                f"{path.name} is a safetensors file but not a {self.noun}'s weights; fetch the model again."
            )
        if file.header.get("version") != self.version:
            raise FormatError(
                f"{path.name} is of version {file.header.get('version')}, this release reads version {self.version}; "
                "update the package."
            )
        return file


def weight_schema(tensors: Mapping[str, Tensor]) -> Schema:
    """The schema of a file with these tensors."""
    return {name: bounded(_MAX_WEIGHT, *value.shape) for name, value in tensors.items()}
