"""The head's topology: what is cut from the base mesh, how it is triangulated, what each triangle belongs to.

Every vertex of the cut is a fixed linear combination of base-mesh vertices (one of them, or two where an edge meets
the cut through the shoulders), so any base-mesh target becomes a target of the head by one sparse product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from open_head.source import BaseMesh

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARTS = (
    "face",
    "scalp",
    "ears",
    "neck",
    "lips",
    "mouth",
    "tongue",
    "teeth_upper",
    "teeth_lower",
    "eye_left",
    "eye_right",
)
PART = {name: index for index, name in enumerate(PARTS)}

HEAD_ORIGIN = np.array([0.0, 0.697, 0.016])  # the rig's head joint in the base mesh, metres
_SOCKET_RINGS = 2  # rings of the lids' inner side to keep; deeper socket is always behind the eyeball
_LIP_RINGS = 5  # rings of quads around the mouth's opening that are red of the lips
_SHORTEST_CUT = 0.05  # an edge is cut no closer to its inner end than this part of it: no sliver triangles


@dataclass
class Mesh:
    """A piece of the head.

    Attributes:
        template: (V, 3) metres, head space.
        faces: (F, 3), counter-clockwise from outside.
        face_parts: (F,) index into ``PARTS``.
        base_uv: (F, 3, 2) UV of the base mesh, v down, -1 where it has none.
        follow: (V, V_base) how the vertices follow offsets of the base mesh's vertices.
    """

    template: Floats
    faces: Ints
    face_parts: Ints
    base_uv: Floats
    follow: sp.csr_matrix


def join(meshes: list[Mesh]) -> Mesh:
    """One mesh of all pieces, vertices and faces in order."""
    starts = np.cumsum([0, *(len(m.template) for m in meshes)])
    return Mesh(
        np.concatenate([m.template for m in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=False)]),
        np.concatenate([m.face_parts for m in meshes]),
        np.concatenate([m.base_uv for m in meshes]),
        sp.vstack([m.follow for m in meshes]).tocsr(),
    )


@dataclass(frozen=True)
class QuadSets:
    """Quads of the base mesh (bool masks over all quads) by where they lie on the head."""

    skin: NDArray[np.bool_]
    neck: NDArray[np.bool_]
    mouth: NDArray[np.bool_]
    sockets: NDArray[np.bool_]
    tongue: NDArray[np.bool_]
    lips: NDArray[np.bool_]


def quad_sets(base: BaseMesh, head_weight: Floats) -> QuadSets:
    """Tell the head's quads apart by the islands of the base mesh's UV layout and rings around the mouth.

    Args:
        base: the base mesh.
        head_weight: (V,) summed skin weight of the head's and neck's bones.
    """
    near = (head_weight > 0.02)[base.quads].all(1)
    body = (base.groups == "body") & near
    u, v = base.quad_uv.mean(1).T
    neck = body & (u < 0.6) & (v > 0.75)
    sockets = body & (u < 0.2) & (v > 0.5) & (v < 0.7)
    mouth = body & (u > 0.7) & (v < 0.14)
    skin = body & ~neck & ~sockets & ~mouth
    opening = np.intersect1d(base.quads[skin], base.quads[mouth])
    lips = skin & (_rings(base.quads, skin, opening, len(base.vertices)) < _LIP_RINGS)
    return QuadSets(skin, neck, mouth, sockets, base.groups == "helper-tongue", lips)


def _rings(quads: Ints, mask: NDArray[np.bool_], start: Ints, vertex_count: int) -> Ints:
    """(Q,) number of quads between each quad of ``mask`` and the vertices ``start`` (large elsewhere)."""
    far = np.iinfo(np.int64).max // 2
    distance = np.full(vertex_count, far)
    distance[start] = 0
    chosen = quads[mask]
    for _ in range(64):
        reached = distance.copy()
        for corner in chosen.T:
            np.minimum.at(reached, corner, distance[chosen].min(1) + 1)
        if np.array_equal(reached, distance):
            break
        distance = reached
    ring = np.full(len(quads), far)
    ring[mask] = distance[chosen].min(1)
    return ring


def _shoulder_cut(points: Floats) -> Floats:
    """Negative inside the bust: a rounded box around the neck, open upwards. ``points`` (V, 3) in head space."""
    x, y, z = points.T
    sideways = np.hypot(x / 0.118, (z - 0.005) / 0.118)
    return (sideways**6 + np.maximum(-y / 0.158, 0.0) ** 6) ** (1 / 6) - 1.0


def cut_skin(base: BaseMesh, sets: QuadSets) -> Mesh:
    """Skin, lips, mouth cavity and tongue as triangles, cut smoothly through the shoulders."""
    points = base.vertices - HEAD_ORIGIN
    opening = np.intersect1d(base.quads[sets.skin], base.quads[sets.sockets])
    lid_insides = _rings(base.quads, sets.sockets, opening, len(base.vertices)) < _SOCKET_RINGS
    wanted = sets.skin | sets.neck | sets.mouth | sets.tongue | lid_insides
    level = _shoulder_cut(points)
    level[np.unique(base.quads[wanted & ~sets.neck])] = -1.0  # only the neck is cut, not the chin above the chest
    rows: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, float]] = []

    def vertex(inside: int, outside: int) -> int:
        """Row of a base vertex (outside = -1) or of the cut through an edge."""
        key = (inside, outside)
        if key not in rows:
            rows[key] = len(rows)
            t = 0.0
            if outside >= 0:
                t = max(level[inside] / (level[inside] - level[outside]), _SHORTEST_CUT)
                entries.append((rows[key], outside, t))
            entries.append((rows[key], inside, 1.0 - t))
        return rows[key]

    faces, parts, uvs = [], [], []
    part_of_quad = _skin_parts(base, sets, points)
    for q in np.flatnonzero(wanted):
        corners, corner_uv = base.quads[q], base.quad_uv[q]
        polygon: list[tuple[int, Floats]] = []
        spots: list[Floats] = []
        for k in range(4):
            a, b = corners[k], corners[(k + 1) % 4]
            if level[a] < 0:
                polygon.append((vertex(a, -1), corner_uv[k]))
                spots.append(points[a])
            if (level[a] < 0) != (level[b] < 0):
                inner, outer = (k, (k + 1) % 4) if level[a] < 0 else ((k + 1) % 4, k)
                t = max(level[corners[inner]] / (level[corners[inner]] - level[corners[outer]]), _SHORTEST_CUT)
                uv = (1 - t) * corner_uv[inner] + t * corner_uv[outer]
                polygon.append((vertex(corners[inner], corners[outer]), uv))
                spots.append((1 - t) * points[corners[inner]] + t * points[corners[outer]])
        if len(polygon) < 3:
            continue
        # The fan with the shortest diagonals: the same on both sides of the face, and it bends least.
        gaps = np.linalg.norm(np.array(spots)[:, None] - np.array(spots), axis=2)
        sides = np.diagonal(np.roll(gaps, -1, axis=1))
        start = int((gaps.sum(1) - sides - np.roll(sides, 1)).round(7).argmin())
        polygon = polygon[start:] + polygon[:start]
        for k in range(1, len(polygon) - 1):
            triangle = [polygon[0], polygon[k], polygon[k + 1]]
            faces.append([index for index, _ in triangle])
            uvs.append([[uv[0], 1.0 - uv[1]] for _, uv in triangle])
            parts.append(part_of_quad[q])
    row, column, value = zip(*entries, strict=True)
    follow = sp.csr_matrix((value, (row, column)), shape=(len(rows), len(base.vertices)))
    return Mesh(follow @ points, np.asarray(faces), np.asarray(parts), np.asarray(uvs), follow)


def _skin_parts(base: BaseMesh, sets: QuadSets, points: Floats) -> Ints:
    """(Q,) part of each quad."""
    x, y, z = points[base.quads].mean(1).T
    parts = np.full(len(base.quads), PART["face"])
    parts[sets.neck] = PART["neck"]
    under_jaw = sets.skin & (y + 0.55 * z < -0.046) & (y < -0.02)
    parts[under_jaw & (y < -0.4 * z - 0.034)] = PART["neck"]
    hairline = (y > 0.096 - 0.5 * np.maximum(0.1 - z, 0)) | ((z < 0.018) & (y > -0.045))
    parts[sets.skin & hairline & ~(under_jaw & (y < -0.06))] = PART["scalp"]
    parts[sets.skin & _near_ear(x, y, z)] = PART["ears"]
    parts[sets.lips] = PART["lips"]
    parts[sets.mouth] = PART["mouth"]
    parts[sets.tongue] = PART["tongue"]
    return parts


def _near_ear(x: Floats, y: Floats, z: Floats) -> NDArray[np.bool_]:
    return (np.abs(x) > 0.06) & (np.hypot((y - 0.010) / 0.032, (z - 0.029) / 0.024) < 1.0)


def edge_distance(quads: Ints, start: Ints, vertex_count: int, limit: int) -> Ints:
    """(V,) number of edges from ``start``, at most ``limit`` + 1."""
    distance = np.full(vertex_count, limit + 1)
    distance[start] = 0
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    for step in range(1, limit + 1):
        front = distance == step - 1
        for a, b in (edges.T, edges.T[::-1]):
            reached = b[front[a]]
            distance[reached] = np.minimum(distance[reached], step)
    return distance


def rows_of_base(follow: sp.csr_matrix) -> Ints:
    """(V_base,) row of the head's vertex that is a base vertex itself, -1 where none is."""
    single = np.flatnonzero(np.diff(follow.indptr) == 1)
    rows = np.full(follow.shape[1], -1)
    rows[follow.indices[follow.indptr[single]]] = single
    return rows


