"""The UV atlas of the open head: one Gaussian per texel, so texels lie where a portrait needs them.

The layout on a square of :data:`GRID` texels:

* *front* (face, lips, ears): an octagon, mirror-symmetric about u = 0.5;
* *back* (scalp, neck): a strip below it, also symmetric; opened along the midline of the neck's rear and the skull, so
  each half runs from the throat (middle) round the neck and up to the hairline (side). Scalp and neck are an island of
  their own because the texels drop by a factor of seven there: wrapped around the face, as in FLAME's layout, they
  would need the face's full circumference and be stretched eight to one;
* *eyes*: discs in the upper corners, an azimuthal map with the pole in front that magnifies the iris;
* *mouth* and *tongue*, *teeth*: unrolled into rectangles left and right of the chin.

Every island but the eyes is a bijective flattening (:mod:`.flatten`) of half of a mirror-symmetric sheet, with the
wanted texel density given per triangle; the other half is its mirror image. Inner coordinates are texels, x right from
the island's midline, y up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from open_head.flatten import Floats, Ints, Pins, boundary_loops, embed, flat_triangles, relax, signed_areas
from spatialavatar.render.mesh import rasterize_mesh, vertex_normals

GRID = 256
"""Texels along one side of the grid that the gutters are made for."""

FRONT = ("face", "lips", "ears")
BACK = ("scalp", "neck")

_MARGIN = 1.0  # texels between an island and the edge of the square
_GUTTER = 2.0  # texels between islands
_STRIP = 46.0  # height of the back's strip
_TOP_CUT, _BOTTOM_CUT = 56.5, 84.5  # legs of the corners that the front leaves to the other islands
_EYE_RADIUS = 14.8
_EYE_REACH = np.deg2rad(95.0)  # the back of the eyeball gets no texels
_EYE_POWER = 0.6
_LIP_GAP = 0.003  # metres that the closed lips are opened by in the atlas: a gutter between them

# Wanted texels per millimetre, relative to each other; the sum is scaled to the island's area.
_DENSITY = {"face": 1.0, "lips": 1.9, "ears": 1.0, "scalp": 1.0, "neck": 0.7}
_DETAIL_BOOST = 1.0  # around eyes and lips
_DETAIL_REACH = 0.045  # metres
_ROOT_SHARE = 0.25  # of a closed part's length
_SMOOTHING = 12  # rounds of averaging of the density over neighbours
_CAP_IMPORTANCE = 0.3
_SEAM_FREEDOM = 0.006  # metres that the seam strays from the parts' border for the same cost as twice the length
_CORNER_REACH = 0.15  # share of the outline's length
_SEARCH_JUMPS = (0.06, 0.03, 0.015)  # of the outline's length, in the search for the points that become corners
_SEARCH_ROUNDS, _FINAL_ROUNDS = 8, 80
_IMPORTANCE = {"face": 4.0, "lips": 4.0, "ears": 1.0, "scalp": 1.0, "neck": 1.0}


@dataclass(frozen=True)
class _Box:
    """A rectangle of the square, texels, v down; the midline of its part is upright, or level where ``turned``."""

    left: float
    top: float
    width: float
    height: float
    turned: bool = False


_FRONT_FLOOR = GRID - _MARGIN - _STRIP - _GUTTER
_BOXES = {
    "mouth": _Box(_MARGIN, _FRONT_FLOOR - 24, 50, 24, turned=True),
    "tongue": _Box(_MARGIN, _FRONT_FLOOR - 24 - _GUTTER - 12, 40, 12, turned=True),
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
        (F, 3, 2) float32 UV of each corner, origin at the top left, v down; -1 for faces that are never seen (behind
        the lids, the back of the eyeballs).

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
        half = _Half.of(template, faces[chart])
        density = _skin_density(half, parts[chart], exposure)
        importance = np.array([_IMPORTANCE[part] for part in parts[chart][half.source]])
        path = half.rim() if chart is front else half.around_the_back()
        uv = half.both_sides(half.flatten(path, corners, density, importance), faces[chart])
        texels[chart] = np.stack([GRID / 2 + uv[..., 0], bottom - uv[..., 1]], axis=-1)
    return texels


def _front_chart(template: Floats, faces: Ints, parts: NDArray) -> NDArray[np.bool_]:
    """(F,) the faces before a seam that runs smoothly along the border of the front parts, on edges of the mesh."""
    half = _Half.of(template, faces)
    in_front = np.isin(parts[half.source], FRONT)
    border = np.intersect1d(half.faces[in_front], half.faces[~in_front])
    ends = border[half.midline[border]]
    first, last = ends[half.points[ends, 1].argmax()], ends[half.points[ends, 1].argmin()]

    sides = np.sort(np.concatenate([half.faces[:, [0, 1]], half.faces[:, [1, 2]], half.faces[:, [2, 0]]]), axis=1)
    edges, edge_of_side = np.unique(sides, axis=0, return_inverse=True)
    astray = cKDTree(half.points[border]).query(half.points[edges].mean(1))[0]
    cost = np.linalg.norm(np.diff(half.points[edges], axis=1)[:, 0], axis=1) * (1 + (astray / _SEAM_FREEDOM) ** 2)
    passable = ~(half.midline[edges] & ~np.isin(edges, [first, last])).any(1)
    count = len(half.points)
    graph = sp.csr_matrix((cost[passable], tuple(edges[passable].T)), (count, count))
    came_from = dijkstra(graph, directed=False, indices=first, return_predecessors=True)[1]
    seam = [last]
    while seam[-1] != first:
        seam.append(int(came_from[seam[-1]]))
    cut = set(zip(seam, seam[1:], strict=False)) | set(zip(seam[1:], seam, strict=False))

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
    joined = sp.csr_matrix((np.ones(2 * len(inner)), (corners[:, [0, 0]].ravel(), corners[:, 1:].ravel())), (count, count))
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
    half = _Half.of(template, faces)
    across, along = (box.height, box.width) if box.turned else (box.width, box.height)
    corners = [(0.0, 0.0), (across / 2, 0.0), (across / 2, along), (0.0, along)]
    ones = np.ones(len(half.faces))
    uv = half.both_sides(half.flatten(half.rim(), corners, ones, ones), faces)
    if box.turned:
        return np.stack([box.left + uv[..., 1], box.top + box.height / 2 + uv[..., 0]], axis=-1)
    return np.stack([box.left + box.width / 2 + uv[..., 0], box.top + box.height - uv[..., 1]], axis=-1)


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


def _skin_density(half: _Half, parts: NDArray, exposure: Floats) -> Floats:
    """(F,) wanted density of the half's faces, relative: by part, more at eyes and lips, less where seldom seen."""
    per_part = np.log([_DENSITY[part] for part in parts[half.source]])
    detail = np.concatenate([*half.loops[1:], half.faces[parts[half.source] == "lips"].ravel()])  # lids, lips
    count = len(half.points)
    total = np.bincount(half.faces.ravel(), np.repeat(per_part, 3), count)
    level = total / np.bincount(half.faces.ravel(), minlength=count)
    distance = cKDTree(half.points[detail]).query(half.points)[0]
    level += np.log1p(_DETAIL_BOOST * np.exp(-((distance / _DETAIL_REACH) ** 2)))
    level += np.log(0.45 + 0.55 * np.clip(exposure[half.vertices] / 0.4, 0, 1))
    for _ in range(_SMOOTHING):
        mean = level[half.faces].mean(1)
        level = np.bincount(half.faces.ravel(), np.repeat(mean, 3), count) / np.bincount(half.faces.ravel())
    return np.exp(level[half.faces].mean(1))


