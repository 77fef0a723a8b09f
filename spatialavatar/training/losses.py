"""The eight terms of stage 1's training loss (method section 2, "Training loss"), each a function of its own.

Pictures are (B, H, W, 3) float sRGB in [0, 1]; values on the UV grid are (B, N, C) over the N valid texels, Omega.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from spatialavatar.errors import InputError
from spatialavatar.generator.network import NetworkOutput
from spatialavatar.head import UVLayout
from spatialavatar.metrics import Lpips

SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the MS-SSIM windows, pixels (paper)."""

BOX_GROWTH = 1.65
"""Enlargement of the detected face box in the box loss (paper)."""

REGULARISERS = ("position_tv", "scale_tv", "jacobian")
"""Terms that depend on no picture."""

_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class LossWeights:
    """The weight of each term, by default the paper's; the paper gives 100 and 0.01 as approximate values.

    Attributes:
        l1: lambda_1.
        ms_ssim: lambda_ms.
        lpips: lambda_lp.
        box: lambda_box.
        position_tv: lambda_ps.
        scale_tv: lambda_ss.
        jacobian: lambda_jac; 0 and 1 both lose 0.4 to 0.7 dB in the paper.
        residual: lambda_delta, of phase 2 only.
    """

    l1: float = 100.0
    ms_ssim: float = 100.0
    lpips: float = 100.0
    box: float = 100.0
    position_tv: float = 1e-2
    scale_tv: float = 1e-2
    jacobian: float = 1e-1
    residual: float = 0.0

    def without_regularisers(self) -> LossWeights:
        """Return a copy in which the weights of :data:`REGULARISERS` are 0."""
        return replace(self, **dict.fromkeys(REGULARISERS, 0.0))


@dataclass(frozen=True, eq=False)
class LossInputs:
    """The values that the terms compare.

    Attributes:
        rendered: (B, H, W, 3), with gradient.
        target: (B, H, W, 3).
        boxes: (B, 4) faces: x0, y0, x1, y1, pixels.
        local_means: (B, N, 3) of the corrected Gaussians, triangle units.
        local_scales: (B, N, 3) of the same.
        output: of the network, decoded with ``view``.
        view: (B, 27) encoded directions that require a gradient.
        pairs: (2, P) of :func:`neighbour_pairs`.
    """

    rendered: Tensor
    target: Tensor
    boxes: Tensor
    local_means: Tensor
    local_scales: Tensor
    output: NetworkOutput
    view: Tensor
    pairs: Tensor


