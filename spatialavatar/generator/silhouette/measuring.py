"""The gaps between the mesh's outline and the person's rim in one photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats, Ints, Mask, Pixels, bilinear, blur
from spatialavatar.generator.silhouette.mesh import HeightField, OutlineMesh
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.warping import project
from spatialavatar.records import Camera
from spatialavatar.render.mesh import rasterize_mesh

_PROBE: Final = 0.001
"""Metres of the step along the normal whose projection gives the direction to search in."""

_CLEARANCE: Final = 4.0
"""Pixels: a vertex is on the outline when the mesh ends less than this further out."""

_MIN_MOBILITY: Final = 0.05
"""Vertices that may move less than this are not measured."""

_PICTURE_MARGIN: Final = 3.0
"""Pixels from the picture's border within which the person leaves the picture and no rim is seen."""


@dataclass(frozen=True, eq=False)
class PersonView:
    """One photo with the masks that the outline is measured in.

    Attributes:
        view: the photo.
        person: (H, W) in [0, 1], the head with hair and neck: the matte without the clothes.
        hair: (H, W) in [0, 1], blurred; 0 without segments.
    """

    view: SourceView
    person: Pixels
    hair: Pixels


@dataclass(frozen=True, eq=False)
class Gaps:
    """Gaps of n outline vertices in one photo.

    Attributes:
        vertices: (n,) indices.
        metres: (n,) left to go along the directions.
        weights: (n,).
        hair: (n,) bool, whether the photo shows hair between vertex and rim.
    """

    vertices: Ints
    metres: Floats
    weights: Floats
    hair: Mask


@dataclass(frozen=True, eq=False)
class _Projection:
    """The mesh in one photo, per vertex.

    Attributes:
        vertices: (V, 3) in camera axes, metres.
        pixels: (V, 2).
        direction: (V, 2) pixels per metre of height.
        cosine: (V,) |cosine| between direction and viewing ray; 0 exactly on the outline.
    """

    vertices: Floats
    pixels: Floats
    direction: Floats
    cosine: Floats


@dataclass(frozen=True, eq=False)
class _Rays:
    """Rays in the picture from ``start`` (n, 2) along ``unit`` (n, 2)."""

    start: Floats
    unit: Floats

    def at(self, distance: Floats) -> Floats:
        """Points (n, 2) at ``distance`` (n,) pixels."""
        return self.start + distance[:, None] * self.unit


def person_view(view: SourceView) -> PersonView:
    """The masks of a photo."""
    clothes, hair = view.clothes(), view.hair()
    if clothes is None or hair is None:
        return PersonView(view, view.matte, np.zeros_like(view.matte))
    person = (view.matte * (blur(clothes, 2.0) < 0.5)).astype(np.float32)
    return PersonView(view, person, blur(hair, 2.0))


def measure_gaps(
    mesh: OutlineMesh, field: HeightField, heights: Floats, person: PersonView, config: SilhouetteConfig
) -> Gaps:
    """How far each outline vertex of the mesh is from the rim of the person, along its direction.

    Args:
        mesh: the mesh.
        field: directions of this person's head.
        heights: (V,) metres so far.
        person: the photo.
        config: constants.
    """
    camera = person.view.camera
    projected = _projection(mesh, field, heights, person.view)
    rate = np.linalg.norm(projected.direction, axis=1)
    covered, mobility = _mesh_masks(mesh, projected, person.view)

    sideways = (mesh.mobility > _MIN_MOBILITY) & (projected.cosine < config.facing)
    vertices = np.flatnonzero(sideways & _within(projected.pixels, _whole(camera), 0.0))
    rate = np.maximum(rate[vertices], 1e-9)
    rays = _Rays(projected.pixels[vertices], projected.direction[vertices] / rate[:, None])
    bare, free = mesh.bare[vertices], mesh.mobility[vertices]
    mesh_rim, mesh_found = _rim(covered, rays, config)
    person_rim, found = _rim(person.person, rays, config)
    mesh_found &= _within(rays.at(mesh_rim), _whole(camera), _PICTURE_MARGIN)
    found &= _within(rays.at(person_rim), _whole(camera), _PICTURE_MARGIN)
    on_outline = mesh_rim < _CLEARANCE
    through_hair = _mean_along(person.hair, rays, np.where(on_outline, 0.0, mesh_rim), person_rim) > 0.5
    # Hair that hangs beside the jaw belongs to the nape, which the immovable jaw hides: it moves on its own.
    behind_jaw = bare & ~on_outline & through_hair & (bilinear(mobility, rays.at(mesh_rim - 2.0)) < 0.5)
    behind_jaw &= (free > 0.5) & (person_rim > mesh_rim + _CLEARANCE)
    # The width of face and neck is part of the shape; they move only for hair that hangs over them.
    found &= mesh_found & ((on_outline & (~bare | through_hair)) | behind_jaw)
    # Relative to the mesh's own rim, because a vertex near the outline need not be on it.
    metres = (person_rim - np.where(on_outline, mesh_rim, 0.0)) / rate
    # Where the person leaves the picture the rim is the border: the head is at least that wide.
    found &= _within(rays.at(person_rim), person.view.extent, _PICTURE_MARGIN) | (metres > 0.0)
    weights = config.data_weight * free * (1.0 - projected.cosine[vertices])
    return Gaps(vertices[found], metres[found], weights[found], through_hair[found])


