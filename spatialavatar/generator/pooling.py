"""The K-source mean-pool (method section 2, step 3), weighted by visibility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatialavatar.generator.numerics import Floats


@dataclass(frozen=True, eq=False)
class Pooled:
    """Mean over the photos.

    Attributes:
        colors: (N, C) weighted means; the plain mean where no photo shows the texel.
        visibility: (N,) in [0, 1], of the photo that shows the texel best.
    """

    colors: Floats
    visibility: Floats


def mean_pool(colors: Sequence[Floats], weights: Sequence[Floats]) -> Pooled:
    """Mean over the photos, weighted by visibility: identity for one, invariant to the order of ``source_views``.

    Args:
        colors: K arrays (N, C).
        weights: K arrays (N,) in [0, 1].
    """
    if len(colors) == 1:
        return Pooled(colors[0], weights[0])
    total = np.sum(weights, axis=0)
    # Where no photo shows a texel the plain mean stands in; its visibility is 0.
    shares = [np.where(total > 0, weight / np.where(total > 0, total, 1.0), 1.0 / len(colors)) for weight in weights]
    pooled = np.sum([share[:, None] * color for share, color in zip(shares, colors)], axis=0)
    return Pooled(pooled, np.max(weights, axis=0))
