"""Visibility of Gaussians in frames: the colour of one that is seen only at grazing angles is not fitted."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.easing import smoothstep_tensor
from spatialavatar.records import Camera, Gaussians
from spatialavatar.refinement.anti_spike import projected_axes
from spatialavatar.render import rasterize_view

_BLUR = 0.3  # the rasteriser's, pixels squared
_FULL = 242  # matte value from which a pixel is a person's alone


def matte_interior(matte: Tensor, rim: float) -> Tensor:
    """(H, W) bool: pixels of a matte (H, W) uint8 that are full and ``rim`` pixels or more inside its edge."""
    width = 2 * round(rim) + 1
    full = (matte.cpu().numpy() > _FULL).astype(np.uint8)
    return torch.from_numpy(cv2.erode(full, np.ones((width, width), np.uint8), borderValue=0) > 0)


def visibility(
    world: Gaussians,
    normals: Tensor,
    camera: Camera,
    counted: Tensor,
    shown: tuple[float, float],
    facing: tuple[float, float],
) -> Tensor:
    """(N,) in [0, 1]: how clearly one view shows each Gaussian.

    The product of two factors. The first is the share of the Gaussian's footprint that it contributes to the picture:
    its blending weight, summed over the counted pixels, is the gradient of the picture's sum with respect to its
    colour. The second is how squarely its surface faces the camera.

    Args:
        world: N posed Gaussians.
        normals: (N, 3) of the surface under them, world.
        camera: of the view.
        counted: (H, W) in [0, 1], weight of the pixels.
        shown: shares at which the first factor leaves 0 and reaches 1.
        facing: cosines of the angle to the viewer at which the second factor leaves 0 and reaches 1.
    """
    share = footprint_shares(world, camera, counted[..., None])[:, 0]
    return smoothstep_tensor(share, *shown) * smoothstep_tensor(squareness(world, normals, camera), *facing)


def footprint_shares(world: Gaussians, camera: Camera, counted: Tensor) -> Tensor:
    """(N, M) in [0, 1]: the share of each Gaussian's footprint that it contributes to the picture.

    Args:
        world: N posed Gaussians.
        camera: of the view.
        counted: (H, W, M) in [0, 1], M weights of the pixels.
    """
    with torch.enable_grad():
        brightness = torch.ones(len(world), counted.shape[-1], device=world.means.device, requires_grad=True)
        # Only the brightness takes a gradient.
        means, quats, scales, opacities = (
            value.detach() for value in (world.means, world.quats, world.scales, world.opacities)
        )
        lit = Gaussians(means, quats, scales, opacities, brightness, space="world")
        image, _, _ = rasterize_view(lit, camera, eps2d=_BLUR)
        (weight,) = torch.autograd.grad((image * counted).sum(), brightness)
    with torch.no_grad():
        across, down = projected_axes(world.means, world.quats, world.scales, camera).unbind(1)
        xx, xy, yy = (across * across).sum(-1) + _BLUR, (across * down).sum(-1), (down * down).sum(-1) + _BLUR
        footprint = 2.0 * torch.pi * (xx * yy - xy * xy).clamp_min(1e-12).sqrt() * world.opacities
        return weight / footprint.clamp_min(1e-6)[:, None]


@torch.no_grad()
def squareness(world: Gaussians, normals: Tensor, camera: Camera) -> Tensor:
    """(N,) cosine between the ``normals`` (N, 3), world, of the surface under N Gaussians and the way to the camera."""
    position = torch.linalg.inv(camera.world_to_camera)[:3, 3]
    toward = torch.nn.functional.normalize(position - world.means, dim=-1)
    return (normals * toward).sum(-1)
