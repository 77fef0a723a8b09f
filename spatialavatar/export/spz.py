"""An avatar as SPZ, Niantic's compressed splats: version 3 or 2 of the published format.

One gzip stream holds a 16-byte header and then one array an attribute, each for all Gaussians: positions (24-bit fixed
point), opacities, colours (the constant harmonic times 0.15, around one half), scales (logarithm, in sixteenths from
-10) and rotations. Version 3 stores the three smallest parts of a quaternion in ten bits each and the index of the
largest; version 2 stores x, y and z in a byte each. Axes are OpenGL's, which are those of head space.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.export.frames import SH_CONSTANT, Y_UP, exported_gaussians, to_bytes
from spatialavatar.files import atomic_output
from spatialavatar.records import HeadParams

SPZ_MAGIC = b"NGSP"
SPZ_VERSION = 3
SPZ_VERSIONS = (2, 3)

_HEADER = struct.Struct("<4sIIBBBB")  # magic, version, count, degree of the harmonics, fractional bits, flags, reserved
_FRACTIONAL_BITS = 16  # 15 micrometres a step and 128 metres either way
_MAX_FIXED = (1 << 23) - 1
_COLOR_SCALE = 0.15
_ROTATION_STEPS = (1 << 9) - 1


def save_spz(avatar: Avatar, path: str | Path, params: HeadParams | None = None, *, version: int = SPZ_VERSION) -> Path:
    """Write the avatar as an SPZ file; it appears whole or not at all.

    Args:
        avatar: the avatar.
        path: the file.
        params: pose and expression of one frame; by default at rest, looking straight ahead.
        version: of the format: 3, or 2 for readers older than version 3 (July 2025), with rotations of 8 bits.

    Raises:
        InputError: the Gaussians have other channels than three colours, one lies beyond the 128 metres of the format,
            or the version is neither 2 nor 3.
        OutputError: the file cannot be written.
    """
    if version not in SPZ_VERSIONS:
        raise InputError(f"An SPZ file is written in version 2 or 3, not {version}.")
    g = exported_gaussians(avatar, params, Y_UP)
    fixed = np.rint(g.means.numpy() * float(1 << _FRACTIONAL_BITS))
    if np.abs(fixed).max(initial=0.0) > _MAX_FIXED:
        raise InputError(
            f"A Gaussian lies more than {(_MAX_FIXED + 1) >> _FRACTIONAL_BITS} metres from the head, which SPZ cannot "
            "store; choose PLY, or make the avatar again."
        )
    positions = fixed.astype("<i4")
    parts = [
        positions.view(np.uint8).reshape(len(g), 3, 4)[..., :3],
        to_bytes(255.0 * g.opacities.numpy()),
        to_bytes(255.0 * (_COLOR_SCALE * (g.colors.numpy() - 0.5) / SH_CONSTANT + 0.5)),
        to_bytes(16.0 * (np.log(g.scales.numpy().clip(1e-12)) + 10.0)),
        (_smallest_three if version == 3 else _first_three)(g.quats.numpy()),
    ]
    header = _HEADER.pack(SPZ_MAGIC, version, len(g), 0, _FRACTIONAL_BITS, 0, 0)
    data = gzip.compress(header + b"".join(part.tobytes() for part in parts), mtime=0)
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_bytes(data)
    return path


def _first_three(quats: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: x, y and z of unit quaternions (N, 4) wxyz whose w is made positive; ``127.5 q + 127.5``."""
    positive = np.where(quats[:, :1] < 0.0, -quats, quats)
    return to_bytes(127.5 * positive[:, 1:] + 127.5)


def _smallest_three(quats: np.ndarray) -> np.ndarray:
    """(N,) little-endian uint32 of unit quaternions (N, 4) wxyz.

    From the top: two bits for the largest of (x, y, z, w), which is made positive and left out, then for each other
    part in that order its sign and nine bits of its size, of which all ones are the square root of a half.
    """
    xyzw = quats[:, [1, 2, 3, 0]]
    largest = np.abs(xyzw).argmax(1)
    xyzw = xyzw * np.where(np.take_along_axis(xyzw, largest[:, None], 1) < 0.0, -1.0, 1.0)
    steps = np.rint(np.abs(xyzw) * np.sqrt(2.0) * _ROTATION_STEPS).clip(0, _ROTATION_STEPS).astype(np.uint32)
    parts = (xyzw < 0.0).astype(np.uint32) << 9 | steps
    words = largest.astype(np.uint32)
    for axis in range(4):
        words = np.where(largest == axis, words, words << 10 | parts[:, axis])
    return words.astype("<u4")
