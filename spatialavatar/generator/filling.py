"""Colours for what no photo shows: the mirror twin, then a smooth fill over the graph of texels."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.hair import Hair
from spatialavatar.generator.numerics import LUMA, Floats, conjugate_gradients, smoothstep
from spatialavatar.generator.texels import TexelTables

_OFFSET = 0.04


def harmonic(
    laplacian: sp.csr_matrix,
    values: Floats,
    confidence: Floats,
    screening: float,
    far: Floats | None = None,
    pull: Floats | float = 1e-6,
) -> Floats:
    """Smoothest values (N, C) on the graph that agree with the confident ones.

    Solves (L + s w^2 + p) x = s w^2 v + p f. The pull p keeps the matrix positive definite where nothing is seen.

    Args:
        laplacian: (N, N).
        values: (N, C).
        confidence: w (N,) in [0, 1].
        screening: s; large holds the data, small smooths it.
        far: f (C,), what values tend to far from the data; by default their mean.
        pull: p (N,) or a number, how strongly.
    """
    data = screening * confidence[:, None] ** 2
    away = (data * values).sum(0) / max(float(data.sum()), 1e-12) if far is None else far
    towards = np.broadcast_to(pull, confidence.shape)[:, None]
    matrix = (laplacian + sp.diags(data[:, 0] + towards[:, 0])).tocsr()
    start = np.where(confidence[:, None] > 0.5, values, away)
    return conjugate_gradients(matrix, data * values + towards * away, start)


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
    pull = 1e-6 if hair is None else np.where(tables.strands != 0, config.hair_pull, 1e-6)
    far = None if hair is None else hair.color
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
