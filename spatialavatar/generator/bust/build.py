"""An avatar's bust from the photo that shows most of the torso."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.generator.bust.back import back_picture, has_back, root_weights, towards_camera
from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.bust.neck import narrowed_neck
from spatialavatar.generator.bust.picture import DENSE, TorsoPicture, torso_picture
from spatialavatar.generator.bust.splats import side_gaussians, torso_gaussians
from spatialavatar.generator.bust.surface import back_depth, torso_depth, torso_outline
from spatialavatar.generator.numerics import Pixels, bilinear, blur, smoothstep
from spatialavatar.head import root_motion
from spatialavatar.head.rotations import matrix_to_quat, quat_multiply
from spatialavatar.records import Bust, Gaussians, Track
from spatialavatar.render import render

_GAIN = 0.8  # of a step of sharpening


@torch.no_grad()
def with_bust(avatar: Avatar, tracks: Sequence[Track], config: BustConfig | None = None) -> Avatar:
    """Add the torso to an avatar.

    Args:
        avatar: output of stage 1 for the photos.
        tracks: the photos, with pictures and segments.
        config: constants.

    Returns:
        The avatar with a bust; unchanged where no photo shows enough of the torso, or the head has no dense landmarks.
    """
    config = config or BustConfig()
    if DENSE not in avatar.head.landmark_embeddings:
        return avatar
    usable = [track for track in tracks if track.pictures is not None and track.pictures.segments is not None]
    pictures = [torso_picture(avatar, track.to("cpu"), config) for track in usable]
    best = max(pictures, key=_worth, default=None)
    if best is None or best.area < config.least_area:
        return avatar
    closed = has_back(avatar, best, config)
    pictures = [best]
    if closed:
        narrower = narrowed_neck(avatar, best)
        offsets = narrower if avatar.vertex_offsets is None else narrower + avatar.vertex_offsets
        avatar = replace(avatar, vertex_offsets=offsets)
        pictures.append(back_picture(avatar, best, narrower, config))
    depth = torso_depth(avatar, best, config)
    world, weights = torso_gaussians(best, depth, config)
    bust = Bust(_at_rest(avatar, world, best), _head_share(avatar, pictures, config), weights)
    shown = _sharpened(replace(avatar, bust=bust), best, config)
    return _with_back(shown, pictures[1], depth, config) if closed else shown


def _with_back(avatar: Avatar, back: TorsoPicture, depth: Pixels, config: BustConfig) -> Avatar:
    """The avatar with the back and the sides of the bust beside its front of a depth (h, w)."""
    bust = avatar.bust
    assert bust is not None
    assert bust.neck_weight is not None
    far = back_depth(avatar, back, config)
    sheet, weights = torso_gaussians(back, far, config, behind=True)
    sides, side_weights = side_gaussians(back, torso_outline(back), depth, far)
    added = _at_rest(avatar, sheet.joined(sides), back)
    weights = torch.cat([bust.neck_weight, weights, side_weights])
    return replace(avatar, bust=bust.replace(gaussians=bust.gaussians.joined(added), neck_weight=weights))


def _worth(picture: TorsoPicture) -> float:
    """How good a photo is for the bust: the torso's area, less where the head is turned."""
    return picture.area * float(torch.cos(picture.params.rotation.norm()).clamp_min(0.1))


def _at_rest(avatar: Avatar, world: Gaussians, picture: TorsoPicture) -> Gaussians:
    """World Gaussians of the photo's pose, moved to rest in head space."""
    rotation, offset = (value[0] for value in root_motion(picture.params, avatar.identity()))
    return world.replace(
        means=(world.means - offset) @ rotation,
        quats=quat_multiply(matrix_to_quat(rotation.T[None]).expand_as(world.quats), world.quats),
    )


def _head_share(avatar: Avatar, pictures: Sequence[TorsoPicture], config: BustConfig) -> Tensor:
    """(N,) factor of the opacity of the head's Gaussians that the torso replaces.

    Args:
        avatar: the head.
        pictures: the torso's front, and its back if it has one.
        config: constants.
    """
    head, layout = avatar.head, avatar.layout
    front = pictures[0]
    posed = avatar.pose(front.params)
    pixels = front.camera.project(posed.means).double().numpy()
    weight = root_weights(avatar).double().numpy()
    neck = layout.mask(head, *head.available_parts("neck")).numpy()
    facing = smoothstep(towards_camera(avatar, posed, front).numpy(), *config.facing)
    sides = [facing, 1.0 - facing] if len(pictures) > 1 else [np.ones_like(facing)]
    # A neck that is wider than the person's would stand out of the torso's outline.
    lost = smoothstep(bilinear(blur(front.background.astype(np.float32), 2.0), pixels), 0.2, 0.5) * neck
    for picture, side in zip(pictures, sides):
        torso = bilinear(blur(picture.opacity, 1.5), pixels)
        clothes = bilinear(blur(picture.clothes.astype(np.float32), 1.5), pixels) * torso
        held = smoothstep(weight, *config.share_fade) * torso
        covered = smoothstep(weight, *config.clothes_fade) * clothes * neck
        lost = np.maximum(lost, np.maximum(held, covered) * side)
    return torch.from_numpy(1.0 - lost).float()


def _sharpened(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> Avatar:
    """The avatar with the bust's colours fitted to the photo."""
    count = len(avatar.layout)
    target = torch.from_numpy(picture.image)
    for _ in range(config.sharpening):
        bust = avatar.bust
        assert bust is not None
        world = avatar.pose(picture.params)
        image, alpha = render(world, picture.camera)
        wrong = (target * alpha[..., None] - image) * torch.from_numpy(picture.opacity * ~picture.hidden)[..., None]
        pixels = picture.camera.project(world.means[count:]).double().numpy()
        step = torch.from_numpy(bilinear(wrong.numpy(), pixels)).float()
        colors = (bust.gaussians.colors + _GAIN * step).clamp(0.0, 1.0)
        avatar = replace(avatar, bust=bust.replace(gaussians=bust.gaussians.replace(colors=colors)))
    return avatar
