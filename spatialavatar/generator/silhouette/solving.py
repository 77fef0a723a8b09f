"""The least-squares problem of the heights, over all photos and all vertices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats, smoothstep, solve_directly
from spatialavatar.generator.silhouette.measuring import Gaps
from spatialavatar.generator.silhouette.mesh import HeightField, OutlineMesh

_FAINT_ANCHOR: Final = 1e-3
"""Weight of height 0 at every vertex; where no photo measures anything, the head keeps its shape."""

_EXPECTED_ANCHOR: Final = 0.02
"""Weight that holds heights at the expected ones."""

_EXPECTED_ERROR: Final = 0.005
"""Metres by which expected heights miss the outline at half of the reach."""

_MIN_SURE: Final = 0.25
"""Share of the weight that expected heights keep however far they miss the outline: the back of the head is theirs."""

_EXPECTED_REACH: Final = 0.05
"""Metres over which a correction fades where expected heights miss the outline by centimetres. They are then wrong
beside it as well, and a correction that ended there would leave a ledge."""

_EXPECTED_SMOOTHING: Final = 0.010
"""Metres over which expected heights are smoothed: cells of the map are coarser than the mesh."""

_HAIRY: Final = (0.4, 0.8)
"""Shares of hair in the outline at which the sides are not and fully coupled. The gaps of a bald head are errors of the
fit, which the coupling would repeat on the other side."""


def side_coupling(gaps: Sequence[Gaps], config: SilhouetteConfig) -> float:
    """Weight of the difference between mirror twins, from the gaps of the bare mesh."""
    total = sum(float(found.weights.sum()) for found in gaps)
    hairy = sum(float(found.weights @ found.hair) for found in gaps)
    return config.symmetry * float(smoothstep(np.array(hairy / total), *_HAIRY)) if total > 0.0 else 0.0


def targets(gaps: Sequence[Gaps], heights: Floats, config: SilhouetteConfig) -> tuple[Floats, Floats]:
    """Weights (V,) of the gaps of all photos, and the sums (V,) of weight times the height that closes a gap.

    Args:
        gaps: of each photo.
        heights: (V,) metres at which they were measured.
        config: constants.
    """
    weight, weighted = np.zeros(len(heights)), np.zeros(len(heights))
    for found in gaps:
        target = (heights[found.vertices] + config.step * found.metres).clip(*config.limits)
        weight[found.vertices] += found.weights
        weighted[found.vertices] += found.weights * target
    return weight, weighted


def solve_heights(
    mesh: OutlineMesh, field: HeightField, data: tuple[Floats, Floats], symmetry: float, config: SilhouetteConfig
) -> Floats:
    """Heights (V,), metres, that close the gaps, bend little, and are zero where nothing may move.

    Solves (B + S + A (W + P)) h = A W t: B is the quadratic form of the bending, S that of the asymmetry, A the vertex
    areas, W the weights of the gaps, P the weights that pull vertices to height 0, and t the target heights;
    ``symmetry`` scales S.

    Args:
        mesh: the mesh.
        field: height field of this person's head.
        data: weights W (V,) and products W t (V,), metres, from :func:`targets`.
        symmetry: scale of S, from :func:`side_coupling`; 0 leaves S out.
        config: constants.
    """
    weight, weighted = data
    system = field.bending + sp.diags(field.area * (weight + _anchors(mesh, config)))
    if symmetry > 0.0:
        system = system + symmetry * _asymmetry(mesh, field)
    solved = solve_directly(system, field.area * weighted)
    return (solved * (mesh.mobility > 0)).clip(*config.limits)


def meet_expected(
    mesh: OutlineMesh,
    field: HeightField,
    data: tuple[Floats, Floats],
    expected: Floats,
    symmetry: float,
    config: SilhouetteConfig,
) -> Floats:
    """Heights (V,), metres: expected ones, smoothed, plus a smooth correction that closes the gaps.

    Far from the measured outline the result equals the smoothed expected heights. The larger their error at the
    outline, the larger the correction's reach.

    Args:
        mesh: the mesh.
        field: height field of this person's head.
        data: weights W (V,) and target heights t (V,), metres, as in :func:`solve_heights`.
        expected: (V,) expected heights, metres.
        symmetry: weight of the correction's asymmetry, from :func:`side_coupling`; it is multiplied by a factor in
            [0, 1) that grows with the error of the expected heights at the outline.
        config: constants.
    """
    weight, target = data
    smoothing = sp.diags(field.area) + _EXPECTED_SMOOTHING**2 * field.laplacian
    expected = solve_directly(smoothing, field.area * expected) * mesh.mobility
    missed = weight @ (target - expected) ** 2 / max(float(weight.sum()), 1e-9)
    unsure = missed / (_EXPECTED_ERROR**2 + missed)
    held = _EXPECTED_ANCHOR * (1.0 - (1.0 - _MIN_SURE) * unsure)
    # A membrane: unlike the bending it does not overshoot where nothing is measured.
    wide = held * (unsure * _EXPECTED_REACH) ** 2 * field.laplacian
    if symmetry > 0.0:
        wide = wide + symmetry * unsure * _asymmetry(mesh, field)
    return _corrected(mesh, field, data, expected, sp.diags(field.area * held) + wide, config)


def close_gaps(
    mesh: OutlineMesh, field: HeightField, data: tuple[Floats, Floats], heights: Floats, config: SilhouetteConfig
) -> Floats:
    """Heights (V,), metres: heights of :func:`meet_expected` plus a local correction that closes the remaining gaps.

    The correction has no symmetry term and no smoothing towards the expected heights, so that it reaches the outline.

    Args:
        mesh: the mesh.
        field: height field of this person's head.
        data: weights W (V,) and target heights t (V,), metres, as in :func:`solve_heights`.
        heights: (V,) metres at which the gaps were measured.
        config: constants.
    """
    return _corrected(mesh, field, data, heights, sp.diags(_EXPECTED_ANCHOR * field.area), config)


def _corrected(
    mesh: OutlineMesh,
    field: HeightField,
    data: tuple[Floats, Floats],
    start: Floats,
    held: sp.csr_matrix,
    config: SilhouetteConfig,
) -> Floats:
    """Heights ``start`` (V,) plus a correction that closes the gaps; bending and the form ``held`` (V, V) limit it."""
    weight, target = data
    system = field.bending + sp.diags(field.area * (weight + _anchors(mesh, config))) + held
    change = solve_directly(system, field.area * weight * (target - start))
    return ((start + change) * (mesh.mobility > 0)).clip(*config.limits)


def _anchors(mesh: OutlineMesh, config: SilhouetteConfig) -> Floats:
    """(V,) weights that hold each vertex at height 0."""
    return config.anchor_weight * (1.0 - mesh.mobility) ** 4 + np.where(mesh.bare, config.bare_anchor, _FAINT_ANCHOR)


def _asymmetry(mesh: OutlineMesh, field: HeightField) -> sp.csr_matrix:
    """(V, V) quadratic form of the differences between heights of mirror twins."""
    count = len(field.rest)
    swap = sp.csr_matrix((np.ones(count), (np.arange(count), mesh.base.twins())), shape=(count, count))
    difference = sp.identity(count, format="csr") - swap
    return (difference.T @ sp.diags(field.area * mesh.mobility) @ difference).tocsr()
