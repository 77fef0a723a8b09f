"""The ball avatar with a random residual."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import torch

from spatialavatar.avatar import Avatar
from spatialavatar.generator.network.heads import ResidualHead

from .avatars import make_ball_avatar

FEATURES = 5


@lru_cache
def head_and_features(colors: int = 3) -> tuple[ResidualHead, torch.Tensor]:
    """A residual head off its zero start for the ball, and features that half precision holds exactly."""
    avatar = make_ball_avatar()
    generator = torch.Generator().manual_seed(4)
    head = ResidualHead(FEATURES, avatar.head.expression_count + 12, 7, colors)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return head, torch.randn(len(avatar.layout), FEATURES, generator=generator).half().float()


def correction_weight() -> torch.Tensor:
    """From nothing at the first Gaussian of the ball to all at the last; half precision holds it exactly."""
    return torch.linspace(0, 1, len(make_ball_avatar().layout)).half().float()


@lru_cache
def moving_avatar() -> Avatar:
    """The ball, with a residual that is to be seen."""
    head, features = head_and_features()
    return dataclasses.replace(make_ball_avatar(), residual=head.of_person(features, correction_weight()))