def training_terms(
    inputs: LossInputs, weights: LossWeights, network: Lpips, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Compute the unweighted terms whose weight is not 0, by the names of :class:`LossWeights`.

    Args:
        inputs: renders, targets and the network's output.
        weights: terms of weight 0 are not computed.
        network: LPIPS, on the pictures' device.
        generator: of the random signs, on the pictures' device.
    """
    terms = {
        "l1": lambda: l1_loss(inputs.rendered, inputs.target),
        "ms_ssim": lambda: ms_ssim_loss(inputs.rendered, inputs.target),
        "lpips": lambda: network.distances(inputs.rendered, inputs.target).mean(),
        "box": lambda: box_loss(inputs.rendered, inputs.target, inputs.boxes),
        "position_tv": lambda: total_variation(inputs.local_means, inputs.pairs),
        "scale_tv": lambda: total_variation(inputs.local_scales.log(), inputs.pairs),
        "jacobian": lambda: view_invariance_loss(inputs.output, inputs.view, generator),
        "residual": lambda: residual_loss(inputs.output.residual),
    }
    return {name: term() for name, term in terms.items() if getattr(weights, name) != 0.0}


def weighted_sum(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """L = sum of lambda_i L_i over the given terms."""
    names = [field.name for field in fields(weights) if field.name in terms]
    return torch.stack([getattr(weights, name) * terms[name] for name in names]).sum()


def l1_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """L1: mean |I - I*|."""
    return (rendered - target).abs().mean()


def ms_ssim_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """1 - mean of l_M * prod_j cs_j, Gaussian windows of sigma 0.5, 1, 2, 4 and 8 on one grid.

    Multi-scale SSIM (Wang et al. 2003) without a pyramid, as Zhao et al. ("Loss functions for image restoration with
    neural networks", 2017) compute it: contrast and structure cs at every sigma, luminance l at the widest only.
    Pictures are padded with their border values.
    """
    first, second = rendered.movedim(-1, 1), target.movedim(-1, 1)
    moments = torch.cat([first, second, first * first, second * second, first * second], 1)
    product = torch.ones_like(first)
    for sigma in SIGMAS:
        mean_a, mean_b, square_a, square_b, cross = _gaussian(moments, sigma).chunk(5, dim=1)
        # Rounding can make a zero variance negative.
        variance = (square_a - mean_a * mean_a).clamp_min(0.0) + (square_b - mean_b * mean_b).clamp_min(0.0)
        product = product * (2.0 * (cross - mean_a * mean_b) + _C2) / (variance + _C2)
        if sigma == max(SIGMAS):
            product = product * (2.0 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1)
    return 1.0 - product.mean()


def box_loss(rendered: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """L_box: mean |I - I*| over the pixels whose centres lie in the face box, grown by 1.65 about its centre.

    A box outside its picture contributes 0.
    """
    height, width = rendered.shape[1:3]
    centre, reach = 0.5 * (boxes[:, :2] + boxes[:, 2:]), 0.5 * BOX_GROWTH * (boxes[:, 2:] - boxes[:, :2])
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    across = (x - centre[:, :1]).abs() <= reach[:, :1]
    along = (y - centre[:, 1:]).abs() <= reach[:, 1:]
    inside = (along[:, :, None] & across[:, None, :])[..., None].to(rendered.dtype)
    difference = (rendered - target).abs() * inside
    return difference.sum() / (inside.sum() * rendered.shape[-1]).clamp_min(1.0)


def neighbour_pairs(layout: UVLayout) -> Tensor:
    """Return (2, P) the pairs of Gaussians whose texels are horizontal or vertical neighbours on the UV grid."""
    resolution = layout.resolution
    index = layout.texels.new_full((resolution**2,), -1)
    index[layout.texels] = torch.arange(len(layout), device=layout.texels.device)
    grid = index.unflatten(0, (resolution, resolution))
    beside = torch.stack([grid[:, :-1].flatten(), grid[:, 1:].flatten()])
    below = torch.stack([grid[:-1].flatten(), grid[1:].flatten()])
    pairs = torch.cat([beside, below], 1)
    return pairs[:, (pairs >= 0).all(0)]


def total_variation(values: Tensor, pairs: Tensor) -> Tensor:
    """TV over Omega: |difference to the right| + |difference below|, mean over texels and channels.

    For x_local it is the paper's position smoothness, for log scale its scale smoothness.

    Args:
        values: (B, N, C).
        pairs: (2, P) of :func:`neighbour_pairs`.
    """
    return (values[:, pairs[0]] - values[:, pairs[1]]).abs().sum() / values.numel()


def view_invariance_loss(output: NetworkOutput, view: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """L_jac = log(1 + |grad g_x|^2 + |grad g_s|^2), mean over the batch ("View-invariance penalty").

    It covers position and scale of the five heads, since the residual does not depend on the view. Unlike the paper we
    take the logarithm of the scale, so that small and large Gaussians have equal weight.

    Raises:
        InputError: the encoded view does not require a gradient, or the output was decoded without it.
    """
    position = jacobian_energy(output.view_part.positions, view, generator)
    scale = jacobian_energy(output.view_part.scales, view, generator)
    return torch.log1p(position + scale).mean()


def jacobian_energy(values: Tensor, view: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(B,) |grad_gamma sum_p <v_p, f_p>|^2 for random signs v: its mean is sum_p |df_p / dgamma|_F^2 (Hutchinson 1990).

    Args:
        values: f, (B, N, C), a differentiable function of ``view``.
        view: gamma, (B, 27), requires a gradient.
        generator: of the signs, on the same device.

    Raises:
        InputError: the values have no gradient with respect to the view.
    """
    if not (view.requires_grad and values.requires_grad):
        raise InputError("The view must require a gradient before it is decoded; call view.requires_grad_() first.")
    signs = torch.randint(0, 2, values.shape, generator=generator, device=values.device).to(values.dtype) * 2.0 - 1.0
    (gradient,) = torch.autograd.grad((signs * values).sum(), view, create_graph=True)
    return gradient.square().sum(-1)


def residual_loss(residual: Mapping[str, Tensor]) -> Tensor:
    """L_delta: mean |Delta| over Omega and the channels of position, rotation, scale and colour; opacity has none."""
    return torch.cat([value.flatten() for value in residual.values()]).abs().mean()


def _gaussian(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps (B, C, H, W) with a separable window that reaches four sigma."""
    reach = int(4.0 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    window = torch.exp(-0.5 * (offsets / sigma).square())
    window = (window / window.sum()).expand(maps.shape[1], 1, 1, -1)
    padded = functional.pad(maps, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, window, groups=maps.shape[1])
    return functional.conv2d(rows, window.transpose(2, 3), groups=maps.shape[1])
