"""A network of few channels on the ball, and random inputs for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from spatialavatar.generator.network import (
    CorrectionNetwork,
    EncoderConfig,
    NetworkConfig,
    NetworkInputs,
)
from spatialavatar.generator.network.heads import (
    harmonic_encoding,
)
from spatialavatar.head import build_layout

from .ball_head import make_ball_head

TINY = NetworkConfig(
    encoder=EncoderConfig(widths=(4, 6, 8, 10), depths=(1, 1, 1, 1)),
    image_size=64,
    dense_channels=6,
    style_channels=8,
    unet_channels=(4, 6, 8),
    uv_channels=5,
    hidden_channels=7,
    color_channels=4,
    opacity_gain=1.0,
    along_normal=(),
)


@lru_cache
def ball():
    head = make_ball_head()
    return head, build_layout(head, 32)


def tiny(seed: int = 0) -> CorrectionNetwork:
    torch.manual_seed(seed)
    return CorrectionNetwork(TINY, *ball())


def inputs(people: int = 1, sources: int = 2) -> NetworkInputs:
    count = len(ball()[1])
    generator = torch.Generator().manual_seed(3)
    return NetworkInputs(
        images=torch.rand(people, sources, 3, 64, 64, generator=generator),
        places=torch.rand(people, sources, count, 2, generator=generator),
        weights=torch.rand(people, sources, count, generator=generator).sub(0.3).clamp_min(0.0),
        known=torch.rand(people, count, 7, generator=generator),
    )


def view(people: int = 1) -> torch.Tensor:
    return harmonic_encoding(nn.functional.normalize(torch.tensor([[0.1, -0.2, -1.0]]), dim=-1)).expand(people, -1)


def code(people: int = 1) -> torch.Tensor:
    return torch.linspace(-1, 1, ball()[0].expression_count + 12).expand(people, -1)


def shaken(network: CorrectionNetwork) -> CorrectionNetwork:
    """Off its zero start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network
