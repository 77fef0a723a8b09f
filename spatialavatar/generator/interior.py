"""Eyes and the inside of the mouth: what a photo shows of them completed by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from spatialavatar.generator.numerics import LUMA, Floats, smoothstep
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.texels import TexelTables, part_mask, surface_normals
from spatialavatar.generator.visibility import Openings
from spatialavatar.head import HeadModel, UVLayout

_EYES: Final = ("eye_left", "eye_right")

# sRGB in ordinary light, in which the white of the eye is _SCLERA and a mean skin has the brightness _SKIN_LUMA.
_SCLERA: Final = np.array([0.80, 0.77, 0.75])
_SKIN_LUMA: Final = 0.58
_FAIREST_SKIN_LUMA: Final = 0.75
_TEETH: Final = np.array([0.86, 0.81, 0.73])
_GUMS_AND_CHEEKS: Final = np.array([0.46, 0.18, 0.17])
_TONGUE: Final = np.array([0.70, 0.40, 0.39])
_IRIS: Final = np.array([0.25, 0.17, 0.12])
_LIGHT: Final = (0.3, 1.2)
"""Least and most that the light of a photo is taken for."""

_IRIS_ANGLE: Final = np.radians((27.0, 32.0))
"""Angle from the eyeball's pole at which its white begins."""
_RINGS: Final = np.radians(np.arange(0.0, 181.0, 4.0))
"""Centres of the rings around an eye's pole in which its colour is averaged."""
_PRIOR_TEXELS: Final = 0.5
"""Seen texels that what is known of eyes weighs as much as, per ring."""

_UPPER_WIDTHS: Final = (0.0085, 0.0065, 0.0075, 0.0070, 0.0065, 0.0100, 0.0090)
_LOWER_WIDTHS: Final = (0.0052, 0.0058, 0.0067, 0.0070, 0.0070, 0.0110, 0.0100)
"""Mean widths of human teeth, metres, from the middle outward."""
_GROOVE: Final = (0.00055, 0.35)
"""Half width, metres, and depth of the shade between two teeth."""
_BACK_OF_TEETH: Final = 0.4
"""Brightness of the side of a tooth that faces the tongue; little light gets there."""
_TEETH_PIXELS: Final = 30
"""Pixels of an open mouth that must look like teeth before their colour is believed."""


def light_of(head: HeadModel, layout: UVLayout, tables: TexelTables, sampled: Floats, seen: Floats) -> Floats:
    """Gains (3,) of the photo's light over ordinary light: from the white of the eyes, else from the skin.

    Skin alone cannot tell a dark photo from a dark skin.
    """
    white = part_mask(head, layout, *_EYES) & (tables.eye_angle > _IRIS_ANGLE[1] + 0.07) & (seen > 0.5)
    if white.sum() > 20:
        return (_brighter_half(sampled[white]) / _SCLERA).clip(*_LIGHT)
    skin = part_mask(head, layout, "face") & (seen > 0.5)
    if not skin.any():
        return np.ones(3)
    brightness = float(np.median(sampled[skin] @ LUMA)) / _SKIN_LUMA
    return np.full(3, np.sqrt(brightness)).clip(*_LIGHT)


def mouth_light(head: HeadModel, layout: UVLayout, sampled: Floats, seen: Floats, light: Floats) -> Floats:
    """Gains (3,) of the light before the mouth: ``light``, but at least what the fairest skin would need.

    Brows and lids shade the eyes: their white tells the colour of the light, and not always how much of it reaches the
    lower face.
    """
    skin = part_mask(head, layout, "face") & (seen > 0.5)
    if not skin.any():
        return light
    least = float(np.median(sampled[skin] @ LUMA)) / _FAIREST_SKIN_LUMA
    return (light * max(1.0, least / float(light @ LUMA))).clip(*_LIGHT)


def _brighter_half(colors: Floats) -> Floats:
    """Mean colour (3,) of the brighter half: shadows of the lids and corners of the eye are no colour for the ball."""
    luma = colors @ LUMA
    return colors[luma >= np.median(luma)].mean(0)


def complete_eyes(
    head: HeadModel,
    layout: UVLayout,
    tables: TexelTables,
    sampled: Floats,
    colors: Floats,
    seen: Floats,
    light: Floats,
) -> Floats:
    """Colours (N, 3) whose eyes are whole.

    Each ring around the pole takes, where it is hidden, the colour it has where it is seen, in either eye; beyond what
    is seen, white of the eye.
    """
    eyes = part_mask(head, layout, *_EYES)
    if not eyes.any():
        return colors
    angle, weight, shown = tables.eye_angle[eyes], seen[eyes], sampled[eyes]
    width = _RINGS[1] - _RINGS[0]
    share = np.exp(-0.5 * ((angle[:, None] - _RINGS) / width) ** 2) * weight[:, None]
    prior = _prior_rings(shown, weight, angle, light)
    rings = (share.T @ shown + _PRIOR_TEXELS * prior) / (share.sum(0) + _PRIOR_TEXELS)[:, None]
    ring_colors = np.stack([np.interp(angle, _RINGS, rings[:, channel]) for channel in range(3)], 1)
    result = colors.copy()
    keep = smoothstep(weight, 0.25, 0.75)[:, None]
    result[eyes] = keep * shown + (1.0 - keep) * ring_colors
    return result


