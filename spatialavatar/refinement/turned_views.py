"""What holds the form where no frame looks: renders from random sides (ours; the paper has no such term).

A clip tells how a Gaussian looks from where it was filmed. How deep the Gaussian lies, and whether it still covers what
is behind it when the head is turned, it hardly tells, and thousands of steps of noise make a face full of holes from
15 degrees beside the filmed angles. The form that stage 1 gave has none. So now and then the refined head is also
rendered from a random side and compared with the form of the start in the colours of now, both without the far side of
the head, so that holes show. What lies behind the lips must show nowhere else, and is left out of the start's render.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import Camera

_COVERED = 0.98
"""Alpha of the start's form from which a pixel is inside; hair may grow beyond it."""

_RIM = 1 / 32
"""Share of the picture's width, from the outline inwards, that does not count: the start's form may be too large."""


def beside(camera: Camera, center: Tensor, reach: tuple[float, float], generator: torch.Generator) -> Camera:
    """The camera moved to a random place on an arc about ``center`` (3,), world metres.

    ``reach`` is the most it turns about its own horizontal and vertical axis, degrees to either side.
    """
    angles = (2.0 * torch.rand(1, 2, generator=generator) - 1.0) * torch.tensor([reach]).deg2rad()
    turn = axis_angle_to_matrix(torch.nn.functional.pad(angles, (0, 1)))[0].to(center)
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    inside = rotation @ center + translation
    moved = camera.world_to_camera.clone()
    moved[:3, :3] = turn @ rotation
    moved[:3, 3] = inside + turn @ (translation - inside)
    return replace(camera, world_to_camera=moved)


def inner_difference(color: Tensor, alpha: Tensor, expected: Tensor, cover: Tensor) -> Tensor:
    """Mean over all pixels of |colour| + |alpha| difference where ``cover`` is solid, its rim left out.

    Args:
        color: (H, W, 3) over black.
        alpha: (H, W, 1).
        expected: (H, W, 3), of the start's form.
        cover: (H, W, 1), its alpha.
    """
    off = (color - expected).abs().mean(-1, keepdim=True) + (alpha - cover).abs()
    rim = max(1, round(_RIM * cover.shape[1]))
    inside = -torch.nn.functional.max_pool2d(-cover.movedim(-1, 0), 2 * rim + 1, stride=1, padding=rim).movedim(0, -1)
    return ((inside > _COVERED) * off).mean()
