"""Guide strands: they grow along the combed direction, bend under gravity and stay outside of the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.field import DistanceField
from spatialavatar.synthetic.hair.scalp import CROWN, HeadFrame
from spatialavatar.synthetic.hair.styles import HairStyle

_DOWN: Final = np.array([0.0, -1.0, 0.0])
_TUCK: Final = np.array([0.079, 0.040, -0.012])
"""Behind the top of the left ear, on the template."""
_THICKEST: Final = 0.05
"""Metres that the layer of hair is pushed out at most."""


@dataclass(frozen=True, eq=False)
class Growth:
    """Where one head of hair grows.

    Attributes:
        style: the style.
        frame: the head relative to the template.
        field: distance to the head and the shoulders.
        whorl: (3,) middle of the whorl on the template.
    """

    style: HairStyle
    frame: HeadFrame
    field: DistanceField
    whorl: Array


def lengths(style: HairStyle, roots: Array, inside: Array) -> Array:
    """Metres (n,) of strands with roots (n, 3) on the template that lie ``inside`` (n,) metres within the hairline."""
    top = smoothstep(roots[:, 1], 0.070, 0.112)
    back = smoothstep(-roots[:, 2], 0.0, 0.05)
    length = style.top * top + (1.0 - top) * (style.back * back + (1.0 - back) * style.side)
    return length * (style.taper + (1.0 - style.taper) * smoothstep(inside, 0.0, 0.05))


def in_fringe(style: HairStyle, roots: Array) -> Array:
    """(n,) bool: roots (n, 3) on the template whose hair falls over the forehead."""
    if style.fringe == "none":
        return np.zeros(len(roots), bool)
    return (roots[:, 2] > 0.068) & (roots[:, 1] > 0.085) & (np.abs(roots[:, 0]) < 0.055)


def fringe_length(style: HairStyle, roots: Array, rng: np.random.Generator) -> Array:
    """Length (n,) of the fringe's strands; they are cut at the brows later."""
    low, high = {"straight": (0.075, 0.085), "side": (0.08, 0.11), "curtain": (0.10, 0.13)}[style.fringe]
    return rng.uniform(low, high, len(roots)) + 0.6 * np.clip(0.11 - roots[:, 2], 0.0, 0.05)


def grow(growth: Growth, roots: Array, length: Array, rng: np.random.Generator) -> Array:
    """Guide strands (n, K, 3), metres in head space.

    Args:
        growth: where they grow.
        roots: (n, 3) on the skin.
        length: (n,) metres.
        rng: the source of randomness.
    """
    style, field, frame = growth.style, growth.field, growth.frame
    start = frame.to_template(roots)
    fringe = in_fringe(style, start)
    height = smoothstep(start[:, 1], -0.05, 0.14)
    layer = style.volume * (0.15 + 0.45 * rng.random(len(roots)) + 0.4 * height)
    _, outward = field.measure(roots)
    combed = _combed(growth, start, outward, fringe)
    heading = _unit(style.lift * outward + combed + rng.normal(0.0, 0.06, roots.shape))
    point, strand = roots, [roots]
    step = length / (style.steps - 1)
    for number in range(1, style.steps):
        share = number / (style.steps - 1)
        distance, outward = field.measure(point)
        place = frame.to_template(point)
        near = np.exp(-np.maximum(distance, 0.0) / 0.02)[:, None]
        combed = _combed(growth, place, outward, fringe)
        if style.tie is not None:
            loose = fringe[:, None]
            left = np.linalg.norm(_tie(growth) - point, axis=1) / (style.steps - number)
            tied = _unit(0.5 * heading + combed)
            free = _unit(0.8 * heading + 0.15 * _DOWN + 0.3 * near * combed)
            heading = np.where(loose, free, tied)
            moved = point + heading * np.where(fringe, step, 1.12 * left)[:, None]
        else:
            pull = style.cling * near * (1.0 - 0.6 * share) * (length > 0.015)[:, None]
            heading = 0.8 * heading + style.gravity * (0.5 + share) * _DOWN + pull * combed
            heading = _unit(heading + _around_face(style, place, fringe) + _behind_ears(style, start, place))
            moved = point + heading * step[:, None]
        rise = min(1.0, number / 4.0)
        least = np.minimum(layer * rise * (0.5 + 0.6 * np.clip(place[:, 1] / 0.13, 0.0, 1.0)), _THICKEST)
        point = field.keep_out(moved, np.where(fringe, 0.5 * least, least))
        pushed = (point != moved).any(1)[:, None]
        inward = np.minimum((heading * outward).sum(1, keepdims=True), 0.0)
        heading = np.where(pushed, _unit(heading - 0.8 * inward * outward), heading)
        strand.append(point)
    return np.stack(strand, 1)


