"""The StyleUNet on the UV grid: a U-Net of modulated convolutions whose styles come from the pooled CLS token.

Modulated convolutions are those of StyleGAN2 (Karras et al. 2020, section 2.2): a style scales the input channels, and
the resulting weights are normalised to unit length per output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

MIN_SQUARE = 1e-4
"""Added to mean squares before the division by their root."""


class ModulatedConv(nn.Module):
    """w'_ijk = s_i w_ijk, then w'' = w' / sqrt(sum_ik w'^2 + 1e-8) (StyleGAN2, equations 1 and 3).

    Input and output are scaled instead of the weights: the same map, with one convolution for all styles of a batch.
    """

    def __init__(self, inputs: int, outputs: int, style: int, kernel: int = 3) -> None:
        """Initialise with random weights and styles near one."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # On the meta device, where only shapes count, normal_ would import sympy: 1.4 s and 140 MB at every start.
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.normal_().div_((inputs * kernel**2) ** 0.5)
        self.style = nn.Linear(style, inputs)
        if not self.style.weight.is_meta:
            nn.init.normal_(self.style.weight, std=style**-0.5)
        nn.init.ones_(self.style.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Convolve (B, inputs, H, W) under styles (B, S) to (B, outputs, H, W)."""
        scales = self.style(style)
        energy = scales.square() @ self.weight.square().sum((2, 3)).T
        y = functional.conv2d(x * scales[..., None, None], self.weight, padding=self.weight.shape[-1] // 2)
        return y * torch.rsqrt(energy + 1e-8)[..., None, None] + self.bias[:, None, None]


class FeatureTransform(nn.Module):
    """SFT (Wang et al. 2018): x (1 + a) + b, with a and b from the pooled CLS token, the same at every position."""

    def __init__(self, channels: int, style: int) -> None:
        """Initialise as the identity."""
        super().__init__()
        self.affine = nn.Linear(style, 2 * channels)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Transform (B, channels, H, W) under (B, S)."""
        scale, shift = self.affine(style)[..., None, None].chunk(2, dim=1)
        return x * (1.0 + scale) + shift


class _StyleBlock(nn.Module):
    """Two modulated convolutions, each on input of unit length, and an SFT layer."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.first = ModulatedConv(inputs, outputs, style)
        self.second = ModulatedConv(outputs, outputs, style)
        self.transform = FeatureTransform(outputs, style)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = functional.silu(self.first(unit_length(x), style))
        return functional.silu(self.transform(self.second(unit_length(x), style), style))


def unit_length(x: Tensor) -> Tensor:
    """(B, C, H, W) with a mean square of 1 over the channels at every position; zeros stay zero.

    Weights of unit length preserve the length of noise only: without this the signal faded by a third per layer at
    initialisation, and grew tenfold per layer where training had made the weights similar.
    """
    return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + MIN_SQUARE).to(x.dtype)


class StyleUNet(nn.Module):
    """UV features in, UV features out, on one grid; no noise is injected, so the same input gives the same output."""

    def __init__(self, inputs: int, outputs: int, cls: int, style: int, channels: Sequence[int]) -> None:
        """Initialise with random weights.

        Args:
            inputs: channels in.
            outputs: channels out.
            cls: length of the pooled CLS token.
            style: length of the style vector.
            channels: per level, from full resolution down; each level halves the one before.
        """
        super().__init__()
        self.mapping = nn.Sequential(nn.LayerNorm(cls), nn.Linear(cls, style), nn.SiLU(), nn.Linear(style, style))
        self.stem = nn.Conv2d(inputs, channels[0], kernel_size=1)
        steps = list(pairwise(channels))
        self.down = nn.ModuleList(_StyleBlock(coarse_in, coarse, style) for coarse_in, coarse in steps)
        self.top = _StyleBlock(channels[0], channels[0], style)
        # Narrowed before enlarging: most of the cost is at full resolution.
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, kernel_size=1) for fine, coarse in steps)
        self.up = nn.ModuleList(_StyleBlock(2 * fine, fine, style) for fine, coarse in steps)
        self.out = nn.Conv2d(channels[0], outputs, kernel_size=1)

    def forward(self, x: Tensor, cls: Tensor) -> Tensor:
        """Map (B, inputs, U, U) under CLS (B, D) to (B, outputs, U, U); U is halved once per level but the first."""
        style = self.mapping(cls)
        x = self.top(self.stem(x), style)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(functional.avg_pool2d(x, 2), style)
        for narrow, block, skip in reversed(list(zip(self.narrow, self.up, skips))):
            x = functional.interpolate(narrow(x), skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], 1), style)
        return self.out(x)
