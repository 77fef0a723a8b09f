"""The least-squares problem of the heights, over all photos and all vertices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats
from spatialavatar.generator.silhouette.measuring import Gaps
from spatialavatar.generator.silhouette.mesh import HeightField, OutlineMesh

_FAINT_ANCHOR: Final = 1e-3
"""Weight of height 0 at every vertex; where no photo measures anything, the head keeps its shape."""


def solve_heights(
    mesh: OutlineMesh, field: HeightField, gaps: Sequence[Gaps], heights: Floats, config: SilhouetteConfig
) -> Floats:
    """Heights (V,), metres, that close the gaps, bend little, and are zero where nothing may move.

    Solves (B + A (W + P)) h = A W t: B is the bending, A the vertex areas, W the weights of the gaps, P those of the
    anchors at height 0, and t the heights that close a share of the gaps.

    Args:
        mesh: the mesh.
        field: of this person's head.
        gaps: of each photo.
        heights: (V,) metres at which the gaps were measured.
        config: constants.
    """
    weight, right = np.zeros(len(heights)), np.zeros(len(heights))
    for found in gaps:
        target = (heights[found.vertices] + config.step * found.metres).clip(*config.limits)
        weight[found.vertices] += found.weights
        right[found.vertices] += found.weights * target
    system = field.bending + sp.diags(field.area * (weight + _anchors(mesh, config)))
    solved = splu(system.tocsc()).solve(field.area * right)
    return (solved * (mesh.mobility > 0)).clip(*config.limits)


def _anchors(mesh: OutlineMesh, config: SilhouetteConfig) -> Floats:
    """(V,) weights that hold each vertex at height 0."""
    return config.anchor_weight * (1.0 - mesh.mobility) ** 4 + np.where(mesh.bare, config.bare_anchor, _FAINT_ANCHOR)