def _tie(growth: Growth) -> Array:
    """(3,) where the hair is tied, head space."""
    assert growth.style.tie is not None
    y, z = growth.style.tie
    return growth.frame.from_template(np.array([0.0, y, z]))


def _combed(growth: Growth, place: Array, outward: Array, fringe: Array) -> Array:
    """Unit tangents (n, 3): the direction in which the hair at template points ``place`` (n, 3) is combed."""
    style = growth.style
    if style.tie is not None:
        y, z = style.tie
        flow = np.where(fringe[:, None], np.array([0.0, -0.4, 1.0]), _unit(np.array([0.0, y, z]) - place))
    else:
        flow = _unit(place - growth.whorl)
        top = smoothstep(place[:, 1], 0.055, 0.105)[:, None]
        flow = flow + top * np.array([style.sideways, 0.0, style.sweep])
        low = smoothstep(-place[:, 1], -0.02, 0.02)[:, None] * (place[:, 2] < 0.02)[:, None]
        flow = (1.0 - low) * flow + low * _DOWN
        if style.parting is not None:
            near = np.exp(-(((place[:, 1] - 0.125) / 0.05) ** 2)) * smoothstep(place[:, 2], -0.04, 0.0)
            side = np.tanh((place[:, 0] - style.parting) / 0.006)
            flow = flow + (1.6 * near * side)[:, None] * np.array([1.0, 0.0, 0.0])
        if fringe.any():
            away = np.sign(place[:, 0] - (style.parting or 0.0))
            across = {"straight": 0.0 * away, "side": 0.7 + 0.0 * away, "curtain": 1.1 * away}[style.fringe]
            front = np.stack([across, np.full(len(place), -0.5), np.ones(len(place))], 1)
            flow = np.where(fringe[:, None], 0.3 * flow + front, flow)
    return _unit(flow - outward * (flow * outward).sum(1, keepdims=True))


def _around_face(style: HairStyle, place: Array, fringe: Array) -> Array:
    """(n, 3) push sideways and back of what would hang in front of the face."""
    x, y, z = place.T
    inside = smoothstep(z, 0.065, 0.095) * smoothstep(0.105 - y, 0.0, 0.02) * smoothstep(0.072 - np.abs(x), 0.0, 0.025)
    inside = inside * ~(fringe & (style.fringe != "curtain"))
    return np.stack([1.3 * np.sign(x + 1e-9) * inside, 0.0 * x, -0.7 * inside], 1)


def _behind_ears(style: HairStyle, start: Array, place: Array) -> Array:
    """(n, 3) pull of the hair above a tucked ear to the point behind it, and back along its rear."""
    if not style.tucked:
        return np.zeros_like(place)
    side = np.sign(start[:, 0] + 1e-9)
    wanted = ((side > 0) & bool(style.tucked & 1)) | ((side < 0) & bool(style.tucked & 2))
    wanted &= (start[:, 1] > 0.02) & (start[:, 2] > -0.02)
    goal = _TUCK * np.stack([side, np.ones_like(side), np.ones_like(side)], 1)
    before = wanted & (place[:, 2] > _TUCK[2]) & (place[:, 1] > _TUCK[1] - 0.012) & (place[:, 1] < 0.105)
    after = wanted & (place[:, 1] <= _TUCK[1]) & (place[:, 1] > -0.06) & (place[:, 2] > -0.03)
    pull = 1.1 * _unit(goal - place) * before[:, None]
    return pull + after[:, None] * np.array([0.0, 0.0, -0.6])


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def default_whorl(rng: np.random.Generator) -> Array:
    """A random middle of the whorl, on the template."""
    return CROWN + np.array([rng.uniform(-0.018, 0.018), 0.0, rng.uniform(-0.015, 0.015)])
