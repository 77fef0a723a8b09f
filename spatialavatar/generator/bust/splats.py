"""Gaussians on a torso's surface: small where the photo has detail, large where it is plain."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.bust.picture import TorsoPicture
from spatialavatar.generator.bust.surface import STRIDE
from spatialavatar.generator.numerics import Floats, Pixels, bilinear, blur
from spatialavatar.head.rotations import matrix_to_quat
from spatialavatar.records import Camera, Gaussians

_FINE = (8, 4, 2)  # pixels a side, of cells of what the photo shows
_COARSE = (16, *_FINE)  # of what it does not show
_WIDTH = 0.68  # standard deviation over the side of a cell
_THICKNESS = 0.2
_MAX_STRETCH = 2.5
_MIN_OPACITY = 0.04
_MAX_OPACITY = 0.99


def torso_cells(
    picture: TorsoPicture, config: BustConfig, sizes: Sequence[int] = _FINE
) -> tuple[Floats, Floats, Floats, Floats]:
    """Square cells that tile the torso in the picture.

    Args:
        picture: the torso.
        config: constants.
        sizes: sides that a cell may have, from large to small, pixels; each half of the one before.

    Returns:
        Centres (M, 2), pixels; sides (M,), pixels; opacities (M,); colours (M, 3).
    """
    detail = config.detail
    while len((cells := _divided(picture, detail, sizes))[0]) > config.most and detail[0] < 1.0:
        detail = (1.4 * detail[0], 1.4 * detail[1])
    return cells


def _divided(
    picture: TorsoPicture, limits: tuple[float, float], sizes: Sequence[int]
) -> tuple[Floats, Floats, Floats, Floats]:
    """The cells of :func:`torso_cells` for limits as ``BustConfig.detail``."""
    height, width = (side // sizes[0] * sizes[0] for side in picture.opacity.shape)
    opacity, image = picture.opacity[:height, :width], picture.image[:height, :width]
    pending = np.ones((height // sizes[0], width // sizes[0]), bool)
    parts = []
    for size in sizes:
        mean, spread = _moments(opacity[..., None], size)
        color, detail = _moments(image, size)
        divided = np.zeros_like(pending)
        if size > sizes[-1]:
            edge = (spread[..., 0] > 0.1) & (mean[..., 0] > _MIN_OPACITY)
            if size > _FINE[0]:  # such a Gaussian is seen beyond its cell
                around, _ = _moments(cv2.erode(opacity, np.ones((size, size), np.uint8))[..., None], size)
                edge |= mean[..., 0] > around[..., 0] + 0.05
            divided = pending & (edge | ((detail.max(-1) > limits[size < 8]) & (mean[..., 0] > _MIN_OPACITY)))
        kept = pending & ~divided & (mean[..., 0] > _MIN_OPACITY)
        row, column = np.nonzero(kept)
        centre = (np.stack([column, row], 1) + 0.5) * size
        parts.append((centre, np.full(len(row), float(size)), mean[kept][:, 0], color[kept]))
        pending = divided.repeat(2, 0).repeat(2, 1)
    centres, sides, opacities, colors = (np.concatenate(values) for values in zip(*parts))
    return centres, sides, opacities.astype(np.float64), colors.astype(np.float64)


def torso_gaussians(
    picture: TorsoPicture, depth: Pixels, config: BustConfig, *, behind: bool = False
) -> tuple[Gaussians, Tensor]:
    """World Gaussians that tile a surface, in the photo's pose, and their neck weights (M,).

    Args:
        picture: the torso.
        depth: (h, w) of the surface, metres.
        config: constants.
        behind: whether it is the torso's back. Third axes point out of the torso: towards the camera, or away from it.
    """
    centres, sides, opacities, colors = torso_cells(picture, config, _COARSE if behind else _FINE)

    def at(pixels: Floats) -> Floats:
        """Points (M, 3) of the surface, camera axes."""
        return _unprojected(pixels, bilinear(depth, pixels / STRIDE), picture.camera)

    right, below = np.array([[STRIDE, 0.0], [0.0, STRIDE]])
    across = (at(centres + right) - at(centres - right)) / (2.0 * STRIDE)
    down = (at(centres + below) - at(centres - below)) / (2.0 * STRIDE)
    middle = at(centres)
    pixel = middle[:, 2] / float(picture.camera.intrinsics[0, 0])
    x = across / np.linalg.norm(across, axis=1, keepdims=True)
    y = down - (down * x).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    y = y if behind else -y
    axes = np.stack([x, y, np.cross(x, y)], -1)
    width = np.stack([np.linalg.norm(across, axis=1), np.linalg.norm(down, axis=1)], 1)
    width = np.clip(width, pixel[:, None], _MAX_STRETCH * pixel[:, None])
    scales = _WIDTH * sides[:, None] * np.concatenate([width, _THICKNESS * pixel[:, None]], 1)
    weights = bilinear(picture.neck_weight, centres).clip(0.0, 1.0)
    return _in_world(picture.camera, middle, axes, scales, opacities, colors), torch.from_numpy(weights).float()


def side_gaussians(picture: TorsoPicture, outline: Pixels, front: Pixels, back: Pixels) -> tuple[Gaussians, Tensor]:
    """World Gaussians that close the gap between two surfaces, and their neck weights (M,).

    Args:
        picture: for colours, directions and neck weights.
        outline: (h, w) opacity of the sides in the cells of the surfaces; 0 where they stay open.
        front: (h, w) depth of the nearer surface, metres.
        back: (h, w) depth of the farther one.
    """
    rows, columns = np.nonzero(outline > _MIN_OPACITY)
    cells: Floats = np.asarray((np.stack([columns, rows], 1) + 0.5) * STRIDE, np.float64)
    inside = blur((picture.opacity > 0.5).astype(np.float32), 2.0 * STRIDE)
    down, right = (np.gradient(inside, axis=axis).astype(np.float32) for axis in (0, 1))
    slope = bilinear(np.stack([right, down], -1), cells).astype(np.float64)
    inwards = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    centres = cells + 0.5 * STRIDE * inwards  # behind the front, not beside it
    near, far = front[rows, columns], back[rows, columns]
    step = 2.0 * STRIDE * near.astype(np.float64) / float(picture.camera.intrinsics[0, 0])
    counts = np.ceil(np.maximum(far - near, 0.0) / step).astype(int)
    cell = np.repeat(np.arange(len(rows)), counts)
    share = (np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5) / counts[cell]
    middle = _unprojected(centres[cell], near[cell] + share * (far - near)[cell], picture.camera)
    normal = np.concatenate([-inwards[cell], np.zeros((len(cell), 1))], 1)
    depthwards = np.tile([0.0, 0.0, 1.0], (len(cell), 1))
    axes = np.stack([np.cross(depthwards, normal), depthwards, normal], -1)
    scales = _WIDTH * step[cell, None] * np.array([[0.6, 1.0, 0.5 * _THICKNESS]])
    colors = bilinear(picture.image, centres)[cell]
    opacities = outline[rows, columns][cell].astype(np.float64)
    weights = bilinear(picture.neck_weight, centres)[cell].clip(0.0, 1.0)
    return _in_world(picture.camera, middle, axes, scales, opacities, colors), torch.from_numpy(weights).float()


def _unprojected(pixels: Floats, z: Floats, camera: Camera) -> Floats:
    """Points (M, 3) of depth z (M,) in pixels (M, 2), camera axes."""
    k = camera.intrinsics.double().numpy()
    return np.stack([(pixels[:, 0] - k[0, 2]) / k[0, 0] * z, (pixels[:, 1] - k[1, 2]) / k[1, 1] * z, z], 1)


def _in_world(
    camera: Camera, points: Floats, axes: Floats, scales: Floats, opacities: Floats, colors: Floats
) -> Gaussians:
    """World Gaussians from points (M, 3) and axes (M, 3, 3, in columns) in camera axes."""
    to_world = camera.world_to_camera.double()
    rotation, offset = to_world[:3, :3], to_world[:3, 3]
    return Gaussians(
        means=((torch.from_numpy(points) - offset) @ rotation).float(),
        quats=matrix_to_quat(rotation.T @ torch.from_numpy(axes)).float(),
        scales=torch.from_numpy(scales).float(),
        opacities=torch.from_numpy(opacities.clip(0.0, _MAX_OPACITY)).float(),
        colors=torch.from_numpy(colors).float(),
        space="world",
    )


def _moments(values: Pixels, size: int) -> tuple[Pixels, Pixels]:
    """Mean and standard deviation (h, w, C) over square cells of a picture (H, W, C)."""
    shape = (values.shape[1] // size, values.shape[0] // size)
    mean, square = (cv2.resize(part, shape, interpolation=cv2.INTER_AREA) for part in (values, values**2))
    mean, square = (part.reshape(*shape[::-1], values.shape[2]) for part in (mean, square))
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))
