"""The bytes of a GLB (glTF 2.0 in one file): arrays go into one buffer, which a JSON description refers to."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from spatialavatar.provenance import SOFTWARE, safetensors_metadata

VERTICES, INDICES = 34962, 34963
"""Targets of a buffer view: vertex attributes, or triangle indices."""

_MAGIC, _VERSION = b"glTF", 2
_COMPONENTS = {"float32": 5126, "uint32": 5125, "uint8": 5121}
_KINDS = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


class Glb:
    """A glTF file under construction: its arrays, views and accessors."""

    def __init__(self) -> None:
        self._binary = bytearray()
        self._views: list[dict[str, int]] = []
        self._accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Add bytes; the index of their view."""
        entry = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        self._views.append(entry if target is None else {**entry, "target": target})
        self._binary.extend(data + b"\0" * (-len(data) % 4))
        return len(self._views) - 1

    def accessor(self, array: np.ndarray, target: int | None = None, *, box: bool = False) -> int:
        """Add an array (N,), (N, 2), (N, 3), (N, 4) or (N, 4, 4); the index of its accessor.

        Args:
            array: little-endian float32, uint32 or uint8; the format's matrices lie column by column.
            target: ``VERTICES`` or ``INDICES`` where a mesh uses it.
            box: write ``min`` and ``max`` too, which the format requires for positions and for times.
        """
        kind = _KINDS[array.shape[1:]]
        entry = {
            "bufferView": self.view(array.tobytes(), target),
            "componentType": _COMPONENTS[array.dtype.name],
            "type": kind,
            "count": len(array),
        }
        if box:
            low, high = array.min(0), array.max(0)
            entry |= {"min": np.atleast_1d(low).tolist(), "max": np.atleast_1d(high).tolist()}
        self._accessors.append(entry)
        return len(self._accessors) - 1

    def morphs(self, targets: np.ndarray) -> list[dict[str, int]]:
        """The morph targets of a primitive, from their vertex offsets (M, P, 3) float32."""
        return [{"POSITION": self.accessor(target, VERTICES, box=True)} for target in targets]

    def packed(self, described: Mapping[str, Any]) -> bytes:
        """The file's bytes: header, JSON chunk, binary chunk.

        Args:
            described: the scene; asset, buffers, views and accessors are added here.
        """
        whole = {
            "asset": {"version": "2.0", "generator": SOFTWARE, "extras": safetensors_metadata()},
            "scene": 0,
            **described,
            "buffers": [{"byteLength": len(self._binary)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        text = json.dumps(whole, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + len(self._binary)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self._binary), b"BIN\0") + self._binary
        return struct.pack("<4sII", _MAGIC, _VERSION, length) + chunks
