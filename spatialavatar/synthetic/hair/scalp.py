"""Where hair grows: density over the texels, and one person's head in the template's coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.synthetic.anatomy import Anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.styles import HairStyle

_ANGLES: Final = np.radians([0, 22, 40, 54, 64, 72, 78, 88, 100, 112, 126, 145, 180])
"""Azimuth from the middle of the forehead to that of the nape."""
_LINE: Final = np.array([0.104, 0.103, 0.096, 0.083, 0.063, 0.037, 0.018, 0.046, 0.046, 0.014, -0.026, -0.041, -0.042])
"""Height of the hairline there, metres on the template."""
_EDGE: Final = 0.013
"""Metres over which hair becomes dense."""
CROWN: Final = np.array([0.0, 0.132, -0.018])
"""Middle of the whorl on the template."""


@dataclass(frozen=True, eq=False)
class HeadFrame:
    """One person's head relative to the template: a scale and a shift along each axis.

    Attributes:
        scale: (3,) template metres per metre of this head.
        shift: (3,) template metres.
        eye: (3,) middle of the left eye on the template.
        brow: y of the brows' upper edge on the template.
        corner: x of the outer corner of the left eye on the template.
    """

    scale: Array
    shift: Array
    eye: Array
    brow: float
    corner: float

    def to_template(self, points: Array) -> Array:
        """Points (..., 3) of this head, in the template's coordinates."""
        return points * self.scale + self.shift

    def from_template(self, points: Array) -> Array:
        """Points (..., 3) of the template on this head."""
        return (points - self.shift) / self.scale


def head_frame(facts: Anatomy, vertices: Array) -> HeadFrame:
    """The frame of a rest head (V, 3)."""
    mesh = facts.mesh
    used = mesh.vertex_mask("scalp", "face")
    template = mesh.template[used]
    scale = (template.max(0) - template.min(0)) / (vertices[used].max(0) - vertices[used].min(0))
    shift = template.max(0) - scale * vertices[used].max(0)
    landmarks = mesh.landmarks(478)
    return HeadFrame(
        scale=scale,
        shift=shift,
        eye=mesh.eye_centres()[0],
        brow=float(landmarks[[334, 105], 1].mean()),
        corner=float(landmarks[263, 0]),
    )


def inside_hairline(points: Array, style: HairStyle, jitter: float) -> Array:
    """Metres (n,) by which template points (n, 3) lie above the hairline.

    Args:
        points: on the template.
        style: how far the hairline has gone back.
        jitter: metres by which this person's line is higher.
    """
    azimuth = np.abs(np.arctan2(points[:, 0], points[:, 2] - 0.03))
    back = min(style.recede, 1.2)
    temples = np.exp(-(((azimuth - np.radians(40)) / np.radians(17)) ** 2))
    front = np.exp(-((azimuth / np.radians(35)) ** 2))
    line = (
        np.interp(azimuth, _ANGLES, _LINE)
        + jitter * (azimuth < np.radians(60))
        + back * (0.040 * temples + 0.012 * front)
    )
    return points[:, 1] - line


def density(points: Array, style: HairStyle, jitter: float) -> Array:
    """Share (n,) in [0, 1] of full hair at template points (n, 3) of the hair-bearing surface."""
    inside = inside_hairline(points, style, jitter)
    share = smoothstep(inside, -0.3 * _EDGE, _EDGE)
    if style.recede >= 1.5:  # a horseshoe of hair, higher at the back
        height = points[:, 1] + 0.25 * np.clip(points[:, 2], -0.05, 0.1)
        return share * (1.0 - smoothstep(height, 0.040, 0.105)) ** 1.5
    spot = np.exp(-(((points - CROWN) ** 2).sum(1)) / 0.042**2)
    top = smoothstep(points[:, 1], 0.08, 0.115) * smoothstep(points[:, 2], 0.0, 0.08)
    return share * (1.0 - style.thinning * np.maximum(spot, 0.6 * top))


def bearing(facts: Anatomy) -> Array:
    """(N,) bool: texels that may carry hair of the head."""
    surface = facts.surface
    points = surface.grid.points
    azimuth = np.abs(np.arctan2(points[:, 0], points[:, 2] - 0.03))
    face = surface.mask("face") & (points[:, 1] > 0.005) & (azimuth < np.radians(140))
    neck = surface.mask("neck") & (points[:, 2] < 0.0) & (points[:, 1] > -0.07)
    return surface.mask("scalp") | face | neck
