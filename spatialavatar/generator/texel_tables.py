"""Tables over the texels of a layout that depend on the head alone: graph of neighbours, mirror twins, regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from spatialavatar.generator.completion.hair import strand_pattern
from spatialavatar.generator.config import GraphConfig
from spatialavatar.generator.contours import LEFT_EYE, RIGHT_EYE
from spatialavatar.generator.head_mesh import as_floats
from spatialavatar.generator.numerics import Floats, Ints, Mask, graph_laplacian, smoothstep
from spatialavatar.generator.texel_grid import TexelGrid

SKIN = ("face", "ears", "neck")
"""Parts that are one surface of one colour; every other part is filled from itself alone."""

EYES = ("eye_left", "eye_right")

_LID_TRAVEL = 0.0015
"""Metres: a texel that a blink moves further is lid, folded away or behind lashes while the eye is open."""

_LASH_WIDTH = (0.0006, 0.0020)
"""Metres from the contour of the eye opening up to which, and from which on not, a texel is lash line."""

_BORDER_ROUNDS = 6
"""Averaging rounds that widen the border of scalp and skin."""


@dataclass(frozen=True, eq=False)
class TexelTables:
    """Per texel n of N, on the template.

    Attributes:
        groups: (N,) colours spread within a group only.
        neighbours: (N, k) nearest texels of the same group in position and normal, itself left out.
        laplacian: (N, N) of the graph of the neighbours.
        twin: (N,) the texel at the mirrored place.
        lid: (N,) in [0, 1], share of eyelid.
        lash: (N,) in [0, 1], share of the lids' edge, where the lashes grow.
        strands: (N,) pattern of hair strands on the scalp (``completion.hair``).
        seam: (N, k) like ``neighbours``, but across the border of scalp and skin.
        border: (N,) in [0, 1], nearness to that border.
        rim: (N,) metres to the neck's lower rim; infinity where the mesh has none.
        eye_angle: (N,) radians from the eyeball's pole at rest, for the texels of the eyes; 0 elsewhere.
    """

    groups: Ints
    neighbours: Ints
    laplacian: sp.csr_matrix
    twin: Ints
    lid: Floats
    lash: Floats
    strands: Floats
    seam: Ints
    border: Floats
    rim: Floats
    eye_angle: Floats


def build_tables(grid: TexelGrid, graph: GraphConfig) -> TexelTables:
    """Compute the tables; seconds, so ``surface.texel_surface`` caches them."""
    features = np.concatenate([grid.points, graph.normal_length * grid.normals], 1)
    groups = _groups(grid)
    neighbours = _neighbours(features, groups, graph.neighbours)
    scalp = grid.mask("scalp")
    seam = _neighbours(features, np.where(grid.mask("scalp", *SKIN), -1, groups), graph.neighbours)
    return TexelTables(
        groups=groups,
        neighbours=neighbours,
        laplacian=graph_laplacian(neighbours),
        twin=_twins(grid, features),
        lid=_lids(grid),
        lash=_lashes(grid),
        strands=strand_pattern(grid.points, scalp),
        seam=seam,
        border=_border(seam, scalp),
        rim=_rim_distance(grid),
        eye_angle=_eye_angles(grid),
    )


def _groups(grid: TexelGrid) -> Ints:
    """(N,) group of each texel: one for all skin, one for each other part."""
    names = grid.mesh.model.parts
    skin = min((names.index(part) for part in SKIN if part in names), default=0)
    group_of_part = np.array([skin if part in SKIN else index for index, part in enumerate(names)])
    return group_of_part[grid.parts]


def _neighbours(features: Floats, groups: Ints, k: int) -> Ints:
    """(N, k) nearest others of the same group; a group that is too small is padded with the texel itself."""
    result = np.repeat(np.arange(len(groups))[:, None], k, axis=1)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        wanted = min(k + 1, len(members))
        _, found = cKDTree(features[members]).query(features[members], k=wanted)
        # Coincident points may come before the texel itself, so it is dropped by index and not by rank.
        found = found.reshape(len(members), wanted)
        order = np.argsort(found == np.arange(len(members))[:, None], axis=1, kind="stable")
        result[members, : wanted - 1] = members[np.take_along_axis(found, order, 1)[:, : wanted - 1]]
    return result


def _twins(grid: TexelGrid, features: Floats) -> Ints:
    """(N,) texel nearest to the mirrored position and normal, on the same part or the other eye."""
    names = grid.mesh.model.parts
    flipped = features * np.array([-1.0, 1, 1, -1, 1, 1])
    swap: dict[str, str] = dict(zip(EYES, reversed(EYES)))
    twins = np.arange(len(grid.parts))
    for index, part in enumerate(names):
        members = np.flatnonzero(grid.parts == index)
        others = np.flatnonzero(grid.parts == names.index(swap.get(part, part)))
        if len(members) and len(others):
            twins[members] = others[cKDTree(features[others]).query(flipped[members])[1]]
    return twins


def _lids(grid: TexelGrid) -> Floats:
    travel = grid.layout.surface(grid.mesh.model, grid.mesh.blink_offsets())
    length = as_floats(travel.norm(dim=-1).amax(0))
    return np.where(grid.mask(*SKIN), smoothstep(length, 0.5 * _LID_TRAVEL, 1.5 * _LID_TRAVEL), 0.0)


def _lashes(grid: TexelGrid) -> Floats:
    """(N,) 1 on the contours of the eye openings, 0 from 2 mm away."""
    if 478 not in grid.mesh.model.landmark_embeddings:
        return np.zeros(len(grid.points))
    landmarks = grid.mesh.landmarks(478)
    line = []
    for contour in (LEFT_EYE, RIGHT_EYE):
        corners = landmarks[list(contour)]
        line += [(1 - t) * corners + t * np.roll(corners, -1, axis=0) for t in (0.0, 0.25, 0.5, 0.75)]
    return 1.0 - smoothstep(cKDTree(np.concatenate(line)).query(grid.points)[0], *_LASH_WIDTH)


def _border(seam: Ints, scalp: Mask) -> Floats:
    share = scalp.astype(np.float64)
    for _ in range(_BORDER_ROUNDS):
        share = 0.5 * share + 0.5 * share[seam].mean(1)
    return 4.0 * share * (1.0 - share)


def _rim_distance(grid: TexelGrid) -> Floats:
    """(N,) metres to the nearest vertex on an open edge of the neck."""
    mesh = grid.mesh
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    unique, count = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    open_edges = unique[count == 1]
    if "neck" in mesh.model.parts:
        open_edges = open_edges[mesh.vertex_mask("neck")[open_edges].all(1)]
    if not len(open_edges):
        return np.full(len(grid.points), np.inf)
    return cKDTree(mesh.template[np.unique(open_edges)]).query(grid.points)[0]


def _eye_angles(grid: TexelGrid) -> Floats:
    angles = np.zeros(len(grid.points))
    for centre, part in zip(grid.mesh.eye_centres(), EYES):
        mask = grid.mask(part)
        ray = grid.points[mask] - centre
        angles[mask] = np.arctan2(np.hypot(ray[:, 0], ray[:, 1]), ray[:, 2])
    return angles
