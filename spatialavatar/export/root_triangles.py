"""A bust bound to triangles, for formats that move every Gaussian with a triangle."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.head import triangle_frames
from spatialavatar.head.rotations import quat_conjugate, quat_multiply
from spatialavatar.records import Gaussians

_WEIGHTS = 32  # steps of the neck's weight
_SIDE = 0.05  # metres; local places are then small numbers, which half precision stores to a hundredth of a millimetre


@dataclass(frozen=True, eq=False)
class RootTriangles:
    """M Gaussians on T triangles that root and neck joint move; the corners of each have one weight.

    Attributes:
        vertices: (3 T, 3) corners at rest in head space, metres; three for each triangle, in its order.
        face: (M,) int64 triangle of each Gaussian, which is anchored at the triangle's first corner.
        local: M Gaussians in triangle units.
        neck_weight: (3 T,) skinning weight of the neck joint; the rest is the root joint's.
    """

    vertices: Tensor
    face: Tensor
    local: Gaussians
    neck_weight: Tensor


def on_root_triangles(rest: Gaussians, neck_weight: Tensor | None = None) -> RootTriangles:
    """Bind Gaussians at rest in head space to triangles near them, in the next steps of their neck's weights (M,)."""
    weight = rest.opacities.new_zeros(len(rest)) if neck_weight is None else neck_weight
    places = torch.cat([(rest.means / _SIDE).floor(), (weight * _WEIGHTS).round()[:, None]], 1).long()
    cells, face = torch.unique(places, dim=0, return_inverse=True)
    corner = (cells[:, :3].float() + 0.5) * _SIDE
    corners = torch.stack([corner, corner + torch.tensor([_SIDE, 0, 0]), corner + torch.tensor([0, _SIDE, 0])], 1)
    frames = triangle_frames(corners)
    scale = frames.scale[face, None]
    offset = (frames.rotation[face].transpose(-1, -2) @ (rest.means - corner[face])[..., None]).squeeze(-1)
    local = rest.replace(
        means=offset / scale,
        quats=quat_multiply(quat_conjugate(frames.quat[face]), rest.quats),
        scales=rest.scales / scale,
        space="local",
    )
    return RootTriangles(corners.reshape(-1, 3), face, local, (cells[:, 3].float() / _WEIGHTS).repeat_interleave(3))
