"""Smooth fill: a texel that neither a photo nor its twin shows takes the colours around it on the graph."""

from __future__ import annotations

import numpy as np

from spatialavatar.generator.completion.hair import HairStyle
from spatialavatar.generator.completion.mirror_fill import KnownColors
from spatialavatar.generator.harmonic import harmonic
from spatialavatar.generator.numerics import LUMA, Floats, Ints, neighbour_means, smoothstep
from spatialavatar.generator.surface import TexelSurface

_FAINT_PULL = 1e-5
"""Changes nothing near the data, but keeps the system positive definite where there is none."""


def fill_smoothly(surface: TexelSurface, known: KnownColors, trust: Floats, hair: HairStyle | None = None) -> Floats:
    """Colours (N, 3): well-seen samples stay, the others become the smooth fill.

    Args:
        surface: the texels.
        known: colours, by sight or by the twin.
        trust: (N,) in [0, 1], weight of each texel in the fill of others.
        hair: colour and contrast of the seen hair, for a scalp that has some.
    """
    tables, config = surface.tables, surface.config.fill
    colors, weight = known.colors, known.confidence * trust
    far, pull = _group_means(tables.groups, colors, weight), np.full(len(colors), _FAINT_PULL)
    if hair is not None:
        scalp = tables.strands != 0
        far[scalp], pull[scalp] = hair.color, config.hair_pull
    filled = harmonic(tables.laplacian, colors, weight, config.screening, far, pull)
    smear = _smeared_lids(surface, colors, filled)
    keep = (smoothstep(known.confidence, *config.keep) * (1.0 - smear))[:, None]
    filled = keep * colors + (1.0 - keep) * filled
    # The border of scalp and skin is a line of triangles; hair ends softly.
    soften = (1.0 - keep) * tables.border[:, None]
    for _ in range(config.border_rounds):
        filled = filled + soften * (neighbour_means(filled, tables.seam) - filled)
    if hair is not None:
        filled = filled * np.exp((1.0 - keep) * hair.contrast * tables.strands[:, None])
    return filled.clip(0.0, 1.0)


def _smeared_lids(surface: TexelSurface, colors: Floats, filled: Floats) -> Floats:
    """(N,) in [0, 1]: dark lid texels. They show lash, crease or eyeball, which would smear over the closed lid.

    The lash line stays dark.
    """
    tables = surface.tables
    luma, around = colors @ LUMA, np.maximum(filled @ LUMA, 0.02)
    return tables.lid * (1.0 - tables.lash) * (1.0 - smoothstep(luma / around, *surface.config.fill.lid_darkness))


def _group_means(groups: Ints, colors: Floats, weight: Floats) -> Floats:
    """(N, C) for each texel the weighted mean of its group, or of all where nothing of the group has weight."""
    total = np.bincount(groups, weight)[:, None]
    sums = np.stack([np.bincount(groups, weight * channel) for channel in colors.T], 1)
    everywhere = sums.sum(0) / max(float(total.sum()), 1e-12)
    return np.where(total > 1.0, sums / np.maximum(total, 1e-12), everywhere)[groups]
