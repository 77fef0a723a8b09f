"""The UV atlas of the open head: one Gaussian per texel, so texels lie where a portrait needs them.

The layout on a square of :data:`GRID` texels:

* *front* (face, lips, ears): an octagon, mirror-symmetric about u = 0.5;
* *back* (scalp, neck): a strip below it, also symmetric; opened along the midline of the neck's rear and the skull, so
  each half runs from the throat (middle) round the neck and up to the hairline (side). Scalp and neck are an island of
  their own because the texels drop by a factor of six there: wrapped around the face, as in FLAME's layout, they
  would need the face's full circumference and be stretched eight to one;
* *eyes*: discs in the upper corners, an azimuthal map with the pole in front that magnifies the iris;
* *mouth* and *tongue*, *teeth*: unrolled into rectangles left and right of the chin. The teeth are a grid and stay one:
  biting edges and the gaps between teeth lie on the borders of texels, so that they come out crisp.

Every other island but the eyes is a bijective flattening (:mod:`.sheet`) of half of a mirror-symmetric sheet, with the
wanted texel density given per triangle; the other half is its mirror image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from open_head.flatten import Floats, Ints, boundary_loops
from open_head.sheet import HalfSheet, smoothed_over_faces
from open_head.teeth import tooth_grid
from spatialavatar.render.mesh import rasterize_mesh, vertex_normals

GRID = 256
"""Texels along one side of the grid that the gutters are made for."""

FRONT = ("face", "lips", "ears")
BACK = ("scalp", "neck")

_MARGIN = 1.0  # texels between an island and the edge of the square
_GUTTER = 2.0  # texels between islands
_STRIP = 46.0  # height of the back's strip
_TOP_CUT, _BOTTOM_CUT = 56.5, 84.5  # legs of the corners reserved for the other islands
_EYE_RADIUS = 15.7
_EYE_REACH = np.deg2rad(95.0)  # the back of the eyeball gets no texels
_EYE_POWER = 0.6

# Target texels per millimetre, relative to each other; the sum is scaled to the island's area.
_DENSITY = {"face": 1.0, "lips": 1.1, "ears": 1.2, "scalp": 1.0, "neck": 0.7}
_DETAIL = ((1.3, 0.018), (0.8, 0.050))  # boost around lids and lips, and how far it reaches, metres
_UNSEEN = 0.45  # of the density, deep in folds
_ROOT_SHARE = 0.25  # of a closed part's length
_SEAM_TOLERANCE = 0.006  # metres from the parts' border at which the cost of the seam doubles
# Texels of the 7 teeth of one side, middle incisor first, and of the rows of quads from the gum's front over the biting
# edge to the gum's back, for incisors and canines and for the teeth that chew.
_TOOTH_TEXELS = {"teeth_upper": (6, 5, 5, 4, 3, 3, 2), "teeth_lower": (4, 4, 5, 5, 4, 3, 3)}
_ROW_TEXELS = {"cutting": (2.0, 2.5, 2.5, 1.0, 1.0, 3.0), "chewing": (1.5, 2.0, 2.0, 1.0, 3.0, 2.5)}
_IMPORTANCE = {"face": 4.0, "lips": 4.0, "ears": 1.0, "scalp": 1.0, "neck": 1.0}


@dataclass(frozen=True)
class _Box:
    """A rectangle of the square, texels, v down.

    The midline of its part is upright. The part's rim makes the outline; for a bag (``slit``) the rim and the midline
    of its underside, along which it is slit open.
    """

    left: float
    top: float
    width: float
    height: float
    slit: bool = False


_FRONT_FLOOR = GRID - _MARGIN - _STRIP - _GUTTER
_BOXES = {
    "mouth": _Box(_MARGIN, _FRONT_FLOOR - 26, 46, 26, slit=True),
    "tongue": _Box(_MARGIN, _FRONT_FLOOR - 26 - _GUTTER - 20, 28, 20, slit=True),
    "teeth_upper": _Box(GRID - _MARGIN - 56, _FRONT_FLOOR - 24 - _GUTTER, 56, 12),
    "teeth_lower": _Box(GRID - _MARGIN - 56, _FRONT_FLOOR - 12, 56, 12),
}


def pack_atlas(template: Floats, faces: Ints, face_parts: NDArray[np.integer], part_names: Sequence[str]) -> NDArray:
    """Lay all parts of a mirror-symmetric head out on one square.

    Args:
        template: (V, 3) metres, head space (y up, facing +z), mirror-symmetric in x.
        faces: (F, 3) counter-clockwise from outside.
        face_parts: (F,) index into ``part_names``.
        part_names: parts as in the head file.

    Returns:
        (F, 3, 2) float32 UV of each corner, origin at the top left, v down; -1 for faces that are never seen (the back
        of the eyeballs, the tongue's root).

    Raises:
        ValueError: a part is not a disc, or not mirror-symmetric.
    """
    template = np.asarray(template, np.float64)
    faces = np.asarray(faces, np.int64)
    part_of_face = np.asarray(part_names)[np.asarray(face_parts)]
    texels = np.full((len(faces), 3, 2), -1.0 * GRID)

    for name, x in (("eye_left", GRID - _MARGIN - _EYE_RADIUS), ("eye_right", _MARGIN + _EYE_RADIUS)):
        chosen = part_of_face == name
        if chosen.any():
            texels[chosen] = _eye(template[faces[chosen]], np.array([x, _MARGIN + _EYE_RADIUS]))
    for name, chosen in _sheets(faces, part_of_face):
        if name in _TOOTH_TEXELS:
            texels[chosen] = _arch(faces[chosen], name)
            continue
        chosen = chosen[~_root(template, faces[chosen])]
        texels[chosen] = _sheet(template, faces[chosen], _BOXES[name])
    skin = np.isin(part_of_face, FRONT + BACK)
    texels[skin] = _skin(template, faces[skin], part_of_face[skin], _exposure(template, faces))
    return (texels / GRID).astype(np.float32)


def _skin(template: Floats, faces: Ints, parts: NDArray, exposure: Floats) -> Floats:
    """Texels (F, 3, 2), v down, of the skin faces."""
    width, height, floor = GRID / 2 - _MARGIN, _FRONT_FLOOR - _MARGIN, _BOTTOM_CUT
    octagon = [(0.0, 0.0), (width - floor, 0.0), (width, floor), (width, height - _TOP_CUT)]
    octagon += [(width - _TOP_CUT, height), (0.0, height)]
    strip = [(0.0, 0.0), (width, 0.0), (width, _STRIP), (0.0, _STRIP)]
    front = _front_chart(template, faces, parts)
    texels = np.empty((len(faces), 3, 2))
    for chart, corners, bottom in ((front, octagon, _FRONT_FLOOR), (~front, strip, GRID - _MARGIN)):
        half = HalfSheet.of(template, faces[chart])
        density = _skin_density(half, parts[chart], exposure)
        importance = np.array([_IMPORTANCE[part] for part in parts[chart][half.source]])
        path = half.rim() if chart is front else half.around_the_back()
        uv = half.both_sides(half.flatten(path, corners, density, importance), faces[chart])
        texels[chart] = np.stack([GRID / 2 + uv[..., 0], bottom - uv[..., 1]], axis=-1)
    return texels


def _front_chart(template: Floats, faces: Ints, parts: NDArray) -> NDArray[np.bool_]:
    """(F,) the faces before a seam that runs smoothly along the border of the front parts, on edges of the mesh."""
    half = HalfSheet.of(template, faces)
    in_front = np.isin(parts[half.source], FRONT)
    border = np.intersect1d(half.faces[in_front], half.faces[~in_front])
    ends = border[half.midline[border]]
    first, last = ends[half.points[ends, 1].argmax()], ends[half.points[ends, 1].argmin()]

    sides = np.sort(np.concatenate([half.faces[:, [0, 1]], half.faces[:, [1, 2]], half.faces[:, [2, 0]]]), axis=1)
    edges, edge_of_side = np.unique(sides, axis=0, return_inverse=True)
    astray = cKDTree(half.points[border]).query(half.points[edges].mean(1))[0]
    cost = np.linalg.norm(np.diff(half.points[edges], axis=1)[:, 0], axis=1) * (1 + (astray / _SEAM_TOLERANCE) ** 2)
    passable = ~(half.midline[edges] & ~np.isin(edges, [first, last])).any(1)
    count = len(half.points)
    graph = sp.csr_matrix((cost[passable], tuple(edges[passable].T)), (count, count))
    came_from = dijkstra(graph, directed=False, indices=first, return_predecessors=True)[1]
    seam = [last]
    while seam[-1] != first:
        seam.append(int(came_from[seam[-1]]))
    cut = {*pairwise(seam), *pairwise(seam[::-1])}

    order = np.argsort(edge_of_side.ravel(), kind="stable")
    owner, edge_id = order % len(half.faces), edge_of_side.ravel()[order]
    pairs = np.flatnonzero((edge_id[1:] == edge_id[:-1]) & [tuple(e) not in cut for e in edges[edge_id[1:]].tolist()])
    joined = sp.csr_matrix((np.ones(len(pairs)), (owner[pairs], owner[pairs + 1])), (len(half.faces),) * 2)
    label = connected_components(joined, directed=False)[1]
    front_label = np.bincount(label, np.where(in_front, 1, -1)).argmax()
    return half.on_all_faces(label == front_label, faces)


def _sheets(faces: Ints, part_of_face: NDArray) -> list[tuple[str, Ints]]:
    """Connected pieces of the boxed parts (a row of teeth with its gum is one): box name and face indices."""
    inner = np.flatnonzero(np.isin(part_of_face, list(_BOXES)))
    count = int(faces.max()) + 1
    corners = faces[inner]
    joined = sp.csr_matrix(
        (np.ones(2 * len(inner)), (corners[:, [0, 0]].ravel(), corners[:, 1:].ravel())), (count, count)
    )
    label = connected_components(joined, directed=False)[1][corners[:, 0]]
    sheets = []
    for piece in np.unique(label):
        names, sizes = np.unique(part_of_face[inner[label == piece]], return_counts=True)
        sheets.append((str(names[sizes.argmax()]), inner[label == piece]))
    if len({name for name, _ in sheets}) < len(sheets):
        raise ValueError("Two separate pieces of the mouth belong to one box of the atlas.")
    return sheets


def _sheet(template: Floats, faces: Ints, box: _Box) -> Floats:
    """Texels (F, 3, 2), v down, of a part with one rim, unrolled into ``box``."""
    half = HalfSheet.of(template, faces)
    corners = [(0.0, 0.0), (box.width / 2, 0.0), (box.width / 2, box.height), (0.0, box.height)]
    ones = np.ones(len(half.faces))
    path = half.rim_and_underside() if box.slit else half.rim()
    uv = half.both_sides(half.flatten(path, corners, ones, ones), faces)
    return np.stack([box.left + box.width / 2 + uv[..., 0], box.top + box.height - uv[..., 1]], axis=-1)


def _arch(faces: Ints, name: str) -> Floats:
    """Texels (F, 3, 2), v down, of an arch of teeth, seen from the front: the upper gum on top, the lower one below."""
    box = _BOXES[name]
    vertices = np.unique(faces)
    row, column, tooth = tooth_grid(len(vertices))
    ends = np.concatenate([[0.0], np.cumsum(_TOOTH_TEXELS[name])])
    across = np.interp(np.abs(column), np.arange(len(ends)), ends) * np.sign(column)
    cutting, chewing = (np.concatenate([[0.0], np.cumsum(_ROW_TEXELS[k])]) for k in ("cutting", "chewing"))
    down = np.where(tooth < 3, cutting[row], chewing[row])
    scale = np.array([box.width / 2 / ends[-1], box.height / cutting[-1]])
    place = np.stack([across, down - cutting[-1] / 2], 1) * scale
    if name == "teeth_lower":
        place[:, 1] *= -1
    place += [box.left + box.width / 2, box.top + box.height / 2]
    return place[np.searchsorted(vertices, faces)]


def _eye(corners: Floats, place: Floats) -> Floats:
    """Texels (F, 3, 2) of eyeball triangles (F, 3, 3): azimuthal, pole in front; the back keeps none."""
    offset = corners - _sphere_centre(corners)
    polar = np.arctan2(np.linalg.norm(offset[..., :2], axis=-1), offset[..., 2])
    radius = _EYE_RADIUS * (polar / _EYE_REACH) ** _EYE_POWER
    azimuth = np.arctan2(-offset[..., 1], offset[..., 0])
    texels = place + radius[..., None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    texels[(polar > _EYE_REACH).any(1)] = -GRID
    return texels


def _sphere_centre(corners: Floats) -> Floats:
    """Centre (3,) of the sphere nearest to the points, by least squares."""
    points = np.unique(corners.reshape(-1, 3), axis=0)
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    return np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0][:3]


def _root(template: Floats, faces: Ints) -> NDArray[np.bool_]:
    """(F,) faces at the rear end of a closed part (the tongue's root, in the flesh); none where the part is open."""
    if boundary_loops(faces):
        return np.zeros(len(faces), bool)
    depth = template[faces][..., 2]
    return depth.max(1) < depth.min() + _ROOT_SHARE * np.ptp(depth)


def _exposure(template: Floats, faces: Ints) -> Floats:
    """(V,) share of directions, of those that face the vertex, from which it is seen; 0 deep in a fold."""
    count, size, distance = 80, 384, 2.0
    index = np.arange(count) + 0.5
    y, turn = 1 - 2 * index / count, index * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y**2)
    directions = np.stack([ring * np.sin(turn), y, ring * np.cos(turn)], axis=1)
    centre = 0.5 * (template.min(0) + template.max(0))
    span = np.linalg.norm(np.ptp(template, axis=0))
    intrinsics = np.array([[size * distance / span, 0, size / 2], [0, size * distance / span, size / 2], [0, 0, 1]])
    normals = vertex_normals(template, faces)
    seen, facing = np.zeros(len(template)), np.zeros(len(template))
    for direction in directions:
        right = np.cross([0.0, 1.0, 0.0], direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(right, direction), -direction])  # OpenCV: x right, y down, z away
        camera = (template - centre) @ axes.T + [0.0, 0.0, distance]
        depth = rasterize_mesh(camera, faces, intrinsics, size, size).depth
        pixel = (camera @ intrinsics.T)[:, :2] / camera[:, 2:]
        column, row = np.clip(pixel, 0, size - 1).astype(int).T
        towards = normals @ direction
        front = np.clip(towards, 0, None)
        tolerance = 0.001 + 0.001 / np.maximum(towards, 0.2)  # a pixel's slope
        seen += front * (camera[:, 2] < depth[row, column] + tolerance)
        facing += front
    return seen / np.maximum(facing, 1e-9)


def _skin_density(half: HalfSheet, parts: NDArray, exposure: Floats) -> Floats:
    """(F,) target density of the half's faces, relative: by part, higher at eyes and lips, lower where occluded."""
    level = np.log([_DENSITY[part] for part in parts[half.source]])
    detail = np.concatenate([*half.loops[1:], half.faces[parts[half.source] == "lips"].ravel()])  # lids, lips
    if len(detail):
        distance = cKDTree(half.points[detail]).query(half.points[half.faces].mean(1))[0]
        level += np.log1p(sum(boost * np.exp(-((distance / reach) ** 2)) for boost, reach in _DETAIL))
    level += np.log(_UNSEEN + (1 - _UNSEEN) * np.clip(exposure[half.vertices][half.faces].mean(1) / 0.4, 0, 1))
    return np.exp(smoothed_over_faces(level, half.faces, len(half.points)))
