"""Readers of splat files that know only the formats' own rules, and a picture of what they read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialavatar.records import Camera, Gaussians
from spatialavatar.render import render

SH_CONSTANT = 0.28209479177387814


def read_ply(path: Path) -> Gaussians:
    """The Gaussians of a splat PLY, y down."""
    plyfile = pytest.importorskip("plyfile", reason="needs the extra 'dev'")
    rows = plyfile.PlyData.read(str(path))["vertex"]

    def columns(*names: str) -> np.ndarray:
        return np.stack([rows[name] for name in names], 1)

    return gaussians(
        columns("x", "y", "z"),
        columns("rot_0", "rot_1", "rot_2", "rot_3"),
        np.exp(columns("scale_0", "scale_1", "scale_2")),
        1.0 / (1.0 + np.exp(-columns("opacity")[:, 0])),
        0.5 + SH_CONSTANT * columns("f_dc_0", "f_dc_1", "f_dc_2"),
    )


PLY_COLUMNS = [
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{i}" for i in range(45)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]
"""The columns that the method's original implementation writes, in its order."""


def read_ply_by_place(path: Path) -> Gaussians:
    """The Gaussians of a PLY of degree 3, y down, found by place alone: the count on the third line, 62 floats a row.

    C++ viewers read so, into an array of a struct; what they do not check is asserted here.
    """
    data = path.read_bytes()
    end = data.index(b"end_header\n") + len(b"end_header\n")
    assert b"\r" not in data[:end]
    lines = data[:end].decode("ascii").split("\n")
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    element, vertex, count = lines[2].split(" ")
    assert (element, vertex) == ("element", "vertex")
    assert [line for line in lines[3:] if line.startswith("property")] == [f"property float {n}" for n in PLY_COLUMNS]
    assert len(data) - end == int(count) * 248
    rows = np.frombuffer(data, "<f4", offset=end).reshape(int(count), 62)
    assert np.isfinite(rows).all()
    assert not rows[:, 3:6].any()
    assert not rows[:, 9:54].any()
    assert np.abs(np.linalg.norm(rows[:, 58:], axis=1) - 1.0).max() < 1e-5  # not every reader normalises
    return gaussians(
        rows[:, :3],
        rows[:, 58:],
        np.exp(rows[:, 55:58]),
        1.0 / (1.0 + np.exp(-rows[:, 54])),
        0.5 + SH_CONSTANT * rows[:, 6:9],
    )


def read_splat(path: Path) -> Gaussians:
    """The Gaussians of a ``.splat``, y down, in the file's order."""
    size = path.stat().st_size
    assert size > 0
    assert size % 32 == 0
    data = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 32)
    floats = data[:, :24].copy().view("<f4")
    return gaussians(
        floats[:, :3], (data[:, 28:] - 128.0) / 128.0, floats[:, 3:], data[:, 27] / 255.0, data[:, 24:27] / 255.0
    )


def read_spz(path: Path) -> Gaussians:
    """The Gaussians of an SPZ of version 2 or 3 without harmonics, y up; Niantic's checks of header and sizes."""
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)  # one gzip member, with its header
    data = stream.decompress(path.read_bytes())
    assert stream.eof
    assert not stream.unused_data
    magic, version, count, degree, bits, flags, reserved = struct.unpack("<IIIBBBB", data[:16])
    assert (magic, degree, flags, reserved) == (0x5053474E, 0, 0, 0)
    assert version in (2, 3)
    assert 0 < count <= 10_000_000
    assert len(data) == 16 + count * {2: 19, 3: 20}[version]
    fields = np.split(np.frombuffer(data, np.uint8, offset=16), np.cumsum([9 * count, count, 3 * count, 3 * count]))
    packed, opacities, colors, scales, rotations = fields
    low, middle, high = packed.reshape(count, 3, 3).astype(np.int64).transpose(2, 0, 1)
    fixed = low + (middle << 8) + (high << 16)
    fixed = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed)
    if version == 3:
        quats = np.array([smallest_three(int(word)) for word in rotations.copy().view("<u4")])
    else:
        xyz = rotations.reshape(count, 3) / 127.5 - 1.0
        quats = np.concatenate([np.sqrt(np.maximum(0.0, 1.0 - (xyz**2).sum(1, keepdims=True))), xyz], 1)
    return gaussians(
        fixed / 2.0**bits,
        quats,
        np.exp(scales.reshape(count, 3) / 16.0 - 10.0),
        opacities / 255.0,
        0.5 + SH_CONSTANT * (colors.reshape(count, 3) / 255.0 - 0.5) / 0.15,
    )


def smallest_three(word: int) -> list[float]:
    """The quaternion (w, x, y, z) of 32 bits: which part is missing, then the others of x, y, z, w from the top."""
    missing, shift, parts = word >> 30, 20, []
    for axis in range(4):
        if axis == missing:
            parts.append(0.0)
            continue
        bits = word >> shift & 0x3FF
        parts.append((-1.0 if bits & 0x200 else 1.0) * (bits & 0x1FF) / 511.0 * 0.5**0.5)
        shift -= 10
    parts[missing] = max(0.0, 1.0 - sum(part * part for part in parts)) ** 0.5
    return [parts[3], *parts[:3]]


def gaussians(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, colors: np.ndarray
) -> Gaussians:
    arrays = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in arrays.items()}
    tensors["quats"] = torch.nn.functional.normalize(tensors["quats"], dim=-1)
    return Gaussians(**tensors, space="world")


def picture(read: Gaussians, distance: float, size: int, *, y_down: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and alpha of the Gaussians from in front of the face."""
    camera = Camera.frontal(size)
    pose = torch.eye(4) if y_down else camera.world_to_camera.clone()
    pose[2, 3] = distance
    return render(read, Camera(camera.intrinsics, pose, size, size))
