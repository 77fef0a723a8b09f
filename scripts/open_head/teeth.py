"""Two arches of teeth with gums, made to fit the base mesh's dental helper geometry.

Widths, crown heights and bite are the usual ones of adult dentition, from middle incisor to second molar. Behind closed
lips the upper incisors reach a few millimetres below the seam, so that they show first when the mouth opens or smiles;
the lower ones bite behind them. An arch is one sheet, 7 rows from the gum's front over the biting edge to the gum's
back, 4 columns a tooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from open_head.topology import PART, Mesh

Floats = NDArray[np.float64]

_TEETH = 7  # of one side of an arch
_ROWS = 7
_COLUMNS = np.array([0.0, 0.16, 0.5, 0.84])  # of a tooth's width; 0 is the gap to its neighbour


@dataclass(frozen=True)
class ArchShape:
    """What sets one arch apart from the other; lengths in metres.

    Attributes:
        widths, heights, edges: of the 7 teeth of one side; ``edges`` is the biting edge's thickness.
        shorter: of the 7 teeth: how far the biting edge stays behind the arch's.
        pointed: of the 7 teeth: how far the cusp stands out over the edge's ends.
        up: +1 where the crowns point down (upper arch), -1 where they point up.
        part: name of the crowns' part.
        below: height of the lips' seam over the edge of the middle incisors.
        ahead: distance of the incisors' front from the helper's outer line, outwards.
    """

    widths: Floats
    heights: Floats
    edges: Floats
    shorter: Floats
    pointed: Floats
    up: float
    part: str
    below: float
    ahead: float


_MM = 1e-3
UPPER = ArchShape(
    widths=np.array([8.5, 6.5, 7.5, 7.0, 6.5, 10.0, 9.0]) * _MM,
    heights=np.array([9.8, 8.6, 9.9, 8.4, 7.6, 7.0, 6.6]) * _MM,
    edges=np.array([1.2, 1.2, 1.8, 5.0, 5.5, 7.0, 7.0]) * _MM,
    shorter=np.array([0.0, 0.6, 0.0, 0.4, 0.5, 0.5, 0.5]) * _MM,
    pointed=np.array([0.2, 0.3, 0.9, 0.6, 0.4, 0.3, 0.3]) * _MM,
    up=1.0,
    part="teeth_upper",
    below=3.5 * _MM,
    ahead=2.6 * _MM,
)
LOWER = ArchShape(
    widths=np.array([5.2, 5.8, 6.7, 7.0, 7.0, 11.0, 10.0]) * _MM,
    heights=np.array([8.4, 8.4, 9.4, 8.0, 7.4, 6.8, 6.4]) * _MM,
    edges=np.array([1.2, 1.2, 1.8, 4.6, 5.0, 6.6, 6.6]) * _MM,
    shorter=np.array([0.0, 0.0, 0.1, 0.7, 1.0, 1.1, 1.1]) * _MM,
    pointed=np.array([0.2, 0.2, 0.8, 0.5, 0.4, 0.3, 0.3]) * _MM,
    up=-1.0,
    part="teeth_lower",
    below=2.8 * _MM,
    ahead=0.4 * _MM,
)

_RISE = 0.10  # of the bite's plane, backwards
_AHEAD_REACH = 0.028  # metres along the arch over which ``ahead`` fades


def tooth_grid(count: int) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """The place of each of an arch's ``count`` vertices, in their order.

    Returns:
        (V,) row, from the gum's front over the biting edge to the gum's back; (V,) column, in teeth from the middle,
        left positive; (V,) the tooth of the column, 0 to 6, of two neighbours the outer one.

    Raises:
        ValueError: ``count`` is not that of an arch.
    """
    half = np.concatenate([(np.arange(_TEETH)[:, None] + _COLUMNS).ravel(), [_TEETH]])
    column = np.concatenate([-half[:0:-1], half])
    if count != _ROWS * len(column):
        raise ValueError(f"An arch of teeth has {_ROWS * len(column)} vertices, not {count}.")
    tooth = np.minimum(np.abs(column).astype(np.int64), _TEETH - 1)
    return np.repeat(np.arange(_ROWS), len(column)), np.tile(column, _ROWS), np.tile(tooth, _ROWS)


def outer_line(helper: Floats) -> Floats:
    """(N, 2) x and z of the helper arch's outline from above, from one end round the front to the other."""
    plan = helper[:, [0, 2]]
    outline = plan[ConvexHull(plan).vertices]
    centre = plan[:, 1].min()
    return outline[np.argsort(np.arctan2(outline[:, 0], outline[:, 1] - centre + 1e-9))]


def front_line(helper: Floats, ahead: float) -> tuple[Floats, Floats]:
    """The left half of an arch's front from above: (N,) length along it from the middle and (N, 2) x and z."""
    line = outer_line(helper)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    t = 2 * length / length[-1] - 1
    odd = np.linalg.lstsq(np.stack([t, t**3, t**5], 1), line[:, 0], rcond=None)[0]
    even = np.linalg.lstsq(np.stack([t**0, t**2, t**4, t**6], 1), line[:, 1], rcond=None)[0]
    t = np.linspace(0, 1, 2001)
    xz = np.stack([np.stack([t, t**3, t**5], 1) @ odd, np.stack([t**0, t**2, t**4, t**6], 1) @ even], 1)
    xz[:, 0] *= np.sign(xz[-1, 0])
    share = np.exp(-((t * length[-1] / 2 / _AHEAD_REACH) ** 4))
    xz = xz - inward(xz) * (ahead * share)[:, None]
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xz, axis=0), axis=1))]), xz


