"""Comparisons with the initial avatar from random sides (ours; the paper has no such term).

The frames constrain the look of a Gaussian from the filmed sides only. They hardly constrain its depth, and whether it
still covers the Gaussians behind it when the head turns. After thousands of steps of noise, a face has holes from 15
degrees beside the filmed views, which the initial avatar of stage 1 does not have. So every few steps the refined head
is also rendered from a random side, and compared with the initial means, scales and opacities in the current colours.
The far side of the head is hidden in both renders, so that holes are visible. The parts behind the lips are hidden in
the initial render: they must not be visible anywhere else.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import Camera

_COVERED = 0.98
"""Alpha of the initial render from which a pixel counts; hair may grow beyond it."""

_RIM = 1 / 32
"""Share of the picture's width, from the outline inwards, that does not count: the initial outline may be too large."""


def turned_camera(camera: Camera, center: Tensor, reach: tuple[float, float], generator: torch.Generator) -> Camera:
    """Move a camera to a random position on an arc.

    Args:
        camera: of a frame.
        center: (3,) of the arc, world, metres.
        reach: largest turn about the camera's horizontal and vertical axis, degrees to either side.
        generator: random generator of the two angles.
    """
    angles = (2.0 * torch.rand(1, 2, generator=generator) - 1.0) * torch.tensor([reach]).deg2rad()
    turn = axis_angle_to_matrix(torch.nn.functional.pad(angles, (0, 1)))[0].to(center)
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    inside = rotation @ center + translation
    moved = camera.world_to_camera.clone()
    moved[:3, :3] = turn @ rotation
    moved[:3, 3] = inside + turn @ (translation - inside)
    return replace(camera, world_to_camera=moved)


def interior_difference(color: Tensor, alpha: Tensor, expected: Tensor, cover: Tensor) -> Tensor:
    """Mean over all pixels of |colour| + |alpha| difference inside the initial outline, without its rim.

    Args:
        color: (H, W, 3) over black.
        alpha: (H, W, 1).
        expected: (H, W, 3), the initial render over black.
        cover: (H, W, 1), its alpha.
    """
    difference = (color - expected).abs().mean(-1, keepdim=True) + (alpha - cover).abs()
    rim = max(1, round(_RIM * cover.shape[1]))
    inside = -torch.nn.functional.max_pool2d(-cover.movedim(-1, 0), 2 * rim + 1, stride=1, padding=rim).movedim(0, -1)
    return ((inside > _COVERED) * difference).mean()
