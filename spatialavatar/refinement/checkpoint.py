"""Checkpoints: the whole state of a run in one safetensors file, so that a killed run continues to the same result."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError
from spatialavatar.records import Track
from spatialavatar.refinement.config import MAX_ITERATIONS
from spatialavatar.refinement.constants import Constants
from spatialavatar.tensor_files import read_tensors, write_tensors


def run_id(avatar: Avatar, track: Track, *settings: object) -> str:
    """Hash of everything that determines the result of a run; a file of a run is read by the run of the same id only.

    Every pixel is hashed, which takes about two seconds for a thousand frames of 512 pixels.

    Args:
        avatar: all its tensors, its reference view, and the ids of its head and layout.
        track: all its parts.
        settings: configurations and numbers.
    """
    digest = hashlib.sha256()
    parts = [avatar.head.id, avatar.layout.id, avatar.gaussians, avatar.shape, avatar.vertex_offsets]
    for value in (*parts, avatar.residual, avatar.reference, avatar.camera, track, *settings):
        for chunk in _chunks(value):
            digest.update(chunk)
    return digest.hexdigest()[:16]


def _chunks(value: Any) -> Iterator[bytes | memoryview]:
    """The bytes of a value; another value, type or shape gives other bytes."""
    if isinstance(value, Tensor):
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        yield f"<{array.dtype} {array.shape}>".encode()
        yield array.reshape(-1).view(np.uint8).data
    elif isinstance(value, Constants):
        yield json.dumps(value.as_dict()).encode()
    elif is_dataclass(value):
        for one in fields(value):
            yield f"<{one.name}>".encode()
            yield from _chunks(getattr(value, one.name))
    else:
        yield f"<{value!r}>".encode()


@dataclass(frozen=True)
class StateFile:
    """A kind of file that holds tensors of one run.

    Attributes:
        format: name of the format in the header.
        version: of the format.
        noun: name of the kind in error messages.
        inputs: description of the inputs that the file depends on, for error messages.
    """

    format: str
    version: int
    noun: str
    inputs: str

    def write(self, path: str | Path, run: str, tensors: Mapping[str, Tensor], **facts: float) -> None:
        """Write a file for the run with the id ``run``; it appears whole or not at all.

        Raises:
            OutputError: the path cannot be written, or the disk is full.
        """
        write_tensors(path, tensors, {"format": self.format, "version": self.version, "run": run, **facts})

    def read(
        self, path: Path, run: str, required: Mapping[str, Tensor], optional: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read a file of the run with the id ``run`` and check its tensors.

        Args:
            path: the file.
            run: id of the run.
            required: tensors with the names, dtypes and shapes that the file must have; their values are not used.
            optional: the same for tensors that may be missing.

        Returns:
            Tensors by name, and the header.

        Raises:
            FormatError: the file is damaged, or belongs to a different release or run.
        """
        tensors, header = read_tensors(path, self.damaged(path))
        if header.get("format") != self.format or header.get("version") != self.version:
            raise FormatError(f"{path.name} is not a {self.noun} of this release; delete it and start again.")
        if header.get("run") != run:
            raise FormatError(
                f"The {self.noun} {path.name} belongs to another {self.inputs}; give those of the run that it is to "
                "continue, or delete it."
            )
        expected = {**required, **(optional or {})}
        if not required.keys() <= tensors.keys() <= expected.keys():
            raise FormatError(self.damaged(path))
        if not all(_same_kind(tensor, expected[name]) for name, tensor in tensors.items()):
            raise FormatError(self.damaged(path))
        return tensors, header

    def damaged(self, path: Path) -> str:
        """The error message for a damaged file."""
        return f"The {self.noun} {path.name} is damaged; delete it and start again."


def _same_kind(tensor: Tensor, expected: Tensor) -> bool:
    """Whether dtype and shape are as expected and all values are finite."""
    if tensor.dtype != expected.dtype or tensor.shape != expected.shape:
        return False
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


CHECKPOINT = StateFile("spatialavatar.refinement", 3, "checkpoint", "avatar, video or setting")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a refinement.

    Attributes:
        run: its :func:`run_id`.
        iteration: steps made.
        seconds: time that they took, over all sittings.
        tensors: by name: those of the families, and the state of the random generator.
    """

    run: str
    iteration: int
    seconds: float
    tensors: Mapping[str, Tensor]

    def save(self, path: str | Path) -> None:
        """Write the file; it appears whole or not at all.

        Raises:
            OutputError: the path cannot be written, or the disk is full.
        """
        CHECKPOINT.write(path, self.run, self.tensors, iteration=self.iteration, seconds=self.seconds)

    @classmethod
    def load(cls, path: Path, run: str, required: Mapping[str, Tensor], optional: Mapping[str, Tensor]) -> Checkpoint:
        """Read a file of :meth:`save`; arguments and errors as for :meth:`StateFile.read`."""
        tensors, header = CHECKPOINT.read(path, run, required, optional)
        iteration, seconds = header.get("iteration"), header.get("seconds")
        if not isinstance(iteration, int) or not 0 <= iteration <= MAX_ITERATIONS:
            raise FormatError(CHECKPOINT.damaged(path))
        if not isinstance(seconds, (int, float)) or not 0.0 <= seconds < math.inf:
            raise FormatError(CHECKPOINT.damaged(path))
        return cls(run, iteration, float(seconds), tensors)
