"""The losses of method section 3: L1, 1 - SSIM over 11 x 11 windows, and the matte composite they compare.

SSIM follows Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004. Its gradient
is written out, so that on a CPU the windows can be summed by OpenCV's vectorised separable filter, which takes a tenth
of the time of a depthwise convolution in PyTorch. :func:`compare` is all of it at once, in compiled passes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialavatar.refinement._compiled import Compare

WINDOW = 11
"""Width of the window, pixels (paper)."""

_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_CONSTANTS = np.float32(_C1), np.float32(_C2)


def l1_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two pictures of any one shape."""
    return (rendered - target).abs().mean()


def ssim_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """1 - mean SSIM of two pictures (H, W, C) in [0, 1]; pictures go on in black. Differentiable in ``rendered``."""
    return 1.0 - ssim(rendered, target)


def ssim(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean SSIM of two pictures (H, W, C) in [0, 1]; differentiable in ``rendered``."""
    return _Ssim.apply(rendered, target)


def ssim_map(rendered: Tensor, target: Tensor) -> Tensor:
    """SSIM (H, W, C) of the window around each pixel of two pictures (H, W, C)."""
    return _similarity(rendered.detach(), target.detach())[0]


def composite(image: Tensor, alpha: Tensor, background: Tensor, *, premultiplied: bool) -> Tensor:
    """A picture (H, W, 3) with coverage (H, W) over one colour (3,).

    ``premultiplied`` says whether the picture holds colour times alpha, as renders do, or colour, as photos do.
    """
    cover = alpha[..., None]
    return (image if premultiplied else image * cover) + (1.0 - cover) * background


def compare(
    color: Tensor, alpha: Tensor, image: Tensor, matte: Tensor, weight: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """L1 and 1 - SSIM of a render and a frame over one colour; differentiable in ``color`` and ``alpha``.

    Where the frame does not count, both sides are the render as it is: no difference, and windows that reach across the
    border pass on no gradient.

    Args:
        color: (H, W, 3) render, premultiplied.
        alpha: (H, W) its coverage.
        image: (H, W, 3) frame.
        matte: (H, W) its coverage.
        weight: (H, W) in [0, 1], how far the frame counts.
        background: (3,) the colour.
    """
    if color.device.type == "cpu":
        return Compare.apply(color, alpha, image, matte, weight, background, _kernel(), _CONSTANTS)
    rendered = composite(color, alpha, background, premultiplied=True)
    target = composite(image, matte, background, premultiplied=False)
    constant, weight = rendered.detach(), weight[..., None]
    rendered, target = torch.lerp(constant, rendered, weight), torch.lerp(constant, target, weight)
    return l1_loss(rendered, target), ssim_loss(rendered, target)


class _Ssim(torch.autograd.Function):
    """Mean of the SSIM map, with its gradient to the first picture."""

    @staticmethod
    def forward(ctx: Any, rendered: Tensor, target: Tensor) -> Tensor:
        similarity, partials = _similarity(rendered, target)
        ctx.save_for_backward(rendered, target, *partials)
        return similarity.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rendered, target, by_mean, by_square, by_product = ctx.saved_tensors
        # The window is symmetric, so its transpose is itself: each partial flows back through the same filter.
        by_mean, by_square, by_product = _window(torch.cat([by_mean, by_square, by_product], -1)).chunk(3, -1)
        total = by_mean + 2.0 * rendered * by_square + target * by_product
        return total * (grad / rendered.numel()), None


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The SSIM map (H, W, C) and its partial derivatives to the windowed x, x^2 and x y."""
    mean_x, mean_y, square_x, square_y, product = _window(torch.cat([x, y, x * x, y * y, x * y], -1)).chunk(5, -1)
    both, spread = 2.0 * mean_x * mean_y + _C1, 2.0 * (product - mean_x * mean_y) + _C2
    energy = mean_x * mean_x + mean_y * mean_y + _C1
    variance = (square_x - mean_x * mean_x) + (square_y - mean_y * mean_y) + _C2
    scale = 1.0 / (energy * variance)
    similarity = both * spread * scale
    by_square = -similarity / variance
    by_product = 2.0 * both * scale
    by_mean = 2.0 * mean_y * spread * scale - 2.0 * mean_x * similarity / energy
    by_mean = by_mean - 2.0 * mean_x * by_square - mean_y * by_product
    return similarity, (by_mean, by_square, by_product)


@lru_cache(maxsize=1)
def _kernel() -> np.ndarray:
    """The window's (11,) weights along one axis."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _window(maps: Tensor) -> Tensor:
    """Weighted sums (H, W, C) over the window around each pixel of maps (H, W, C), zero beyond the border."""
    if maps.device.type == "cpu":
        filtered = cv2.sepFilter2D(maps.contiguous().numpy(), -1, _kernel(), _kernel(), borderType=cv2.BORDER_CONSTANT)
        return torch.from_numpy(filtered.reshape(maps.shape))
    weights = torch.from_numpy(_kernel()).to(maps)
    stacked = maps.movedim(-1, 0)[:, None]
    stacked = torch.nn.functional.conv2d(stacked, weights.reshape(1, 1, -1, 1), padding=(WINDOW // 2, 0))
    stacked = torch.nn.functional.conv2d(stacked, weights.reshape(1, 1, 1, -1), padding=(0, WINDOW // 2))
    return stacked[:, 0].movedim(0, -1)
