"""The losses of method section 3: L1, 1 - SSIM over 11 x 11 windows, and the matte composite they compare.

The gradient of SSIM is written out, so that OpenCV's filter can sum the windows on a CPU (``metrics/ssim.py``).
:func:`compare` computes all terms at once, in compiled passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialavatar.metrics.ssim import C1, C2, ssim_with_partials, window_sums, window_weights
from spatialavatar.refinement._compiled import Compare

_CONSTANTS = np.float32(C1), np.float32(C2)


def l1_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two pictures of any one shape."""
    return (rendered - target).abs().mean()


def ssim_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """1 - mean SSIM of two pictures (H, W, C) in [0, 1]; the border is black. Differentiable in ``rendered``."""
    return 1.0 - ssim(rendered, target)


def ssim(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean SSIM of two pictures (H, W, C) in [0, 1]; differentiable in ``rendered``."""
    return _Ssim.apply(rendered, target)


def composite(image: Tensor, alpha: Tensor, background: Tensor, *, premultiplied: bool) -> Tensor:
    """A picture (H, W, 3) with coverage (H, W) over one colour (3,).

    Args:
        image: (H, W, 3) picture.
        alpha: (H, W) its coverage.
        background: (3,) colour.
        premultiplied: whether the picture is colour times alpha, as renders are, or colour, as photos are.
    """
    cover = alpha[..., None]
    return (image if premultiplied else image * cover) + (1.0 - cover) * background


def compare(
    color: Tensor, alpha: Tensor, image: Tensor, matte: Tensor, weight: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """L1 and 1 - SSIM of a render and a frame over one colour; differentiable in ``color`` and ``alpha``.

    Where the weight is 0, both sides are the render, detached: there is no difference, and windows that cross the
    border give no gradient there.

    Args:
        color: (H, W, 3) render, premultiplied.
        alpha: (H, W) its coverage.
        image: (H, W, 3) frame.
        matte: (H, W) its coverage.
        weight: (H, W) in [0, 1] of the frame.
        background: (3,) colour.
    """
    if color.device.type == "cpu":
        return Compare.apply(color, alpha, image, matte, weight, background, window_weights(), _CONSTANTS)
    rendered = composite(color, alpha, background, premultiplied=True)
    target = composite(image, matte, background, premultiplied=False)
    constant, weight = rendered.detach(), weight[..., None]
    rendered, target = torch.lerp(constant, rendered, weight), torch.lerp(constant, target, weight)
    return l1_loss(rendered, target), ssim_loss(rendered, target)


class _Ssim(torch.autograd.Function):
    """Mean of the SSIM map, with its gradient to the first picture."""

    @staticmethod
    def forward(ctx: Any, rendered: Tensor, target: Tensor) -> Tensor:
        similarity, partials = ssim_with_partials(rendered, target)
        ctx.save_for_backward(rendered, target, *partials)
        return similarity.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rendered, target, by_mean, by_square, by_product = ctx.saved_tensors
        # The window is symmetric and thus its own transpose: the partials are filtered by it again.
        by_mean, by_square, by_product = window_sums(torch.cat([by_mean, by_square, by_product], -1)).chunk(3, -1)
        total = by_mean + 2.0 * rendered * by_square + target * by_product
        return total * (grad / rendered.numel()), None
