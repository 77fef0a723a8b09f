"""Tied hair behind the tie: a bun, a tail, or a braid."""

from __future__ import annotations

import numpy as np

from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.scalp import HeadFrame
from spatialavatar.synthetic.hair.styles import HairStyle

_POINTS = 40


def tail_strands(style: HairStyle, frame: HeadFrame, rng: np.random.Generator) -> tuple[Array, Array]:
    """Strands (m, K, 3) behind the tie, head space, and the bundle (m,) of each."""
    assert style.tie is not None
    tie = frame.from_template(np.array([0.0, *style.tie]))
    make = {"bun": _bun, "tail": _tail, "braid": _braid}[style.tail]
    return make(tie, rng)


def _bun(tie: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Locks wound around the axis of a knot on the head."""
    count, radius = 1500, rng.uniform(0.022, 0.038)
    bundle = rng.integers(0, 40, count)
    axis = np.array([0.0, 0.35, -1.0]) / np.hypot(0.35, 1.0)
    first = np.array([1.0, 0.0, 0.0])
    second = np.cross(axis, first)
    start = rng.uniform(0.0, 2 * np.pi, 40)[bundle] + rng.normal(0.0, 0.1, count)
    ring = rng.uniform(0.35, 1.0, 40)[bundle] + rng.normal(0.0, 0.05, count)
    lift = rng.uniform(-0.2, 1.0, 40)[bundle] + rng.normal(0.0, 0.06, count)
    share = np.linspace(0.0, 1.0, _POINTS)[None]
    angle = start[:, None] + 4.2 * share
    out = ring[:, None] * (1.0 - 0.25 * np.cos(6.0 * share + start[:, None]))
    height = (lift[:, None] + 0.25 * np.sin(5.0 * share + 2.0 * start[:, None])) * np.sqrt(
        np.clip(1.2 - out**2, 0.1, 1)
    )
    middle = tie + 0.35 * radius * axis
    points = (
        middle
        + radius * (out * np.cos(angle))[..., None] * first
        + radius * (out * np.sin(angle))[..., None] * second
        + 0.8 * radius * height[..., None] * axis
    )
    return points, bundle


def _path(tie: Array, length: float, share: Array) -> Array:
    """The middle line of a tail (..., 3): back at first, then down."""
    back = 0.045 * np.sin(np.minimum(2.2 * share, 0.5 * np.pi))
    down = length * share**1.35 - 0.012 * np.sin(np.pi * np.minimum(3.0 * share, 1.0))
    return tie + np.stack([0.0 * share, -down, -back], -1)


def _tail(tie: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    count, length = 1800, rng.uniform(0.14, 0.34)
    bundle = rng.integers(0, 60, count)
    share = np.linspace(0.0, 1.0, _POINTS)[None] * rng.uniform(0.8, 1.0, (count, 1))
    offset = rng.normal(0.0, 1.0, (60, 3))[bundle] * 0.008 + rng.normal(0.0, 0.003, (count, 3))
    spread = 0.5 + 0.9 * np.sin(np.pi * np.minimum(share + 0.1, 1.0) ** 0.8)
    wave = rng.uniform(0.0, 0.008) * np.sin(rng.uniform(10, 22) * share + rng.uniform(0, 6, 60)[bundle][:, None])
    points = _path(tie, length, share) + offset[:, None] * spread[..., None]
    points[..., 0] += wave * share
    return points, bundle


def _braid(tie: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Three bundles that cross; their middles follow a figure of eight around the tail's line."""
    count, length = 1800, rng.uniform(0.16, 0.32)
    bundle = rng.integers(0, 3, count)
    width = rng.uniform(0.009, 0.014)
    share = np.linspace(0.0, 1.0, _POINTS * 2)[None] * rng.uniform(0.9, 1.0, (count, 1))
    phase = 2 * np.pi * (length * share / (3.6 * width)) + 2 * np.pi / 3 * bundle[:, None]
    offset = rng.normal(0.0, 0.32 * width, (count, 3))
    narrow = 1.0 - 0.45 * share
    points = _path(tie, length, share)
    points[..., 0] += width * narrow * np.sin(phase)
    points[..., 2] += 0.5 * width * narrow * np.sin(2.0 * phase)
    return points + offset[:, None] * narrow[..., None], bundle
