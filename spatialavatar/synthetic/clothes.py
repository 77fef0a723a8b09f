"""Shoulders under plain clothes: a smooth lofted shape below the neck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.synthetic.arrays import Array

_LEVELS: Final = np.array([0.0, 0.02, 0.045, 0.07, 0.10, 0.14, 0.20, 0.27, 0.36])
"""Metres below the collar of the cross-sections."""
_WIDER: Final = np.array([0.0, 0.012, 0.046, 0.090, 0.123, 0.142, 0.152, 0.155, 0.155])
"""Metres by which half the width there exceeds that of the neck."""
_DEEPER: Final = np.array([0.0, 0.006, 0.020, 0.033, 0.043, 0.052, 0.058, 0.060, 0.060])
_FARTHER_BACK: Final = np.array([0.0, 0.003, 0.012, 0.022, 0.029, 0.033, 0.035, 0.035, 0.035])
_ROUNDNESS: Final = 2.4
"""Exponent of the superellipses."""
_COLLAR: Final = 0.062
"""Metres of the collar above the lower rim of the neck's mesh, which spreads towards shoulders below it."""
_LOOSE: Final = 0.002
"""Metres between the neck and the collar."""


@dataclass(frozen=True)
class Shoulders:
    """The body below the neck; metres in head space.

    Attributes:
        collar: y of the uppermost cross-section.
        neck: half the width, half the depth, and z of the middle of that cross-section.
        width: factor on the growth of the width.
        depth: factor on the growth of the depth.
    """

    collar: float
    neck: tuple[float, float, float]
    width: float
    depth: float

    def sections(self, y: Array) -> tuple[Array, Array, Array]:
        """Half width, half depth and z of the middle (n,) at heights y (n,)."""
        below = self.collar - y
        return (
            self.neck[0] + self.width * np.interp(below, _LEVELS, _WIDER),
            self.neck[1] + self.depth * np.interp(below, _LEVELS, _DEEPER),
            self.neck[2] - np.interp(below, _LEVELS, _FARTHER_BACK),
        )

    def distance(self, points: Array) -> Array:
        """Approximate metres (n,) to the surface, negative inside; above the collar they are positive."""
        return np.maximum(self.sideways(points), points[:, 1] - self.collar)

    def sideways(self, points: Array) -> Array:
        """Approximate horizontal metres (n,) of points (n, 3) to the surface at their height, negative inside."""
        width, depth, middle = self.sections(points[:, 1])
        x, z = points[:, 0] / width, (points[:, 2] - middle) / depth
        radius = (np.abs(x) ** _ROUNDNESS + np.abs(z) ** _ROUNDNESS) ** (1.0 / _ROUNDNESS)
        return (radius - 1.0) * np.minimum(width, depth)

    def surface(self, rows: int, columns: int) -> tuple[Array, Array]:
        """Points and unit normals (rows, columns, 3) from the collar down."""
        below = np.linspace(0.0, _LEVELS[-1], rows)
        angle = np.linspace(0.0, 2.0 * np.pi, columns, endpoint=False)
        width, depth, middle = self.sections(self.collar - below)
        shape = 2.0 / _ROUNDNESS
        cos, sin = np.cos(angle), np.sin(angle)
        x = width[:, None] * np.sign(sin) * np.abs(sin) ** shape
        z = middle[:, None] + depth[:, None] * np.sign(cos) * np.abs(cos) ** shape
        y = np.broadcast_to((self.collar - below)[:, None], x.shape)
        points = np.stack([x, y, z], -1)
        around = np.roll(points, -1, 1) - np.roll(points, 1, 1)
        down = np.gradient(points, axis=0)
        normals = np.cross(down, around)
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
        return points, normals


