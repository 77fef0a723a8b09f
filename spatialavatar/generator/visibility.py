"""How well a photo shows each texel: depth test, facing, matte, picture border, clothes, openings of eyes and mouth."""

from __future__ import annotations

import numpy as np

from spatialavatar.generator.config import VisibilityConfig
from spatialavatar.generator.numerics import Floats, bilinear, blur, smoothstep
from spatialavatar.generator.openings import Openings
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.texel_tables import EYES
from spatialavatar.generator.warping import Warp
from spatialavatar.head import BEHIND_LIPS
from spatialavatar.render.mesh import rasterize_mesh


def visibility(surface: TexelSurface, view: SourceView, found: Openings | None, warped: Warp) -> Floats:
    """Weight (N,) in [0, 1] of each texel's sample: 0 where the photo does not show it, 1 where it shows it well."""
    config = surface.config.visibility
    weight = depth_test(surface, view, warped)
    weight *= _facing(view, warped, config)
    weight *= smoothstep(bilinear(blur(view.matte, config.matte_blur), warped.pixels), *config.matte)
    weight *= inside_picture(view, warped, config.border)
    weight *= _not_clothes(surface, view, warped)
    return weight * _through_openings(surface, found, warped)


def depth_test(surface: TexelSurface, view: SourceView, warped: Warp) -> Floats:
    """(N,) share of the four z-buffer pixels around each texel in which it is the nearest surface."""
    config = surface.config.visibility
    scale = config.zbuffer_scale
    camera = view.camera.resized(view.camera.width * scale, view.camera.height * scale)
    intrinsics = camera.intrinsics.cpu().numpy()
    nearest = rasterize_mesh(
        warped.vertices_cam, surface.grid.mesh.faces, intrinsics, camera.width, camera.height
    ).depth
    margin = occlusion_margin(warped, config)
    corner = np.floor(np.nan_to_num(warped.pixels * scale - 0.5, nan=-9.0, posinf=-9.0, neginf=-9.0)).astype(np.int64)
    passed = np.zeros(len(warped.depth))
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column = np.clip(corner[:, 0] + dx, 0, camera.width - 1)
        row = np.clip(corner[:, 1] + dy, 0, camera.height - 1)
        passed += 0.25 * (warped.depth <= nearest[row, column] + margin)
    return passed


def occlusion_margin(warped: Warp, config: VisibilityConfig) -> Floats:
    """(N,) metres by which a texel may lie behind the nearest surface and still be visible."""
    return config.depth_tolerance + config.grazing_tolerance * (1.0 - np.clip(warped.facing, 0.0, 1.0))


def inside_picture(view: SourceView, warped: Warp, border: float) -> Floats:
    """(N,) 0 at the picture's border and beyond, 1 from ``border`` pixels inside."""
    size = np.array([view.camera.width, view.camera.height])
    distance = np.minimum(warped.pixels, size - warped.pixels).min(1)
    return smoothstep(np.nan_to_num(distance, nan=-1.0), 0.0, border) * (warped.depth > 1e-3)


def _facing(view: SourceView, warped: Warp, config: VisibilityConfig) -> Floats:
    """(N,) weight by the angle to the viewer; hair counts at more grazing angles, since its smear looks like hair.

    A loose strand in front of the cheek does not: the hair must be some pixels thick.
    """
    skin = smoothstep(warped.facing, *config.facing)
    mask = view.hair()
    if mask is None:
        return skin
    hair = bilinear(blur(mask, config.hair_blur), warped.pixels)
    return skin + smoothstep(hair, 0.5, 0.8) * (smoothstep(warped.facing, *config.hair_facing) - skin)


def _not_clothes(surface: TexelSurface, view: SourceView, warped: Warp) -> Floats:
    """(N,) 0 where a collar or a scarf covers the head; on the neck clothes may stay."""
    mask = view.clothes()
    if mask is None:
        return np.ones(len(warped.depth))
    clothes = bilinear(blur(mask, 1.0), warped.pixels)
    return np.where(surface.mask("neck"), 1.0, 1.0 - smoothstep(clothes, 0.3, 0.7))


def _through_openings(surface: TexelSurface, found: Openings | None, warped: Warp) -> Floats:
    """(N,) weight by the detected openings: eyes and the mouth's inside count only there, skin and lips never there.

    The fitted lids and lips are a pixel or two off; without this an open eye leaves lashes on the eyeball and white on
    the lid, and a smile leaves teeth on the lips.
    """
    weight = np.ones(len(warped.depth))
    if found is None:
        return weight
    behind_lids, behind_lips = surface.mask(*EYES), surface.mask(*BEHIND_LIPS)
    in_front = ~(behind_lids | behind_lips)
    weight[behind_lids] *= bilinear(found.eyes_inner, warped.pixels[behind_lids])
    weight[behind_lips] *= bilinear(found.mouth_inner, warped.pixels[behind_lips])
    closed = np.maximum(found.eyes_outer, found.mouth_outer)
    lash = surface.tables.lash[in_front]
    weight[in_front] *= 1.0 - (1.0 - lash) * bilinear(closed, warped.pixels[in_front])
    return weight
