"""Sharpening: add the difference between photos and renders of the source views to the colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.exposure import apply_gain
from spatialavatar.generator.numerics import Floats, Pixels, bilinear, smoothstep
from spatialavatar.generator.pooling import mean_pool
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.head import BEHIND_LIPS, Identity, to_world
from spatialavatar.records import Gaussians
from spatialavatar.render import render

_CLEARLY_SEEN = (0.3, 0.8)
"""Visibility of no and of full sharpening."""


def sharpen(
    surface: TexelSurface, photos: Sequence[PhotoEvidence], offsets: Tensor, gaussians: Gaussians, own: Floats
) -> Gaussians:
    """Undo the blur of sampling and splatting.

    Colours only, and only where a photo shows the texel clearly: unseen, grazing and rim texels would take up
    background, and lids would take up lashes that a blink smears.

    Args:
        surface: the texels.
        photos: balanced photos.
        offsets: (V, 3) metres on the rest vertices.
        gaussians: N local Gaussians.
        own: (N,) in [0, 1], share of the photos' own samples in the colours; the rest is left as it is.
    """
    config = surface.config.sharpening
    identity = surface.head.identity(photos[0].view.params.shape, offsets)
    pictures = [apply_gain(photo.view.image.astype(np.float64), photo.gain) for photo in photos]
    gates = [_gate(surface, photo) for photo in photos]
    strength = (np.max(gates, axis=0) * own)[:, None]
    colors = start = gaussians.colors.double().numpy()
    for _ in range(config.rounds):
        current = gaussians.replace(colors=torch.from_numpy(colors).float())
        missing = [
            bilinear(_missing(surface, identity, photo, picture, current), photo.warp.pixels) + photo.shading
            for photo, picture in zip(photos, pictures)
        ]
        step = config.step * strength * mean_pool(missing, gates).colors
        colors = (colors + step).clip(0.0, 1.0)
    # Ringing stronger than the photo's own contrast comes from errors of the fit.
    colors = start + (colors - start).clip(-config.limit, config.limit)
    return gaussians.replace(colors=torch.from_numpy(colors).float())


def _gate(surface: TexelSurface, photo: PhotoEvidence) -> Floats:
    """(N,) in [0, 1], where a photo may sharpen: not on lids, nor behind the lips."""
    gate = smoothstep(photo.weight, *_CLEARLY_SEEN) * (1.0 - surface.tables.lid)
    return gate * ~surface.mask(*BEHIND_LIPS)


def _missing(
    surface: TexelSurface, identity: Identity, photo: PhotoEvidence, picture: Floats, gaussians: Gaussians
) -> Pixels:
    """(H, W, 3): the picture, in its exposure, less the render of the local Gaussians, where that covers it."""
    vertices = surface.head.pose(identity, photo.view.params)[0]
    image, alpha = render(to_world(gaussians, surface.head, surface.layout, vertices), photo.view.camera)
    return (picture * alpha.numpy()[..., None] - image.numpy()).astype(np.float32)
