"""From guides to all strands: interpolation, locks, curls, loose hair, tails, and the cut around the face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from spatialavatar.synthetic.anatomy import Anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.field import DistanceField
from spatialavatar.synthetic.hair.guides import (
    Growth,
    default_whorl,
    fringe_length,
    grow,
    in_fringe,
    lengths,
)
from spatialavatar.synthetic.hair.scalp import HeadFrame, bearing, density, head_frame, inside_hairline
from spatialavatar.synthetic.hair.styles import HairStyle
from spatialavatar.synthetic.hair.tails import tail_strands

_GUIDES: Final = 1100
_PER_LOCK: Final = 14
_RINGLET: Final = 0.003
"""Radius of curls from which locks are narrow all along, metres."""
_SKIN: Final = 0.0006
"""Metres by which strands stay above the skin."""
_BABY: Final = 900
"""Short fine hairs along the hairline."""


@dataclass(frozen=True, eq=False)
class Strands:
    """M strands of K points; a strand that is cut repeats its last point.

    Attributes:
        points: (M, K, 3) metres, head space at rest.
        radius: (M,) standard deviation of the cross-section at the root, metres.
        lock: (M,) index of the lock a strand belongs to.
        fine: (M,) in [0, 1], share of fine, translucent hair.
    """

    points: Array
    radius: Array
    lock: Array
    fine: Array

    def __len__(self) -> int:
        return len(self.points)


def grow_hair(
    facts: Anatomy, vertices: Array, style: HairStyle, field: DistanceField, rng: np.random.Generator
) -> tuple[Strands, Array]:
    """The hair of a head, and the share (N,) of full hair on each texel.

    Args:
        facts: of the head model.
        vertices: (V, 3) at rest, metres.
        style: how it is worn.
        field: distance to that head.
        rng: the source of randomness.
    """
    surface, frame = facts.surface, head_frame(facts, vertices)
    jitter = float(rng.normal(0.0, 0.003))
    share = density(surface.grid.points, style, jitter) * bearing(facts)
    area = surface.grid.texel_areas(vertices)
    texels = surface.grid.points_on(vertices)
    chance = share * area
    place = rng.choice(len(chance), style.strands, p=chance / chance.sum())
    roots = field.keep_out(texels[place] + rng.uniform(-0.0016, 0.0016, (style.strands, 3)), 0.0)
    start = frame.to_template(roots)
    length = lengths(style, start, inside_hairline(start, style, jitter)) * _dense(share[place])
    fringe = in_fringe(style, start)
    if fringe.any():
        length = np.where(fringe, fringe_length(style, start, rng), length)
    growth = Growth(style, frame, field, default_whorl(rng))
    chosen = rng.choice(style.strands, min(_GUIDES, style.strands), replace=False)
    guides = grow(growth, roots[chosen], length[chosen] * rng.uniform(0.88, 1.12, len(chosen)), rng)
    points = _interpolate(guides, roots[chosen], roots, style)
    points, lock = _gather(points, roots, style, rng)
    points = _loosen(points, length, style, rng)
    if style.curl > 0:
        points = _curl(points, lock, length, style, rng)
    radius = style.radius * (0.55 + 0.45 * share[place]) * rng.uniform(0.8, 1.2, style.strands)
    fine = np.zeros(style.strands)
    if style.tie is not None and style.tail != "none":
        more, group = tail_strands(style, frame, rng)
        points = np.concatenate([points, _resample(more, style.steps)])
        lock = np.concatenate([lock, lock.max() + 1 + group])
        radius = np.concatenate([radius, np.full(len(more), style.radius)])
        fine = np.concatenate([fine, np.zeros(len(more))])
    if style.recede < 1.5 and style.steps > 6:
        baby = _baby_hair(growth, texels, area, jitter, facts, rng)
        points = np.concatenate([points, _resample(baby, style.steps)])
        lock = np.concatenate([lock, lock.max() + 1 + np.arange(len(baby))])
        radius = np.concatenate([radius, np.full(len(baby), 0.00018)])
        fine = np.concatenate([fine, np.ones(len(baby))])
    flat = field.keep_out(points.reshape(-1, 3), _SKIN).reshape(points.shape)
    return Strands(_cut_at_face(flat, frame, rng), radius, lock, fine), share


def _dense(share: Array) -> Array:
    """Factor (n,) on the length of hair where it is thin."""
    return 0.35 + 0.65 * share


def _interpolate(guides: Array, anchors: Array, roots: Array, style: HairStyle) -> Array:
    """Strands (n, K, 3) from ``roots`` (n, 3), like the nearest guides (g, K, 3) that start at ``anchors`` (g, 3)."""
    distance, nearest = cKDTree(anchors).query(roots, k=3)
    weight = 1.0 / (distance + 0.001) ** 2
    if style.parting is not None:
        same = np.sign(anchors[nearest][..., 0] - style.parting) == np.sign(roots[:, :1] - style.parting)
        weight = np.where(same, weight, 1e-4 * weight)
    weight /= weight.sum(1, keepdims=True)
    displacement = (guides - anchors[:, None]).astype(np.float32)
    result = np.zeros((len(roots), *guides.shape[1:]), np.float32)
    for column in range(3):
        result += weight[:, column, None, None].astype(np.float32) * displacement[nearest[:, column]]
    if style.tie is None:
        return result + roots[:, None]
    # Tied hair meets: the strand's end takes the guide's place, not its own root's.
    share = np.linspace(0.0, 1.0, guides.shape[1])[None, :, None]
    own = (weight[..., None] * anchors[nearest]).sum(1)
    return result + roots[:, None] * (1.0 - share) + own[:, None] * share


def _gather(points: Array, roots: Array, style: HairStyle, rng: np.random.Generator) -> tuple[Array, Array]:
    """Pull strands to the middle of their lock towards the tip; also the lock (n,) of each."""
    count = max(1, len(points) // _PER_LOCK)
    middle = rng.choice(len(points), count, replace=False)
    _, lock = cKDTree(points[middle, len(points[0]) // 3]).query(points[:, len(points[0]) // 3])
    if style.clump == 0:
        return points, lock
    share = np.linspace(0.0, 1.0, points.shape[1], dtype=np.float32)[None, :, None]
    strength = (style.clump * rng.uniform(0.5, 1.2, (count, 1, 1))).clip(0.0, 0.95)[lock].astype(np.float32)
    # Ringlets are narrow from the root on.
    sooner = 0.45 if style.curl >= _RINGLET else 1.2
    return points + (points[middle][lock] - points) * (strength * share**sooner), lock


def _loosen(points: Array, length: Array, style: HairStyle, rng: np.random.Generator) -> Array:
    """Strands of uneven length with slow bends, a few of them astray."""
    count, steps = points.shape[:2]
    share = np.linspace(0.0, 1.0, steps)[None, :, None]
    uneven = 0.03 if style.lift >= 2.0 else 0.10
    shorter = 1.0 - np.abs(rng.normal(0.0, 0.6 * uneven, count)) * (length < 0.2) - rng.uniform(0.0, uneven, count)
    points = _shorten(points, shorter.clip(0.5, 1.0))
    astray = np.where(rng.random(count) < 0.03, 3.0, 1.0)[:, None, None] * style.frizz
    points = points + astray * rng.normal(0.0, 1.0, (count, 1, 3)) * share**0.8
    bend = rng.normal(0.0, 0.35, (count, 2, 3))
    phase = rng.uniform(0.0, 2 * np.pi, (count, 2))
    for wave in range(2):
        angle = np.pi * (1.3 + 1.7 * wave) * share[..., 0] + phase[:, wave, None]
        points = points + (astray * share) * np.sin(angle)[..., None] * bend[:, wave, None]
    return points.astype(np.float32)


def _shorten(points: Array, share: Array) -> Array:
    """Strands (n, K, 3) of which only ``share`` (n,) of the length is left."""
    steps = points.shape[1]
    place = share[:, None] * np.arange(steps)
    low = np.minimum(place.astype(int), steps - 2)
    part = (place - low)[..., None].astype(np.float32)
    rows = np.arange(len(points))[:, None]
    return points[rows, low] * (1.0 - part) + points[rows, low + 1] * part


def _resample(points: Array, steps: int) -> Array:
    """Strands resampled to another number of points."""
    place = np.linspace(0.0, points.shape[1] - 1.0, steps)
    low = np.minimum(place.astype(int), points.shape[1] - 2)
    part = (place - low)[None, :, None]
    return (points[:, low] * (1.0 - part) + points[:, low + 1] * part).astype(np.float32)


def _curl(points: Array, lock: Array, length: Array, style: HairStyle, rng: np.random.Generator) -> Array:
    """Wind strands into helices; the strands of a lock share their phase and handedness."""
    count, steps = points.shape[:2]
    locks = int(lock.max()) + 1
    spread = 0.3 if style.clump > 0.3 else 3.0
    phase = (rng.uniform(0.0, 2 * np.pi, locks)[lock] + rng.normal(0.0, spread, count))[:, None]
    turn = rng.choice([-1.0, 1.0], locks)[lock][:, None]
    wave = style.wave * rng.uniform(0.75, 1.3, locks)[lock][:, None]
    arc = np.linspace(0.0, 1.0, steps)[None] * length[:, None]
    tangent = tangents(points)
    first = np.cross(tangent, np.array([0.31, 0.22, 0.93]))
    first /= np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-6)
    second = np.cross(tangent, first)
    # Curls are uneven along a lock and from lock to lock; even ones would look woven.
    wander = rng.normal(0.0, 1.0, (locks, 3))[lock]
    drift = np.sin(arc / 0.023 + 3.0 * wander[:, :1]) + np.sin(arc / 0.041 + 3.0 * wander[:, 1:2])
    angle = turn * (2 * np.pi * arc / wave) + phase + 0.45 * drift
    size = style.curl * np.exp(0.25 * wander[:, 2:]) * (1.0 + 0.2 * np.sin(arc / 0.031 + 5.0 * wander[:, 1:2]))
    radius = (size * np.minimum(1.0, arc / 0.03))[..., None]
    return (points + radius * (np.cos(angle)[..., None] * first + np.sin(angle)[..., None] * second)).astype(np.float32)


def _baby_hair(
    growth: Growth, texels: Array, area: Array, jitter: float, facts: Anatomy, rng: np.random.Generator
) -> Array:
    """Short fine hairs (m, K, 3) along the hairline."""
    edge = inside_hairline(facts.surface.grid.points, growth.style, jitter)
    chance = area * bearing(facts) * ((edge > -0.007) & (edge < 0.008))
    roots = texels[rng.choice(len(chance), _BABY, p=chance / chance.sum())] + rng.normal(0.0, 0.0012, (_BABY, 3))
    sweep = growth.style.sweep if growth.style.tie is None else -2.5
    short = HairStyle("", lift=0.15, gravity=0.05, volume=0.001, cling=0.6, steps=8, sweep=sweep)
    length = rng.uniform(0.003, 0.013, _BABY)
    return grow(Growth(short, growth.frame, growth.field, growth.whorl), growth.field.keep_out(roots, 0.0), length, rng)


def _cut_at_face(points: Array, frame: HeadFrame, rng: np.random.Generator) -> Array:
    """Cut strands where they come before the eyes or the face below the brows."""
    place = frame.to_template(points.astype(np.float64))
    x, y, z = np.moveaxis(place, -1, 0)
    limit = frame.brow - 0.001 + rng.normal(0.0, 0.0025, len(points))[:, None].clip(-0.004, 0.006)
    half = np.interp(
        y, [-0.09, -0.05, 0.0, 0.04, 0.06], [0.030, 0.038, 0.050, 1.22 * frame.corner, 1.22 * frame.corner]
    )
    within = (z > 0.088) & (np.abs(x) < half) & (y < limit) & (y > -0.09)
    gone = np.maximum.accumulate(within, 1)
    last = np.maximum((~gone).sum(1) - 1, 0)
    index = np.minimum(np.arange(points.shape[1]), last[:, None])
    return np.take_along_axis(points, index[..., None], 1)


def tangents(points: Array) -> Array:
    """Unit tangents (M, K, 3); a point without a direction repeats its neighbour's or is zero."""
    difference = np.gradient(points, axis=1)
    return difference / np.maximum(np.linalg.norm(difference, axis=-1, keepdims=True), 1e-9)
