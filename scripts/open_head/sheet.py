"""Mirror-symmetric sheets of a mesh, laid on convex polygons with a wanted density of texels.

Only the half with x > 0 is flattened; it is bounded by the midline, which becomes the straight left side of the
polygon, and by a path, which becomes the polygon's other sides. Texels are x right from the midline, y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from open_head.flatten import Floats, Ints, Pins, boundary_loops, embed, flat_triangles, relax, signed_areas

_LIP_GAP = 0.003  # metres that the closed lips are opened by in the atlas: a gutter between them
_SMOOTHING = 12  # rounds of averaging over neighbours
_CAP_IMPORTANCE = 0.3
_SEARCH_JUMPS = (0.12, 0.06, 0.03, 0.015)  # of the outline's length, in the search for the points that become corners
_SEARCH_ROUNDS, _FINAL_ROUNDS = 8, 80
_CORRECTIONS, _CORRECTION = 3, 0.4  # of the wanted areas by what was missed


@dataclass(frozen=True)
class HalfSheet:
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
    def of(cls, template: Floats, faces: Ints) -> HalfSheet:
        """The half of the sheet ``faces`` (F, 3) of ``template`` (V, 3).

        Raises:
            ValueError: the sheet is not mirror-symmetric, or its midline does not cut it in two.
        """
        twin = _twins(template, np.unique(faces))
        source = np.flatnonzero(template[faces][..., 0].mean(1) > 0)
        vertices, compact = np.unique(faces[source], return_inverse=True)
        compact = compact.reshape(-1, 3)
        lookup = np.full(len(template), -1)
        lookup[vertices] = np.arange(len(vertices))
        lookup[twin[vertices]] = np.arange(len(vertices))
        midline = twin[vertices] == vertices
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

    def rim_and_underside(self) -> Ints:
        """The rim and the midline from its lower end to the bag's far end, in the direction of the outer loop."""
        rim, loop = self.rim(), self.loops[0]
        reach = np.abs(self.points[loop, 2] - self.points[rim, 2].mean())
        tip = loop[np.where(self.midline[loop], reach, 0).argmax()]
        start, end = (tip, rim[-1]) if self.points[rim[0], 1] < self.points[rim[-1], 1] else (rim[0], tip)
        loop = np.roll(loop, -int(np.flatnonzero(loop == start)[0]))
        return loop[: int(np.flatnonzero(loop == end)[0]) + 1]

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
        loop = np.roll(loop, -int(np.flatnonzero(loop == path[-1])[0]))
        midline = loop[: int(np.flatnonzero(loop == path[0])[0]) + 1]
        polygon = np.array(corners)
        rest *= np.sqrt(2 * _polygon_area(polygon) / np.linalg.det(rest[:, 1:]).sum())
        return _Flattening(points, faces, rest, importance, path, midline, polygon).solve()[: len(self.points)]

    def _caps(self, path: Ints) -> list[_Cap]:
        """Fans of triangles over the holes (eyes) and over the notches in the midline (the mouth)."""
        caps = [_Cap.over(self.points, hole, closed=True) for hole in self.loops[1:]]
        notches = [run for run in self._runs() if not np.isin(run, path).all()]
        return caps + [_Cap.over(_parted(self.points, run), run, closed=False) for run in notches]

    def on_all_faces(self, values: NDArray, faces: Ints) -> NDArray:
        """Values (M, ...) of the half's faces for all faces (F, 3) of the sheet, each that of its twin."""
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


