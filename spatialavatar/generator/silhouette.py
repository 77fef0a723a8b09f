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
from spatialavatar.generator.numerics import Floats, Pixels, bilinear, blur, smoothstep
from spatialavatar.generator.sources import CLOTHES, HAIR, SourceView
from spatialavatar.generator.texels import Ints, Mask
from spatialavatar.head import HeadModel
from spatialavatar.render.mesh import rasterize_mesh, vertex_normals

_MOVABLE: Final = ("scalp", "ears", "neck", "face")
_BARE: Final = ("neck", "face")
_PROBE: Final = 0.001
"""Length, metres, of the step along the normal whose projection gives the direction to march in."""
_CLEARANCE: Final = 4.0
"""A vertex is on the outline when this many pixels further out there is no mesh."""


@dataclass(frozen=True)
class _Surface:
    """What is known of the head's vertices, whatever the person.

    Attributes:
        free: (V,) in [0, 1], how far a vertex may move.
        bare: (V,) bool, face and neck: only hair that hangs over them moves them.
        averaging: (V, V), the mean of a vertex's neighbours.
        bending: (V, V), the bilaplacian: x' bending x is how much heights x bend.
    """

    free: Floats
    bare: Mask
    averaging: sp.csr_matrix
    bending: sp.csr_matrix


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
    rest = head.identity(shape).vertices.double().cpu().numpy()
    normals = vertex_normals(rest, head.faces.cpu().numpy()).astype(np.float64)
    for _ in range(config.smoothing_rounds):
        normals = surface.averaging @ normals
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    masks = [_person(source) for source in sources]
    height = np.zeros(len(rest))
    for _ in range(config.silhouette_rounds):
        found = [_gaps(head, surface, source, mask, height, normals, config) for source, mask in zip(sources, masks)]
        height = _solve(surface, found, height, config)
    return torch.from_numpy(height[:, None] * normals).float()


@lru_cache(maxsize=2)
def _surface(head: HeadModel, config: BaseConfig) -> _Surface:
    faces = head.faces.cpu().numpy()
    count = len(head.template)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    adjacency.data[:] = 1.0
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1.0)
    averaging = (sp.diags(1.0 / degree) @ adjacency).tocsr()
    difference = sp.identity(count) - averaging
    return _Surface(
        free=_freedom(head, config),
        bare=head.part_vertices(*[part for part in _BARE if part in head.parts]).cpu().numpy(),
        averaging=averaging,
        bending=(difference.T @ difference).tocsr(),
    )


def _freedom(head: HeadModel, config: BaseConfig) -> Floats:
    """(V,) 0 on the face and inside it, 1 where hair may be, from the distance to the face's landmarks."""
    vertices = head.template.cpu().double().numpy()
    landmarks = head.landmarks(head.template, max(head.landmark_embeddings)).cpu().double().numpy()
    free = smoothstep(cKDTree(landmarks).query(vertices)[0], *config.face_mask)
    movable = [part for part in _MOVABLE if part in head.parts]
    fixed = [part for part in head.parts if part not in movable]
    if fixed and movable:
        free[head.part_vertices(*fixed).cpu().numpy()] = 0.0
    return free


def _person(source: SourceView) -> tuple[Pixels, Pixels]:
    """Masks (H, W): the head with hair and neck (the matte less the clothes), and the hair."""
    if source.segments is None:
        return source.matte, np.zeros_like(source.matte)
    clothes = blur((source.segments == CLOTHES).astype(np.float32), 2.0)
    hair = blur((source.segments == HAIR).astype(np.float32), 2.0)
    return (source.matte * (clothes < 0.5)).astype(np.float32), hair


def _gaps(
    head: HeadModel,
    surface: _Surface,
    source: SourceView,
    masks: tuple[Pixels, Pixels],
    height: Floats,
    normals: Floats,
    config: BaseConfig,
) -> _Gaps:
    """How far each outline vertex of the mesh is from the rim of the person, along its normal."""
    camera = source.camera
    points, ahead = (
        camera.to_camera(head.vertices(source.params, torch.from_numpy(h[:, None] * normals).float())[0])
        .cpu()
        .double()
        .numpy()
        for h in (height, height + _PROBE)
    )
    intrinsics = camera.intrinsics.cpu().double().numpy()
    pixels, pixels_ahead = (_project(p, intrinsics) for p in (points, ahead))
    direction = (pixels_ahead - pixels) / _PROBE
    rate = np.linalg.norm(direction, axis=1)
    unit = direction / np.maximum(rate[:, None], 1e-9)
    outward = (ahead - points) / np.maximum(np.linalg.norm(ahead - points, axis=1, keepdims=True), 1e-12)
    sight = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    cosine = np.abs((outward * sight).sum(1))
    fragments = rasterize_mesh(points, head.faces.cpu().numpy(), intrinsics, camera.width, camera.height)
    mesh = (fragments.face >= 0).astype(np.float32)
    outermost = bilinear(mesh, pixels + _CLEARANCE * unit) < 0.5
    on_outline = (surface.free > 0.05) & (cosine < config.silhouette_facing) & outermost
    vertices = np.flatnonzero(on_outline & _within(pixels, camera.width, camera.height, 0.0))
    start, unit, bare = pixels[vertices], unit[vertices], surface.bare[vertices]
    person, hair = masks
    person_rim, found = _rim(person, start, unit, config)
    # Relative to the mesh's own rim, because a vertex near the outline need not be on it.
    mesh_rim, mesh_found = _rim(mesh, start, unit, config)
    # The width of face and neck is the shape's business; they move only for hair that hangs over them.
    share = np.linspace(0.0, 1.0, 8)
    through_hair = [bilinear(hair, start + s * person_rim[:, None] * unit) for s in share]
    found &= mesh_found & (~bare | (np.mean(through_hair, axis=0) > 0.5))
    metres = (person_rim - mesh_rim) / np.maximum(rate[vertices], 1e-9)
    weights = config.data_weight * surface.free[vertices] * (1.0 - cosine[vertices])
    return _Gaps(vertices[found], metres[found], weights[found])


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


def _solve(surface: _Surface, found: Sequence[_Gaps], height: Floats, config: BaseConfig) -> Floats:
    """Heights (V,) that meet the gaps, bend little, and are zero where nothing may move."""
    weight, right = np.zeros(len(height)), np.zeros(len(height))
    for gaps in found:
        target = height[gaps.vertices] + config.silhouette_step * gaps.metres
        target = target.clip(*config.silhouette_limits)
        weight[gaps.vertices] += gaps.weights
        right[gaps.vertices] += gaps.weights * target
    anchor = config.anchor_weight * (1.0 - surface.free) ** 4 + np.where(surface.bare, config.bare_anchor, 1e-3)
    matrix = config.bilaplacian * surface.bending + sp.diags(weight + anchor)
    solved = splu(matrix.tocsc()).solve(right)
    return (solved * (surface.free > 0)).clip(*config.silhouette_limits)


def _project(points: Floats, intrinsics: Floats) -> Floats:
    projected = points @ intrinsics.T
    return projected[:, :2] / np.maximum(projected[:, 2:], 1e-6)


def _within(pixels: Floats, width: int, height: int, margin: float) -> Mask:
    size = np.array([width, height])
    return ((pixels >= margin) & (pixels <= size - margin)).all(1)
