"""Tables over the texels of a layout that depend on the head alone: graph of neighbours, mirror twins, regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.spatial import cKDTree

from spatialavatar.generator.completion.hair import strand_pattern
from spatialavatar.generator.config import GraphConfig
from spatialavatar.generator.contours import LEFT_EYE, RIGHT_EYE
from spatialavatar.generator.numerics import Floats, Ints, Mask, graph_laplacian, smoothstep
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.render.mesh import vertex_normals

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


def build_tables(head: HeadModel, layout: UVLayout, graph: GraphConfig) -> TexelTables:
    """Compute the tables; seconds, so ``surface.texel_surface`` caches them."""
    points = layout.surface(head, head.template).cpu().double().numpy()
    normals = interpolated_normals(head, layout, head.template.cpu().double().numpy())
    features = np.concatenate([points, graph.normal_length * normals], 1)
    groups = _groups(head, layout)
    neighbours = _neighbours(features, groups, graph.neighbours)
    scalp = part_mask(head, layout, "scalp")
    outside = part_mask(head, layout, "scalp", *SKIN)
    seam = _neighbours(features, np.where(outside, -1, groups), graph.neighbours)
    return TexelTables(
        groups=groups,
        neighbours=neighbours,
        laplacian=graph_laplacian(neighbours),
        twin=_twins(head, layout, features),
        lid=_lids(head, layout),
        lash=_lashes(head, points),
        strands=strand_pattern(points, scalp),
        seam=seam,
        border=_border(seam, scalp),
        rim=_rim_distance(head, points),
        eye_angle=_eye_angles(head, layout, points),
    )


def interpolated_normals(head: HeadModel, layout: UVLayout, vertices: Floats) -> Floats:
    """Unit normals (N, 3) of the texels, interpolated from those of ``vertices`` (V, 3)."""
    faces = head.faces.cpu().numpy()
    corners = vertex_normals(vertices, faces)[faces[layout.faces.cpu().numpy()]]
    normals = (corners * layout.bary.cpu().numpy()[..., None]).sum(1).astype(np.float64)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def part_mask(head: HeadModel, layout: UVLayout, *parts: str) -> Mask:
    """(N,) bool: the texels on those of the named parts that the head has."""
    return layout.mask(head, *head.having(*parts)).cpu().numpy()


def _groups(head: HeadModel, layout: UVLayout) -> Ints:
    skin = min((head.parts.index(part) for part in SKIN if part in head.parts), default=0)
    group_of_part = np.array([skin if part in SKIN else index for index, part in enumerate(head.parts)])
    return group_of_part[layout.parts.cpu().numpy()]


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


def _twins(head: HeadModel, layout: UVLayout, features: Floats) -> Ints:
    flipped = features * np.array([-1.0, 1, 1, -1, 1, 1])
    swap = {"eye_left": "eye_right", "eye_right": "eye_left"}
    parts = layout.parts.cpu().numpy()
    twins = np.arange(len(parts))
    for index, part in enumerate(head.parts):
        members = np.flatnonzero(parts == index)
        others = np.flatnonzero(parts == head.parts.index(swap.get(part, part)))
        if len(members) and len(others):
            twins[members] = others[cKDTree(features[others]).query(flipped[members])[1]]
    return twins


def _lids(head: HeadModel, layout: UVLayout) -> Floats:
    rows = [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]
    travel = torch.einsum("be,evk->bvk", head.arkit_to_expression[rows], head.expression_basis)
    length = layout.surface(head, travel).norm(dim=-1).amax(0).cpu().double().numpy()
    on_skin = part_mask(head, layout, *SKIN)
    return np.where(on_skin, smoothstep(length, 0.5 * _LID_TRAVEL, 1.5 * _LID_TRAVEL), 0.0)


def _lashes(head: HeadModel, points: Floats) -> Floats:
    """(N,) 1 on the contours of the eye openings, 0 from 2 mm away."""
    if 478 not in head.landmark_embeddings:
        return np.zeros(len(points))
    landmarks = head.landmarks(head.template, 478).cpu().double().numpy()
    line = []
    for contour in (LEFT_EYE, RIGHT_EYE):
        corners = landmarks[list(contour)]
        line += [(1 - t) * corners + t * np.roll(corners, -1, axis=0) for t in (0.0, 0.25, 0.5, 0.75)]
    return 1.0 - smoothstep(cKDTree(np.concatenate(line)).query(points)[0], *_LASH_WIDTH)


def _border(seam: Ints, scalp: Mask) -> Floats:
    share = scalp.astype(np.float64)
    for _ in range(_BORDER_ROUNDS):
        share = 0.5 * share + 0.5 * share[seam].mean(1)
    return 4.0 * share * (1.0 - share)


def _rim_distance(head: HeadModel, points: Floats) -> Floats:
    faces = head.faces.cpu().numpy()
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    open_edges = unique[count == 1]
    if "neck" in head.parts:
        on_neck = head.part_vertices("neck").cpu().numpy()
        open_edges = open_edges[on_neck[open_edges].all(1)]
    if not len(open_edges):
        return np.full(len(points), np.inf)
    rim = head.template.cpu().numpy()[np.unique(open_edges)]
    return cKDTree(rim).query(points)[0]


def _eye_angles(head: HeadModel, layout: UVLayout, points: Floats) -> Floats:
    joints = (head.joint_regressor @ head.template).cpu().double().numpy()
    angles = np.zeros(len(points))
    for joint, part in zip((3, 4), EYES):
        mask = part_mask(head, layout, part)
        ray = points[mask] - joints[joint]
        angles[mask] = np.arctan2(np.hypot(ray[:, 0], ray[:, 1]), ray[:, 2])
    return angles
