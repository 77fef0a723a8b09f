"""The inside of the mouth: teeth, gums, cheeks and tongue in their own colours, darker the deeper they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.completion.light import brighter_half
from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.numerics import LUMA, Floats, smoothstep
from spatialavatar.generator.surface import TexelSurface


@dataclass(frozen=True)
class _Tissue:
    """A part of the mouth.

    Attributes:
        parts: of the head.
        color: (3,) sRGB in ordinary light.
        darkest: brightness at the back relative to the front.
        depth: metres behind the lips' front at which it begins to darken and at which it is darkest.
    """

    parts: tuple[str, ...]
    color: Floats
    darkest: float
    depth: tuple[float, float]


_TEETH: Final = _Tissue(("teeth_upper", "teeth_lower"), np.array([0.86, 0.81, 0.73]), 0.2, (0.016, 0.055))
_GUMS_AND_CHEEKS: Final = _Tissue(("mouth",), np.array([0.46, 0.18, 0.17]), 0.10, (0.008, 0.026))
_TONGUE: Final = _Tissue(("tongue",), np.array([0.70, 0.40, 0.39]), 0.35, (0.010, 0.045))

_TOOTH_WIDTHS: Final = {
    "teeth_upper": (0.0085, 0.0065, 0.0075, 0.0070, 0.0065, 0.0100, 0.0090),
    "teeth_lower": (0.0052, 0.0058, 0.0067, 0.0070, 0.0070, 0.0110, 0.0100),
}
"""Mean widths of human teeth, metres, from the middle outward."""


def teeth_color(surface: TexelSurface, photos: Sequence[PhotoEvidence]) -> Floats | None:
    """(3,) colour of the teeth that the photos show between the lips, or None where they show none.

    Searched in the picture and not through the mesh, whose lips are a pixel or two off; teeth are bright there and less
    red than lips and gums.
    """
    pixels = []
    for photo in photos:
        if photo.openings is None:
            continue
        image = photo.view.image
        inside = image[photo.openings.mouth_inner > 0.5].astype(np.float64)
        luma = inside @ LUMA
        redness = inside[:, 0] / np.maximum(inside.mean(1), 1e-3)
        skin = image[photo.view.matte > 0.9].astype(np.float64)
        skin_redness = np.median(skin[:, 0] / np.maximum(skin.mean(1), 1e-3)) if len(skin) else 1.2
        pixels.append(inside[(redness < min(1.22, skin_redness + 0.05)) & (luma > 0.25)])
    teeth = np.concatenate(pixels) if pixels else np.zeros((0, 3))
    return brighter_half(teeth) if len(teeth) > surface.config.interior.min_teeth_pixels else None


def complete_mouth(surface: TexelSurface, colors: Floats, light: Floats, teeth: Floats | None) -> Floats:
    """Complete the inside of the mouth.

    Args:
        surface: the texels.
        colors: (N, 3) colours so far.
        light: (3,) of ``light.light_at_mouth``.
        teeth: (3,) of :func:`teeth_color`, or None.

    Returns:
        (N, 3) colours, changed behind the lips only.
    """
    result = colors.copy()
    lips = surface.mask("lips")
    forward = surface.grid.points[:, 2]
    depth = (forward[lips if lips.any() else slice(None)].max() - forward).clip(0.0)
    if teeth is None:
        teeth = (_TEETH.color * light).clip(0.0, 0.92)
    for tissue, color in (
        (_TEETH, teeth),
        (_GUMS_AND_CHEEKS, _GUMS_AND_CHEEKS.color * light),
        (_TONGUE, _TONGUE.color * light),
    ):
        mask = surface.mask(*tissue.parts)
        shade = 1.0 - (1.0 - tissue.darkest) * smoothstep(depth[mask], *tissue.depth)
        result[mask] = (color * shade[:, None]).clip(0.0, 0.95)
    for part, widths in _TOOTH_WIDTHS.items():
        mask = surface.mask(part)
        result[mask] *= _tooth_shade(surface, part, widths)[:, None]
    return result


def _tooth_shade(surface: TexelSurface, part: str, widths: tuple[float, ...]) -> Floats:
    """(n,) brightness of the texels of a row of teeth: darker between two teeth and on the side of the tongue."""
    mask, config = surface.mask(part), surface.config.interior
    points = surface.grid.points[mask]
    shade = 1.0 - config.groove_depth * _grooves(points, widths, config.groove_width)
    return shade * (1.0 - (1.0 - config.lingual_brightness) * _inward(points, surface.grid.normals[mask]))


def _inward(points: Floats, normals: Floats) -> Floats:
    """(n,) 1 where a dental arch faces the tongue, 0 where it faces lips and cheeks, for points and normals (n, 3)."""
    if len(points) == 0:
        return np.zeros(0)
    outward = np.stack([points[:, 0], points[:, 2] - points[:, 2].min()], 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True).clip(1e-9)
    return smoothstep(-(normals[:, [0, 2]] * outward).sum(1), 0.0, 0.5)


def _grooves(points: Floats, widths: tuple[float, ...], half_width: float) -> Floats:
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
    return np.exp(-0.5 * (distance / half_width) ** 2)
