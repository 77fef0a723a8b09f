"""One exposure and one light for all photos, before they are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatialavatar.generator.harmonic import light_field
from spatialavatar.generator.numerics import Floats, Mask, smoothstep
from spatialavatar.generator.pooling import mean_pool
from spatialavatar.generator.surface import TexelSurface

LOG_OFFSET = 0.04
"""Added to colours before logarithms, so that noise in the darkest pixels does not count as a difference of light."""

MIN_SHARED_TEXELS = 100
"""Texels that two photos must share before their exposures are compared."""


def exposure_gains(colors: Sequence[Floats], weights: Sequence[Floats], skin: Mask) -> list[Floats]:
    """Gains that bring the photos to one exposure and white balance; for :func:`apply_gain`.

    One gain per photo and channel, from the differences of two photos' logarithms: the median over the texels that
    both show, and the difference of the medians over the skin that each shows. A face that turns under a fixed light
    changes the first, another side of the face the second; only what both agree on is exposure. The product of the
    gains is one: a single photo is unchanged, and no photo is the reference.

    Args:
        colors: K arrays (N, 3).
        weights: K arrays (N,) in [0, 1].
        skin: (N,) bool.

    Returns:
        K arrays (3,).
    """
    count = len(colors)
    if count == 1:
        return [np.ones(3)]
    logs = [np.log(np.maximum(color, 0.0) + LOG_OFFSET) for color in colors]
    # The all-ones matrix fixes the gauge: the gains' logarithms sum to zero.
    normal, right = np.ones((count, count)), np.zeros((count, 3))
    for a in range(count):
        for b in range(a + 1, count):
            both = weights[a] * weights[b]
            seen = both > 0.1
            skins = [skin & (weights[k] > 0.5) for k in (a, b)]
            if min(seen.sum(), skins[0].sum(), skins[1].sum()) < MIN_SHARED_TEXELS:
                continue
            shared = np.median(logs[b][seen] - logs[a][seen], axis=0)
            whole = np.median(logs[b][skins[1]], axis=0) - np.median(logs[a][skins[0]], axis=0)
            agreed = np.minimum(np.abs(shared), np.abs(whole)) * np.sign(shared) * (shared * whole > 0)
            weight = float(both[seen].sum())
            normal[[a, b], [a, b]] += weight
            normal[[a, b], [b, a]] -= weight
            right[a] += weight * agreed
            right[b] -= weight * agreed
    return list(np.exp(np.linalg.lstsq(normal, right, rcond=None)[0]))


def apply_gain(colors: Floats, gain: Floats) -> Floats:
    """Colours (..., 3) in another exposure; a gain of one changes nothing."""
    if (gain == 1.0).all():
        return colors
    return np.clip((colors + LOG_OFFSET) * gain - LOG_OFFSET, 0.0, 1.0)


def match_light(surface: TexelSurface, colors: Sequence[Floats], weights: Sequence[Floats]) -> list[Floats]:
    """Match the photos' shading, so that no seam shows between two photos.

    Each photo is multiplied by a smooth field: the ratio of the photos' mean to it where others show the same texels,
    extended to where only it does. Detail stays; a single photo is unchanged.

    Args:
        surface: the texels.
        colors: K arrays (N, 3).
        weights: K arrays (N,) in [0, 1].

    Returns:
        K arrays (N, 3).
    """
    if len(colors) == 1:
        return [colors[0]]
    # Every photo that shows a texel at all counts alike: the weighted mean is each photo's own where it shows it best.
    present = [smoothstep(weight, 0.0, 0.4) for weight in weights]
    logs = [np.log(np.maximum(color, 0.0) + LOG_OFFSET) for color in colors]
    mean = mean_pool(logs, present).colors
    matched = []
    for k, log in enumerate(logs):
        others = np.max([p for j, p in enumerate(present) if j != k], axis=0)
        field = light_field(surface.tables.laplacian, mean - log, present[k] * others, surface.config.light)
        matched.append((np.exp(log + field) - LOG_OFFSET).clip(0.0, 1.0))
    return matched
