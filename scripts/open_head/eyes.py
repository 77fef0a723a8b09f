"""Spherical eyeballs, seated behind the lids, and lids that close over them.

The base mesh's eyeballs are coarse and larger than life (r = 15 mm on the mean head); these have r = 12 mm, rings at
the pupil's and iris's rims, and follow the lids of every identity. Lid vertices are known by their ring: 1 is the
margin's front edge, growing outwards over the skin; 0 its rear edge, -1, -2 ... the inner side, behind the eyeball.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from open_head.source import BaseMesh
from open_head.topology import PART, Mesh, QuadSets, edge_distance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RADIUS = 0.012
_SEGMENTS = 24
# Polar angles of the rings, degrees: 9.6 is the pupil's rim (2 mm), 29.4 the iris's (5.9 mm); none is seen behind 120.
_RINGS = (5.0, 9.6, 14.0, 19.0, 24.0, 29.4, 33.0, 38.0, 45.0, 54.0, 65.0, 78.0, 92.0, 106.0, 120.0)
_MARGIN_CLEARANCE = 0.0011  # of the front edge of the open lids' margin, between the corners
_LID_CLEARANCE = 0.0009  # least distance of moved lid skin from the eyeball: half a lid's thickness
_SHUT_OVERLAP = 0.0003  # how far the upper margin passes the lower one in a blink
_INSIDE = {0: -0.0003, -1: -0.0008, -2: -0.0018}  # how far the inner rings lie under the eyeball's surface
_LID_RINGS = 9  # rings of skin that a blink may correct


@dataclass(frozen=True)
class Lids:
    """The lid vertices of one eye.

    Attributes:
        rows: (L,) vertices.
        ring: (L,) ring of each, see the module's text.
        anchor: (L,) index into ``rows`` of the nearest vertex of ring 1.
        upper: (L,) whether the vertex belongs to the upper lid.
    """

    rows: Ints
    ring: Ints
    anchor: Ints
    upper: NDArray[np.bool_]

    def at(self, ring: int) -> Ints:
        """Vertices of one ring."""
        return self.rows[self.ring == ring]


def find_lids(base: BaseMesh, sets: QuadSets, row_of_base: Ints, template: Floats, left: bool) -> Lids:
    """The lid vertices of one eye.

    Args:
        base: the base mesh.
        sets: its quads by place.
        row_of_base: (V_base,) row in the head of each base vertex, -1 where it was cut away.
        template: (V, 3) head.
        left: the subject's left eye.
    """
    seam = np.intersect1d(base.quads[sets.skin], base.quads[sets.sockets])
    seam = seam[(base.vertices[seam, 0] > 0) == left]
    skin = edge_distance(base.quads[sets.skin], seam, len(base.vertices), _LID_RINGS)
    socket = edge_distance(base.quads[sets.sockets], seam, len(base.vertices), _LID_RINGS)
    ring = np.where(skin <= _LID_RINGS, skin, -socket)
    member = ((skin <= _LID_RINGS) | (socket <= _LID_RINGS)) & (row_of_base >= 0)
    rows, ring = row_of_base[member], ring[member]
    edge = np.flatnonzero(ring == 1)
    nearest = edge[cKDTree(template[rows[edge]]).query(template[rows])[1]]
    points = template[rows[edge]]
    corners = points[[points[:, 0].argmin(), points[:, 0].argmax()]]
    line = np.interp(points[:, 0], corners[:, 0], corners[:, 1])
    upper = np.zeros(len(rows), dtype=bool)
    upper[edge] = points[:, 1] >= line
    return Lids(rows, ring, nearest, upper[nearest])


def eye_centre(template: Floats, lids: Lids) -> Floats:
    """Where a sphere of ``RADIUS`` sits so that the open lids' margin clears it alike above and below."""
    edge = template[lids.at(1)]
    middle = (edge.min(0) + edge.max(0)) / 2
    near = np.abs(edge[:, 0] - middle[0]) < 0.5 * np.ptp(edge[:, 0]) / 2
    centre = np.array([middle[0], edge[near, 1].mean(), 0.0])
    across = np.hypot(*(edge[near, :2] - centre[:2]).T)
    centre[2] = (edge[near, 2] - np.sqrt((RADIUS + _MARGIN_CLEARANCE) ** 2 - across**2)).mean()
    return centre


def centre_response(template: Floats, lids: Lids, centre: Floats) -> NDArray[np.float64]:
    """(3, 3 * L1) linear map from offsets of ring 1 to the eyeball's: it keeps the lids' clearance, least squares.

    The clearance of a margin vertex with outward direction n changes by n . (its offset - the eyeball's).
    """
    outward = template[lids.at(1)] - centre
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    # A little weight on plain following keeps the eyeball centred between the corners.
    normal = outward.T @ outward + 0.15 * len(outward) * np.eye(3)
    mixed = np.einsum("li,lj->ilj", outward, outward) + 0.15 * np.eye(3)[:, None, :]
    return np.linalg.solve(normal, mixed.reshape(3, -1))


