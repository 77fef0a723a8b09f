"""The barycentric warp (method section 2, step 2): where each texel's point on the posed mesh lies in a photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialavatar.generator.numerics import Floats, Ints, Pixels, bilinear, blur
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.surface import TexelSurface

_MIN_DEPTH = 1e-6
"""Metres: points nearer to the camera than this, or behind it, are projected as if they were there."""


@dataclass(frozen=True, eq=False)
class Warp:
    """Where the texels of a posed head lie in a photo.

    Attributes:
        vertices_cam: (V, 3) posed vertices in camera axes, metres.
        pixels: (N, 2) positions in the crop.
        depth: (N,) camera z, metres.
        facing: (N,) cosine between the surface normal and the direction to the camera.
        footprint: (N,) crop pixels that a texel spans (square root of its projected area).
    """

    vertices_cam: Floats
    pixels: Floats
    depth: Floats
    facing: Floats
    footprint: Floats


def warp(surface: TexelSurface, view: SourceView, offsets: Pixels | None) -> Warp:
    """Pose the head as in the photo, with ``offsets`` (V, 3) on its rest vertices, and project every texel."""
    vertices = surface.grid.mesh.posed(view, offsets)
    points = surface.grid.points_on(vertices)
    normals = surface.grid.normals_on(vertices)
    facing = -(normals * points).sum(1) / np.maximum(np.linalg.norm(points, axis=1), 1e-9)
    focal = np.sqrt(abs(view.intrinsics[0, 0] * view.intrinsics[1, 1]))
    area = surface.grid.texel_areas(vertices) * np.clip(facing, 0.05, 1.0)
    footprint = np.sqrt(area) * focal / np.maximum(points[:, 2], _MIN_DEPTH)
    return Warp(vertices, project(points, view.intrinsics), points[:, 2], facing, footprint)


def project(points: Floats, intrinsics: Floats) -> Floats:
    """Pixels (n, 2) of points (n, 3) in camera axes."""
    projected = points @ intrinsics.T
    return projected[:, :2] / np.maximum(projected[:, 2:], _MIN_DEPTH)


def sample(picture: Pixels, warped: Warp, texels: Ints | None = None, levels: int = 4) -> Floats:
    """Colours of a picture (H, W, C) at the texels, averaged over a texel's footprint where that is large.

    Each of the ``levels`` of the pyramid is the picture blurred to twice the footprint of the one before, at full size.

    Args:
        picture: (H, W, C).
        warped: the texels in it.
        texels: (n,) indices; None samples at all N.
        levels: of the pyramid.

    Returns:
        (n, C) or (N, C).
    """
    footprint, pixels = warped.footprint, warped.pixels
    if texels is not None:
        footprint, pixels = footprint[texels], pixels[texels]
    level = np.log2(np.clip(footprint, 1.0, 2.0 ** (levels - 1)))
    values = np.zeros((len(level), picture.shape[2]))
    if not len(level):
        return values
    for index in range(int(np.ceil(level.max())) + 1):
        share = np.clip(1.0 - np.abs(level - index), 0.0, 1.0)
        used = share > 0
        if used.any():
            smooth = picture if index == 0 else blur(picture, 0.5 * np.sqrt(4.0**index - 1.0))
            values[used] += share[used, None] * bilinear(smooth, pixels[used])
    return values
