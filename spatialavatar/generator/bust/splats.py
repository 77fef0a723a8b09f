"""Gaussians on a torso's surface: small where the photo has detail, large where it is plain."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.bust.picture import TorsoPicture
from spatialavatar.generator.bust.surface import STRIDE
from spatialavatar.generator.numerics import Floats, Pixels, bilinear
from spatialavatar.head.rotations import matrix_to_quat
from spatialavatar.records import Gaussians

_SIZES = (8, 4, 2)  # pixels a side
_WIDTH = 0.68  # standard deviation over the side of a cell
_THICKNESS = 0.2
_MAX_STRETCH = 2.5
_MIN_OPACITY = 0.04
_MAX_OPACITY = 0.99


def torso_cells(picture: TorsoPicture, config: BustConfig) -> tuple[Floats, Floats, Floats, Floats]:
    """Square cells that tile the torso in the picture.

    Returns:
        Centres (M, 2), pixels; sides (M,), pixels; opacities (M,); colours (M, 3).
    """
    detail = config.detail
    while len((cells := _divided(picture, detail))[0]) > config.most and detail[0] < 1.0:
        detail = (1.4 * detail[0], 1.4 * detail[1])
    return cells


def _divided(picture: TorsoPicture, limits: tuple[float, float]) -> tuple[Floats, Floats, Floats, Floats]:
    """The cells of :func:`torso_cells` for limits as ``BustConfig.detail``."""
    height, width = (side // _SIZES[0] * _SIZES[0] for side in picture.opacity.shape)
    opacity, image = picture.opacity[:height, :width], picture.image[:height, :width]
    pending = np.ones((height // _SIZES[0], width // _SIZES[0]), bool)
    parts = []
    for level, size in enumerate(_SIZES):
        mean, spread = _moments(opacity[..., None], size)
        color, detail = _moments(image, size)
        divided = np.zeros_like(pending)
        if level + 1 < len(_SIZES):
            edge = (spread[..., 0] > 0.1) & (mean[..., 0] > _MIN_OPACITY)
            divided = pending & (edge | ((detail.max(-1) > limits[level]) & (mean[..., 0] > _MIN_OPACITY)))
        kept = pending & ~divided & (mean[..., 0] > _MIN_OPACITY)
        row, column = np.nonzero(kept)
        centre = (np.stack([column, row], 1) + 0.5) * size
        parts.append((centre, np.full(len(row), float(size)), mean[kept][:, 0], color[kept]))
        pending = divided.repeat(2, 0).repeat(2, 1)
    centres, sides, opacities, colors = (np.concatenate(values) for values in zip(*parts))
    return centres, sides, opacities.astype(np.float64), colors.astype(np.float64)


def torso_gaussians(picture: TorsoPicture, depth: Pixels, config: BustConfig) -> tuple[Gaussians, Tensor]:
    """World Gaussians that tile the surface of depth (h, w), in the photo's pose, and their neck weights (M,)."""
    centres, sides, opacities, colors = torso_cells(picture, config)
    k = picture.camera.intrinsics.double().numpy()

    def at(pixels: Floats) -> Floats:
        """Points (M, 3) of the surface, camera axes."""
        z = bilinear(depth, pixels / STRIDE)
        return np.stack([(pixels[:, 0] - k[0, 2]) / k[0, 0] * z, (pixels[:, 1] - k[1, 2]) / k[1, 1] * z, z], 1)

    right, below = np.array([[STRIDE, 0.0], [0.0, STRIDE]])
    across = (at(centres + right) - at(centres - right)) / (2.0 * STRIDE)
    down = (at(centres + below) - at(centres - below)) / (2.0 * STRIDE)
    middle = at(centres)
    pixel = middle[:, 2] / k[0, 0]
    x = across / np.linalg.norm(across, axis=1, keepdims=True)
    y = down - (down * x).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    axes = np.stack([x, y, np.cross(x, y)], -1)
    width = np.stack([np.linalg.norm(across, axis=1), np.linalg.norm(down, axis=1)], 1)
    width = np.clip(width, pixel[:, None], _MAX_STRETCH * pixel[:, None])
    scales = _WIDTH * sides[:, None] * np.concatenate([width, _THICKNESS * pixel[:, None]], 1)
    to_world = picture.camera.world_to_camera.double()
    rotation, offset = to_world[:3, :3], to_world[:3, 3]
    means = (torch.from_numpy(middle) - offset) @ rotation
    weights = bilinear(picture.neck_weight, centres).clip(0.0, 1.0)
    gaussians = Gaussians(
        means=means.float(),
        quats=matrix_to_quat(rotation.T @ torch.from_numpy(axes)).float(),
        scales=torch.from_numpy(scales).float(),
        opacities=torch.from_numpy(opacities.clip(0.0, _MAX_OPACITY)).float(),
        colors=torch.from_numpy(colors).float(),
        space="world",
    )
    return gaussians, torch.from_numpy(weights).float()


def _moments(values: Pixels, size: int) -> tuple[Pixels, Pixels]:
    """Mean and standard deviation (h, w, C) over square cells of a picture (H, W, C)."""
    height, width, channels = values.shape
    cells = values.reshape(height // size, size, width // size, size, channels)
    return cells.mean((1, 3)), cells.std((1, 3))
