"""From strands, patches and texels to world Gaussians for the rasteriser."""

from __future__ import annotations

import numpy as np
import torch

from spatialavatar.head.rotations import matrix_to_quat
from spatialavatar.records import Gaussians
from spatialavatar.synthetic.arrays import Array

_OVERLAP = 0.55
"""Standard deviation along a segment over its length."""
_MIN_LENGTH = 2e-5
"""Metres below which a segment is no segment."""


def strand_gaussians(
    points: Array, colors: Array, radius: Array, opacity: Array, taper: float = 0.55
) -> tuple[Gaussians, Array]:
    """One thin Gaussian per segment, and the index of its strand.

    Args:
        points: (M, K, 3) metres.
        colors: (M, K, 3) sRGB.
        radius: (M,) standard deviation across at the root, metres; the tip is thinner.
        opacity: (M,) in [0, 1].
        taper: share by which the tip is thinner than the root.
    """
    first, second = points[:, :-1].reshape(-1, 3), points[:, 1:].reshape(-1, 3)
    count, steps = points.shape[0], points.shape[1] - 1
    along = second - first
    length = np.linalg.norm(along, axis=1)
    kept = length > _MIN_LENGTH
    strand = np.repeat(np.arange(count), steps)[kept]
    thin = np.tile(1.0 - taper * ((np.arange(steps) + 0.5) / steps) ** 2, count)[kept]
    length, along = length[kept], along[kept] / length[kept, None]
    across = radius[strand] * thin
    color = 0.5 * (colors[:, :-1].reshape(-1, 3)[kept] + colors[:, 1:].reshape(-1, 3)[kept])
    gaussians = Gaussians(
        means=_tensor(0.5 * (first[kept] + second[kept])),
        quats=_tensor(_turn_from_x(along)),
        scales=_tensor(np.stack([_OVERLAP * length, across, across], 1)),
        opacities=_tensor(opacity[strand]),
        colors=_tensor(color),
        space="world",
    )
    return gaussians, strand


def patch_gaussians(points: Array, normals: Array, along: Array, spacing: Array, colors: Array) -> Gaussians:
    """Flat Gaussians that tile a surface.

    Args:
        points: (n, 3) metres.
        normals: (n, 3) unit.
        along: (n, 3) unit tangents.
        spacing: (n, 2) metres between patches along and across the tangent.
        colors: (n, 3) sRGB.
    """
    along = along - normals * (along * normals).sum(1, keepdims=True)
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    axes = np.stack([along, np.cross(normals, along), normals], -1)
    thin = np.minimum(0.12 * spacing.min(1), 0.0015)
    return Gaussians(
        means=_tensor(points),
        quats=matrix_to_quat(_tensor(axes)),
        scales=_tensor(np.concatenate([0.72 * spacing, thin[:, None]], 1)),
        opacities=torch.full((len(points),), 0.97),
        colors=_tensor(colors),
        space="world",
    )


def join(parts: list[Gaussians]) -> Gaussians:
    """World Gaussians one after another."""
    names = ("means", "quats", "scales", "opacities", "colors")
    return Gaussians(*[torch.cat([getattr(part, name) for part in parts]) for name in names], space="world")


def _turn_from_x(directions: Array) -> Array:
    """Quaternions (n, 4), wxyz, of the smallest rotations of the x axis to unit directions (n, 3)."""
    x, y, z = directions.T
    back = x < -0.9999
    quats = np.stack([1.0 + x, 0.0 * x, -z, y], 1)
    quats[back] = [0.0, 0.0, 0.0, 1.0]
    return quats / np.linalg.norm(quats, axis=1, keepdims=True)


def _tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
