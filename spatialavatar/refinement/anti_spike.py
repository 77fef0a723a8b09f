"""The anti-spike measures of method section 3, which limit the elongation of Gaussians.

A needle that points at the camera of a training view is a dot there and a spike in every other view. There are three
measures: scales are frozen until colours and positions have settled (``families.py``), log scales are clamped after
each step (``run.py``), and the aspect on screen is penalised (``objective.py``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spatialavatar.head.rotations import quat_to_matrix
from spatialavatar.records import Camera, Gaussians
from spatialavatar.refinement._compiled import Aspect

_TINY = 1e-12


def clamp_scales(log_scales: Tensor, low: Tensor, high: Tensor, spread: float) -> Tensor:
    """Clamp log s into [lo, hi], then shrink its deviation from its mean so that max - min <= ``spread``.

    Args:
        log_scales: (N, 3).
        low: (N, 1) or a scalar tensor, smallest log scale.
        high: likewise, largest log scale.
        spread: largest difference between two axes of one Gaussian.
    """
    clamped = torch.maximum(torch.minimum(log_scales, high), low)
    # Written out over the three axes: reductions over so short a dimension cost several times as much.
    a, b, c = clamped.split(1, -1)
    mean = (a + b + c) / 3.0
    extent = torch.maximum(torch.maximum(a, b), c) - torch.minimum(torch.minimum(a, b), c)
    return mean + (clamped - mean) * (spread / extent.clamp_min(_TINY)).clamp_max(1.0)


def projected_axes(means: Tensor, quats: Tensor, scales: Tensor, camera: Camera) -> Tensor:
    """J W R S: the Gaussians' three axes on the picture (N, 2, 3), pixels; Sigma_2D is this times its transpose.

    Args:
        means: (N, 3), world, in front of the camera.
        quats: (N, 4), wxyz.
        scales: (N, 3), metres.
        camera: its intrinsics without skew.
    """
    view, offset = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    x, y, z = (means @ view.T + offset).unbind(-1)
    inverse = 1.0 / z
    fx, fy = camera.intrinsics[0, 0] * inverse, camera.intrinsics[1, 1] * inverse
    axes = (view @ quat_to_matrix(quats)) * scales[:, None, :]
    across = fx[:, None] * (axes[:, 0] - (x * inverse)[:, None] * axes[:, 2])
    down = fy[:, None] * (axes[:, 1] - (y * inverse)[:, None] * axes[:, 2])
    return torch.stack([across, down], 1)


def log_aspect(axes: Tensor) -> Tensor:
    """1/2 log(lambda_max / lambda_min) (N,) of Sigma_2D = A A' for A (N, 2, 3), by the closed form of a 2 x 2 matrix.

    The determinant is the squared norm of the rows' cross product, so that needles lose no digits to cancellation. The
    rasteriser's blur is left out: it hides needles in the training views only.
    """
    across, down = axes.unbind(1)
    xx, xy, yy = (across * across).sum(-1), (across * down).sum(-1), (down * down).sum(-1)
    determinant = torch.linalg.cross(across, down).square().sum(-1)
    half_sum, half_difference = 0.5 * (xx + yy), 0.5 * (xx - yy)
    # The square root's gradient at a circle is infinite, hence the floor, relative to the circle's size.
    radius = (half_difference.square() + xy.square() + (1e-6 * half_sum).square() + _TINY).sqrt()
    largest = half_sum + radius
    return 0.5 * (largest.square() / determinant.clamp_min(_TINY)).log().clamp_min(0.0)


def aspect_loss(axes: Tensor, limit: float) -> Tensor:
    """L_aspect = E_g ReLU(1/2 log(lambda_max / lambda_min) - tau) over the axes (N, 2, 3) of visible Gaussians."""
    if len(axes) == 0:
        return axes.sum()
    return torch.relu(log_aspect(axes) - limit).mean()


def aspect_penalty(world: Gaussians, chosen: Tensor, camera: Camera, limit: float) -> Tensor:
    """L_aspect over some of N world Gaussians; differentiable in their quaternions and scales.

    The means are constants here: a Gaussian must not move to change its shape on screen.

    Args:
        world: N Gaussians, in front of the camera.
        chosen: (M,) indices of the Gaussians that the expectation is taken over.
        camera: its intrinsics without skew.
        limit: tau, logarithm of the aspect that is not penalised.
    """
    means = world.means.detach()
    if means.device.type == "cpu" and len(chosen) > 0:
        return Aspect.apply(world.quats, world.scales, means, chosen, camera, limit)
    means, quats, scales = (t.index_select(0, chosen) for t in (means, world.quats, world.scales))
    return aspect_loss(projected_axes(means, quats, scales, camera), limit)


def largest_aspect(axes: Tensor) -> float:
    """The largest ratio of two axes on the picture, over axes (N, 2, 3); 1 where there are none."""
    return math.exp(float(log_aspect(axes.detach()).max())) if len(axes) else 1.0
