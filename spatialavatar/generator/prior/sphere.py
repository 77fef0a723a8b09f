"""A map of the outer head on a sphere: a regular grid without seams across hair, face and neck.

Rows are angles from a pole at the crown, columns are azimuths with the face in the middle. The left and the right
border are the same line at the back, so the map wraps around. Reversing the columns mirrors the head, and hair falls
along them. Sparse matrices carry values between the map, the texels and the vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from spatialavatar.generator.numerics import Floats, Mask, Pixels
from spatialavatar.generator.texel_grid import TexelGrid, texel_grid
from spatialavatar.head import HeadModel, UVLayout

ROWS: Final = 96
COLUMNS: Final = 192

OUTER_PARTS: Final = ("face", "scalp", "ears", "neck", "lips")
"""Parts on the map; eyes and the mouth's inside lie behind them."""

_CENTRE: Final = np.array([0.5, 0.5, 0.37])
"""Of the sphere, as shares of the box around face and scalp."""

_TILT: Final = np.radians(18.0)
"""By which the pole leans back from the vertical: to the whorl, from which hair falls."""

_LOWEST: Final = np.radians(160.0)
"""Angle from the pole of the last row's lower edge; what lies beyond is the cut through the neck."""

_BLUR: Final = np.radians(1.0)
"""Standard deviation of the weights with which texels contribute to a cell."""

_REACH: Final = np.radians(1.6)
"""Angle from the nearest texel's up to which others contribute."""

_THICKNESS: Final = 0.008
"""Metres below the outermost texel of a direction within which texels count as the surface there."""

_FAR: Final = np.radians(6.0)
"""Cells with no texel this near are not on the head."""

_CANDIDATES: Final = 16


@dataclass(frozen=True, eq=False)
class SphereGrid:
    """The map of one head model and layout; cells are numbered row by row.

    Attributes:
        to_texels: (N, cells) bilinear look-up.
        to_vertices: (V, cells) bilinear look-up.
        from_texels: (cells, N) weighted means; rows sum to 1.
        from_vertices: (cells, V) the same for values at vertices.
        positions: (N, 2) row and column of each texel, cell centres at + 0.5.
        azimuth: (N,) radians from the face's middle, positive on the subject's left.
        valid: (ROWS, COLUMNS) bool, cells on the head.
        area: (ROWS, COLUMNS) relative solid angle, 0 on cells that are not valid.
        axes: (3, 3) rows: subject's left, pole, front.
        centre: (3,) metres, head space.
    """

    to_texels: sp.csr_matrix
    to_vertices: sp.csr_matrix
    from_texels: sp.csr_matrix
    from_vertices: sp.csr_matrix
    positions: Floats
    azimuth: Floats
    valid: Mask
    area: Floats
    axes: Floats
    centre: Floats

    def gather(self, values: Floats) -> Floats:
        """Maps (ROWS, COLUMNS, C) of values (N, C) of the texels."""
        return (self.from_texels @ values).reshape(ROWS, COLUMNS, -1)

    def gather_vertices(self, values: Floats) -> Floats:
        """Map (ROWS, COLUMNS) of values (V,) of the vertices."""
        return (self.from_vertices @ values).reshape(ROWS, COLUMNS)

    def scatter(self, maps: Floats | Pixels) -> Floats:
        """Values (N, C) of maps (ROWS, COLUMNS, C) at the texels."""
        return self.to_texels @ np.asarray(maps, np.float64).reshape(ROWS * COLUMNS, -1)


def sphere_grid(head: HeadModel, layout: UVLayout) -> SphereGrid:
    """The map of a head and its layout, cached."""
    return _build(head, layout)


@lru_cache(maxsize=2)
def _build(head: HeadModel, layout: UVLayout) -> SphereGrid:
    grid = texel_grid(head, layout)
    axes = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(_TILT), -np.sin(_TILT)], [0.0, np.sin(_TILT), np.cos(_TILT)]])
    box = grid.points[grid.mask("face", "scalp")] if grid.mask("face", "scalp").any() else grid.points
    centre = box.min(0) + _CENTRE * (box.max(0) - box.min(0))
    positions, azimuth = _positions(grid.points, centre, axes)
    from_texels, distance = _gathering(grid, centre, axes)
    valid = (distance < _FAR).reshape(ROWS, COLUMNS)
    polar = (np.arange(ROWS) + 0.5) / ROWS * _LOWEST
    corners = grid.corners.ravel()
    interpolation = sp.csr_matrix(
        (grid.bary.ravel().astype(np.float64), (np.repeat(np.arange(len(grid.corners)), 3), corners)),
        shape=(len(grid.corners), len(grid.mesh.template)),
    )
    return SphereGrid(
        to_texels=_lookup(positions),
        to_vertices=_lookup(_positions(grid.mesh.template, centre, axes)[0]),
        from_texels=from_texels,
        from_vertices=(from_texels @ interpolation).tocsr(),
        positions=positions,
        azimuth=azimuth,
        valid=valid,
        area=np.sin(polar)[:, None] * valid,
        axes=axes,
        centre=centre,
    )


