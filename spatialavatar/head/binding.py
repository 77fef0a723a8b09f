"""Rigid binding of Gaussians to triangles (method section 1).

A triangle's frame is (c, R, s). The paper anchors a Gaussian at the triangle's centroid c; here the anchor is the
texel's point on the triangle, which is the same rigid map with the constant offset of the texel included in c. For
rigid motion and scaling the two are identical. On triangles that shear or stretch (lips, lids), the texel's point stays
on the surface, while the centroid form tears it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.head.layout import UVLayout
from spatialavatar.head.model import HeadModel
from spatialavatar.head.rotations import matrix_to_quat, quat_conjugate, quat_multiply
from spatialavatar.records import Gaussians

_EPSILON = 1e-12


@dataclass(frozen=True)
class TriangleFrames:
    """Frames of F triangles.

    Attributes:
        centre: (F, 3) centroids.
        rotation: (F, 3, 3) with columns a0 (first edge), a1 (normal), a2 = a0 x a1. The paper's text has a2 = a1 x a0,
            which with this column order is a reflection and has no quaternion; the sign is the only difference.
        quat: (F, 4) the same rotation, wxyz.
        scale: (F,) half the sum of the first edge's length and the altitude, metres.
    """

    centre: Tensor
    rotation: Tensor
    quat: Tensor
    scale: Tensor


def triangle_frames(corners: Tensor) -> TriangleFrames:
    """Frames of triangles with corners (F, 3, 3); finite, with finite gradients, also for degenerate triangles.

    If corners coincide or lie on a line, the undefined axes are arbitrary but orthonormal; s
    tends to half the first edge, as in the paper.
    """
    v0, v1, v2 = corners.unbind(-2)
    edge, other = v1 - v0, v2 - v0
    length = _safe_norm(edge)
    a0 = _direction(edge, torch.tensor([1.0, 0.0, 0.0], dtype=corners.dtype, device=corners.device))
    # Orthogonalising the second edge keeps the frame orthonormal even where the cross product underflows.
    fallback = _orthogonal(a0)
    a1 = _direction(torch.linalg.cross(a0, other), fallback)
    a1 = torch.nn.functional.normalize(a1 - a0 * (a0 * a1).sum(-1, keepdim=True), dim=-1)
    a2 = torch.linalg.cross(a0, a1)
    rotation = torch.stack([a0, a1, a2], -1)
    scale = 0.5 * (length + (a2 * other).sum(-1).abs())
    return TriangleFrames(corners.mean(-2), rotation, matrix_to_quat(rotation), scale)


def _safe_norm(vectors: Tensor) -> Tensor:
    """Norms (...,) of vectors (..., 3) whose gradient at zero is zero."""
    squared = (vectors * vectors).sum(-1)
    zero = squared < _EPSILON**2
    return torch.where(zero, torch.zeros_like(squared), torch.where(zero, torch.ones_like(squared), squared).sqrt())


def _direction(vectors: Tensor, fallback: Tensor) -> Tensor:
    """Unit vectors of (..., 3), or ``fallback`` where the length is almost zero."""
    length = _safe_norm(vectors)[..., None]
    tiny = length < 1e-9
    return torch.where(tiny, fallback.expand_as(vectors), vectors / torch.where(tiny, torch.ones_like(length), length))


def _orthogonal(units: Tensor) -> Tensor:
    """Return a unit vector (..., 3) orthogonal to each unit vector, from the axis of its smallest component."""
    axis = torch.nn.functional.one_hot(units.abs().argmin(-1), 3).to(units.dtype)
    return torch.nn.functional.normalize(axis - units * (units * axis).sum(-1, keepdim=True), dim=-1)


def to_world(local: Gaussians, head: HeadModel, layout: UVLayout, vertices: Tensor) -> Gaussians:
    """Transform local Gaussians to the posed mesh.

    Method section 1: x = s R x_local + c, q = q_tri q_local, and scales are multiplied by s.

    Args:
        local: N Gaussians in triangle units.
        head: the head the layout was built on.
        layout: the binding; its length is N.
        vertices: (V, 3) posed vertices of one frame, world.
    """
    frames, anchor, faces = _frames_and_anchor(head, layout, vertices)
    scale = frames.scale[faces, None]
    offset = (frames.rotation[faces] @ local.means[..., None]).squeeze(-1)
    return local.replace(
        means=anchor + scale * offset,
        quats=quat_multiply(frames.quat[faces], local.quats),
        scales=scale * local.scales,
        space="world",
    )


def to_local(world: Gaussians, head: HeadModel, layout: UVLayout, vertices: Tensor) -> Gaussians:
    """The inverse of :func:`to_world` on the same vertices (V, 3)."""
    frames, anchor, faces = _frames_and_anchor(head, layout, vertices)
    scale = frames.scale[faces, None].clamp_min(_EPSILON)
    offset = (frames.rotation[faces].transpose(-1, -2) @ (world.means - anchor)[..., None]).squeeze(-1)
    return world.replace(
        means=offset / scale,
        quats=quat_multiply(quat_conjugate(frames.quat[faces]), world.quats),
        scales=world.scales / scale,
        space="local",
    )


def _frames_and_anchor(head: HeadModel, layout: UVLayout, vertices: Tensor) -> tuple[TriangleFrames, Tensor, Tensor]:
    """Frames of all triangles, the texels' points on the surface, and the texels' triangles."""
    return triangle_frames(vertices[head.faces]), layout.surface(head, vertices), layout.faces
