"""The light of the photos, which known colours (white of the eye, teeth, tongue) are multiplied by."""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.generator.numerics import LUMA, Floats
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.texel_tables import EYES

SCLERA: Final = np.array([0.80, 0.77, 0.75])
"""sRGB of the white of the eye in ordinary light."""

IRIS_EDGE: Final = np.radians((27.0, 32.0))
"""Radians from the eyeball's pole between which iris turns into white."""

_WHITE_MARGIN: Final = 0.07
"""Radians beyond the iris from which a texel counts as white of the eye; the fitted gaze is a little off."""

MIN_WHITE_TEXELS: Final = 20
"""Seen texels of the white of the eye that must be exceeded before the light is measured there."""

_MEAN_SKIN_LUMA: Final = 0.58
"""Luma of a mean skin in ordinary light."""

_LIGHT_OF_SKIN: Final = (0.70, 0.22)
"""Light at the eyes, under brows and lids, from the luma of the skin over the mean skin's: factor and exponent, fitted
to the white of the eyes of 16 people of the London set, between its mean and its brighter half."""

_FAIREST_SKIN_LUMA: Final = 0.75


def light_of_photo(surface: TexelSurface, pooled: Pooled) -> Floats:
    """Gains (3,) over ordinary light: from the white of the eyes, else from the skin.

    From skin alone, a dark photo and dark skin cannot be distinguished.
    """
    sampled, seen = pooled.colors, pooled.visibility
    limits = surface.config.interior.light
    white = surface.mask(*EYES) & (surface.tables.eye_angle > IRIS_EDGE[1] + _WHITE_MARGIN) & (seen > 0.5)
    if white.sum() > MIN_WHITE_TEXELS:
        return (brighter_half(sampled[white]) / SCLERA).clip(*limits)
    skin = surface.mask("face") & (seen > 0.5)
    if not skin.any():
        return np.ones(3)
    factor, exponent = _LIGHT_OF_SKIN
    brightness = float(np.median(sampled[skin] @ LUMA)) / _MEAN_SKIN_LUMA
    return np.full(3, factor * brightness**exponent).clip(*limits)


def light_at_mouth(surface: TexelSurface, pooled: Pooled, light: Floats) -> Floats:
    """Gains (3,) at the mouth: ``light`` (3,), but at least what the fairest skin would need.

    Brows and lids shade the eyes: their white shows the colour of the light, but not always how much of it reaches the
    lower face.
    """
    skin = surface.mask("face") & (pooled.visibility > 0.5)
    if not skin.any():
        return light
    least = float(np.median(pooled.colors[skin] @ LUMA)) / _FAIREST_SKIN_LUMA
    return (light * max(1.0, least / float(light @ LUMA))).clip(*surface.config.interior.light)


def brighter_half(colors: Floats) -> Floats:
    """Mean colour (3,) of the brighter half of (n, 3), which leaves out shadows of lids and corners."""
    luma = colors @ LUMA
    return colors[luma >= np.median(luma)].mean(0)
