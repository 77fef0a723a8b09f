"""Signed distance to the head and the shoulders on a grid, which keeps strands out of the skin."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from spatialavatar.render.mesh import vertex_normals
from spatialavatar.synthetic.anatomy import Anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.clothes import Shoulders

_CELL: Final = 0.008
_LOW: Final = np.array([-0.184, -0.256, -0.184])
_SIZE: Final = (47, 60, 49)
_BLUR: Final = 0.6
"""Standard deviation in cells of the blur that rounds the folds of the ears off."""


class DistanceField:
    """Metres to the outer surface of a rest head and its shoulders: negative inside."""

    def __init__(self, facts: Anatomy, vertices: Array, shoulders: Shoulders) -> None:
        """Fill the grid.

        Args:
            facts: of the head model.
            vertices: (V, 3) at rest, metres.
            shoulders: of the same person.
        """
        faces = facts.mesh.faces[facts.outer_faces]
        corners = vertices[faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        outer = facts.outer_vertices
        points = np.concatenate([vertices[outer], corners.mean(1)])
        normals = np.concatenate([vertex_normals(vertices, facts.mesh.faces)[outer], normal])
        axes = [low + _CELL * np.arange(count) for low, count in zip(_LOW, _SIZE)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        distance, nearest = cKDTree(points).query(grid)
        outward = ((grid - points[nearest]) * normals[nearest]).sum(1)
        head = np.where(outward > 0, distance, -distance)
        # Below the neck's rim the surface ends, and its inside looks like an outside.
        head = np.where(grid[:, 1] < shoulders.collar, np.maximum(head, 0.02), head)
        values = np.minimum(head, shoulders.distance(grid)).reshape(_SIZE)
        self._values = gaussian_filter(values, _BLUR).astype(np.float32)
        self._slopes = [gradient.astype(np.float32) for gradient in np.gradient(self._values, _CELL)]

    def distance(self, points: Array) -> Array:
        """Metres (n,) at points (n, 3); the border's value beyond the grid."""
        return self._sample(self._values, self._cells(points))

    def measure(self, points: Array) -> tuple[Array, Array]:
        """Metres (n,) and unit outward directions (n, 3) at points (n, 3)."""
        cells = self._cells(points)
        slope = np.stack([self._sample(values, cells) for values in self._slopes], 1)
        return self._sample(self._values, cells), slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)

    def keep_out(self, points: Array, least: Array | float) -> Array:
        """Points (n, 3) moved outwards until they are at least ``least`` metres from the surface."""
        distance, outward = self.measure(points)
        return points + outward * np.maximum(least - distance, 0.0)[:, None]

    @staticmethod
    def _cells(points: Array) -> Array:
        return ((points - _LOW) / _CELL).T

    @staticmethod
    def _sample(values: Array, cells: Array) -> Array:
        return map_coordinates(values, cells, order=1, mode="nearest")
