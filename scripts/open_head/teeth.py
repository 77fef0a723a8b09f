"""Two arches of teeth with gums, made to fit the base mesh's dental helper geometry.

Widths and crown heights are the usual ones of adult dentition (millimetres, incisor to second molar), scaled to the
arch. An arch is one sheet, 7 rows from the gum's front over the biting edge to the gum's back, 4 columns a tooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from open_head.topology import PART, Mesh

Floats = NDArray[np.float64]

_COLUMNS = np.array([0.0, 0.16, 0.5, 0.84])  # of a tooth's width; 0 is the gap to its neighbour


@dataclass(frozen=True)
class ArchShape:
    """What sets one arch apart from the other; lengths in metres.

    Attributes:
        widths, heights, edges: of the 7 teeth of one side; ``edges`` is the biting edge's thickness.
        up: +1 where the crowns point down (upper arch), -1 where they point up.
        part: name of the crowns' part.
        inset: distance of the crowns' front from the helper's outer line, inwards.
    """

    widths: Floats
    heights: Floats
    edges: Floats
    up: float
    part: str
    inset: float


_MM = 1e-3
UPPER = ArchShape(
    np.array([8.5, 6.7, 7.7, 7.0, 6.8, 10.2, 9.5]) * _MM,
    np.array([9.8, 8.8, 9.8, 8.4, 7.6, 7.0, 6.6]) * _MM,
    np.array([1.2, 1.2, 1.8, 5.0, 5.5, 7.0, 7.0]) * _MM,
    1.0,
    "teeth_upper",
    0.0,
)
LOWER = ArchShape(
    np.array([5.3, 5.9, 6.8, 7.0, 7.1, 11.0, 10.5]) * _MM,
    np.array([8.4, 8.4, 9.4, 8.0, 7.4, 6.8, 6.4]) * _MM,
    np.array([1.2, 1.2, 1.8, 4.6, 5.0, 6.6, 6.6]) * _MM,
    -1.0,
    "teeth_lower",
    1.6 * _MM,
)


def outer_line(helper: Floats) -> Floats:
    """(N, 2) x and z of the helper arch's outline from above, from one end round the front to the other."""
    plan = helper[:, [0, 2]]
    outline = plan[ConvexHull(plan).vertices]
    centre = plan[:, 1].min()
    return outline[np.argsort(np.arctan2(outline[:, 0], outline[:, 1] - centre + 1e-9))]


