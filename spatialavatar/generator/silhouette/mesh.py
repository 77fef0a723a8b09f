"""The mesh whose outline moves: which vertices may, and along which directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.head_mesh import HeadMesh, head_mesh
from spatialavatar.generator.numerics import Floats, Ints, Mask, smoothstep, solve_directly
from spatialavatar.head import HeadModel
from spatialavatar.render.mesh import vertex_normals

_MOVABLE: Final = ("scalp", "ears", "neck", "face")
_BARE: Final = ("neck", "face")
_MIN_AREA: Final = 1e-8
"""Square metres that a vertex has at least, so that unused ones do not make the system singular."""

_COTANGENTS: Final = (0.02, 5.0)
"""Clamp of the cotangent weights; slivers would give negative or unbounded ones."""


@dataclass(frozen=True, eq=False)
class OutlineMesh:
    """Constants of the head's vertices that do not depend on the person.

    Attributes:
        base: the whole mesh of the head model.
        mobility: (V,) in [0, 1], how far a vertex may move.
        bare: (V,) bool, face and neck: only hair that hangs over them moves them.
        averaging: (V, V), mean of a vertex's neighbours.
    """

    base: HeadMesh
    mobility: Floats
    bare: Mask
    averaging: sp.csr_matrix


@dataclass(frozen=True, eq=False)
class HeightField:
    """The displacements of one person's rest head: a height along a direction at every vertex.

    Attributes:
        rest: (V, 3) rest vertices, metres.
        flat: (V, 3) rest vertices with covered ears smoothed away; heights start here.
        directions: (V, 3) smoothed normals, unit; shorter where :func:`hanging` took their lift.
        area: (V,) square metres of each vertex.
        laplacian: (V, V), cotangent weights.
        bending: (V, V) quadratic form of how much heights bend.
    """

    rest: Floats
    flat: Floats
    directions: Floats
    area: Floats
    laplacian: sp.csr_matrix
    bending: sp.csr_matrix

    def offsets(self, heights: Floats) -> Floats:
        """Offsets (V, 3) on the rest vertices for heights (V,), metres."""
        return self.flat - self.rest + heights[:, None] * self.directions


@lru_cache(maxsize=2)
def outline_mesh(head: HeadModel, face_mask: tuple[float, float]) -> OutlineMesh:
    """The mesh of a head model; ``face_mask`` as in ``SilhouetteConfig``."""
    mesh = head_mesh(head)
    faces, count = mesh.faces, len(mesh.template)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    adjacency.data[:] = 1.0
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1.0)
    return OutlineMesh(
        base=mesh,
        mobility=_mobility(mesh, face_mask),
        bare=mesh.vertex_mask(*_BARE),
        averaging=(sp.diags(1.0 / degree) @ adjacency).tocsr(),
    )


def build_field(mesh: OutlineMesh, rest: Floats, flat: Floats, config: SilhouetteConfig) -> HeightField:
    """Directions and bending of one person's head; ``rest`` and ``flat`` (V, 3) as in :class:`HeightField`."""
    normals = vertex_normals(flat, mesh.base.faces).astype(np.float64)
    laplacian, area = _cotangent_laplacian(flat, mesh.base.faces)
    smoothing = sp.diags(area) + config.normal_smoothing**2 * laplacian
    directions = solve_directly(smoothing, area[:, None] * normals)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    bending = config.bending_length**4 * (laplacian @ sp.diags(1.0 / area) @ laplacian)
    return HeightField(rest, flat, directions, area, laplacian, bending)


def hanging(mesh: OutlineMesh, field: HeightField) -> HeightField:
    """The field without the lift on the neck: hair hangs over it.

    The normals of the neck point up where it widens to the shoulders, and would turn the ends of long hair up and out.
    """
    directions = field.directions.copy()
    up = directions[:, 1]
    up[mesh.base.vertex_mask("neck")] = up[mesh.base.vertex_mask("neck")].clip(max=0.0)
    return replace(field, directions=directions)


def _mobility(mesh: HeadMesh, face_mask: tuple[float, float]) -> Floats:
    """(V,) 0 on the face and inside it, 1 where hair may be, from the distance to the face's landmarks."""
    embeddings, parts = mesh.model.landmark_embeddings, mesh.model.parts
    face = mesh.landmarks(max(embeddings)) if embeddings else mesh.template[mesh.vertex_mask("face")]
    mobility = smoothstep(cKDTree(face).query(mesh.template)[0], *face_mask)
    fixed = [part for part in parts if part not in _MOVABLE]
    if fixed and len(fixed) < len(parts):
        mobility[mesh.vertex_mask(*fixed)] = 0.0
    return mobility


def _cotangent_laplacian(vertices: Floats, faces: Ints) -> tuple[sp.csr_matrix, Floats]:
    """Laplacian (V, V), positive semi-definite, and the area (V,) of each vertex, square metres.

    Independent of how finely a region is meshed (Meyer et al. 2003): ears are much finer than the scalp.
    """
    corners = vertices[faces]
    rows, columns, weights = [], [], []
    for corner in range(3):
        a, b = corners[:, (corner + 1) % 3] - corners[:, corner], corners[:, (corner + 2) % 3] - corners[:, corner]
        cotangent = (a * b).sum(1) / np.maximum(np.linalg.norm(np.cross(a, b), axis=1), 1e-12)
        rows.append(faces[:, (corner + 1) % 3])
        columns.append(faces[:, (corner + 2) % 3])
        weights.append(0.5 * np.clip(cotangent, *_COTANGENTS))
    count = len(vertices)
    half = sp.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    symmetric = half + half.T
    laplacian = (sp.diags(np.asarray(symmetric.sum(1)).ravel()) - symmetric).tocsr()
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    third = np.repeat(np.linalg.norm(crossed, axis=1) / 6.0, 3)
    return laplacian, np.maximum(np.bincount(faces.ravel(), third, minlength=count), _MIN_AREA)