def _positions(points: Floats, centre: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """Row and column (n, 2) and azimuth (n,) of points (n, 3)."""
    left, up, front = ((points - centre) @ axes.T).T
    polar = np.arctan2(np.hypot(left, front), up)
    azimuth = np.arctan2(left, front)
    return np.stack([polar / _LOWEST * ROWS, (azimuth / (2.0 * np.pi) + 0.5) * COLUMNS], 1), azimuth


def _lookup(positions: Floats) -> sp.csr_matrix:
    """(n, cells) bilinear weights at positions (n, 2); columns wrap around, rows end at the border."""
    row = np.clip(positions[:, 0] - 0.5, 0.0, ROWS - 1.0)
    column = positions[:, 1] - 0.5
    top = np.minimum(row.astype(np.int64), ROWS - 2)
    left = np.floor(column).astype(np.int64)
    down, right = row - top, column - left
    entries = [
        (top, left, (1.0 - down) * (1.0 - right)),
        (top, left + 1, (1.0 - down) * right),
        (top + 1, left, down * (1.0 - right)),
        (top + 1, left + 1, down * right),
    ]
    cells = np.concatenate([r * COLUMNS + c % COLUMNS for r, c, _ in entries])
    weights = np.concatenate([weight for _, _, weight in entries])
    points = np.tile(np.arange(len(positions)), len(entries))
    return sp.csr_matrix((weights, (points, cells)), shape=(len(positions), ROWS * COLUMNS))


def _gathering(grid: TexelGrid, centre: Floats, axes: Floats) -> tuple[sp.csr_matrix, Floats]:
    """(cells, N) weights of the outermost texels around each cell, and the angle (cells,) to the nearest one."""
    polar = (np.arange(ROWS) + 0.5) / ROWS * _LOWEST
    azimuth = ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * 2.0 * np.pi
    polar, azimuth = (values.ravel() for values in np.meshgrid(polar, azimuth, indexing="ij"))
    along = np.stack([np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], 1) @ axes
    outer = np.flatnonzero(grid.mask(*OUTER_PARTS)) if grid.mask(*OUTER_PARTS).any() else np.arange(len(grid.points))
    away = grid.points[outer] - centre
    radius = np.linalg.norm(away, axis=1)
    count = min(_CANDIDATES, len(outer))
    distance, found = cKDTree(away / radius[:, None]).query(along, k=[*range(1, count + 1)])
    near = distance < np.maximum(1.6 * distance[:, :1], _REACH)
    depth = np.where(near, radius[found], 0.0)
    weight = np.exp(-0.5 * (distance / _BLUR) ** 2) * near * (depth > depth.max(1, keepdims=True) - _THICKNESS)
    # Where all weights vanish, far from any texel, the nearest one counts.
    weight[:, 0] += 1e-12
    weight /= weight.sum(1, keepdims=True)
    cells = np.repeat(np.arange(len(along)), count)
    matrix = sp.csr_matrix((weight.ravel(), (cells, outer[found].ravel())), shape=(len(along), len(grid.points)))
    return matrix, distance[:, 0]


@dataclass(frozen=True, eq=False)
class Frames:
    """Axes of the map on a head's surface.

    Attributes:
        across: (ROWS, COLUMNS, 3) unit, towards the next column.
        down: (ROWS, COLUMNS, 3) unit, towards the next row, at right angles to ``across``.
        across_length: (ROWS, COLUMNS) metres from column to column.
        down_length: (ROWS, COLUMNS) metres from row to row.
    """

    across: Floats
    down: Floats
    across_length: Floats
    down_length: Floats


def frames(sphere: SphereGrid, points: Floats) -> Frames:
    """The axes on a head whose texels lie at points (N, 3)."""
    places = blur_around(sphere.gather(points), 1.5).astype(np.float64)
    across = 0.5 * (np.roll(places, -1, 1) - np.roll(places, 1, 1))
    down = np.gradient(places, axis=0)
    sideways = _unit(across)
    return Frames(
        across=sideways,
        down=_unit(down - sideways * (down * sideways).sum(-1, keepdims=True)),
        across_length=np.linalg.norm(across, axis=-1),
        down_length=np.linalg.norm(down, axis=-1),
    )


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def blur_around(maps: Floats | Pixels, sigma: float) -> Pixels:
    """Gaussian blur of maps (ROWS, COLUMNS[, C]) that wraps around; ``sigma`` in cells."""
    reach = int(np.ceil(4.0 * sigma))
    wide = np.asarray(np.take(maps, np.arange(-reach, maps.shape[1] + reach), axis=1, mode="wrap"), np.float32)
    smooth = cv2.GaussianBlur(wide, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth[:, reach:-reach], np.float32)
