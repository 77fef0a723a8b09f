"""The K-source mean-pool (method section 2, step 3), weighted by visibility, and the exposure match before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatialavatar.generator.numerics import Floats

_OFFSET = 0.04
"""Added before logarithms, so that noise in the darkest pixels is no exposure difference."""

_ENOUGH = 100
"""Texels that two sources must share before their exposures are compared."""


def exposure_gains(colors: Sequence[Floats], weights: Sequence[Floats]) -> list[Floats]:
    """Gains that bring the sources to one exposure and white balance; for :func:`apply_gain`.

    Per source and channel one gain, fitted to the medians of the logarithmic differences of the texels that two sources
    both see. The gains' product is one: a single source stays exactly as it is, and no source is the reference.

    Args:
        colors: K arrays (N, 3).
        weights: K arrays (N,) in [0, 1].

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
            if seen.sum() < _ENOUGH:
                continue
            middle = np.median(logs[b][seen] - logs[a][seen], axis=0)
            weight = float(both[seen].sum())
            normal[[a, b], [a, b]] += weight
            normal[[a, b], [b, a]] -= weight
            right[a] += weight * middle
            right[b] -= weight * middle
    return list(np.exp(np.linalg.lstsq(normal, right, rcond=None)[0]))


def apply_gain(colors: Floats, gain: Floats) -> Floats:
    """Colours (..., 3) in another exposure; a gain of one changes nothing."""
    if (gain == 1.0).all():
        return colors
    return np.clip((colors + _OFFSET) * gain - _OFFSET, 0.0, 1.0)


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
