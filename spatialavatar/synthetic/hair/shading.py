"""Colour of hair: natural tones, variation from lock to lock and strand to strand, Kajiya and Kay's light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.field import DistanceField
from spatialavatar.synthetic.hair.strands import Strands, tangents
from spatialavatar.synthetic.light import Light, encoded

TONES: Final = {
    "black": (0.085, 0.072, 0.068),
    "very dark brown": (0.135, 0.105, 0.088),
    "dark brown": (0.20, 0.145, 0.115),
    "brown": (0.29, 0.205, 0.15),
    "light brown": (0.40, 0.29, 0.205),
    "dark blond": (0.52, 0.41, 0.285),
    "blond": (0.68, 0.56, 0.39),
    "fair": (0.80, 0.71, 0.55),
    "auburn": (0.34, 0.165, 0.105),
    "red": (0.52, 0.26, 0.135),
    "grey": (0.46, 0.455, 0.45),
    "white": (0.76, 0.755, 0.74),
}
"""sRGB in full light, by name; each is drawn equally often."""

_DEEP: Final = 0.42
"""Light that reaches the skin under thick hair, of what reaches its outside."""
_BINS: Final = (18, 36)
"""Polar and azimuthal cells in which the thickness of the hair is measured."""


@dataclass(frozen=True, eq=False)
class HairColor:
    """The colour of one head of hair.

    Attributes:
        name: of the tone.
        tone: (3,) sRGB.
        lock_spread: deviation of the logarithm from lock to lock.
        strand_spread: from strand to strand.
        tips: logarithm by which tips are lighter than roots.
        grey: share of strands without colour.
        shine: strength of the highlights.
    """

    name: str
    tone: Array
    lock_spread: float
    strand_spread: float
    tips: float
    grey: float
    shine: float


def sample_color(rng: np.random.Generator, name: str | None = None) -> HairColor:
    """A random natural colour; ``name`` is one of :data:`TONES`, or None."""
    name = name or str(rng.choice(list(TONES)))
    tone = np.array(TONES[name]) * rng.uniform(0.85, 1.15) * (1.0 + np.array([1.0, 0.2, -0.8]) * rng.normal(0.0, 0.03))
    return HairColor(
        name=name,
        tone=tone,
        lock_spread=rng.uniform(0.03, 0.12),
        strand_spread=rng.uniform(0.06, 0.16),
        tips=float(rng.normal(0.06, 0.15)),
        grey=float(rng.uniform(0.02, 0.4)) if rng.random() < 0.2 else 0.0,
        shine=rng.uniform(0.03, 0.13),
    )


def strand_albedo(strands: Strands, color: HairColor, rng: np.random.Generator) -> Array:
    """SRGB (M, K, 3) of strands in even light."""
    count, steps = strands.points.shape[:2]
    shade = rng.normal(0.0, color.lock_spread, int(strands.lock.max()) + 1)[strands.lock]
    shade = shade + rng.normal(0.0, color.strand_spread, count)
    along = color.tips * np.linspace(-0.5, 0.5, steps)
    tone = np.broadcast_to(color.tone, (count, 3)).copy()
    grey = rng.random(count) < color.grey
    tone[grey] = 0.55 * tone[grey] + 0.45 * np.array([0.60, 0.595, 0.59])
    return (tone[:, None] * np.exp(shade[:, None] + along)[..., None]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class HairLight:
    """How light reaches points of hair; everything that does not depend on the light itself.

    Attributes:
        normals: (M, K, 3) outward directions of the shell of hair.
        tangents: (M, K, 3) directions of the strands.
        depth: (M, K) in [0, 1], 1 at the outside of the hair.
    """

    normals: Array
    tangents: Array
    depth: Array


def hair_light(strands: Strands, field: DistanceField) -> HairLight:
    """Normals, tangents and depth of strands over a head."""
    flat = strands.points.reshape(-1, 3)
    height, outward = field.measure(flat)
    height = np.maximum(height, 0.0)
    cell = _cells(flat)
    order = np.lexsort((height, cell))
    first = np.searchsorted(cell[order], np.arange(_BINS[0] * _BINS[1] + 1))
    counts = np.diff(first)
    outer = np.zeros(_BINS[0] * _BINS[1])
    used = counts > 0
    outer[used] = height[order][(first[:-1] + np.floor(0.9 * counts).astype(int))[used].clip(0, len(flat) - 1)]
    depth = ((height + 0.002) / np.maximum(outer[cell] + 0.002, 0.004)).clip(0.0, 1.0)
    shape = strands.points.shape
    return HairLight(
        normals=outward.reshape(shape).astype(np.float32),
        tangents=tangents(strands.points),
        depth=depth.reshape(shape[:2]).astype(np.float32),
    )


def shade_strands(strands: Strands, albedo: Array, how: HairLight, light: Light, shine: float) -> Array:
    """SRGB (M, K, 3) of strands in a light (Kajiya and Kay 1989).

    The viewer is taken to look along the shell's normal, so that a colour belongs to a place and not to a camera.

    Args:
        strands: the hair.
        albedo: (M, K, 3) sRGB in even light.
        how: light reaches them.
        light: the light.
        shine: strength of the highlights.
    """
    normals = how.normals.reshape(-1, 3)
    along = how.tangents.reshape(-1, 3)
    depth = how.depth.reshape(-1)
    low = np.clip((strands.points[..., 1].reshape(-1) + 0.14) / 0.14, 0.0, 1.0)
    open_sky = (_DEEP + (1.0 - _DEEP) * depth**1.2) * (0.8 + 0.2 * low)
    facing = normals @ light.direction
    sine = np.sqrt(np.clip(1.0 - (along @ light.direction) ** 2, 0.0, 1.0))
    sun = sine * np.clip(0.75 * facing + 0.25, 0.0, 1.0) * (0.3 + 0.7 * depth)
    linear = light.ambient(normals) * open_sky[:, None] + sun[:, None] * light.hard
    half = normals + light.direction
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    matt = np.repeat(1.0 - 0.9 * strands.fine, strands.points.shape[1])
    gloss = shine * np.clip(facing + 0.15, 0.0, 1.0) * depth * matt
    first = np.clip(1.0 - ((along + 0.10 * normals) * half).sum(1) ** 2, 0.0, 1.0) ** 24
    second = np.clip(1.0 - ((along - 0.14 * normals) * half).sum(1) ** 2, 0.0, 1.0) ** 9
    own = albedo.reshape(-1, 3)
    power = light.hard + 0.35 * light.ambient(normals)
    white, own_tone = gloss * first, 2.5 * gloss * second
    color = own * encoded(linear) + 0.5 * power * (white[:, None] + own_tone[:, None] * np.sqrt(own))
    return color.clip(0.0, 1.0).reshape(albedo.shape).astype(np.float32)


def _cells(points: Array) -> Array:
    """Index (n,) of the cell of directions from the middle of the head."""
    offset = points - np.array([0.0, 0.03, 0.02])
    polar = np.arccos(np.clip(offset[:, 1] / np.maximum(np.linalg.norm(offset, axis=1), 1e-9), -1.0, 1.0))
    around = np.arctan2(offset[:, 0], offset[:, 2])
    row = np.minimum((polar / np.pi * _BINS[0]).astype(int), _BINS[0] - 1)
    column = np.minimum(((around / (2 * np.pi) + 0.5) * _BINS[1]).astype(int), _BINS[1] - 1)
    return row * _BINS[1] + column
