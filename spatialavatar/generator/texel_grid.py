"""The grid of texels on the head's surface."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spatialavatar.generator.head_mesh import HeadMesh, head_mesh
from spatialavatar.generator.numerics import Floats, Ints, Mask
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.render.mesh import vertex_normals


@dataclass(frozen=True, eq=False)
class TexelGrid:
    """Position of the N texels of a UV layout on a head's triangles.

    Attributes:
        mesh: of the head model.
        layout: the UV layout.
        corners: (N, 3) vertex indices of each texel's triangle.
        bary: (N, 3) float32, barycentric weights of the texel centres.
        parts: (N,) index into the head's part names.
        points: (N, 3) texel centres on the template, metres in head space.
        normals: (N, 3) unit normals there.
    """

    mesh: HeadMesh
    layout: UVLayout
    corners: Ints
    bary: NDArray[np.float32]
    parts: Ints
    points: Floats
    normals: Floats

    def mask(self, *parts: str) -> Mask:
        """(N,) bool: the texels on those of the named parts that the head has."""
        names = self.mesh.model.parts
        return np.isin(self.parts, [names.index(part) for part in parts if part in names])

    def texel_areas(self, vertices: Floats) -> Floats:
        """Square metres (N,) that each texel covers on ``vertices`` (V, 3)."""
        corners, uv = torch.from_numpy(vertices[self.mesh.faces]), self.mesh.model.uv.cpu()
        area = 0.5 * torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
        a, b = (uv[:, 1] - uv[:, 0]).double(), (uv[:, 2] - uv[:, 0]).double()
        texels = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs() * self.layout.resolution**2
        return (area / texels.clamp_min(1e-6))[self.layout.faces.cpu()].numpy()

    def points_on(self, vertices: Floats) -> Floats:
        """Texel centres (N, 3) on ``vertices`` (V, 3)."""
        return _points(self.corners, self.bary, vertices)

    def normals_on(self, vertices: Floats) -> Floats:
        """Unit normals (N, 3) of the texels, interpolated from those of ``vertices`` (V, 3)."""
        return _normals(self.mesh, self.corners, self.bary, vertices)


@lru_cache(maxsize=2)
def texel_grid(head: HeadModel, layout: UVLayout) -> TexelGrid:
    """The grid of a head and its layout, cached."""
    mesh = head_mesh(head)
    corners, bary = mesh.faces[layout.faces.cpu().numpy()], layout.bary.cpu().numpy()
    return TexelGrid(
        mesh=mesh,
        layout=layout,
        corners=corners,
        bary=bary,
        parts=layout.parts.cpu().numpy(),
        # In single precision, in which the layout places the Gaussians on the template.
        points=_points(corners, bary, mesh.template.astype(np.float32)).astype(np.float64),
        normals=_normals(mesh, corners, bary, mesh.template),
    )


def _points(corners: Ints, bary: NDArray[np.float32], vertices: NDArray[Any]) -> NDArray[Any]:
    """Texel centres (N, 3) on ``vertices`` (V, 3), in their precision."""
    a, b, c = (vertices[corners[:, corner]] * bary[:, corner, None] for corner in range(3))
    return a + b + c


def _normals(mesh: HeadMesh, corners: Ints, bary: NDArray[np.float32], vertices: Floats) -> Floats:
    normals = _points(corners, bary, vertex_normals(vertices, mesh.faces)).astype(np.float64)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
