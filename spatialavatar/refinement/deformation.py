"""The per-frame deformation of method section 1, arranged for many steps over the same few frames.

What depends on the frame alone (posed vertices, triangle frames) is computed once per frame and kept, within a bound;
what depends on the Gaussians is two products per step.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.head import HeadModel, Identity, UVLayout, triangle_frames
from spatialavatar.head.rotations import quat_multiply
from spatialavatar.records import Gaussians, HeadParams
from spatialavatar.refinement._compiled import Carry
from spatialavatar.residual import ExpressionResidual, expression_code

_CACHE_BYTES = 400 * 2**20


@dataclass(frozen=True)
class TriangleCarriers:
    """One posed frame.

    Attributes:
        vertices: (V, 3), metres, world.
        rotation: (F, 9) triangle rotations, row-major.
        quat: (F, 4) the same, wxyz.
        scale: (F,) metres per triangle unit.
        code: (1, E + 12) expression and pose as the residual reads them.
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
        """Memory of the tensors."""
        return sum(t.numel() * t.element_size() for t in (self.vertices, self.rotation, self.quat, self.scale))


class Deformer:
    """Carries local Gaussians to the posed head of any frame of a track, with gradients to the Gaussians.

    The same map as :meth:`spatialavatar.avatar.Avatar.pose`.
    """

    def __init__(
        self, head: HeadModel, layout: UVLayout, identity: Identity, residual: ExpressionResidual | None = None
    ) -> None:
        """Prepare for one person; ``identity`` is the rest head, ``residual`` what expressions add to the Gaussians."""
        self._head = head
        self._residual = residual
        self._identity = identity
        self._triangle = layout.faces
        self._bary = layout.bary[..., None]
        self._corners = head.faces[layout.faces].reshape(-1)
        self._kept: OrderedDict[int, TriangleCarriers] = OrderedDict()

    def set_rest(self, vertices: Tensor) -> None:
        """Take another rest head, (V, 3) in head space, from now on."""
        self._identity = Identity(vertices, self._identity.joints)
        self._kept.clear()

    def frame(self, params: HeadParams, key: int | None = None, displaced: Tensor | None = None) -> TriangleCarriers:
        """Pose one frame.

        With a ``key`` the result is kept (the least recently used are dropped) and without gradient. ``displaced``
        (V, 3) is added to the rest head in this frame only.
        """
        if displaced is not None:
            return self._posed(params, Identity(self._identity.vertices + displaced, self._identity.joints))
        if key is None:
            return self._posed(params, self._identity)
        carriers = self._kept.pop(key, None)
        if carriers is None:
            with torch.no_grad():
                carriers = self._posed(params, self._identity)
            while self._kept and (len(self._kept) + 1) * carriers.nbytes > _CACHE_BYTES:
                self._kept.popitem(last=False)
        self._kept[key] = carriers
        return carriers

    def _posed(self, params: HeadParams, identity: Identity) -> TriangleCarriers:
        vertices = self._head.pose(identity, params)[0]
        frames = triangle_frames(vertices[self._head.faces])
        code = expression_code(params)
        return TriangleCarriers(vertices, frames.rotation.flatten(1), frames.quat, frames.scale, code)

    def normals(self, frame: TriangleCarriers) -> Tensor:
        """(N, 3) outward unit normals of the triangles under the Gaussians."""
        return frame.normals.index_select(0, self._triangle)

    def carry(self, local: Gaussians, frame: TriangleCarriers) -> Gaussians:
        """World Gaussians: x = s R x_local + c, q = q_tri q_local, scale = s scale_local (method section 1).

        The residual of the frame's expression comes before that, where the person has one.
        """
        if self._residual is not None:
            local = self._residual.at(local, frame.code)
        if local.means.device.type == "cpu" and not frame.vertices.requires_grad:
            means, quats, scales = Carry.apply(
                local.means, local.quats, local.scales, self._triangle, self._corners, self._bary, frame
            )
            return local.replace(means=means, quats=quats, scales=scales, space="world")
        corners = frame.vertices.index_select(0, self._corners).unflatten(0, (-1, 3))
        anchor = (corners * self._bary).sum(1)
        rotation = frame.rotation.index_select(0, self._triangle).unflatten(1, (3, 3))
        scale = frame.scale.index_select(0, self._triangle)[:, None]
        return local.replace(
            means=anchor + scale * (rotation * local.means[:, None, :]).sum(-1),
            quats=quat_multiply(frame.quat.index_select(0, self._triangle), local.quats),
            scales=scale * local.scales,
            space="world",
        )
