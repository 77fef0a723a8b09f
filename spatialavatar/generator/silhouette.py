"""Hair that the shape space cannot say: the mesh's outline moves out to the matte's.

Vertices on the outline of the posed mesh look along their smoothed normals for the rim of the person in the matte. The
gaps are data of one least-squares problem over all photos and all vertices: displacements that meet the data, bend as
little as possible, and are zero on the face. They are added to the rest head, so they follow every later pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.numerics import Floats, Ints, Mask, Pixels, bilinear, blur, smoothstep
from spatialavatar.generator.sources import SourceView
from spatialavatar.head import HeadModel
from spatialavatar.records import CLOTHES, HAIR
from spatialavatar.render.mesh import rasterize_mesh, vertex_normals

_MOVABLE: Final = ("scalp", "ears", "neck", "face")
_BARE: Final = ("neck", "face")
_PROBE: Final = 0.001
"""Length, metres, of the step along the normal whose projection gives the direction to march in."""
_CLEARANCE: Final = 4.0
"""A vertex is on the outline when the mesh ends less than this many pixels further out."""
_COVERED: Final = 0.4
"""Share of an ear's vertices under hair from which the ear is smoothed away."""
_LEAST_AREA: Final = 1e-8
_FAR_SIDE: Final = 0.04
"""An ear this much farther from the camera than the other one, metres, is on the far side."""


@dataclass(frozen=True)
class _Surface:
    """What is known of the head's vertices, whatever the person.

    Attributes:
        free: (V,) in [0, 1], how far a vertex may move.
        bare: (V,) bool, face and neck: only hair that hangs over them moves them.
        averaging: (V, V), the mean of a vertex's neighbours.
    """

    free: Floats
    bare: Mask
    averaging: sp.csr_matrix


@dataclass(frozen=True)
class _Masks:
    """Of one photo, (H, W): the head with hair and neck, and the hair."""

    person: Pixels
    hair: Pixels


@dataclass(frozen=True)
class _Gaps:
    """One photo's data: vertices, metres left to go along their normals, and weights."""

    vertices: Ints
    metres: Floats
    weights: Floats


def fit_silhouette(head: HeadModel, sources: Sequence[SourceView], shape: Tensor, config: BaseConfig) -> Tensor:
    """Offsets (V, 3), metres in head space, that bring the outline of the head to that of the mattes.

    The face (everything near its landmarks), lips, eyes and the mouth's inside stay where they are.
    """
    surface = _surface(head, config)
    masks = [_person(source) for source in sources]
    rest = head.identity(shape).vertices.double().cpu().numpy()
    flat = _cover_ears(head, surface, sources, masks, rest)
    normals = vertex_normals(flat, head.faces.cpu().numpy()).astype(np.float64)
    laplacian, area = _cotangent_laplacian(flat, head.faces.cpu().numpy())
    smoothing = (sp.diags(area) + config.normal_smoothing**2 * laplacian).tocsc()
    normals = splu(smoothing).solve(area[:, None] * normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    bending = config.bending_length**4 * (laplacian @ sp.diags(1.0 / area) @ laplacian)
    height = np.zeros(len(rest))
    for _ in range(config.silhouette_rounds):
        offsets = flat - rest + height[:, None] * normals
        found = [_gaps(head, surface, source, mask, offsets, normals, config) for source, mask in zip(sources, masks)]
        height = _solve(surface, area, bending, found, height, config)
    return torch.from_numpy(flat - rest + height[:, None] * normals).float()


def _cover_ears(
    head: HeadModel, surface: _Surface, sources: Sequence[SourceView], masks: Sequence[_Masks], rest: Floats
) -> Floats:
    """Rest vertices (V, 3) in which an ear that is under hair is smoothed into the head's side.

    Hair that is painted onto the folds of an ear, and drawn out to the silhouette with them, looks like a bun.
    """
    if "ears" not in head.parts:
        return rest
    ears = head.part_vertices("ears").cpu().numpy()
    hidden = np.zeros(len(rest), bool)
    for side in (rest[:, 0] > 0, rest[:, 0] < 0):
        shares = [_hair_over(head, ears & side, ears & ~side, v, m) for v, m in zip(sources, masks)]
        if max(shares) > _COVERED:
            hidden |= ears & side
    if not hidden.any():
        return rest
    # The membrane over the hole: every vertex at the mean of its neighbours.
    inside, outside = np.flatnonzero(hidden), np.flatnonzero(~hidden)
    rows = sp.identity(len(rest), format="csr")[inside] - surface.averaging[inside]
    result = rest.copy()
    result[inside] = splu(rows[:, inside].tocsc()).solve(-rows[:, outside] @ rest[outside])
    return result


def _hair_over(head: HeadModel, ear: Mask, other: Mask, source: SourceView, masks: _Masks) -> float:
    """Share of an ear's vertices where the photo shows hair; 0 where the ear is on the far side."""
    cam = source.camera.to_camera(head.vertices(source.params)[0]).cpu().double().numpy()
    if cam[ear, 2].mean() > cam[other, 2].mean() + _FAR_SIDE:
        return 0.0
    pixels = _project(cam[ear], source.camera.intrinsics.cpu().double().numpy())
    return float((bilinear(masks.hair, pixels) > 0.5).mean())


@lru_cache(maxsize=2)
def _surface(head: HeadModel, config: BaseConfig) -> _Surface:
    faces = head.faces.cpu().numpy()
    count = len(head.template)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    adjacency.data[:] = 1.0
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1.0)
    return _Surface(
        free=_freedom(head, config),
        bare=head.part_vertices(*head.having(*_BARE)).cpu().numpy(),
        averaging=(sp.diags(1.0 / degree) @ adjacency).tocsr(),
    )