def mirror_map(template: Floats, groups: Ints) -> Ints:
    """(V,) index of each vertex's left-right twin.

    Args:
        template: (V, 3) symmetric vertices.
        groups: (V,) labels; a twin has the same label (left and right of a pair must share one).

    Raises:
        ValueError: a vertex has no twin within 10 micrometres.
    """
    twin = np.empty(len(template), dtype=np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        distance, nearest = cKDTree(template[members]).query(template[members] * [-1, 1, 1])
        if distance.max() > 1e-5:
            raise ValueError(f"vertex {members[distance.argmax()]} has no mirror twin ({distance.max():.2e} m off)")
        twin[members] = members[nearest]
    if not np.array_equal(twin[twin], np.arange(len(template))):
        raise ValueError("the mirror map is not its own inverse")
    return twin


def vertex_area(points: Floats, faces: Ints) -> Floats:
    """(V,) a third of the area of the triangles around each vertex."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    total = np.zeros(len(points))
    np.add.at(total, faces, area[:, None])
    return total


def smoothing_matrix(faces: Ints, count: int) -> sp.csr_matrix:
    """(V, V) the mean of each vertex with its neighbours'."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    adjacency = sp.csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    adjacency = ((adjacency + adjacency.T) > 0).astype(float)
    degree = np.asarray(adjacency.sum(1)).ravel()
    average = sp.diags(1 / np.maximum(degree, 1)) @ adjacency
    return (0.5 * sp.eye(count) + 0.5 * average + 0.5 * sp.diags((degree == 0).astype(float))).tocsr()
