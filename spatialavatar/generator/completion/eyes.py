"""Eyes: hidden texels take the colour of their mirror twin in the other eye, else of their ring around the pole.

Unseen parts show a generic eye with pupil, iris and white, tinted to the seen iris.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.generator.completion.light import IRIS_EDGE, SCLERA
from spatialavatar.generator.numerics import Floats, smoothstep
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.texel_tables import EYES

_IRIS: Final = np.array([0.30, 0.28, 0.27])
"""sRGB of an iris with its pupil in ordinary light, where no iris is seen: mean of 13 people of the London set."""

_PUPIL: Final = ((8.0, 12.0), 0.35)
"""Degrees from the pole between which the pupil turns into the iris, and its brightness relative to the iris."""

_LIMBUS: Final = ((16.0, 24.0), 0.75)
"""Degrees between which the iris darkens towards its rim, and the brightness there relative to its middle."""

_RINGS: Final = np.radians(np.arange(0.0, 181.0, 4.0))
"""Centres, radians from the pole, of the rings in which an eye's colour is averaged."""


def complete_eyes(surface: TexelSurface, pooled: Pooled, colors: Floats, light: Floats) -> Floats:
    """Complete the eyes.

    Args:
        surface: the texels.
        pooled: sampled colours and visibility.
        colors: (N, 3) colours so far.
        light: (3,) of ``light.light_of_photo``.

    Returns:
        (N, 3) colours, changed on the eyes only.
    """
    eyes = surface.mask(*EYES)
    if not eyes.any():
        return colors
    angle, weight, shown = surface.tables.eye_angle[eyes], pooled.visibility[eyes], pooled.colors[eyes]
    width = _RINGS[1] - _RINGS[0]
    # Squared: through half-shut lids the shape of iris and pupil is not seen, but their colour is.
    share = np.exp(-0.5 * ((angle[:, None] - _RINGS) / width) ** 2) * weight[:, None] ** 2
    prior, prior_texels = _prior_rings(shown, weight, angle, light), surface.config.interior.prior_texels
    rings = (share.T @ shown + prior_texels * prior) / (share.sum(0) + prior_texels)[:, None]
    ring_colors = np.stack([np.interp(angle, _RINGS, rings[:, channel]) for channel in range(3)], 1)
    result = colors.copy()
    result[eyes] = ring_colors
    keep = smoothstep(pooled.visibility, 0.25, 0.75)[:, None]
    for source in (surface.tables.twin, slice(None)):
        kept = keep[source][eyes]
        result[eyes] = kept * pooled.colors[source][eyes] + (1.0 - kept) * result[eyes]
    return result


def _prior_rings(colors: Floats, weight: Floats, angle: Floats, light: Floats) -> Floats:
    """Colours (R, 3) of rings of which nothing is seen: iris up to its usual angle, then white of the eye."""
    iris = weight * (angle < IRIS_EDGE[0])
    iris_color = (iris @ colors) / iris.sum() if iris.sum() > 1 else _IRIS * light
    degrees, (pupil, pupil_tone), (limbus, limbus_tone) = np.degrees(_RINGS), _PUPIL, _LIMBUS
    tone = pupil_tone + (1.0 - pupil_tone) * smoothstep(degrees, *pupil)
    tone *= 1.0 - (1.0 - limbus_tone) * smoothstep(degrees, *limbus)
    iris_color = tone[:, None] * iris_color
    white = smoothstep(_RINGS, *IRIS_EDGE)[:, None]
    return (white * (SCLERA * light).clip(0.0, 0.95) + (1.0 - white) * iris_color).clip(0.0, 1.0)
