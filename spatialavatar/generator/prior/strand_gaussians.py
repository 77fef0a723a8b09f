"""Gaussians of hair that no photo shows, stretched along the strands."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.numerics import Floats
from spatialavatar.generator.prior.sphere import SphereGrid, frames
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.head import to_local, to_world
from spatialavatar.head.rotations import matrix_to_quat
from spatialavatar.records import Gaussians

_NARROWING = 0.75
"""Exponent of the stretch by which the other axis shrinks; 1 would keep the area, less leaves no holes."""


def stretch_along_strands(
    surface: TexelSurface,
    sphere: SphereGrid,
    gaussians: Gaussians,
    vertices: Tensor,
    direction: Floats,
    stretch: Floats,
) -> Gaussians:
    """Turn local Gaussians into their strands and stretch them; those with a stretch of 1 or less are unchanged.

    Args:
        surface: the texels.
        sphere: their map.
        gaussians: N, local, flat.
        vertices: (V, 3) rest vertices of the person.
        direction: (ROWS, COLUMNS, 2) of ``network.Prediction``.
        stretch: (N,) lengths along the strand, relative to the square root of a Gaussian's area.
    """
    chosen = stretch > 1.0
    if not chosen.any():
        return gaussians
    world = to_world(gaussians, surface.head, surface.layout, vertices)
    rest = vertices.cpu().double().numpy()
    tangent = _tangents(surface, sphere, rest, direction)[chosen]
    normal = surface.grid.normals_on(rest)[chosen]
    tangent -= normal * (tangent * normal).sum(1, keepdims=True)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    axes = torch.from_numpy(np.stack([tangent, np.cross(normal, tangent), normal], -1))
    scales, quats = world.scales.clone(), world.quats.clone()
    longer = torch.from_numpy(stretch[chosen]).to(scales.dtype)
    where = torch.from_numpy(chosen)
    mean = (scales[where, 0] * scales[where, 1]).sqrt()
    scales[where] = torch.stack([mean * longer, mean * longer**-_NARROWING, scales[where, 2]], 1)
    quats[where] = matrix_to_quat(axes).to(quats.dtype)
    stretched = to_local(world.replace(scales=scales, quats=quats), surface.head, surface.layout, vertices)
    keep = torch.from_numpy(~chosen)[:, None]
    return gaussians.replace(
        scales=torch.where(keep, gaussians.scales, stretched.scales),
        quats=torch.where(keep, gaussians.quats, stretched.quats),
    )


def _tangents(surface: TexelSurface, sphere: SphereGrid, rest: Floats, direction: Floats) -> Floats:
    """(N, 3) directions of the strands at the texels, head space, up to their sign and the normal."""
    axes = frames(sphere, surface.grid.points_on(rest))
    # Interpolated with the double angle, which has no sign.
    double = sphere.scatter(np.concatenate([direction, axes.across, axes.down], -1))
    angle = 0.5 * np.arctan2(double[:, 1], double[:, 0])[:, None]
    return np.cos(angle) * double[:, 2:5] + np.sin(angle) * double[:, 5:8]
