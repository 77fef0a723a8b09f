"""Frames are compared with what faces the camera (ours; the paper has no such step).

A hole in a cheek shows the far side of the head, which is often dark hair, and behind the chin the dark of the mouth.
From the filmed angles that is a cheap way to paint stubble, brows and noise; from others it is a face full of dark
specks. With the far side out of the picture a hole shows the random background, and closes.
"""

from __future__ import annotations

import torch

from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout
from spatialavatar.records import Camera, Gaussians
from spatialavatar.refinement.deformation import TriangleCarriers

_OUTSIDE = ("face", "scalp", "ears", "neck")


class NearSide:
    """Hides the Gaussians on the far side of a posed head."""

    def __init__(self, head: HeadModel, layout: UVLayout, cosine: float) -> None:
        """``cosine`` of a surface's normal to the way to the camera below which it is on the far side.

        A little below zero, since Gaussians of the rim lean over it.
        """
        self._outside, self._mouth = (layout.mask(head, *head.having(*parts)) for parts in (_OUTSIDE, BEHIND_LIPS))
        self._first_corner, self._triangle = head.faces[:, 0], layout.faces
        self._cosine = cosine

    def __call__(
        self, world: Gaussians, carriers: TriangleCarriers, camera: Camera, *, mouth: bool = True
    ) -> Gaussians:
        """The same N Gaussians, those of skin and hair that face away without opacity, and gradient.

        Args:
            world: posed with ``carriers``.
            carriers: of the frame.
            camera: of the view.
            mouth: whether what lies behind the lips is drawn.
        """
        normals = carriers.normals.detach()
        toward = torch.linalg.inv(camera.world_to_camera)[:3, 3] - carriers.vertices.detach()[self._first_corner]
        away = (normals * toward).sum(-1) < self._cosine * toward.norm(dim=-1)
        hidden = self._outside & away[self._triangle]
        if not mouth:
            hidden |= self._mouth
        return world.replace(opacities=world.opacities * ~hidden)
