"""How clearly frames show a Gaussian: what no frame shows squarely must not learn its colour from a rim."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.records import Camera, Gaussians
from spatialavatar.refinement.shape_control import projected_axes
from spatialavatar.render import rasterize_view

_BLUR = 0.3  # the rasteriser's, pixels squared


def solid(matte: Tensor, rim: float) -> Tensor:
    """(H, W) bool: where a matte (H, W) uint8 is full, ``rim`` pixels and more inside its edge."""
    width = 2 * round(rim) + 1
    full = (matte.cpu().numpy() > 242).astype(np.uint8)
    return torch.from_numpy(cv2.erode(full, np.ones((width, width), np.uint8), borderValue=0) > 0)


def clearly_seen(
    world: Gaussians,
    normals: Tensor,
    camera: Camera,
    counted: Tensor,
    seen: tuple[float, float],
    facing: tuple[float, float],
) -> Tensor:
    """(N,) in [0, 1]: how clearly one view shows each Gaussian.

    The share of its footprint in which it is what the picture shows (its blending weight, summed over the pixels that
    count, is the gradient of the picture's sum to its colour), times how squarely its surface faces the camera.

    Args:
        world: N posed Gaussians.
        normals: (N, 3) of the surface under them, world.
        camera: of the view.
        counted: (H, W) in [0, 1], which pixels count.
        seen: share from which a Gaussian begins to be, and from which it is fully seen.
        facing: cosine of the angle to the viewer, likewise.
    """
    with torch.enable_grad():
        brightness = torch.ones(len(world), 1, device=world.means.device, requires_grad=True)
        # The record's values without their history: only the brightness takes part.
        means, quats, scales, opacities = (
            value.detach() for value in (world.means, world.quats, world.scales, world.opacities)
        )
        lit = Gaussians(means, quats, scales, opacities, brightness, space="world")
        image, _, _ = rasterize_view(lit, camera, eps2d=_BLUR)
        (weight,) = torch.autograd.grad((image[..., 0] * counted).sum(), brightness)
    with torch.no_grad():
        across, down = projected_axes(world.means, world.quats, world.scales, camera).unbind(1)
        xx, xy, yy = (across * across).sum(-1) + _BLUR, (across * down).sum(-1), (down * down).sum(-1) + _BLUR
        footprint = 2.0 * torch.pi * (xx * yy - xy * xy).clamp_min(1e-12).sqrt() * world.opacities
        share = weight[:, 0] / footprint.clamp_min(1e-6)
        position = torch.linalg.inv(camera.world_to_camera)[:3, 3]
        toward = torch.nn.functional.normalize(position - world.means, dim=-1)
        return smoothstep(share, *seen) * smoothstep((normals * toward).sum(-1), *facing)


def smoothstep(values: Tensor, low: float, high: float) -> Tensor:
    """0 up to ``low``, 1 from ``high`` on, a smooth cubic between."""
    t = ((values - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
