"""Readers of splat files that know only the formats' own rules, and a picture of what they read."""

from __future__ import annotations

import gzip
import struct
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


def read_splat(path: Path) -> Gaussians:
    """The Gaussians of a ``.splat``, y down, in the file's order."""
    data = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 32)
    floats = data[:, :24].copy().view("<f4")
    return gaussians(
        floats[:, :3], (data[:, 28:] - 128.0) / 128.0, floats[:, 3:], data[:, 27] / 255.0, data[:, 24:27] / 255.0
    )


def read_spz(path: Path) -> Gaussians:
    """The Gaussians of an SPZ of version 3 without harmonics, y up."""
    data = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, _flags, reserved = struct.unpack("<IIIBBBB", data[:16])
    assert (magic, version, degree, reserved) == (0x5053474E, 3, 0, 0)
    assert len(data) == 16 + count * 20
    fields = np.split(np.frombuffer(data, np.uint8, offset=16), np.cumsum([9 * count, count, 3 * count, 3 * count]))
    packed, opacities, colors, scales, rotations = fields
    low, middle, high = packed.reshape(count, 3, 3).astype(np.int64).transpose(2, 0, 1)
    fixed = low + (middle << 8) + (high << 16)
    fixed = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed)
    quats = np.array([smallest_three(int(word)) for word in rotations.copy().view("<u4")])
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