def _projection(mesh: OutlineMesh, field: HeightField, heights: Floats, view: SourceView) -> _Projection:
    offsets = field.offsets(heights)
    points = mesh.base.posed(view, offsets.astype(np.float32))
    ahead = mesh.base.posed(view, (offsets + _PROBE * field.directions).astype(np.float32))
    pixels = project(points, view.intrinsics)
    outward = (ahead - points) / np.maximum(np.linalg.norm(ahead - points, axis=1, keepdims=True), 1e-12)
    sight = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return _Projection(
        vertices=points,
        pixels=pixels,
        direction=(project(ahead, view.intrinsics) - pixels) / _PROBE,
        cosine=np.abs((outward * sight).sum(1)),
    )


def _mesh_masks(mesh: OutlineMesh, projected: _Projection, view: SourceView) -> tuple[Pixels, Pixels]:
    """(H, W) 1 where the mesh covers the picture, and (H, W) the mobility of what is seen there, 1 beside the mesh."""
    camera = view.camera
    fragments = rasterize_mesh(projected.vertices, mesh.base.faces, view.intrinsics, camera.width, camera.height)
    covered = fragments.face >= 0
    mobility = (mesh.mobility[mesh.base.faces[fragments.face]] * fragments.bary).sum(-1)
    return covered.astype(np.float32), np.where(covered, mobility, 1.0).astype(np.float32)


def _rim(mask: Pixels, rays: _Rays, config: SilhouetteConfig) -> tuple[Floats, Mask]:
    """Pixels (n,) along the rays to the rim of a mask, and (n,) bool where it was found in the picture.

    From inside the first exit outward counts, from outside the first entry inward (negative).
    """
    low, high = config.reach
    outward, inward = np.arange(0.0, high, 1.0), np.arange(0.0, low, -1.0)
    outside = _along(mask, rays, outward) < 0.5
    inside = _along(mask, rays, inward) >= 0.5
    starts_inside = ~outside[:, 0]
    # The rim is crossed half a step before the first sample beyond it.
    gap = np.where(starts_inside, outward[outside.argmax(1)] - 0.5, inward[inside.argmax(1)] + 0.5)
    found = np.where(starts_inside, outside.any(1), inside.any(1))
    return gap, found


def _along(picture: Pixels, rays: _Rays, steps: Floats) -> Floats:
    """Values (n, m) of a picture at ``steps`` (m,) pixels along each ray."""
    points = rays.start[:, None] + steps[None, :, None] * rays.unit[:, None]
    return bilinear(picture, points.reshape(-1, 2)).reshape(len(rays.start), len(steps))


def _mean_along(picture: Pixels, rays: _Rays, low: Floats, high: Floats) -> Floats:
    """Mean (n,) of a picture between ``low`` (n,) and ``high`` (n,) pixels along each ray."""
    shares = np.linspace(0.0, 1.0, 8)
    return np.mean([bilinear(picture, rays.at((1.0 - share) * low + share * high)) for share in shares], axis=0)


def _whole(camera: Camera) -> Floats:
    """Corners (2, 2) of a camera's picture."""
    return np.array([[0.0, 0.0], [camera.width, camera.height]])


def _within(pixels: Floats, corners: Floats, margin: float) -> Mask:
    """(n,) bool: positions (n, 2) at least ``margin`` pixels inside the rectangle of ``corners`` (2, 2)."""
    low, high = corners
    return np.asarray(((pixels >= low + margin) & (pixels <= high - margin)).all(axis=1))
