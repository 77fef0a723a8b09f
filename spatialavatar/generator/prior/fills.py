"""Colours of hair and skin all over the head, from those that the photos show: the scale of the network's colours.

The network predicts colours as ratios to these, so no hue can come out that the photos do not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from spatialavatar.generator.numerics import Floats, Pixels
from spatialavatar.generator.prior.sphere import blur_around

OFFSET: Final = 0.03
"""sRGB added to a colour before its logarithm or ratio."""

_SEEN: Final = 0.35
"""Visibility from which a cell's colour counts."""

_HAIRY: Final = (0.15, 0.7)
"""Shares of hair up to which a cell shows skin, and from which on hair."""

_MIN_CELLS: Final = 25.0
"""Sum of weights below which hair or skin counts as not seen."""

_TWIN: Final = 0.25
"""Weight of the mirror cell's colour relative to its own visibility."""

_SPREAD: Final = 14.0
"""Radius in cells within which neighbouring colours are used before the median of all."""

_SHADE_OF_SKIN: Final = 0.6
"""Brightness of hair relative to the photo's median colour, where no hair is seen."""

_LIMITS: Final = (0.02, 1.0)


@dataclass(frozen=True, eq=False)
class Fills:
    """Smooth colours.

    Attributes:
        hair: (ROWS, COLUMNS, 3) float32 sRGB.
        skin: (ROWS, COLUMNS, 3) float32 sRGB.
        hair_seen: whether the photos show hair.
    """

    hair: Pixels
    skin: Pixels
    hair_seen: bool


def measure_fills(colors: Pixels, visibility: Pixels, hair: Pixels) -> Fills:
    """Fills of maps of colours (R, C, 3), visibility (R, C) and share of hair (R, C)."""
    seen = visibility * (visibility > _SEEN)
    skin = _spread(colors, seen * (hair < _HAIRY[0]))
    hairy = _spread(colors, seen * (hair > _HAIRY[1]))
    median = _median(colors, visibility)
    if skin is None:
        skin = np.broadcast_to(median, colors.shape).astype(np.float32)
    known = hairy is not None
    if hairy is None:
        hairy = np.broadcast_to(_SHADE_OF_SKIN * median, colors.shape).astype(np.float32)
    return Fills(blur_around(hairy, 5.0).clip(*_LIMITS), blur_around(skin, 3.0).clip(*_LIMITS), known)


def _spread(colors: Pixels, weight: Pixels) -> Pixels | None:
    """Weighted colours spread over the map, towards their median far away; None where there are hardly any."""
    if weight.sum() < _MIN_CELLS:
        return None
    mirrored = _TWIN * weight[:, ::-1]
    colors_of_both = np.where((weight >= mirrored)[..., None], colors, colors[:, ::-1])
    both = np.maximum(weight, mirrored).clip(0.0, 1.0).astype(np.float32)
    near = (3.0 * blur_around(both, _SPREAD)).clip(0.0, 1.0)[..., None]
    filled = push_pull(colors_of_both.astype(np.float32), both)
    return (near * filled + (1.0 - near) * _median(colors, weight)).astype(np.float32)


def _median(colors: Pixels, weight: Pixels) -> Floats:
    """(3,) median of the colours of at least half of the greatest weight; grey where there are none."""
    chosen = colors[weight > 0.5 * weight.max()]
    return np.median(chosen.astype(np.float64), axis=0) if len(chosen) else np.full(3, 0.3)


def push_pull(colors: Pixels, weight: Pixels) -> Pixels:
    """Smooth extension of colours (R, C, 3) with weights (R, C) in [0, 1] by a pyramid; columns wrap around."""
    rows, columns = weight.shape
    if min(rows, columns) <= 3:
        total = max(float(weight.sum()), 1e-9)
        return np.broadcast_to((colors * weight[..., None]).sum((0, 1)) / total, colors.shape).astype(np.float32)
    coarse_weight = blur_around(weight, 1.2)[::2, ::2]
    coarse = blur_around(colors * weight[..., None], 1.2)[::2, ::2] / np.maximum(coarse_weight, 1e-6)[..., None]
    below = push_pull(coarse.astype(np.float32), np.minimum(2.0 * coarse_weight, 1.0))
    below = np.concatenate([below[:, -1:], below, below[:, :1]], 1)
    size = (2 * below.shape[1], 2 * below.shape[0])
    around = cv2.resize(below, size, interpolation=cv2.INTER_LINEAR)[:rows, 2 : 2 + columns]
    return weight[..., None] * colors + (1.0 - weight[..., None]) * around.reshape(colors.shape)