def inward(xz: Floats) -> Floats:
    """(N, 2) unit normals of a line (N, 2) that runs from the front to the left and back, towards the mouth."""
    ahead = np.gradient(xz, axis=0)
    normal = np.stack([ahead[:, 1], -ahead[:, 0]], 1)
    normal[0] = [0.0, -1.0]
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def arch(helper: Floats, shape: ArchShape, seam: float, base_count: int) -> Mesh:
    """One arch of teeth.

    Args:
        helper: (H, 3) the base mesh's helper teeth on the mean head.
        shape: which arch.
        seam: height (y) of the closed lips' seam in the middle.
        base_count: vertices of the base mesh (the arch follows the helpers, not the skin).
    """
    ends = np.concatenate([[0.0], np.cumsum(shape.widths)])
    half = np.concatenate([(ends[:-1, None] + _COLUMNS * shape.widths[:, None]).ravel(), ends[-1:]])
    tooth = np.concatenate([np.repeat(np.arange(_TEETH), len(_COLUMNS)), [_TEETH - 1]])
    within = np.concatenate([np.tile(_COLUMNS, _TEETH), [0.0]])
    run, line = front_line(helper, shape.ahead)
    xz = np.stack([np.interp(half, run, line[:, k]) for k in range(2)], 1)
    normal = np.stack([np.interp(half, run, inward(line)[:, k]) for k in range(2)], 1)

    gap = within == 0
    shoulder = (within > 0) & (np.abs(within - 0.5) > 0.1)
    # Where two teeth meet, the edge belongs to both.
    before = np.where(gap, np.maximum(tooth - 1, 0), tooth)
    shorter, pointed, height = (0.5 * (v[tooth] + v[before]) for v in (shape.shorter, shape.pointed, shape.heights))
    edge = shape.edges[tooth]
    bite = seam - shape.below + _RISE * (xz[0, 1] - xz[:, 1]) + shape.up * shorter
    thick = np.clip(edge + 0.004, 0.0055, 0.0095)
    dent = np.where(gap, 0.0011, np.where(shoulder, 0.0003, 0.0))
    corner = np.where(gap, 0.0006 + 0.5 * pointed, np.where(shoulder, 0.6 * pointed, 0.0))
    papilla = np.where(gap, 0.0022, np.where(shoulder, 0.0008, 0.0))
    lean = 0.0012 * np.exp(-((half / 0.030) ** 2))  # incisors lean outwards a little
    # Rows: distance inwards from the front line and height above the biting edge.
    rows = [
        (0.0022 + 0 * half, height + 0.0042),
        (0.0016 + lean + dent * 0.2, height - papilla),
        (0.0004 + lean * 0.6 + dent, height * 0.55),
        (0.0004 + lean * 0.1 + dent * 0.9, height * 0.16 + corner * 0.5),
        (0.0008 + dent * 0.6, corner),
        (0.0008 + edge - dent * 0.5, corner + 0.0004),
        (0.0016 + thick, height - 0.001),
    ]
    left = np.stack(
        [
            np.stack([xz[:, 0] + normal[:, 0] * d, bite + shape.up * above, xz[:, 1] + normal[:, 1] * d], 1)
            for d, above in rows
        ]
    )
    points = np.concatenate([left[:, :0:-1] * [-1, 1, 1], left], axis=1)
    count = points.shape[1]
    a = (np.arange(_ROWS - 1)[:, None] * count + np.arange(count - 1)[None]).ravel()
    b, c, d = a + 1, a + count + 1, a + count
    # Mirror-symmetric diagonals; counter-clockwise seen from the front for the upper arch.
    right = np.tile(np.arange(count - 1) < count // 2, _ROWS - 1)
    first = np.where(right[:, None], np.stack([a, d, b], 1), np.stack([a, d, c], 1))
    second = np.where(right[:, None], np.stack([b, d, c], 1), np.stack([a, c, b], 1))
    faces = np.stack([first, second], 1).reshape(-1, 3)
    if shape.up < 0:
        faces = faces[:, ::-1]
    gum = np.repeat(np.arange(_ROWS - 1) == 0, 2 * (count - 1))
    parts = np.where(gum, PART["mouth"], PART[shape.part])
    return Mesh(
        points.reshape(-1, 3),
        faces,
        parts,
        np.full((len(faces), 3, 2), -1.0),
        sp.csr_matrix((points.shape[0] * count, base_count)),
    )


def helper_response(points: Floats, helper: Floats) -> Floats:
    """(T, H) map from the helper teeth's offsets to the arch's: the best affine motion, so that teeth stay teeth."""
    design = np.concatenate([helper, np.ones((len(helper), 1))], 1)
    return np.concatenate([points, np.ones((len(points), 1))], 1) @ np.linalg.pinv(design)