def _twins(template: Floats, used: Ints) -> Ints:
    """(V,) index of the mirror image in x of each vertex; ``used`` vertices must have one among themselves."""
    gap, nearest = cKDTree(template[used]).query(template[used] * [-1.0, 1.0, 1.0])
    if gap.max() > 1e-5 or (used[nearest][nearest] != used).any():
        raise ValueError("The part is not mirror-symmetric: a vertex has no twin across x = 0.")
    twins = np.arange(len(template))
    twins[used] = used[nearest]
    return twins


@dataclass(frozen=True)
class _Half:
    """The x > 0 half of a mirror-symmetric sheet.

    Attributes:
        points: (N, 3) metres.
        faces: (M, 3) into ``points``.
        vertices: (N,) index of each point in the template.
        source: (M,) index of each face among the sheet's faces.
        midline: (N,) points on x = 0.
        lookup: (V,) half point of each template vertex or of its twin; -1 where none.
        loops: closed boundaries, counter-clockwise; the one along the midline first.
    """

    points: Floats
    faces: Ints
    vertices: Ints
    source: Ints
    midline: NDArray[np.bool_]
    lookup: Ints
    loops: list[Ints]

    @classmethod
    def of(cls, template: Floats, faces: Ints) -> _Half:
        twins = _twins(template, np.unique(faces))
        source = np.flatnonzero(template[faces][..., 0].mean(1) > 0)
        vertices, compact = np.unique(faces[source], return_inverse=True)
        compact = compact.reshape(-1, 3)
        lookup = np.full(len(template), -1)
        lookup[vertices] = np.arange(len(vertices))
        lookup[twins[vertices]] = np.arange(len(vertices))
        midline = twins[vertices] == vertices
        loops = boundary_loops(compact)
        loops.sort(key=lambda loop: -int(midline[loop].sum()))
        if not len(loops) or any(midline[loop].any() for loop in loops[1:]):
            raise ValueError("The part is not a sheet that its midline cuts in two.")
        points = template[vertices] * np.where(midline[:, None], [0.0, 1.0, 1.0], 1.0)
        return cls(points, compact, vertices, source, midline, lookup, loops)

    def _runs(self) -> list[Ints]:
        """Stretches of the outer loop off the midline, each with its two ends on the midline."""
        loop = self.loops[0]
        on_midline = self.midline[loop] & self.midline[np.roll(loop, -1)]
        start = int(np.flatnonzero(on_midline)[0]) + 1
        loop, on_midline = np.roll(loop, -start), np.roll(on_midline, -start)
        runs: list[list[int]] = []
        open_run = False
        for vertex, following, straight in zip(loop, np.roll(loop, -1), on_midline, strict=True):
            if not straight:
                if not open_run:
                    runs.append([vertex])
                runs[-1].append(following)
            open_run = not straight
        return [np.array(run) for run in runs]

    def rim(self) -> Ints:
        """The longest boundary off the midline, in the direction of the outer loop."""
        return max(self._runs(), key=lambda run: np.linalg.norm(np.diff(self.points[run], axis=0), axis=1).sum())

    def around_the_back(self) -> Ints:
        """The outer loop from the front end of the lowest run over the back's midline to the end of the highest."""
        runs = sorted(self._runs(), key=lambda run: self.points[run, 1].mean())
        loop = self.loops[0]
        loop = np.roll(loop, -int(np.flatnonzero(loop == runs[0][0])[0]))
        return loop[: int(np.flatnonzero(loop == runs[-1][-1])[0]) + 1]

    def flatten(self, path: Ints, corners: list[tuple[float, float]], density: Floats, importance: Floats) -> Floats:
        """Flatten onto a convex polygon whose left side, x = 0, takes the outer loop but for ``path``.

        Which points of the path come to lie in the polygon's corners is searched for: the least distorted map wins.

        Args:
            path: stretch of the outer loop, in its direction.
            corners: corners of the polygon from the path's start at (0, 0) counter-clockwise to its end on x = 0.
            density: (M,) wanted texels per metre, relative.
            importance: (M,) weight of each face's distortion.

        Returns:
            (N, 2) texels, y up.
        """
        points, faces, loop = self.points, self.faces, self.loops[0]
        rest = flat_triangles(points[faces]) * density[:, None, None]
        middles = cKDTree(points[faces].mean(1))
        for cap in self._caps(path):
            apex = len(points)
            points = np.concatenate([points, cap.corners[:1, 2]])
            faces = np.concatenate([faces, np.where(cap.faces < 0, apex, cap.faces)])
            nearest = middles.query(cap.corners.mean(1))[1]
            rest = np.concatenate([rest, flat_triangles(cap.corners) * density[nearest, None, None]])
            if cap.replaces is not None:
                loop = np.roll(loop, -int(np.flatnonzero(loop == cap.replaces[-1])[0]))
                loop = np.append(loop[: int(np.flatnonzero(loop == cap.replaces[0])[0]) + 1], apex)
        importance = np.concatenate([importance, np.full(len(faces) - len(importance), _CAP_IMPORTANCE)])
        polygon = np.array(corners)
        rest *= np.sqrt(2 * _polygon_area(polygon) / np.linalg.det(rest[:, 1:]).sum())
        loop = np.roll(loop, -int(np.flatnonzero(loop == path[-1])[0]))
        midline = loop[: int(np.flatnonzero(loop == path[0])[0]) + 1]

        def attempt(at: tuple[int, ...], rounds: int) -> tuple[Floats, float]:
            place, pins = _place_outline(points, path, list(at), polygon)
            ends = _place_outline(points, midline, [0, len(midline) - 1], polygon[[-1, 0]])
            place.update(ends[0])
            pins.sliding.update(ends[1].sliding)
            start = embed(points, faces, place)
            if not (signed_areas(start, faces) > 0).all():
                return start, np.inf
            return relax(start, faces, rest, importance, pins, rounds=rounds)

        length = _running_length(points[path])
        stops = _running_length(polygon)
        at = tuple(self._corner_near(path, length, stop * length[-1]) for stop in stops / stops[-1])
        best = attempt(at, _SEARCH_ROUNDS)[1]
        for jump in _SEARCH_JUMPS:
            for corner in range(1, len(at) - 1):
                for sign in (1, -1):
                    while True:
                        goal = length[at[corner]] + sign * jump * length[-1]
                        trial = (*at[:corner], int(np.abs(length - goal).argmin()), *at[corner + 1 :])
                        if trial == at or not (np.diff(trial) > 0).all():
                            break
                        energy = attempt(trial, _SEARCH_ROUNDS)[1]
                        if energy >= best:
                            break
                        at, best = trial, energy
        if not np.isfinite(best):
            raise ValueError("The part cannot be flattened: a triangle has all its corners on one side of the outline.")
        return attempt(at, _FINAL_ROUNDS)[0][: len(self.points)]

    def _corner_near(self, path: Ints, length: Floats, goal: float) -> int:
        """Position in ``path`` near the running length ``goal``; one where a single face ends, if there is one."""
        distance = np.abs(length - goal)
        lone = np.bincount(self.faces.ravel(), minlength=len(self.points))[path] == 1
        lone &= distance < _CORNER_REACH * length[-1]
        return int(np.where(lone, distance, distance + length[-1]).argmin())

    def _caps(self, path: Ints) -> list[_Cap]:
        """Fans of triangles over the holes (eyes) and over the notches in the midline (the mouth)."""
        caps = [_Cap.over(self.points, hole, closed=True) for hole in self.loops[1:]]
        notches = [run for run in self._runs() if not np.isin(run, path).all()]
        return caps + [_Cap.over(_parted(self.points, run), run, closed=False) for run in notches]

    def on_all_faces(self, values: NDArray, faces: Ints) -> NDArray:
        """Values (M, ...) of the half's faces for all faces (F, 3) of the sheet: that of the nearest one, its twin's."""
        middles = self.points[self.lookup[faces]].mean(1)
        chosen = cKDTree(self.points[self.faces].mean(1)).query(middles)[1]
        return values[chosen]

    def both_sides(self, flat: Floats, faces: Ints) -> Floats:
        """(F, 3, 2) positions of all faces of the sheet, the x < 0 half mirrored."""
        uv = flat[self.lookup[faces]]
        other = np.ones(len(faces), bool)
        other[self.source] = False
        uv[other, :, 0] *= -1
        return uv


