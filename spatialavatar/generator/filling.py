"""Colours for what no photo shows: the mirror twin, then a smooth fill over the graph of texels."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.hair import Hair
from spatialavatar.generator.numerics import LUMA, Floats, Ints, conjugate_gradients, smoothstep
from spatialavatar.generator.texels import TexelTables

_OFFSET = 0.04
_FAINT = 1e-5
"""A pull that changes nothing near the data, but keeps the system positive definite where there is none."""


def harmonic(
    laplacian: sp.csr_matrix,
    values: Floats,
    confidence: Floats,
    screening: float,
    far: Floats,
    pull: Floats | float,
) -> Floats:
    """Smoothest values (N, C) on the graph that agree with the confident ones.

    Solves (L + s w^2 + p) x = s w^2 v + p f. The pull p keeps the matrix positive definite where nothing is seen.

    Args:
        laplacian: (N, N).
        values: (N, C).
        confidence: w (N,) in [0, 1].
        screening: s; large holds the data, small smooths it.
        far: f (C,) or (N, C), what values tend to far from the data; also where the solver starts.
        pull: p (N,) or a number, how strongly.
    """
    data = screening * confidence[:, None] ** 2
    towards = np.broadcast_to(pull, confidence.shape)[:, None]
    matrix = (laplacian + sp.diags(data[:, 0] + towards[:, 0])).tocsr()
    start = np.where(confidence[:, None] > 0.5, values, far)
    return conjugate_gradients(matrix, data * values + towards * far, start)


def add_mirror(tables: TexelTables, colors: Floats, seen: Floats, config: BaseConfig) -> tuple[Floats, Floats]:
    """Give unseen texels their mirror twin's colour, balanced for light that comes from one side.

    The balance is the logarithm of the ratio between a texel and its twin where both are seen, smoothly extended to
    where only one is.

    Returns:
        Colours (N, 3) and confidences (N,): those of the texel where it is seen as well as its twin.
    """
    twin = tables.twin
    both = np.minimum(seen, seen[twin])
    ratio = np.log((colors + _OFFSET) / (colors[twin] + _OFFSET)).clip(-config.mirror_clip, config.mirror_clip)
    balance = harmonic(tables.laplacian, ratio, both, config.mirror_screening, np.zeros(3), config.light_decay)
    mirrored = ((colors[twin] + _OFFSET) * np.exp(balance) - _OFFSET).clip(0.0, 1.0)
    borrowed = config.mirror_confidence * seen[twin]
    share = np.where(seen >= borrowed, 1.0, seen / np.maximum(borrowed, 1e-9))[:, None]
    return share * colors + (1.0 - share) * mirrored, np.maximum(seen, borrowed)


def _group_means(groups: Ints, colors: Floats, weight: Floats) -> Floats:
    """(N, C) for each texel the weighted mean of its group, or of all where nothing of the group has weight."""
    total = np.bincount(groups, weight)[:, None]
    sums = np.stack([np.bincount(groups, weight * channel) for channel in colors.T], 1)
    everywhere = sums.sum(0) / max(float(total.sum()), 1e-12)
    return np.where(total > 1.0, sums / np.maximum(total, 1e-12), everywhere)[groups]


def fill_unseen(
    tables: TexelTables,
    colors: Floats,
    confidence: Floats,
    trust: Floats,
    config: BaseConfig,
    hair: Hair | None = None,
) -> Floats:
    """Colours (N, 3): samples that are well seen stay, the others become the smooth fill.

    Args:
        tables: of the layout.
        colors: (N, 3), of any value where the confidence is 0.
        confidence: (N,) how well the colour is known, by sight or by its twin.
        trust: (N,) in [0, 1], how far the fill of others may draw on it.
        config: constants.
        hair: what the seen hair is like, for the scalp of a person who has some.
    """
    far, pull = _group_means(tables.groups, colors, confidence * trust), np.full(len(colors), _FAINT)
    if hair is not None:
        scalp = tables.strands != 0
        far[scalp], pull[scalp] = hair.color, config.hair_pull
    filled = harmonic(tables.laplacian, colors, confidence * trust, config.screening, far, pull)
    # Lids: what is dark there is lash, crease or eyeball, which would smear over the closed lid; the edge stays dark.
    luma, around = colors @ LUMA, np.maximum(filled @ LUMA, 0.02)
    smear = tables.lid * (1.0 - tables.lash) * (1.0 - smoothstep(luma / around, *config.lid_darkness))
    keep = (smoothstep(confidence, *config.keep) * (1.0 - smear))[:, None]
    filled = keep * colors + (1.0 - keep) * filled
    # The border of scalp and skin is a line of triangles; hair ends softly.
    soften = (1.0 - keep) * tables.border[:, None]
    for _ in range(config.border_rounds):
        filled = filled + soften * (filled[tables.seam].mean(1) - filled)
    if hair is not None:
        filled = filled * np.exp((1.0 - keep) * hair.contrast * tables.strands[:, None])
    return filled.clip(0.0, 1.0)