@dataclass(frozen=True)
class _Flattening:
    """One half to be laid on its polygon.

    Attributes:
        points: (N, 3) metres.
        faces: (M, 3).
        rest: (M, 3, 2) wanted triangles, texels.
        importance: (M,).
        path: boundary points that lie on the polygon, from its first corner to its last.
        midline: boundary points from the last corner back to the first.
        polygon: (C, 2) corners, texels.
    """

    points: Floats
    faces: Ints
    rest: Floats
    importance: Floats
    path: Ints
    midline: Ints
    polygon: Floats

    def solve(self) -> Floats:
        """(N, 2) texels: the best corners, then rounds that aim past the wanted areas by what was missed."""
        at = self._search()
        uv, _ = self._attempt(at, _FINAL_ROUNDS)
        _, pins = self._outline(at)
        aim = self.rest
        for _ in range(_CORRECTIONS):
            missed = 0.5 * np.log(np.abs(np.linalg.det(self.rest[:, 1:])) / (2 * signed_areas(uv, self.faces)))
            missed = smoothed_over_faces(missed, self.faces, len(self.points))
            aim = aim * np.exp(_CORRECTION * missed)[:, None, None]
            uv, _ = relax(uv, self.faces, aim, self.importance, pins, rounds=_FINAL_ROUNDS)
        return uv

    def _outline(self, at: tuple[int, ...]) -> tuple[dict[int, tuple[float, float]], Pins]:
        """Places and pins of the boundary with the points ``at`` (positions in the path) in the corners."""
        place, pins = _place_outline(self.points, self.midline, (0, len(self.midline) - 1), self.polygon[[-1, 0]])
        on_path, path_pins = _place_outline(self.points, self.path, at, self.polygon)
        return place | on_path, Pins(path_pins.fixed, pins.sliding | path_pins.sliding)

    def _attempt(self, at: tuple[int, ...], rounds: int) -> tuple[Floats, float]:
        """Positions and energy, infinite where the corners do not allow a start without flips."""
        place, pins = self._outline(at)
        start = embed(self.points, self.faces, place)
        if not (signed_areas(start, self.faces) > 0).all():
            return start, np.inf
        return relax(start, self.faces, self.rest, self.importance, pins, rounds=rounds)

    def _guess(self, length: Floats) -> tuple[int, ...]:
        """Corners spread over the path as they are over the polygon's outline."""
        stops = _running_length(self.polygon)
        goals = stops[1:-1] / stops[-1] * length[-1]
        guess = np.array([0, *np.abs(length[:, None] - goals).argmin(0), len(length) - 1])
        for lone in np.flatnonzero(np.bincount(self.faces.ravel())[self.path[1:-1]] == 1) + 1:
            guess[1 + np.abs(goals - length[lone]).argmin()] = lone  # its only face needs it off the straight
        rank = np.arange(len(guess))
        guess = np.maximum.accumulate(guess - rank)  # strictly increasing once ranks are added back
        return tuple(np.minimum(guess, len(length) - len(guess)) + rank)

    def _search(self) -> tuple[int, ...]:
        """Positions in the path of the points that lie best in the polygon's corners."""
        length = _running_length(self.points[self.path])
        at = self._guess(length)
        best = self._attempt(at, _SEARCH_ROUNDS)[1]
        inner = np.arange(1, len(at) - 1)
        for jump in _SEARCH_JUMPS:
            for moved in [inner, *inner[:, None]]:
                for shift in (jump * length[-1], -jump * length[-1]):
                    while True:
                        goals = length[list(at)]
                        goals[moved] += shift
                        trial = tuple(np.abs(length[:, None] - goals).argmin(0))
                        energy = self._attempt(trial, _SEARCH_ROUNDS)[1] if (np.diff(trial) > 0).all() else np.inf
                        if energy >= best or trial == at:
                            break
                        at, best = trial, energy
        if not np.isfinite(best):
            raise ValueError("The part cannot be flattened: a triangle has all its corners on one side of the outline.")
        return at


def _twins(template: Floats, used: Ints) -> Ints:
    """(V,) index of the mirror image in x of each vertex; ``used`` vertices must have one among themselves."""
    gap, nearest = cKDTree(template[used]).query(template[used] * [-1.0, 1.0, 1.0])
    if gap.max() > 1e-5 or (used[nearest][nearest] != used).any():
        raise ValueError("The part is not mirror-symmetric: a vertex has no twin across x = 0.")
    twins = np.arange(len(template))
    twins[used] = used[nearest]
    return twins


def _parted(points: Floats, run: Ints) -> Floats:
    """Points with the lips along ``run`` (upper middle, corner, lower middle) parted by the lip gap."""
    x = points[run, 0]
    corner = int(x.argmax())
    profile = np.sqrt(np.clip(1 - (x / x[corner]) ** 2, 0, 1))
    parted = points.copy()
    parted[run, 1] += 0.5 * _LIP_GAP * profile * np.where(np.arange(len(run)) < corner, 1, -1)
    return parted


def smoothed_over_faces(values: Floats, faces: Ints, count: int) -> Floats:
    """Values (F,) of the faces, averaged over neighbours a few times; ``count`` vertices."""
    around = np.maximum(np.bincount(faces.ravel(), minlength=count), 1)
    for _ in range(_SMOOTHING):
        values = (np.bincount(faces.ravel(), np.repeat(values, 3), count) / around)[faces].mean(1)
    return values


def _running_length(points: Floats) -> Floats:
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))


def _place_outline(
    points: Floats, run: Ints, at: tuple[int, ...], corners: Floats
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
