"""Eyes and the inside of the mouth: what a photo shows of them completed by what is known of them."""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.generator.numerics import LUMA, Floats, smoothstep
from spatialavatar.generator.texels import TexelTables, part_mask
from spatialavatar.head import HeadModel, UVLayout

_EYES: Final = ("eye_left", "eye_right")

# sRGB under the light in which skin has the brightness _SKIN_LUMA; darker skin in the photo means a darker photo or a
# darker skin, which cannot be told apart, so the interior follows it by less than its full range.
_SKIN_LUMA: Final = 0.58
_TEETH: Final = np.array([0.86, 0.81, 0.73])
_GUMS_AND_CHEEKS: Final = np.array([0.50, 0.20, 0.19])
_TONGUE: Final = np.array([0.68, 0.38, 0.37])
_SCLERA: Final = np.array([0.80, 0.77, 0.75])
_BRIGHTNESS_FOLLOWS: Final = 0.5

_DARK_AT: Final = 0.045
"""Metres behind the lips at which next to no light arrives in a mouth."""

_RINGS: Final = np.radians(np.arange(0.0, 181.0, 4.0))
"""Centres of the rings around an eye's pole in which its colour is averaged."""


def brightness(head: HeadModel, layout: UVLayout, colors: Floats, seen: Floats) -> float:
    """Brightness of the photo, from its clearly seen face skin; 1 is ordinary light."""
    skin = part_mask(head, layout, "face") & (seen > 0.5)
    if not skin.any():
        return 1.0
    return float(np.median(colors[skin] @ LUMA) / _SKIN_LUMA) ** _BRIGHTNESS_FOLLOWS


def complete_eyes(
    head: HeadModel,
    layout: UVLayout,
    tables: TexelTables,
    sampled: Floats,
    colors: Floats,
    seen: Floats,
    light: float,
) -> Floats:
    """Colours (N, 3) whose eyes are whole.

    Each ring around the pole takes, where it is hidden, the colour it has where it is seen, in either eye; beyond what
    is seen, white of the eye.
    """
    eyes = part_mask(head, layout, *_EYES)
    if not eyes.any():
        return colors
    angle, weight = tables.eye_angle[eyes], seen[eyes]
    width = _RINGS[1] - _RINGS[0]
    share = np.exp(-0.5 * ((angle[:, None] - _RINGS) / width) ** 2) * weight[:, None]
    total = share.sum(0)
    sclera = (_SCLERA * light).clip(0.0, 0.95)
    seen_white = (angle > np.radians(36)) & (weight > 0.5)
    if seen_white.sum() > 20:
        # The brighter half: shadows of the lids and corners of the eye are no colour for the ball.
        white = sampled[eyes][seen_white]
        luma = white @ LUMA
        sclera = white[luma >= np.median(luma)].mean(0)
    trust = 0.5
    rings = (share.T @ sampled[eyes] + trust * _prior_rings(sampled[eyes], weight, angle, sclera)) / (total + trust)[
        :, None
    ]
    ring_colors = np.stack([np.interp(angle, _RINGS, rings[:, channel]) for channel in range(3)], 1)
    result = colors.copy()
    keep = smoothstep(weight, 0.25, 0.75)[:, None]
    result[eyes] = keep * sampled[eyes] + (1.0 - keep) * ring_colors
    return result


def _prior_rings(colors: Floats, weight: Floats, angle: Floats, sclera: Floats) -> Floats:
    """What a ring is worth where nothing of it is seen: iris up to its usual angle, then white of the eye."""
    iris = weight * (angle < np.radians(28))
    iris_color = (iris @ colors) / iris.sum() if iris.sum() > 1 else np.array([0.25, 0.17, 0.12])
    white = smoothstep(_RINGS, np.radians(27), np.radians(32))[:, None]
    return white * sclera + (1.0 - white) * iris_color


def complete_mouth(
    head: HeadModel, layout: UVLayout, sampled: Floats, colors: Floats, seen: Floats, light: float
) -> Floats:
    """Colours (N, 3) whose teeth, gums, cheeks and tongue have their own colour, darker the deeper they lie.

    What a photo shows of them through open lips is kept, and tints the rest.
    """
    result = colors.copy()
    points = layout.surface(head, head.template).cpu().double().numpy()
    lips = part_mask(head, layout, "lips")
    front = points[lips, 2].max() if lips.any() else points[:, 2].max()
    depth = (front - points[:, 2]).clip(0.0)
    for parts, color, reach in (
        (("teeth_upper", "teeth_lower"), _TEETH, 1.6),
        (("mouth",), _GUMS_AND_CHEEKS, 0.8),
        (("tongue",), _TONGUE, 1.2),
    ):
        mask = part_mask(head, layout, *parts)
        if not mask.any():
            continue
        shade = 1.0 - 0.75 * smoothstep(depth[mask], 0.008, reach * _DARK_AT)
        prior = (color * light * shade[:, None]).clip(0.0, 0.95)
        confident = seen[mask]
        if parts[0].startswith("teeth") and confident.sum() > 10:
            observed = (confident @ sampled[mask]) / confident.sum()
            expected = (confident @ prior) / confident.sum()
            prior = (prior * (observed / np.maximum(expected, 0.05)).clip(0.6, 1.4)).clip(0.0, 0.95)
        keep = smoothstep(confident, 0.25, 0.75)[:, None] if parts[0].startswith("teeth") else 0.0
        result[mask] = keep * sampled[mask] + (1.0 - keep) * prior
    return result