def _cotangent_laplacian(vertices: Floats, faces: Ints) -> tuple[sp.csr_matrix, Floats]:
    """Laplacian (V, V), positive semi-definite, and the area (V,) of each vertex, square metres.

    Independent of how finely a region is meshed (Meyer et al. 2003), as ears are finer than the scalp by far. The
    weights are clamped, because slivers would give negative or boundless ones.
    """
    corners = vertices[faces]
    rows, columns, weights = [], [], []
    for corner in range(3):
        a, b = corners[:, (corner + 1) % 3] - corners[:, corner], corners[:, (corner + 2) % 3] - corners[:, corner]
        cotangent = (a * b).sum(1) / np.maximum(np.linalg.norm(np.cross(a, b), axis=1), 1e-12)
        rows.append(faces[:, (corner + 1) % 3])
        columns.append(faces[:, (corner + 2) % 3])
        weights.append(0.5 * np.clip(cotangent, 0.02, 5.0))
    count = len(vertices)
    half = sp.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    symmetric = half + half.T
    laplacian = (sp.diags(np.asarray(symmetric.sum(1)).ravel()) - symmetric).tocsr()
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    third = np.repeat(np.linalg.norm(crossed, axis=1) / 6.0, 3)
    return laplacian, np.maximum(np.bincount(faces.ravel(), third, minlength=count), _LEAST_AREA)


def _freedom(head: HeadModel, config: BaseConfig) -> Floats:
    """(V,) 0 on the face and inside it, 1 where hair may be, from the distance to the face's landmarks."""
    vertices = head.template.cpu().double().numpy()
    if head.landmark_embeddings:
        face = head.landmarks(head.template, max(head.landmark_embeddings)).cpu().double().numpy()
    else:
        face = vertices[head.part_vertices("face").cpu().numpy()]
    free = smoothstep(cKDTree(face).query(vertices)[0], *config.face_mask)
    movable = head.having(*_MOVABLE)
    fixed = [part for part in head.parts if part not in movable]
    if fixed and movable:
        free[head.part_vertices(*fixed).cpu().numpy()] = 0.0
    return free


def _person(source: SourceView) -> _Masks:
    """The head with hair and neck is the matte less the clothes."""
    if source.segments is None:
        return _Masks(source.matte, np.zeros_like(source.matte))
    clothes = blur((source.segments == CLOTHES).astype(np.float32), 2.0)
    hair = blur((source.segments == HAIR).astype(np.float32), 2.0)
    return _Masks((source.matte * (clothes < 0.5)).astype(np.float32), hair)


