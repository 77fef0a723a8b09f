"""The least-squares problem of the heights, over all photos and all vertices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats, smoothstep
from spatialavatar.generator.silhouette.measuring import Gaps
from spatialavatar.generator.silhouette.mesh import HeightField, OutlineMesh

_FAINT_ANCHOR: Final = 1e-3
"""Weight of height 0 at every vertex; where no photo measures anything, the head keeps its shape."""

_HAIRY: Final = (0.4, 0.8)
"""Shares of hair in the outline at which the sides are not and fully coupled. The gaps of a bald head are errors of the
fit, which the coupling would repeat on the other side."""


def side_coupling(gaps: Sequence[Gaps], config: SilhouetteConfig) -> float:
    """Weight of the difference between mirror twins, from the gaps of the bare mesh."""
    total = sum(float(found.weights.sum()) for found in gaps)
    hairy = sum(float(found.weights @ found.hair) for found in gaps)
    return config.symmetry * float(smoothstep(np.array(hairy / total), *_HAIRY)) if total > 0.0 else 0.0


def solve_heights(
    mesh: OutlineMesh,
    field: HeightField,
    gaps: Sequence[Gaps],
    heights: Floats,
    symmetry: float,
    config: SilhouetteConfig,
) -> Floats:
    """Heights (V,), metres, that close the gaps, bend little, and are zero where nothing may move.

    Solves (B + S + A (W + P)) h = A W t: B is the bending, S the asymmetry, A the vertex areas, W the weights of the
    gaps, P those of the anchors at height 0, and t the heights that close a share of the gaps.

    Args:
        mesh: the mesh.
        field: of this person's head.
        gaps: of each photo.
        heights: (V,) metres at which the gaps were measured.
        symmetry: of :func:`side_coupling`.
        config: constants.
    """
    weight, right = np.zeros(len(heights)), np.zeros(len(heights))
    for found in gaps:
        target = (heights[found.vertices] + config.step * found.metres).clip(*config.limits)
        weight[found.vertices] += found.weights
        right[found.vertices] += found.weights * target
    system = field.bending + sp.diags(field.area * (weight + _anchors(mesh, config)))
    if symmetry > 0.0:
        system = system + symmetry * _asymmetry(mesh, field)
    solved = splu(system.tocsc()).solve(field.area * right)
    return (solved * (mesh.mobility > 0)).clip(*config.limits)


def _anchors(mesh: OutlineMesh, config: SilhouetteConfig) -> Floats:
    """(V,) weights that hold each vertex at height 0."""
    return config.anchor_weight * (1.0 - mesh.mobility) ** 4 + np.where(mesh.bare, config.bare_anchor, _FAINT_ANCHOR)


def _asymmetry(mesh: OutlineMesh, field: HeightField) -> sp.csr_matrix:
    """(V, V) quadratic form of the differences between heights of mirror twins."""
    count = len(field.rest)
    swap = sp.csr_matrix((np.ones(count), (np.arange(count), mesh.base.twins())), shape=(count, count))
    difference = sp.identity(count, format="csr") - swap
    return (difference.T @ sp.diags(field.area * mesh.mobility) @ difference).tocsr()