def eye_mesh(centre: Floats, part: str, base_count: int) -> Mesh:
    """An eyeball, its pole towards +z; ``follow`` is empty, the eyeball follows the lids instead."""
    around = 2 * np.pi * np.arange(_SEGMENTS) / _SEGMENTS
    polar = np.radians(_RINGS)[:, None]
    rings = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around], -1)
    points = np.concatenate([[[0.0, 0.0, 1.0]], rings.reshape(-1, 3)]) * RADIUS + centre
    k = np.arange(_SEGMENTS)
    after = (k + 1) % _SEGMENTS
    faces = [np.stack([0 * k, 1 + k, 1 + after], 1)]
    for ring in range(len(_RINGS) - 1):
        inner, outer = 1 + ring * _SEGMENTS, 1 + (ring + 1) * _SEGMENTS
        faces.append(np.stack([inner + k, outer + k, outer + after], 1))
        faces.append(np.stack([inner + k, outer + after, inner + after], 1))
    triangles = np.concatenate(faces)
    return Mesh(
        points,
        triangles,
        np.full(len(triangles), PART[part]),
        np.full((len(triangles), 3, 2), -1.0),
        sp.csr_matrix((len(points), base_count)),
    )


def seat(points: Floats, rest: Floats, lids: Lids, centre: Floats) -> Floats:
    """Points with the lids' inner rings tucked under the eyeball, and lid skin that dives into it lifted out.

    Args:
        points: (V, 3) head to correct.
        rest: (V, 3) the head at rest, already seated (or ``points`` itself when it is being seated).
        lids: of this eye.
        centre: (3,) of the eyeball.
    """
    result = points.copy()
    direction, radius = _polar(points[lids.rows], centre)
    skin = (lids.ring >= 1) & (np.linalg.norm(points[lids.rows] - rest[lids.rows], axis=1) > 1e-6)
    least = RADIUS + _LID_CLEARANCE
    lifted = np.where(skin, np.maximum(radius, least), radius)
    rest_direction, _ = _polar(rest[lids.rows], centre)
    turned = rest_direction + direction[lids.anchor] - rest_direction[lids.anchor]
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    for ring, depth in _INSIDE.items():
        here = lids.ring == ring
        direction[here] = turned[here]
        lifted[here] = np.minimum(radius[here], RADIUS + depth) if ring == 0 else RADIUS + depth
    result[lids.rows] = centre + direction * lifted[:, None]
    return result


def _polar(points: Floats, centre: Floats) -> tuple[Floats, Floats]:
    offset = points - centre
    radius = np.linalg.norm(offset, axis=1)
    return offset / radius[:, None], radius


def close_lids(offsets: Floats, rest: Floats, lids: Lids, centre: Floats) -> Floats:
    """A blink that shuts: the upper margin is brought onto the lower one, then both are seated on the eyeball.

    Args:
        offsets: (V, 3) the sculpted blink.
        rest: (V, 3) seated head.
        lids: of this eye.
        centre: (3,) of the eyeball.

    Returns:
        (V, 3) corrected offsets.
    """
    shut = rest + offsets
    edge = lids.ring == 1
    azimuth, elevation = _angles(shut[lids.rows], centre)
    first, last = azimuth[edge].min(), azimuth[edge].max()
    across = (azimuth - first) / (last - first)
    lower = np.flatnonzero(edge & ~lids.upper)
    lower = lower[np.argsort(across[lower])]
    smooth = np.polynomial.Polynomial.fit(across[lower], elevation[lower], 4)(np.clip(across, 0, 1))
    exact = np.interp(across, across[lower], elevation[lower])
    inner = np.clip(np.minimum(across, 1 - across) / 0.2, 0, 1)  # near its corners the eye shuts as it was sculpted
    goal = inner * smooth + (1 - inner) * exact - np.where(lids.upper, _SHUT_OVERLAP / RADIUS, 0)
    missing = np.where(edge, goal - elevation, 0.0)[lids.anchor]
    fade = 1 - np.clip((lids.ring - 1) / (_LID_RINGS - 1), 0, 1)
    skin = lids.ring >= 1
    elevation = elevation + np.where(skin, missing * fade**1.5, 0)
    radius = np.linalg.norm(shut[lids.rows] - centre, axis=1)
    direction = np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], 1
    )
    shut[lids.rows[skin]] = (centre + direction * radius[:, None])[skin]
    return seat(shut, rest, lids, centre) - rest


def _angles(points: Floats, centre: Floats) -> tuple[Floats, Floats]:
    x, y, z = (points - centre).T
    return np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
