"""The per-frame deformation of method section 1, arranged for many steps over the same frames.

The parts that depend on the frame only (posed vertices, triangle frames) are computed once a frame and cached, within a
bound. The parts that depend on the Gaussians are two products a step.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.head import HeadModel, Identity, UVLayout, triangle_frames
from spatialavatar.head.rotations import quat_multiply
from spatialavatar.records import Gaussians, HeadParams
from spatialavatar.refinement._compiled import ToWorld
from spatialavatar.refinement.expression_bases import ExpressionBases
from spatialavatar.residual import ExpressionResidual, expression_code

_CACHE_BYTES = 400 * 2**20  # about 600 frames of the default head


@dataclass(frozen=True, eq=False)
class PosedHead:
    """The mesh of one frame with its triangle frames.

    Attributes:
        vertices: (V, 3), metres, world.
        rotation: (F, 9) triangle rotations, row-major.
        quat: (F, 4) the same rotations, wxyz.
        scale: (F,) metres per triangle unit.
        code: (1, E + 12) expression and pose, the input of the residual.
    """

    vertices: Tensor
    rotation: Tensor
    quat: Tensor
    scale: Tensor
    code: Tensor

    @property
    def normals(self) -> Tensor:
        """(F, 3) outward unit normals: the second axis of each triangle's frame."""
        return self.rotation.unflatten(1, (3, 3))[:, :, 1]

    @property
    def nbytes(self) -> int:
        """Size of the tensors in memory, bytes."""
        return sum(t.numel() * t.element_size() for t in (self.vertices, self.rotation, self.quat, self.scale))


class Deformer:
    """Transforms the local Gaussians of one person to the world in any frame, with gradients to the Gaussians.

    The same map as :meth:`spatialavatar.avatar.Avatar.pose`.

    Attributes:
        bases: changes by expression that are being learned, applied last; or None.
    """

    def __init__(
        self, head: HeadModel, layout: UVLayout, identity: Identity, residual: ExpressionResidual | None = None
    ) -> None:
        """Prepare for one person.

        Args:
            head: head model.
            layout: binding of the Gaussians.
            identity: the person's rest head.
            residual: changes of the Gaussians by expression; None where the avatar has none.
        """
        self._head = head
        self._residual = residual
        self.bases: ExpressionBases | None = None
        self._identity = identity
        self._triangle = layout.faces
        self._bary = layout.bary[..., None]
        self._corners = head.faces[layout.faces].reshape(-1)
        self._cache: OrderedDict[int, PosedHead] = OrderedDict()

    def subset(self, rows: Tensor) -> Deformer:
        """The same for the Gaussians ``rows`` (n,) alone."""
        part = copy(self)
        part._triangle, part._bary = self._triangle[rows], self._bary[rows]
        part._corners = self._corners.unflatten(0, (-1, 3))[rows].reshape(-1)
        part._residual = None if self._residual is None else self._residual.subset(rows)
        part._cache = OrderedDict(self._cache)
        return part

    def pose(self, params: HeadParams, key: int | None = None) -> PosedHead:
        """Pose the head.

        Args:
            params: one frame.
            key: number of the frame. With one the result is without gradient and is cached; the least recently used
                frames are dropped from the cache.
        """
        if key is None:
            return self._pose(params)
        posed = self._cache.pop(key, None)
        if posed is None:
            with torch.no_grad():
                posed = self._pose(params)
            while self._cache and (len(self._cache) + 1) * posed.nbytes > _CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache[key] = posed
        return posed

    def _pose(self, params: HeadParams) -> PosedHead:
        vertices = self._head.pose(self._identity, params)[0]
        frames = triangle_frames(vertices[self._head.faces])
        code = expression_code(params)
        return PosedHead(vertices, frames.rotation.flatten(1), frames.quat, frames.scale, code)

    def normals(self, posed: PosedHead) -> Tensor:
        """(N, 3) outward unit normals of the triangles that the Gaussians are bound to, world."""
        return posed.normals.index_select(0, self._triangle)

    def to_world(self, local: Gaussians, posed: PosedHead, *, learned: bool = True) -> Gaussians:
        """World Gaussians: x = s R x_local + c, q = q_tri q_local, scale = s scale_local (method section 1).

        Where the avatar has a residual, its changes for the frame's expression are added to ``local`` first.

        Args:
            local: N Gaussians.
            posed: the frame.
            learned: whether to add the changes of ``bases``.
        """
        if learned and self.bases is not None:
            local = self.bases.at(local, posed.code, self._residual)
        elif self._residual is not None:
            local = self._residual.at(local, posed.code)
        if local.means.device.type == "cpu" and not posed.vertices.requires_grad:
            means, quats, scales = ToWorld.apply(
                local.means, local.quats, local.scales, self._triangle, self._corners, self._bary, posed
            )
            return local.replace(means=means, quats=quats, scales=scales, space="world")
        corners = posed.vertices.index_select(0, self._corners).unflatten(0, (-1, 3))
        anchor = (corners * self._bary).sum(1)
        rotation = posed.rotation.index_select(0, self._triangle).unflatten(1, (3, 3))
        scale = posed.scale.index_select(0, self._triangle)[:, None]
        return local.replace(
            means=anchor + scale * (rotation * local.means[:, None, :]).sum(-1),
            quats=quat_multiply(posed.quat.index_select(0, self._triangle), local.quats),
            scales=scale * local.scales,
            space="world",
        )