def _prior_rings(colors: Floats, weight: Floats, angle: Floats, light: Floats) -> Floats:
    """What a ring is worth where nothing of it is seen: iris up to its usual angle, then white of the eye."""
    iris = weight * (angle < _IRIS_ANGLE[0])
    iris_color = (iris @ colors) / iris.sum() if iris.sum() > 1 else _IRIS * light
    white = smoothstep(_RINGS, *_IRIS_ANGLE)[:, None]
    return (white * (_SCLERA * light).clip(0.0, 0.95) + (1.0 - white) * iris_color).clip(0.0, 1.0)


def teeth_color(sources: Sequence[SourceView], found: Sequence[Openings | None]) -> Floats | None:
    """(3,) colour of the teeth that the photos show between the lips, or None where they show none.

    Looked for in the picture and not through the mesh, whose lips are a pixel or two off; teeth are what is bright
    there and less red than lips and gums.
    """
    pixels = []
    for source, opening in zip(sources, found):
        if opening is None:
            continue
        inside = source.image[opening.mouth_inner > 0.5].astype(np.float64)
        luma = inside @ LUMA
        redness = inside[:, 0] / np.maximum(inside.mean(1), 1e-3)
        skin = source.image[source.matte > 0.9].astype(np.float64)
        skin_redness = np.median(skin[:, 0] / np.maximum(skin.mean(1), 1e-3)) if len(skin) else 1.2
        pixels.append(inside[(redness < min(1.22, skin_redness + 0.05)) & (luma > 0.25)])
    teeth = np.concatenate(pixels) if pixels else np.zeros((0, 3))
    return _brighter_half(teeth) if len(teeth) > _TEETH_PIXELS else None


def complete_mouth(head: HeadModel, layout: UVLayout, colors: Floats, light: Floats, teeth: Floats | None) -> Floats:
    """Colours (N, 3) whose teeth, gums, cheeks and tongue have their own colour, darker the deeper they lie.

    Args:
        head: the head.
        layout: its layout.
        colors: (N, 3).
        light: (3,) of :func:`mouth_light`.
        teeth: (3,) of :func:`teeth_color`, or None.
    """
    result = colors.copy()
    points = layout.surface(head, head.template).cpu().double().numpy()
    lips = part_mask(head, layout, "lips")
    front = points[lips, 2].max() if lips.any() else points[:, 2].max()
    depth = (front - points[:, 2]).clip(0.0)
    upper, lower = part_mask(head, layout, "teeth_upper"), part_mask(head, layout, "teeth_lower")
    if teeth is None:
        teeth = (_TEETH * light).clip(0.0, 0.92)
    # Depth behind the lips' front, metres, at which it begins to get dark and at which it is darkest.
    for mask, color, darkest, start, deep in (
        (upper | lower, teeth, 0.2, 0.016, 0.055),
        (part_mask(head, layout, "mouth"), _GUMS_AND_CHEEKS * light, 0.10, 0.008, 0.026),
        (part_mask(head, layout, "tongue"), _TONGUE * light, 0.35, 0.010, 0.045),
    ):
        shade = 1.0 - (1.0 - darkest) * smoothstep(depth[mask], start, deep)
        result[mask] = (color * shade[:, None]).clip(0.0, 0.95)
    normals = surface_normals(head, layout, head.template.cpu().numpy())
    for mask, widths in ((upper, _UPPER_WIDTHS), (lower, _LOWER_WIDTHS)):
        shade = 1.0 - _GROOVE[1] * _grooves(points[mask], widths)
        inward = _inward(points[mask], normals[mask])
        result[mask] *= (shade * (1.0 - (1.0 - _BACK_OF_TEETH) * inward))[:, None]
    return result


def _inward(points: Floats, normals: Floats) -> Floats:
    """(n,) 1 where a dental arch faces the tongue, 0 where it faces lips and cheeks, for points and normals (n, 3)."""
    if len(points) == 0:
        return np.zeros(0)
    outward = np.stack([points[:, 0], points[:, 2] - points[:, 2].min()], 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True).clip(1e-9)
    return smoothstep(-(normals[:, [0, 2]] * outward).sum(1), 0.0, 0.5)


def _grooves(points: Floats, widths: tuple[float, ...]) -> Floats:
    """(n,) 1 on the lines between two teeth, 0 on the teeth, for points (n, 3) on a dental arch."""
    if len(points) == 0:
        return np.zeros(0)
    angle = np.arctan2(np.abs(points[:, 0]), points[:, 2] - points[:, 2].min())
    radius = np.hypot(points[:, 0], points[:, 2] - points[:, 2].min())
    # Arc length over angle, along the outer side of the arch.
    steps = np.linspace(0.0, 0.5 * np.pi, 40)
    near = np.abs(angle[:, None] - steps) < 0.08
    outer = np.where(near, radius[:, None], 0.0).max(0)
    outer = np.where(outer > 0, outer, outer.max())
    length = np.concatenate([[0.0], np.cumsum(0.5 * (outer[1:] + outer[:-1]) * np.diff(steps))])
    along = np.interp(angle, steps, length)
    borders = np.concatenate([[0.0], np.cumsum(widths)])
    distance = np.abs(along[:, None] - borders).min(1)
    return np.exp(-0.5 * (distance / _GROOVE[0]) ** 2)
