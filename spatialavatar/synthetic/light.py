"""Light of a synthetic picture: spherical harmonics of the second order and one hard light, for skin and hair alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.synthetic.arrays import Array

GAMMA: Final = 2.2
"""Exponent between linear light and sRGB values."""

_FACE_NORMALS: Final = np.array([[0.0, 0.0, 1.0], [0.5, 0.1, 0.86], [-0.5, 0.1, 0.86], [0.0, 0.5, 0.86]])
"""Normals on the front of a face."""

_MIN_LIGHT: Final = 0.08
"""Linear light that the darkest normal still receives."""


@dataclass(frozen=True, eq=False)
class Light:
    """The light around one head; 1 is the light in which albedos are seen as they are.

    Attributes:
        soft: (9, 3) coefficients of :func:`harmonics`, linear RGB.
        direction: (3,) unit, towards the hard light, head space.
        hard: (3,) linear RGB of the hard light; zeros for none.
    """

    soft: Array
    direction: Array
    hard: Array

    def ambient(self, normals: Array) -> Array:
        """Linear RGB (n, 3) of the soft light on unit normals (n, 3)."""
        return (harmonics(normals) @ self.soft).clip(_MIN_LIGHT, None)

    def irradiance(self, normals: Array, sky: Array, sun: Array) -> Array:
        """Linear RGB (n, 3) on unit normals (n, 3).

        Args:
            normals: of the surface.
            sky: (n,) in [0, 1], share of the soft light that arrives.
            sun: (n,) in [0, 1], share of the hard light that arrives.
        """
        facing = np.clip(normals @ self.direction, 0.0, 1.0) * sun
        return self.ambient(normals) * sky[:, None] + facing[:, None] * self.hard


def harmonics(directions: Array) -> Array:
    """Real spherical harmonics up to the second order (n, 9) of unit directions (n, 3), the first constant 1."""
    x, y, z = directions.T
    rows = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - z * z, 1.5 * y * y - 0.5]
    return np.stack(rows, 1)


def encoded(linear: Array) -> Array:
    """The factor on sRGB values of linear light."""
    return np.asarray(linear) ** (1.0 / GAMMA)


def sample_light(rng: np.random.Generator) -> Light:
    """A random light, brighter from above and in front on the whole, slightly coloured."""
    soft = np.zeros((9, 3))
    main = rng.normal([0.0, 0.25, 0.25], [0.45, 0.25, 0.35])
    strength = rng.uniform(0.1, 0.6)
    warmth = rng.normal(0.0, 0.05)
    tint = np.array([1.0 + warmth, 1.0, 1.0 - warmth]) * (1.0 + rng.normal(0.0, 0.015, 3))
    soft[0] = tint
    soft[1:4] = strength * main[:, None] * (1.0 + rng.normal(0.0, 0.06, (3, 3))) * tint
    soft[4:] = rng.normal(0.0, 0.05, (5, 1)) * tint
    direction = rng.normal([0.0, 0.7, 0.7], [0.8, 0.45, 0.5])
    direction /= np.linalg.norm(direction)
    warm = rng.normal(0.03, 0.06)
    hard = np.array([1.0 + warm, 1.0, 1.0 - 1.3 * warm]) * (0.0 if rng.random() < 0.4 else rng.uniform(0.1, 0.8))
    found = Light(soft, direction, hard)
    # A camera exposes for the face.
    received = found.irradiance(_FACE_NORMALS, np.ones(len(_FACE_NORMALS)), np.ones(len(_FACE_NORMALS))).mean()
    exposure = rng.uniform(0.65, 1.1) / float(received)
    return Light(soft * exposure, direction, hard * exposure)
