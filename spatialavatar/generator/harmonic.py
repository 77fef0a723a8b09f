"""Smooth extension of values over the graph of texels."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from spatialavatar.generator.config import LightConfig
from spatialavatar.generator.numerics import Floats, conjugate_gradients


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
        laplacian: L (N, N).
        values: v (N, C).
        confidence: w (N,) in [0, 1].
        screening: s; large holds the data, small smooths it.
        far: f (C,) or (N, C), what values tend to far from the data; also the solver's start there.
        pull: p (N,) or a number, how strongly.
    """
    data = screening * confidence[:, None] ** 2
    towards = np.broadcast_to(pull, confidence.shape)[:, None]
    matrix = (laplacian + sp.diags(data[:, 0] + towards[:, 0])).tocsr()
    start = np.where(confidence[:, None] > 0.5, values, far)
    return conjugate_gradients(matrix, data * values + towards * far, start)


def light_field(laplacian: sp.csr_matrix, log_ratio: Floats, confidence: Floats, config: LightConfig) -> Floats:
    """Smooth field (N, 3) of log brightness that meets measured log ratios (N, 3) and decays to 0 away from them."""
    ratio = log_ratio.clip(-config.limit, config.limit)
    return harmonic(laplacian, ratio, confidence, config.screening, np.zeros(3), config.decay)
