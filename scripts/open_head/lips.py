"""Closed lips: the mean head's mouth is shut, and stays shut in every identity.

The package's targets are sculpted one by one; their mixtures leave the lips a millimetre apart near the corners, so
that teeth would gleam through a closed mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from open_head.source import BaseMesh
from open_head.topology import QuadSets, edge_distance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_OVERLAP = 0.0003  # how far closed lips press into each other, metres
_CONTACT_RINGS = (1, 2, 3)  # rings, counted from the mouth's lining, that may touch the other lip
_FADE = np.array([1.0, 1.0, 0.85, 0.6, 0.4, 0.22, 0.1])  # share of the seal's movement by ring


@dataclass(frozen=True)
class Lips:
    """How the gap between the lips depends on the skin, and how the skin moves to close it.

    Attributes:
        gap: (N, V) linear map from heights (y) to the gap at each of N places along the lips.
        close: (V, N) movement of each vertex, in gaps, that closes it.
    """

    gap: Floats
    close: Floats

    def sealed(self, template: Floats) -> Floats:
        """The template (V, 3) with its lips touching everywhere."""
        excess = np.maximum(self.gap @ template[:, 1] + _OVERLAP, 0)
        result = template.copy()
        result[:, 1] += self.close @ excess
        return result

    def kept_shut(self, basis: Floats) -> Floats:
        """Modes (K, V, 3) without their share of opening the lips."""
        result = basis.copy()
        result[:, :, 1] += (basis[:, :, 1] @ self.gap.T) @ self.close.T
        return result

    def limited(self, offsets: Floats, shut: bool, opened: bool) -> Floats:
        """Offsets (V, 3) of an expression, of whose effect on the gap only closing or only opening is kept, or none.

        Args:
            offsets: of the expression at weight 1.
            shut: keep its share of pressing the lips together.
            opened: keep its share of parting them.
        """
        change = self.gap @ offsets[:, 1]
        kept = np.clip(change, None if shut else 0, None if opened else 0)
        result = offsets.copy()
        result[:, 1] += self.close @ (change - kept)
        return result


def find_lips(base: BaseMesh, sets: QuadSets, row_of_base: Ints, template: Floats) -> Lips:
    """Pair the two lips of the mean head.

    Args:
        base: the base mesh.
        sets: its quads by place.
        row_of_base: (V_base,) row in the head of each base vertex.
        template: (V, 3) mean skin.
    """
    seam = np.intersect1d(base.quads[sets.skin], base.quads[sets.mouth])
    distance = edge_distance(base.quads[sets.skin], seam, len(base.vertices), len(_FADE) - 1)
    member = (distance < len(_FADE)) & (row_of_base >= 0)
    rows, ring = row_of_base[member], distance[member]
    x = template[rows, 0]
    # Around the mouth the base's UV layout is an opened-out face with the chin at the right end.
    u = np.zeros(len(base.vertices))
    u[base.quads[sets.skin]] = base.quad_uv[sets.skin, :, 0]
    corner = seam[np.abs(base.vertices[seam, 0]).argmax()]
    upper = u[member] < u[corner]

    places = np.flatnonzero(ring == 1)
    gap = np.zeros((len(places), len(template)))
    for n, place in enumerate(places):
        candidates = []
        for k in _CONTACT_RINGS:
            row = np.zeros(len(template))
            for side, sign in ((upper, 1.0), (~upper, -1.0)):
                line = np.flatnonzero((ring == k) & side)
                line = line[np.argsort(x[line])]
                after = np.clip(np.searchsorted(x[line], x[place]), 1, len(line) - 1)
                a, b = line[after - 1], line[after]
                t = np.clip((x[place] - x[a]) / (x[b] - x[a]), 0, 1)
                row[rows[a]] += sign * (1 - t)
                row[rows[b]] += sign * t
            candidates.append(row)
        gap[n] = min(candidates, key=lambda row: row @ template[:, 1])
    close = np.zeros((len(template), len(places)))
    for side, sign in ((upper, -0.5), (~upper, 0.5)):
        own = places[side[places]]
        anchor = cKDTree(template[rows[own]]).query(template[rows[side]])[1]
        columns = np.searchsorted(places, own[anchor])
        close[rows[side], columns] = sign * _FADE[ring[side]]
    return Lips(gap, close)
