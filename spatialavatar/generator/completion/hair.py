"""Hair that no photo shows: the colour of the seen hair, with a pattern of strands from the crown down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.numerics import LUMA, Floats, Ints, Mask

_CROWN: Final = np.array([0.0, 0.8, -0.6])
"""Direction from the middle of the scalp, head space, from which the hair falls."""

_WAVES: Final = 40
"""Random cosines that make up the pattern."""

_CONTRAST: Final = (0.03, 0.16)
"""Least and most standard deviation of the logarithm of the strands' brightness."""

_SEED: Final = 11
"""Of the random cosines: every avatar has the same pattern."""

MIN_HAIR_TEXELS: Final = 100
"""Texels that must show hair before its colour and contrast are measured."""


@dataclass(frozen=True, eq=False)
class HairStyle:
    """Colour and contrast of the seen hair.

    Attributes:
        color: (3,) median colour, sRGB.
        contrast: standard deviation of the log luma from strand to strand.
    """

    color: Floats
    contrast: float


def strand_pattern(points: Floats, scalp: Mask) -> Floats:
    """Field (N,) of mean 0 and deviation 1 on the scalp, 0 elsewhere, that varies across the strands, not along them.

    Args:
        points: (N, 3) texels on the template, metres.
        scalp: (N,) bool.
    """
    field = np.zeros(len(points))
    if not scalp.any():
        return field
    away = points[scalp] - points[scalp].mean(0)
    sideways = np.array([1.0, 0.0, 0.0])
    azimuth = np.arctan2(away @ np.cross(_CROWN, sideways), away @ sideways)
    polar = np.arccos(np.clip(away @ _CROWN / np.maximum(np.linalg.norm(away, axis=1), 1e-9), -1.0, 1.0))
    generator = np.random.default_rng(_SEED)
    total = np.zeros(len(away))
    for _ in range(_WAVES):
        # Whole numbers of waves around the crown, so that the field closes; a slow twist on the way down.
        around, down, phase = generator.integers(12, 90), generator.normal(0.0, 4.0), generator.uniform(0.0, 2 * np.pi)
        total += np.cos(around * azimuth + down * polar + phase) / np.sqrt(around)
    field[scalp] = (total - total.mean()) / max(float(total.std()), 1e-9)
    return field


def measure_hair(neighbours: Ints, colors: Floats, shown: Mask) -> HairStyle | None:
    """Colour and contrast of the hair.

    Args:
        neighbours: (N, k) of the texels.
        colors: (N, 3).
        shown: (N,) bool, the texels that show hair clearly.

    Returns:
        None where fewer than ``MIN_HAIR_TEXELS`` do.
    """
    inside = shown & shown[neighbours].all(1)
    if inside.sum() < MIN_HAIR_TEXELS:
        return None
    luma = np.log(np.maximum(colors @ LUMA, 0.0) + 0.02)
    contrast = np.std(luma[inside] - luma[neighbours[inside]].mean(1))
    return HairStyle(np.median(colors[inside], axis=0), float(np.clip(contrast, *_CONTRAST)))
