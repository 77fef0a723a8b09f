"""Avatars of few Gaussians, made without photos."""

from __future__ import annotations

import torch

from spatialavatar.avatar import Avatar, default_head
from spatialavatar.head import HeadModel, build_layout
from spatialavatar.records import Bust, Camera, Gaussians, HeadParams

from .ball_head import make_ball_head


def make_ball_avatar(resolution: int = 48, head_id: str = "ball") -> Avatar:
    head = make_ball_head(head_id=head_id)
    layout = build_layout(head, resolution)
    count = len(layout)
    generator = torch.Generator().manual_seed(1)
    gaussians = Gaussians(
        means=0.05 * torch.randn(count, 3, generator=generator),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.rand(count, 3, generator=generator) * 0.3 + 0.05,
        opacities=torch.full((count,), 0.9),
        colors=torch.rand(count, 3, generator=generator),
    )
    reference = head.neutral()
    reference = HeadParams.cat([reference]).replace(translation=torch.tensor([[0.0, 0.0, -0.6]]))
    return Avatar(
        head=head,
        layout=layout,
        shape=torch.tensor([0.3, -0.5, 1.0]),
        gaussians=gaussians,
        reference=reference,
        camera=Camera.frontal(96),
        vertex_offsets=0.001 * torch.randn(len(head.template), 3, generator=generator),
        info={"sources": 2},
    )


def make_grey_avatar(resolution: int = 64, head: HeadModel | None = None) -> Avatar:
    """A grey head of few Gaussians, on the default head model or another."""
    head = head or default_head()
    layout = build_layout(head, resolution)
    count = len(layout)
    gaussians = Gaussians(
        means=torch.zeros(count, 3),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        scales=torch.full((count, 3), 0.5),
        opacities=torch.full((count,), 0.9),
        colors=torch.full((count, 3), 0.5),
    )
    shape = torch.zeros(head.shape_count)
    return Avatar(head, layout, shape, gaussians, head.neutral(), Camera.frontal(256))


def make_bust(count: int, texels: int) -> Bust:
    generator = torch.Generator().manual_seed(3)
    torso = Gaussians(
        means=torch.rand(count, 3, generator=generator) - torch.tensor([0.5, 1.2, 0.5]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        scales=torch.full((count, 3), 0.01),
        opacities=torch.full((count,), 0.9),
        colors=torch.rand(count, 3, generator=generator),
        space="world",
    )
    return Bust(torso, torch.rand(texels, generator=generator))
