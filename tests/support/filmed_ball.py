"""A ball that turns, filmed by its own renders: an avatar and a tracked video whose truth is known."""

from __future__ import annotations

import dataclasses

import torch

from spatialavatar.avatar import Avatar
from spatialavatar.records import Camera, HeadMotion, HeadParams, Pictures, Track
from spatialavatar.render import render

from .avatars import make_ball_avatar

SIZE = 64
FRAMES = 15


def patterned_ball() -> Avatar:
    """A ball of flat, opaque surfels in a smooth pattern."""
    avatar = make_ball_avatar(resolution=40)
    surface = avatar.layout.surface(avatar.head, avatar.head.template)
    colors = 0.5 + 0.4 * torch.sin(40.0 * surface + torch.tensor([0.0, 2.0, 4.0]))
    gaussians = avatar.gaussians.replace(
        means=torch.zeros_like(avatar.gaussians.means),
        scales=torch.tensor([0.25, 0.05, 0.25]).expand(len(colors), 3).clone(),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(colors), 4).clone(),
        colors=colors,
    )
    return dataclasses.replace(avatar, gaussians=gaussians, vertex_offsets=None)


def in_grey(avatar: Avatar) -> Avatar:
    """The same avatar without colours."""
    return dataclasses.replace(
        avatar, gaussians=avatar.gaussians.replace(colors=torch.full_like(avatar.gaussians.colors, 0.5))
    )


def turning(head, shape: torch.Tensor, frames: int = FRAMES) -> HeadParams:
    """The head turns from side to side at half a metre."""
    params = HeadParams.neutral(head.shape_count, head.expression_count, frames)
    rotation = torch.zeros(frames, 3)
    rotation[:, 1] = torch.linspace(-0.6, 0.6, frames)
    return params.replace(
        shape=shape, rotation=rotation, translation=torch.tensor([[0.0, 0.0, -0.6]]).expand(frames, 3)
    )


def filmed(avatar: Avatar, params: HeadParams) -> Track:
    """The avatar's own renders over grey, as a tracked video."""
    camera = Camera.frontal(SIZE)
    images, mattes = [], []
    for frame in range(len(params)):
        image, alpha = render(avatar.pose(params[frame]), camera, (0.5, 0.5, 0.5))
        images.append((image.clamp(0, 1) * 255).round().byte())
        mattes.append((alpha * 255).round().byte())
    return Track(
        motion=HeadMotion(params, 25.0, avatar.head.id, torch.ones(len(params))),
        camera=camera,
        pictures=Pictures(torch.stack(images), torch.stack(mattes)),
        crop=torch.tensor([[0.0, 0.0, SIZE, SIZE]]).expand(len(params), 4),
    )


def with_images(track: Track, images: torch.Tensor) -> Track:
    """The track with other pictures."""
    return track.replace(pictures=track.pictures.replace(images=images))
