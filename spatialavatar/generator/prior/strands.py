"""Strands that no photo shows: noise smeared along the predicted directions (line integral convolution)."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from spatialavatar.generator.numerics import LUMA, Floats, Mask, Pixels, bilinear
from spatialavatar.generator.prior.sphere import SphereGrid, blur_around, frames
from spatialavatar.generator.surface import TexelSurface

_FINE: Final = 2
"""Pixels of the strands' picture per cell of the map, along one side."""

_STEP: Final = 0.0025
"""Metres of a step along a strand."""

_LENGTH: Final = 0.03
"""Metres over which a strand keeps its brightness."""

_LOCK: Final = 2.0
"""Pixels, half width of a lock of strands."""

_LOCKS: Final = 0.9
"""Contrast of locks relative to that of strands."""

_LEAST_SEEN: Final = 100
"""Texels that must show hair before its contrast is measured."""

_USUAL_CONTRAST: Final = 0.12


def strand_texture(sphere: SphereGrid, points: Floats, direction: Floats, seed: int) -> Floats:
    """(N,) values of mean 0 and deviation about 1 that vary across the strands and hardly along them.

    Args:
        sphere: the map.
        points: (N, 3) texels on the person's head, metres.
        direction: (ROWS, COLUMNS, 2) of ``network.Prediction``.
        seed: of the noise.
    """
    axes = frames(sphere, points)
    angle = _enlarged(direction)
    across, down = (np.maximum(_enlarged(length) / _FINE, 2e-4) for length in (axes.across_length, axes.down_length))
    half = 0.5 * np.arctan2(angle[..., 1], angle[..., 0])
    move = np.stack([np.cos(half) * _STEP / across, np.sin(half) * _STEP / down], -1).astype(np.float32)
    noise = np.random.default_rng(seed).standard_normal(half.shape).astype(np.float32)
    strands, locks = _smear(noise, move, _LENGTH), _smear(blur_around(noise, _LOCK), move, 1.5 * _LENGTH)
    picture = strands / strands.std() + _LOCKS * locks / locks.std()
    wide = np.concatenate([picture[:, -1:], picture, picture[:, :1]], 1).astype(np.float32)
    row, column = (sphere.positions * _FINE).T
    return bilinear(wide, np.stack([column + 1.0, row], 1)) / float(picture.std())


def seen_contrast(surface: TexelSurface, colors: Floats, shown: Mask, limits: tuple[float, float]) -> float:
    """Standard deviation of the log brightness of the hair that is seen, from texel to texel, within limits.

    Args:
        surface: the texels.
        colors: (N, 3) sRGB.
        shown: (N,) bool, texels that show hair clearly.
        limits: least and greatest.
    """
    neighbours = surface.tables.neighbours
    inside = shown & shown[neighbours].all(1)
    if inside.sum() < _LEAST_SEEN:
        return float(np.clip(_USUAL_CONTRAST, *limits))
    luma = np.log(np.maximum(colors @ LUMA, 0.0) + 0.02)
    return float(np.clip(np.std(luma[inside] - luma[neighbours[inside]].mean(1)), *limits))


def _enlarged(maps: Floats) -> Floats:
    """Maps at ``_FINE`` times the size; columns wrap around."""
    wide = np.concatenate([maps[:, -1:], maps, maps[:, :1]], 1).astype(np.float32)
    size = (wide.shape[1] * _FINE, wide.shape[0] * _FINE)
    return cv2.resize(wide, size, interpolation=cv2.INTER_LINEAR)[:, _FINE:-_FINE].astype(np.float64)


def _smear(noise: Pixels, move: Pixels, length: float) -> Pixels:
    """Weighted mean of noise along the line through each pixel; ``move`` (H, W, 2) pixels a step, sign free."""
    height, width = noise.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    steps = round(length / _STEP)
    total, weights = noise.astype(np.float32).copy(), 1.0
    # Wrapped so far that no line leaves the picture sideways; at the pole the steps are long.
    reach = width // 2
    wide_noise, wide_move = (np.take(m, np.arange(-reach, width + reach), axis=1, mode="wrap") for m in (noise, move))
    for sign in (1.0, -1.0):
        x, y = columns.astype(np.float32) + reach, rows.astype(np.float32)
        step = sign * move
        for number in range(steps):
            x, y = x + step[..., 0], y + step[..., 1]
            x = np.mod(x - reach, width).astype(np.float32) + reach
            here = cv2.remap(wide_move, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            forward = (here * step).sum(-1, keepdims=True)
            step = np.where(forward < 0.0, -here, here)
            weight = 1.0 - (number + 1) / (steps + 1)
            total += weight * cv2.remap(wide_noise, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weights += sum(1.0 - (number + 1) / (steps + 1) for number in range(steps))
    return np.asarray(total / weights, np.float32)