@dataclass(frozen=True)
class _Cap:
    """A fan of stand-in triangles that keeps a hole open in the atlas.

    Attributes:
        faces: (K, 3) points of the half; -1 is the apex, last of each triangle.
        corners: (K, 3, 3) wanted shape, metres.
        replaces: the run of the outer loop that the apex stands for, or None for an inner hole.
    """

    faces: Ints
    corners: Floats
    replaces: Ints | None

    @classmethod
    def over(cls, points: Floats, rim: Ints, *, closed: bool) -> _Cap:
        """Cap ``rim``, part of a counter-clockwise boundary: its interior lies left, the hole right."""
        following = np.roll(rim, -1) if closed else rim[1:]
        current = rim if closed else rim[:-1]
        apex = points[rim].mean(0) if closed else points[rim[[0, -1]]].mean(0)
        faces = np.stack([following, current, np.full(len(current), -1)], axis=1)
        corners = np.stack([points[following], points[current], np.tile(apex, (len(current), 1))], axis=1)
        return cls(faces, corners, None if closed else rim)


def _parted(points: Floats, run: Ints) -> Floats:
    """Points with the lips along ``run`` (upper middle, corner, lower middle) parted by the lip gap."""
    x = points[run, 0]
    corner = int(x.argmax())
    profile = np.sqrt(np.clip(1 - (x / x[corner]) ** 2, 0, 1))
    parted = points.copy()
    parted[run, 1] += 0.5 * _LIP_GAP * profile * np.where(np.arange(len(run)) < corner, 1, -1)
    return parted


def _running_length(points: Floats) -> Floats:
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))


def _place_outline(
    points: Floats, run: Ints, at: list[int], corners: Floats
) -> tuple[dict[int, tuple[float, float]], Pins]:
    """Where each point of ``run`` starts on the polygon, and the side that it may slide along.

    ``at`` are the positions in the run of the points that are held in the ``corners``.
    """
    place: dict[int, tuple[float, float]] = {}
    pins = Pins()
    length = _running_length(points[run])
    for k in range(len(at) - 1):
        first, last = at[k], at[k + 1]
        side = corners[k + 1] - corners[k]
        for i in range(first, last + 1):
            share = (length[i] - length[first]) / (length[last] - length[first])
            place[int(run[i])] = tuple(corners[k] + share * side)
            pins.sliding[int(run[i])] = tuple(side / np.linalg.norm(side))
    pins.fixed.update({int(run[i]): tuple(corner) for i, corner in zip(at, corners, strict=True)})
    return place, pins


def _polygon_area(corners: Floats) -> float:
    x, y = corners.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