def _gaps(
    head: HeadModel,
    surface: _Surface,
    source: SourceView,
    masks: _Masks,
    offsets: Floats,
    normals: Floats,
    config: BaseConfig,
) -> _Gaps:
    """How far each outline vertex of the mesh is from the rim of the person, along its normal."""
    camera = source.camera
    points, ahead = (
        camera.to_camera(head.vertices(source.params, torch.from_numpy(moved).float())[0]).cpu().double().numpy()
        for moved in (offsets, offsets + _PROBE * normals)
    )
    intrinsics = camera.intrinsics.cpu().double().numpy()
    pixels, pixels_ahead = (_project(p, intrinsics) for p in (points, ahead))
    direction = (pixels_ahead - pixels) / _PROBE
    rate = np.linalg.norm(direction, axis=1)
    outward = (ahead - points) / np.maximum(np.linalg.norm(ahead - points, axis=1, keepdims=True), 1e-12)
    sight = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    cosine = np.abs((outward * sight).sum(1))
    faces = head.faces.cpu().numpy()
    fragments = rasterize_mesh(points, faces, intrinsics, camera.width, camera.height)
    covered = fragments.face >= 0
    mesh = covered.astype(np.float32)
    free = np.where(covered, (surface.free[faces[fragments.face]] * fragments.bary).sum(-1), 1.0).astype(np.float32)

    sideways = (surface.free > 0.05) & (cosine < config.silhouette_facing)
    vertices = np.flatnonzero(sideways & _within(pixels, camera.width, camera.height, 0.0))
    start, rate = pixels[vertices], np.maximum(rate[vertices], 1e-9)
    unit, bare = direction[vertices] / rate[:, None], surface.bare[vertices]
    mesh_rim, mesh_found = _rim(mesh, start, unit, config)
    person_rim, found = _rim(masks.person, start, unit, config)
    on_outline = mesh_rim < _CLEARANCE
    through_hair = _mean_along(masks.hair, start, unit, np.where(on_outline, 0.0, mesh_rim), person_rim) > 0.5
    # Hair that hangs beside the jaw belongs to the nape, which the jaw, that may not move, hides: it moves on its own.
    before_rim = start + (mesh_rim - 2.0)[:, None] * unit
    behind_jaw = bare & ~on_outline & through_hair & (bilinear(free, before_rim) < 0.5)
    behind_jaw &= (surface.free[vertices] > 0.5) & (person_rim > mesh_rim + _CLEARANCE)
    # The width of face and neck is the shape's business; they move only for hair that hangs over them.
    found &= mesh_found & ((on_outline & (~bare | through_hair)) | behind_jaw)
    # Relative to the mesh's own rim, because a vertex near the outline need not be on it.
    metres = (person_rim - np.where(on_outline, mesh_rim, 0.0)) / rate
    weights = config.data_weight * surface.free[vertices] * (1.0 - cosine[vertices])
    return _Gaps(vertices[found], metres[found], weights[found])


def _mean_along(picture: Pixels, start: Floats, unit: Floats, low: Floats, high: Floats) -> Floats:
    """Mean (n,) of a picture between ``low`` (n,) and ``high`` (n,) pixels along each ray."""
    shares = np.linspace(0.0, 1.0, 8)
    steps = [(1.0 - share) * low + share * high for share in shares]
    return np.mean([bilinear(picture, start + step[:, None] * unit) for step in steps], axis=0)


def _rim(mask: Pixels, start: Floats, unit: Floats, config: BaseConfig) -> tuple[Floats, Mask]:
    """Pixels (n,) from ``start`` along ``unit`` to the rim of a mask, and (n,) bool where it was found in the picture.

    From inside the first exit outward counts, from outside the first entry inward (negative).
    """
    low, high = config.silhouette_reach
    outward, inward = np.arange(0.0, high, 1.0), np.arange(0.0, low, -1.0)
    outside = _along(mask, start, unit, outward) < 0.5
    inside = _along(mask, start, unit, inward) >= 0.5
    starts_inside = ~outside[:, 0]
    # The rim is crossed half a step before the first sample beyond it.
    gap = np.where(starts_inside, outward[outside.argmax(1)] - 0.5, inward[inside.argmax(1)] + 0.5)
    found = np.where(starts_inside, outside.any(1), inside.any(1))
    end = start + gap[:, None] * unit
    # Where the person leaves the picture the rim is not seen.
    return gap, found & _within(end, mask.shape[1], mask.shape[0], 3.0)


def _along(picture: Pixels, start: Floats, unit: Floats, steps: Floats) -> Floats:
    """Values (n, m) of a picture at ``steps`` (m,) pixels along each ray."""
    rays = start[:, None] + steps[None, :, None] * unit[:, None]
    return bilinear(picture, rays.reshape(-1, 2)).reshape(len(start), len(steps))


def _solve(
    surface: _Surface,
    area: Floats,
    bending: sp.csr_matrix,
    found: Sequence[_Gaps],
    height: Floats,
    config: BaseConfig,
) -> Floats:
    """Heights (V,) that meet the gaps, bend little, and are zero where nothing may move."""
    weight, right = np.zeros(len(height)), np.zeros(len(height))
    for gaps in found:
        target = height[gaps.vertices] + config.silhouette_step * gaps.metres
        target = target.clip(*config.silhouette_limits)
        weight[gaps.vertices] += gaps.weights
        right[gaps.vertices] += gaps.weights * target
    anchor = config.anchor_weight * (1.0 - surface.free) ** 4 + np.where(surface.bare, config.bare_anchor, 1e-3)
    solved = splu((bending + sp.diags(area * (weight + anchor))).tocsc()).solve(area * right)
    return (solved * (surface.free > 0)).clip(*config.silhouette_limits)


def _project(points: Floats, intrinsics: Floats) -> Floats:
    projected = points @ intrinsics.T
    return projected[:, :2] / np.maximum(projected[:, 2:], 1e-6)


def _within(pixels: Floats, width: int, height: int, margin: float) -> Mask:
    size = np.array([width, height])
    return np.asarray(((pixels >= margin) & (pixels <= size - margin)).all(axis=1))
