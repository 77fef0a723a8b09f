"""Bijective flattening of triangle meshes: a barycentric start and a distortion descent that never flips a triangle.

The start is Tutte's embedding with mean-value weights (Floater 2003); the descent minimises the symmetric Dirichlet
energy with the scalable reweighted local/global steps of Rabinovich et al. 2017, "Scalable Locally Injective
Mappings". All coordinates are x right, y up; triangles are counter-clockwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 3e-5
"""Relative decrease of the energy in a step at which :func:`relax` stops."""


@dataclass
class Pins:
    """Constrained vertices: ``fixed`` ones do not move, ``sliding`` ones move along a unit direction."""

    fixed: dict[int, tuple[float, float]] = field(default_factory=dict)
    sliding: dict[int, tuple[float, float]] = field(default_factory=dict)

    def reduction(self, positions: Floats) -> tuple[sp.csr_matrix, Floats]:
        """Matrix B (2V, unknowns) and offset x0 (2V,) with x = B z + x0, x = all x coordinates, then all y ones."""
        count = len(positions)
        offset = np.zeros(2 * count)
        rows, columns, values, unknowns = [], [], [], 0
        for vertex in range(count):
            if vertex in self.fixed:
                offset[[vertex, vertex + count]] = self.fixed[vertex]
            elif vertex in self.sliding:
                direction = np.asarray(self.sliding[vertex])
                foot = positions[vertex] - direction * (direction @ positions[vertex])
                offset[[vertex, vertex + count]] = foot
                rows += [vertex, vertex + count]
                columns += [unknowns, unknowns]
                values += [direction[0], direction[1]]
                unknowns += 1
            else:
                rows += [vertex, vertex + count]
                columns += [unknowns, unknowns + 1]
                values += [1.0, 1.0]
                unknowns += 2
        return sp.csr_matrix((values, (rows, columns)), shape=(2 * count, unknowns)), offset


def signed_areas(uv: Floats, faces: Ints) -> Floats:
    """(F,) areas of the flat triangles, positive where counter-clockwise (y up)."""
    a, b, c = (uv[faces[:, k]] for k in range(3))
    u, v = b - a, c - a
    return 0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def boundary_loops(faces: Ints) -> list[Ints]:
    """Closed boundaries of a mesh, each in the direction of its faces (counter-clockwise, holes clockwise).

    Raises:
        ValueError: two boundaries touch in a vertex.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = set(map(tuple, edges.tolist()))
    open_edges = [edge for edge in known if edge[::-1] not in known]
    following = dict(open_edges)
    if len(following) != len(open_edges):
        raise ValueError("Two boundaries of the mesh touch in a vertex; the part cannot be flattened.")
    loops = []
    while following:
        start = vertex = min(following)
        loop = []
        while vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        if vertex != start:
            raise ValueError("A boundary of the mesh does not close; the part cannot be flattened.")
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def flat_triangles(corners: Floats) -> Floats:
    """(F, 3, 2) isometric copies of the space triangles ``corners`` (F, 3, 3), first corner at 0, second on +x."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    base = np.maximum(np.linalg.norm(u, axis=1), 1e-9)
    along = (u * v).sum(1) / base
    height = np.maximum(np.linalg.norm(np.cross(u, v), axis=1) / base, 1e-9)
    flat = np.zeros((len(corners), 3, 2))
    flat[:, 1, 0] = base
    flat[:, 2, 0] = along
    flat[:, 2, 1] = height
    return flat


def embed(points: Floats, faces: Ints, rim: dict[int, tuple[float, float]]) -> Floats:
    """Tutte embedding with mean-value weights.

    Args:
        points: (V, 3) positions in space that the weights come from.
        faces: (F, 3) triangles of a disc.
        rim: place of every boundary vertex, on a convex polygon in the order of the boundary.

    Returns:
        (V, 2) positions without flipped triangles.
    """
    count = len(points)
    rows, columns, values = [], [], []
    for k in range(3):
        i, following, previous = (faces[:, (k + step) % 3] for step in range(3))
        u, v = points[following] - points[i], points[previous] - points[i]
        nu = np.maximum(np.linalg.norm(u, axis=1), 1e-9)
        nv = np.maximum(np.linalg.norm(v, axis=1), 1e-9)
        angle = np.arccos(np.clip((u * v).sum(1) / (nu * nv), -1, 1))
        half = np.clip(np.tan(angle / 2), 1e-3, 1e3)
        rows += [i, i]
        columns += [following, previous]
        values += [half / nu, half / nv]
    weights = sp.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    weights = sp.diags(1.0 / np.asarray(weights.sum(1)).ravel()) @ weights
    uv = np.zeros((count, 2))
    held = np.fromiter(rim, dtype=np.int64)
    uv[held] = [rim[v] for v in held]
    inner = np.setdiff1d(np.arange(count), held)
    system = (sp.identity(count, format="csr") - weights)[inner]
    uv[inner] = splu(system[:, inner].tocsc()).solve(-(system[:, held] @ uv[held]))
    return uv


def relax(
    uv: Floats, faces: Ints, rest: Floats, importance: Floats, pins: Pins, rounds: int = 60
) -> tuple[Floats, float]:
    """Move ``uv`` towards the shapes ``rest`` without a flipped triangle.

    Minimises sum_f importance_f * area_f * (|J|^2 + |J^-1|^2), J the map from the rest triangle to the flat one.

    Args:
        uv: (V, 2) start without flipped triangles.
        faces: (F, 3).
        rest: (F, 3, 2) target triangle shapes, in the unit of ``uv``.
        importance: (F,) extra weight of each triangle.
        pins: constrained vertices.
        rounds: largest number of steps; see :data:`TOLERANCE`.

    Returns:
        (V, 2) the relaxed positions, and the energy divided by the summed importance * area (4 is an isometry).

    Raises:
        ValueError: the start has a flipped or empty triangle.
    """
    count = len(uv)
    if not (signed_areas(uv, faces) > 0).all():
        raise ValueError("The start of the flattening has flipped triangles.")
    edges = np.stack([rest[:, 1] - rest[:, 0], rest[:, 2] - rest[:, 0]], axis=2)  # columns are edges
    inverse = np.linalg.inv(edges)
    area = 0.5 * np.linalg.det(edges) * importance
    # J = [p1 - p0, p2 - p0] @ inverse, so d/dx and d/dy are linear in the corners.
    corner_weights = np.stack([-inverse.sum(1), inverse[:, 0], inverse[:, 1]], axis=1)  # (F, corner, axis)
    face_index = np.repeat(np.arange(len(faces)), 3)
    gradient = [
        sp.csr_matrix((corner_weights[:, :, k].ravel(), (face_index, faces.ravel())), (len(faces), count))
        for k in range(2)
    ]
    basis, offset = pins.reduction(uv)

    def jacobians(x: Floats) -> Floats:
        return np.stack([g @ x for g in gradient], axis=2)  # (F, out, in)

    def energy_of(jacobian: Floats) -> float:
        det = np.linalg.det(jacobian)
        if (det <= 0).any():
            return np.inf
        return float((area * (jacobian**2).sum((1, 2)) * (1 + 1 / det**2)).sum())

    jacobian = jacobians(uv)
    energy = energy_of(jacobian)
    for _ in range(rounds):
        left, stretch, right = np.linalg.svd(jacobian)
        rotation = left @ right
        excess = stretch - 1
        near_one = np.abs(excess) < 1e-6
        pull = np.where(near_one, 4.0, (stretch - stretch**-3) / np.where(near_one, 1.0, excess))
        weight = (left * np.sqrt(pull)[:, None]) @ left.transpose(0, 2, 1) * np.sqrt(area)[:, None, None]
        blocks, targets = [], []
        for k in range(2):
            wanted = np.einsum("fij,fj->fi", weight, rotation[:, :, k])
            for r in range(2):
                blocks.append(sp.hstack([sp.diags(weight[:, r, c]) @ gradient[k] for c in range(2)]))
                targets.append(wanted[:, r])
        matrix = sp.vstack(blocks).tocsr()
        reduced = matrix @ basis
        residual = np.concatenate(targets) - matrix @ offset
        normal = (reduced.T @ reduced).tocsc()
        normal = normal + sp.identity(normal.shape[0], format="csc") * (1e-9 * normal.diagonal().mean())
        goal = (basis @ splu(normal).solve(reduced.T @ residual) + offset).reshape(2, count).T
        direction = goal - uv
        step = min(1.0, 0.9 * _first_collapse(uv, direction, faces))
        while True:
            trial = uv + step * direction
            trial_jacobian = jacobians(trial)
            trial_energy = energy_of(trial_jacobian)
            if trial_energy < energy or step < 1e-8:
                break
            step *= 0.5
        if not trial_energy < energy:
            break
        gain = (energy - trial_energy) / energy
        uv, jacobian, energy = trial, trial_jacobian, trial_energy
        if gain < TOLERANCE:
            break
    return uv, energy / float(area.sum())


def _first_collapse(uv: Floats, direction: Floats, faces: Ints) -> float:
    """Smallest positive step along ``direction`` at which a triangle loses its area."""
    u0, v0 = uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]
    u1 = direction[faces[:, 1]] - direction[faces[:, 0]]
    v1 = direction[faces[:, 2]] - direction[faces[:, 0]]

    def cross(a: Floats, b: Floats) -> Floats:
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    a, b, c = cross(u1, v1), cross(u0, v1) + cross(u1, v0), cross(u0, v0)
    # Stable smallest positive root of a t^2 + b t + c with c > 0.
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        first = 2 * c / (-b + root)
        second = 2 * c / (-b - root)
    candidates = np.concatenate([first, second])
    real = np.concatenate([b * b - 4 * a * c >= 0] * 2)
    candidates = candidates[real & np.isfinite(candidates) & (candidates > 0)]
    return float(candidates.min()) if len(candidates) else np.inf
