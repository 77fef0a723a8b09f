"""An avatar as a ``.splat`` file, the 32 bytes a Gaussian that web viewers read (antimatter15's layout).

A row is three float32 of position, three float32 of scale (standard deviations), red, green, blue and opacity as bytes,
and the quaternion (w, x, y, z) as bytes, ``128 q + 128``. Rows are sorted by size times opacity, largest first, so that
a partly loaded file shows the most important Gaussians. There is no header. Axes are those of the PLY: x right, y down,
z away from the viewer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spatialavatar.avatar import Avatar
from spatialavatar.export.frames import Y_DOWN, exported_gaussians, to_bytes
from spatialavatar.files import atomic_output
from spatialavatar.records import HeadParams

SPLAT_ROW = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def save_splat(avatar: Avatar, path: str | Path, params: HeadParams | None = None) -> Path:
    """Write the avatar as a ``.splat`` file; it appears whole or not at all.

    Args:
        avatar: the avatar.
        path: the file.
        params: pose and expression; by default at rest, looking straight ahead.

    Raises:
        InputError: the Gaussians have other channels than three colours.
        OutputError: the file cannot be written.
    """
    data = splat_rows(avatar, params).tobytes()
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_bytes(data)
    return path


def splat_rows(avatar: Avatar, params: HeadParams | None = None) -> np.ndarray:
    """(N,) of ``SPLAT_ROW``; arguments and errors as for :func:`save_splat`."""
    g = exported_gaussians(avatar, params, Y_DOWN)
    scales, opacities = g.scales.numpy(), g.opacities.numpy()
    rows = np.empty(len(g), SPLAT_ROW)
    rows["position"], rows["scale"] = g.means.numpy(), scales
    rows["rgba"] = to_bytes(255.0 * np.concatenate([g.colors.numpy(), opacities[:, None]], 1))
    rows["quat"] = to_bytes(128.0 * g.quats.numpy() + 128.0)
    return rows[np.argsort(-scales.prod(1) * opacities, kind="stable")]
