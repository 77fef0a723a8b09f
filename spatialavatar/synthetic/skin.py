"""Skin tones, evenly spread, and colours on the skin of a head: hair growth, blush, freckles."""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.generator.texel_tables import EYES
from spatialavatar.synthetic.anatomy import OUTSIDE, Anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.people import Person

SKIN_TONES: Final = np.array(
    [
        (0.91, 0.75, 0.68),
        (0.86, 0.68, 0.59),
        (0.79, 0.60, 0.49),
        (0.69, 0.50, 0.39),
        (0.57, 0.395, 0.30),
        (0.44, 0.295, 0.22),
        (0.33, 0.22, 0.17),
        (0.235, 0.16, 0.13),
    ]
)
"""sRGB of faces in ordinary light, from the fairest to the darkest; tones between them are drawn evenly."""

IRISES: Final = np.array(
    [(0.20, 0.13, 0.09), (0.30, 0.20, 0.12), (0.33, 0.30, 0.17), (0.30, 0.40, 0.45), (0.40, 0.45, 0.47)]
)


def skin_tone(place: float) -> Array:
    """The tone (3,) at ``place`` from 0, the fairest, to 1, the darkest."""
    steps = np.linspace(0.0, 1.0, len(SKIN_TONES))
    return np.array([np.interp(place, steps, channel) for channel in SKIN_TONES.T])


def paint_skin(facts: Anatomy, person: Person, tone: Array, rng: np.random.Generator) -> Array:
    """SRGB (N, 3) of a head in even light, without hair: a person's skin in another tone.

    Args:
        facts: of the head model.
        person: whose skin it is.
        tone: (3,) sRGB of the face.
        rng: the source of randomness.
    """
    surface = facts.surface
    outside = surface.mask(*OUTSIDE)
    detail = np.log(person.albedo.astype(np.float64).clip(0.02, None)) - np.log(person.tone)
    fair = float(smoothstep(np.array([tone.mean()]), 0.15, 0.6)[0])
    grey = detail.mean(1, keepdims=True)
    # Blood shows through fair skin; on dark skin the pattern is one of brightness.
    detail = grey + (0.45 + 0.55 * fair) * (detail - grey)
    color = tone * np.exp(rng.uniform(0.8, 1.05) * detail.clip(-1.6, 0.6))
    points = surface.grid.points
    ears = surface.mask("ears")
    blush = np.exp(-(((np.abs(points[:, 0]) - 0.045) / 0.018) ** 2) - ((points[:, 1] + 0.008) / 0.018) ** 2)
    blush = rng.uniform(0.0, 0.05) * blush + rng.uniform(0.0, 0.10) * ears
    color = color * np.exp(fair * blush[:, None] * np.array([0.6, -1.0, -0.8]))
    color = color * np.exp(_mottle(points, rng) * rng.uniform(0.2, 1.0))[:, None]
    if rng.random() < 0.15 * fair:
        color = color * np.exp(-_freckles(facts, rng))[:, None] ** np.array([0.6, 1.0, 1.2])
    albedo = np.where(outside[:, None], color, person.albedo)
    return _paint_eyes(facts, albedo, rng).clip(0.0, 1.0)


def _mottle(points: Array, rng: np.random.Generator) -> Array:
    """Faint irregularity (n,) of the skin all over, so that filled skin is not smooth beside pores."""
    total = np.zeros(len(points))
    for _ in range(14):
        wave = rng.normal(0.0, 1.0, 3)
        wave *= rng.uniform(300.0, 1500.0) / np.linalg.norm(wave)
        total += np.cos(points @ wave + rng.uniform(0.0, 2 * np.pi))
    return 0.012 * total / np.sqrt(7.0) + rng.normal(0.0, 0.012, len(points))


def _freckles(facts: Anatomy, rng: np.random.Generator) -> Array:
    """(N,) darkness of random spots on the middle of the face."""
    points = facts.surface.grid.points
    where = np.exp(-((points[:, 0] / 0.05) ** 2) - ((points[:, 1] - 0.01) / 0.035) ** 2) * facts.surface.mask("face")
    middles = points[rng.choice(len(points), 220, p=where / where.sum())]
    dark = np.zeros(len(points))
    near = np.flatnonzero(where > 0.02)
    squared = ((points[near, None] - middles[None]) ** 2).sum(-1)
    dark[near] = (np.exp(-squared / 0.0009**2) * rng.uniform(0.1, 0.5, len(middles))).sum(1).clip(0.0, 0.6)
    return dark


def _paint_eyes(facts: Anatomy, albedo: Array, rng: np.random.Generator) -> Array:
    """The albedo with irises of a random colour."""
    angle = facts.surface.tables.eye_angle
    eyes = facts.surface.mask(*EYES)
    color = IRISES[rng.integers(len(IRISES))] * rng.uniform(0.8, 1.2)
    iris = eyes * (1.0 - smoothstep(angle, np.radians(26), np.radians(31)))
    pupil = eyes * (1.0 - smoothstep(angle, np.radians(9), np.radians(12)))
    rim = np.exp(-(((angle - np.radians(27)) / np.radians(3.5)) ** 2)) * eyes
    white = eyes[:, None] * np.array([0.80, 0.765, 0.74])
    result = np.where(eyes[:, None], white, albedo)
    result = result + iris[:, None] * (color * (1.0 - 0.45 * rim[:, None]) - result)
    return result * (1.0 - 0.9 * pupil[:, None])
