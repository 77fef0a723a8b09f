"""The K-source mean-pool (method section 2, step 3), weighted by visibility, and the exposure match before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.filling import harmonic
from spatialavatar.generator.numerics import Floats, Mask, smoothstep
from spatialavatar.generator.texels import TexelTables

_OFFSET = 0.04
"""Added before logarithms, so that noise in the darkest pixels is no exposure difference."""

_ENOUGH = 100
"""Texels that two sources must share before their exposures are compared."""


def exposure_gains(colors: Sequence[Floats], weights: Sequence[Floats], skin: Mask) -> list[Floats]:
    """Gains that bring the sources to one exposure and white balance; for :func:`apply_gain`.

    Per source and channel one gain, from the differences of two sources' logarithms: the median over the texels that
    both see, and the difference of the medians over the skin that each sees. A face that turns under a fixed light
    changes the first, another side of the face the second; only what both say is exposure. The gains' product is one: a
    single source stays exactly as it is, and no source is the reference.

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
    logs = [np.log(np.maximum(color, 0.0) + _OFFSET) for color in colors]
    # The all-ones matrix fixes the gauge: the gains' logarithms sum to zero.
    normal, right = np.ones((count, count)), np.zeros((count, 3))
    for a in range(count):
        for b in range(a + 1, count):
            both = weights[a] * weights[b]
            seen = both > 0.1
            skins = [skin & (weights[k] > 0.5) for k in (a, b)]
            if min(seen.sum(), skins[0].sum(), skins[1].sum()) < _ENOUGH:
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
    return np.clip((colors + _OFFSET) * gain - _OFFSET, 0.0, 1.0)


def match_light(
    tables: TexelTables, colors: Sequence[Floats], weights: Sequence[Floats], config: BaseConfig
) -> list[Floats]:
    """Bring the sources' shading together, so that no edge shows where one source takes over from another.

    Each source is multiplied by a smooth field: the ratio of the sources' mean to it where others see the same texels,
    extended to where only it does. Detail stays; a single source stays exactly as it is.

    Args:
        tables: of the layout.
        colors: K arrays (N, 3).
        weights: K arrays (N,) in [0, 1].
        config: constants.
    """
    if len(colors) == 1:
        return [colors[0]]
    # Who sees a texel at all counts alike: the weighted mean is each source's own where it sees best.
    present = [smoothstep(weight, 0.0, 0.4) for weight in weights]
    logs = [np.log(np.maximum(color, 0.0) + _OFFSET) for color in colors]
    mean, _ = mean_pool(logs, present)
    matched = []
    for k, log in enumerate(logs):
        others = np.max([p for j, p in enumerate(present) if j != k], axis=0)
        ratio = (mean - log).clip(-config.mirror_clip, config.mirror_clip)
        field = harmonic(
            tables.laplacian, ratio, present[k] * others, config.mirror_screening, np.zeros(3), config.light_decay
        )
        matched.append((np.exp(log + field) - _OFFSET).clip(0.0, 1.0))
    return matched


def mean_pool(colors: Sequence[Floats], weights: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Mean over the sources, weighted by visibility: identity for one source, invariant to order if summed in one.

    Args:
        colors: K arrays (N, C), in the canonical order of ``source_views``.
        weights: K arrays (N,) in [0, 1].

    Returns:
        Colours (N, C), and the visibility (N,) of the source that sees the texel best.
    """
    if len(colors) == 1:
        return colors[0], weights[0]
    total = np.sum(weights, axis=0)
    # Where nobody sees a texel the plain mean stands in; its visibility is 0.
    shares = [np.where(total > 0, weight / np.where(total > 0, total, 1.0), 1.0 / len(colors)) for weight in weights]
    pooled = np.sum([share[:, None] * color for share, color in zip(shares, colors)], axis=0)
    return pooled, np.max(weights, axis=0)
