"""Tables of the head model that do not depend on the person, computed once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from spatialavatar.generator.head_mesh import HeadMesh
from spatialavatar.generator.surface import TexelSurface, texel_surface
from spatialavatar.pipeline import default_model
from spatialavatar.render.mesh import rasterize_mesh
from spatialavatar.synthetic.arrays import Array

OUTSIDE: Final = ("face", "scalp", "ears", "neck", "lips")
"""Parts whose surface is the outside of the head."""

_DIRECTIONS: Final = 64
"""From which the sky's visibility is measured."""

_SKY_SIZE: Final = 320
"""Array a side of each of those z-buffers."""

_SKY_BIAS: Final = 0.0020
"""Metres that a point may lie behind the z-buffer and still count as lit."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Facts about the head model and its texels.

    Attributes:
        surface: the texels, with the default generator's constants.
        outside: (N,) bool, texels of the outer surface.
        outer_faces: (F,) bool, triangles of the outer surface.
        outer_vertices: indices of the vertices of the outer surface.
        sky: (N,) in [0, 1], share of the sky that a texel sees past the head itself on the template.
    """

    surface: TexelSurface
    outside: Array
    outer_faces: Array
    outer_vertices: Array
    sky: Array

    @property
    def mesh(self) -> HeadMesh:
        """The head's mesh."""
        return self.surface.grid.mesh

    def on_texels(self, values: Array) -> Array:
        """Values (V, ...) at the vertices, interpolated to the texels (N, ...)."""
        grid = self.surface.grid
        weights = grid.bary.reshape(grid.bary.shape + (1,) * (values.ndim - 1))
        return (values[grid.corners] * weights).sum(1)


@lru_cache(maxsize=1)
def anatomy() -> Anatomy:
    """The facts of the head that ships with the package."""
    model = default_model()
    surface = texel_surface(model.head, model.layout, model.config.base)
    mesh = surface.grid.mesh
    outer_faces = model.head.part_faces(*OUTSIDE).numpy()
    return Anatomy(
        surface=surface,
        outside=surface.mask(*OUTSIDE),
        outer_faces=outer_faces,
        outer_vertices=np.flatnonzero(mesh.vertex_mask(*OUTSIDE)),
        sky=_sky(surface, mesh.faces[outer_faces]),
    )


def sphere_directions(count: int) -> Array:
    """Unit directions (count, 3), evenly spread over the sphere (a Fibonacci spiral)."""
    height = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    angle = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(count)
    radius = np.sqrt(1.0 - height**2)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)


def visible_from(points: Array, vertices: Array, faces: Array, direction: Array, bias: float) -> Array:
    """Whether points (n, 3) are seen from a far light.

    Args:
        points: metres.
        vertices: (V, 3) of the mesh that casts the shadow.
        faces: (F, 3) of it.
        direction: (3,) unit, towards the light.
        bias: metres that a point may lie behind the mesh.
    """
    forward = -direction
    side = np.cross(forward, np.array([0.1, 0.9, 0.3]))
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(forward, side), forward])
    centre, distance = np.array([0.0, 0.02, 0.03]), 6.0
    focal = _SKY_SIZE * distance / 0.38
    intrinsics = np.array([[focal, 0.0, _SKY_SIZE / 2], [0.0, focal, _SKY_SIZE / 2], [0.0, 0.0, 1.0]])
    moved = (points - centre) @ axes.T + np.array([0.0, 0.0, distance])
    buffer = rasterize_mesh(
        (vertices - centre) @ axes.T + np.array([0.0, 0.0, distance]), faces, intrinsics, _SKY_SIZE, _SKY_SIZE
    )
    pixels = (moved @ intrinsics.T)[:, :2] / moved[:, 2:]
    column, row = pixels.astype(int).clip(0, _SKY_SIZE - 1).T
    return moved[:, 2] < buffer.depth[row, column] + bias


def _sky(surface: TexelSurface, faces: Array) -> Array:
    """(N,) cosine-weighted share of the sky; light from below counts less."""
    grid = surface.grid
    template = grid.mesh.template
    points = grid.points + 0.0008 * grid.normals
    seen, total = np.zeros(len(points)), np.full(len(points), 1e-9)
    for direction in sphere_directions(_DIRECTIONS):
        weight = np.clip(grid.normals @ direction, 0.0, 1.0) * (0.7 + 0.3 * direction[1])
        seen += weight * visible_from(points, template, faces, direction, _SKY_BIAS)
        total += weight
    return seen / total
