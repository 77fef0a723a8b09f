"""Hides the far side of the head in compared renders (ours; the paper has no such step).

Through a hole in a cheek, the far side of the head is visible, which is often dark hair; behind the chin, the dark of
the mouth. In the filmed views that is a cheap way to fit stubble, brows and noise. In other views it is a face full of
dark specks. With the far side hidden, a hole shows the random background, so that the loss closes it.
"""

from __future__ import annotations

import torch

from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout
from spatialavatar.records import Camera, Gaussians
from spatialavatar.refinement.deformation import PosedHead

_OUTSIDE = ("face", "scalp", "ears", "neck")


class NearSide:
    """Hides the Gaussians on the far side of a posed head."""

    def __init__(self, head: HeadModel, layout: UVLayout, cosine: float) -> None:
        """Prepare for one head.

        Args:
            head: head model.
            layout: binding of the Gaussians.
            cosine: between a surface normal and the direction to the camera below which a surface is on the far side.
                Slightly negative, since Gaussians at the silhouette reach over it.
        """
        self._outside, self._mouth = (
            layout.mask(head, *head.available_parts(*parts)) for parts in (_OUTSIDE, BEHIND_LIPS)
        )
        self._first_corner, self._triangle = head.faces[:, 0], layout.faces
        self._cosine = cosine

    def __call__(self, world: Gaussians, posed: PosedHead, camera: Camera, *, mouth: bool = True) -> Gaussians:
        """The same N Gaussians; those of skin and hair that face away have no opacity and no gradient.

        Args:
            world: Gaussians of the frame.
            posed: mesh of the frame.
            camera: of the view.
            mouth: whether to draw the parts behind the lips.
        """
        normals = posed.normals.detach()
        corners = posed.vertices.detach().index_select(0, self._first_corner)
        toward = torch.linalg.inv(camera.world_to_camera)[:3, 3] - corners
        away = (normals * toward).sum(-1) < self._cosine * toward.norm(dim=-1)
        hidden = self._outside & away.index_select(0, self._triangle)
        if not mouth:
            hidden |= self._mouth
        return world.replace(opacities=world.opacities * ~hidden)