def arch(helper: Floats, shape: ArchShape, bite: Floats, base_count: int) -> Mesh:
    """One arch of teeth.

    Args:
        helper: (H, 3) the base mesh's helper teeth on the mean head.
        shape: which arch.
        bite: (2,) y and z of the upper incisors' biting edge; the plane rises .10 a metre backwards.
        base_count: vertices of the base mesh (the arch follows the helpers, not the skin).
    """
    line = outer_line(helper)
    plan = _SmoothPlan(line)
    teeth = len(shape.widths)
    bounds = np.concatenate([[0.0], np.cumsum(shape.widths)]) / shape.widths.sum()
    half = np.concatenate([bounds[k] + _COLUMNS * (bounds[k + 1] - bounds[k]) for k in range(teeth)] + [[1.0]])
    tooth = np.concatenate([np.repeat(np.arange(teeth), len(_COLUMNS)), [teeth - 1]])
    within = np.concatenate([np.tile(_COLUMNS, teeth), [0.0]])
    t = np.concatenate([-half[:0:-1], half])
    tooth = np.concatenate([tooth[:0:-1], tooth])
    within = np.concatenate([within[:0:-1], within])
    gap = within == 0
    shoulder = (within > 0) & (np.abs(within - 0.5) > 0.1)

    xz = plan(t)
    ahead = np.gradient(xz, t, axis=0)
    inward = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    inward *= np.sign((inward * (np.array([0.0, line[:, 1].min()]) - xz)).sum(1, keepdims=True))

    bite_y = bite[0] + 0.10 * np.maximum(bite[1] - xz[:, 1], 0)
    if shape.up < 0:
        bite_y = bite_y + 0.0016 * np.exp(-((xz[:, 0] / 0.017) ** 2)) - 0.0004
    height, edge = shape.heights[tooth], shape.edges[tooth]
    thick = np.clip(edge + 0.004, 0.0055, 0.0095)
    dent = np.where(gap, 0.0011, np.where(shoulder, 0.0003, 0.0))
    corner = np.where(gap, 0.0009, np.where(shoulder, 0.00025, 0.0))
    papilla = np.where(gap, 0.0022, np.where(shoulder, 0.0008, 0.0))
    lean = 0.0012 * np.exp(-((t / 0.5) ** 2))  # incisors lean outwards a little
    # Rows: distance inwards from the front line and height above the biting edge.
    rows = [
        (0.0022 + 0 * t, height + 0.0042),
        (0.0016 + lean + dent * 0.2, height - papilla),
        (0.0004 + lean * 0.6 + dent, height * 0.55),
        (0.0004 + lean * 0.1 + dent * 0.9, height * 0.16 + corner * 0.5),
        (0.0008 + dent * 0.6, corner),
        (0.0008 + edge - dent * 0.5, corner + 0.0004),
        (0.0016 + thick, height - 0.001),
    ]
    points = np.stack(
        [
            np.stack(
                [
                    xz[:, 0] + inward[:, 0] * (shape.inset + depth),
                    bite_y + shape.up * above,
                    xz[:, 1] + inward[:, 1] * (shape.inset + depth),
                ],
                1,
            )
            for depth, above in rows
        ]
    )
    count = len(t)
    a = (np.arange(len(rows) - 1)[:, None] * count + np.arange(count - 1)[None]).ravel()
    b, c, d = a + 1, a + count + 1, a + count
    # Mirror-symmetric diagonals; counter-clockwise seen from the front for the upper arch.
    right = np.tile(t[:-1] < -1e-9, len(rows) - 1)
    first = np.where(right[:, None], np.stack([a, d, b], 1), np.stack([a, d, c], 1))
    second = np.where(right[:, None], np.stack([b, d, c], 1), np.stack([a, c, b], 1))
    faces = np.stack([first, second], 1).reshape(-1, 3)
    if shape.up < 0:
        faces = faces[:, ::-1]
    gum = np.repeat(np.arange(len(rows) - 1) == 0, 2 * (count - 1))
    parts = np.where(gum, PART["mouth"], PART[shape.part])
    return Mesh(
        points.reshape(-1, 3),
        faces,
        parts,
        np.full((len(faces), 3, 2), -1.0),
        sp.csr_matrix((points.shape[0] * count, base_count)),
    )


class _SmoothPlan:
    """A symmetric arch x(t) odd, z(t) even, t in [-1, 1] in proportion to arc length."""

    def __init__(self, line: Floats) -> None:
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        t = 2 * length / length[-1] - 1
        self._x = np.linalg.lstsq(np.stack([t, t**3, t**5], 1), line[:, 0], rcond=None)[0]
        self._z = np.linalg.lstsq(np.stack([t**0, t**2, t**4, t**6], 1), line[:, 1], rcond=None)[0]
        if self._x @ np.ones(3) < 0:
            self._x = -self._x
        fine = np.linspace(-1, 1, 4001)
        curve = self._at(fine)
        run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
        self._fine, self._run = fine, 2 * run / run[-1] - 1

    def _at(self, t: Floats) -> Floats:
        x = np.stack([t, t**3, t**5], 1) @ self._x
        return np.stack([x, np.stack([t**0, t**2, t**4, t**6], 1) @ self._z], 1)

    def __call__(self, t: Floats) -> Floats:
        return self._at(np.interp(t, self._run, self._fine))


def helper_response(points: Floats, helper: Floats) -> Floats:
    """(T, H) map from the helper teeth's offsets to the arch's: the best affine motion, so that teeth stay teeth."""
    design = np.concatenate([helper, np.ones((len(helper), 1))], 1)
    return np.concatenate([points, np.ones((len(points), 1))], 1) @ np.linalg.pinv(design)
