"""Picture metrics that refinement, training and evaluation share: PSNR, SSIM and LPIPS.

Pictures are (H, W, 3) float32 sRGB in [0, 1]. A weight (H, W) in [0, 1] gives each pixel its share of the mean.
"""

from __future__ import annotations

import math

from torch import Tensor

from spatialavatar.metrics.lpips import Lpips, lpips, shared_lpips
from spatialavatar.metrics.ssim import WINDOW, ssim_map

__all__ = ["WINDOW", "Lpips", "lpips", "psnr", "shared_lpips", "ssim", "ssim_map"]


def psnr(image: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio of two pictures (H, W, C) in [0, 1], dB, at most 100.

    Args:
        image: one picture.
        target: the other.
        weight: (H, W) in [0, 1]; None weights all pixels equally.
    """
    error = (image - target).square().mean(-1)
    mean = float(error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp_min(1e-6))
    return -10.0 * math.log10(max(mean, 1e-10))


def ssim(image: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """Mean structural similarity of two pictures (H, W, C) in [0, 1].

    Windows that cross the border are left out, as in scikit-image.

    Args:
        image: one picture, longer than ``WINDOW`` on each side.
        target: the other.
        weight: (H, W) in [0, 1]; None weights all pixels equally.
    """
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    similarity = ssim_map(image, target).mean(-1)[inside, inside]
    if weight is None:
        return float(similarity.mean())
    counted = weight[inside, inside]
    return float((similarity * counted).sum() / counted.sum().clamp_min(1e-6))