def sample_shoulders(rng: np.random.Generator, vertices: Array, neck: Array) -> Shoulders:
    """Shoulders that fit under a head.

    Args:
        rng: the source of randomness.
        vertices: (V, 3) at rest, metres.
        neck: (V,) bool, vertices of the neck.
    """
    collar = float(vertices[neck, 1].min()) + _COLLAR + rng.uniform(-0.004, 0.006)
    slice_ = vertices[neck & (np.abs(vertices[:, 1] - collar) < 0.012)]
    low, high = np.percentile(slice_[:, 2], [2, 98])
    return Shoulders(
        collar=collar,
        neck=(
            float(np.percentile(np.abs(slice_[:, 0]), 90)) + _LOOSE,
            float(0.5 * (high - low)) + _LOOSE,
            float(0.5 * (high + low)),
        ),
        width=rng.uniform(0.85, 1.15),
        depth=rng.uniform(0.9, 1.15),
    )


@dataclass(frozen=True, eq=False)
class Garment:
    """Clothes as flat patches.

    Attributes:
        points: (n, 3) metres, head space.
        normals: (n, 3) unit.
        spacing: (n, 2) metres between patches around and down.
        along: (n, 3) unit, the direction around.
        albedo: (n, 3) sRGB.
        skin: (n,) bool: bare skin above the neckline.
        shoulders: the body; the neck below their collar is hidden.
    """

    points: Array
    normals: Array
    spacing: Array
    along: Array
    albedo: Array
    skin: Array
    shoulders: Shoulders


def sample_garment(rng: np.random.Generator, shoulders: Shoulders, tone: Array) -> Garment:
    """Random clothes on shoulders: one colour, stripes or a jacket, with wrinkles and a neckline.

    Args:
        rng: the source of randomness.
        shoulders: the body.
        tone: (3,) sRGB of the skin.
    """
    rows, columns = 72, 132
    points, normals = shoulders.surface(rows, columns)
    angle = np.mod(np.linspace(0.0, 2.0 * np.pi, columns, endpoint=False) + np.pi, 2.0 * np.pi) - np.pi
    below = shoulders.collar - points[..., 1]
    hue = rng.uniform(0.05, 0.9, 3)
    color = hue.mean() + rng.uniform(0.1, 0.9) * (hue - hue.mean())
    albedo = np.broadcast_to(color, points.shape).copy()
    pattern = rng.random()
    if pattern < 0.2:  # stripes
        wave = smoothstep(np.sin(2.0 * np.pi * below / rng.uniform(0.02, 0.06)), -0.2, 0.2)[..., None]
        albedo = wave * albedo + (1.0 - wave) * rng.uniform(0.05, 0.95, 3)
    elif pattern < 0.45:  # an open jacket over a shirt
        front = (np.abs(points[..., 0]) < 0.02 + 0.35 * below) & (points[..., 2] > shoulders.neck[2])
        albedo[front] = rng.uniform(0.3, 0.95, 3)
    wrinkle = np.zeros(below.shape)
    for _ in range(10):
        frequency = rng.normal(0.0, [3.0, 26.0])
        wrinkle += np.sin(frequency[0] * angle + frequency[1] * below + rng.uniform(0, 6.28)) / 10.0
    normals = normals + rng.uniform(0.1, 0.6) * wrinkle[..., None] * np.array([0.3, 1.0, 0.2])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    depth = rng.uniform(-0.01, 0.05) + rng.uniform(0.0, 0.07) * np.clip(np.cos(angle), 0.0, 1.0) ** 2
    skin = below < depth
    albedo[skin] = tone
    around = np.roll(points, -1, 1) - np.roll(points, 1, 1)
    wide = np.linalg.norm(around, axis=-1)
    tall = np.linalg.norm(np.gradient(points, axis=0), axis=-1)
    return Garment(
        points=points.reshape(-1, 3),
        normals=normals.reshape(-1, 3),
        spacing=np.stack([0.5 * wide, tall], -1).reshape(-1, 2),
        along=(around / np.maximum(wide, 1e-9)[..., None]).reshape(-1, 3),
        albedo=albedo.reshape(-1, 3),
        skin=skin.reshape(-1),
        shoulders=shoulders,
    )
