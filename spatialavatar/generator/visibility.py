"""How well a photo shows each texel: depth test, facing, matte, picture border, clothes, openings of eyes and mouth."""

from __future__ import annotations

import cv2
import numpy as np

from spatialavatar.generator.config import VisibilityConfig
from spatialavatar.generator.numerics import Floats, Ints, Pixels, bilinear, blur, smoothstep
from spatialavatar.generator.openings import Openings
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.texel_tables import EYES
from spatialavatar.generator.warping import Warp
from spatialavatar.head import BEHIND_LIPS
from spatialavatar.render.mesh import rasterize_mesh
from spatialavatar.tracking.photos import face_yaw

_FAR = 1e3
"""Metres: depth of pixels that show no mesh."""


def visibility(surface: TexelSurface, view: SourceView, found: Openings | None, warped: Warp) -> Floats:
    """Weight (N,) in [0, 1] of each texel's sample: 0 where the photo does not show it, 1 where it shows it well."""
    config = surface.config.visibility
    nearest = _zbuffer(surface, view, warped)
    weight = depth_test(surface, nearest, warped)
    weight *= _facing(view, warped, config)
    weight *= smoothstep(bilinear(blur(view.matte, config.matte_blur), warped.pixels), *config.matte)
    weight *= inside_picture(view, warped, config.border)
    weight *= _not_clothes(surface, view, warped)
    weight = _less_on_far_side(surface, view, nearest, warped, weight)
    return weight * _through_openings(surface, found, warped)


def _zbuffer(surface: TexelSurface, view: SourceView, warped: Warp) -> Pixels:
    """Depth of the nearest surface, metres, at ``zbuffer_scale`` pixels per crop pixel; infinite beside the mesh."""
    scale = surface.config.visibility.zbuffer_scale
    camera = view.camera.resized(view.camera.width * scale, view.camera.height * scale)
    intrinsics = camera.intrinsics.cpu().numpy()
    return rasterize_mesh(warped.vertices_cam, surface.grid.mesh.faces, intrinsics, camera.width, camera.height).depth


def depth_test(surface: TexelSurface, nearest: Pixels, warped: Warp) -> Floats:
    """(N,) share of the four z-buffer pixels around each texel in which it is the nearest surface.

    Args:
        surface: the texels.
        nearest: the z-buffer.
        warped: the texels in the photo.
    """
    config = surface.config.visibility
    margin = occlusion_margin(warped, config)
    corner = _whole_pixels(warped.pixels * config.zbuffer_scale - 0.5)
    passed = np.zeros(len(warped.depth))
    for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
        passed += 0.25 * (warped.depth <= _at(nearest, corner + shift) + margin)
    return passed


def occlusion_margin(warped: Warp, config: VisibilityConfig) -> Floats:
    """(N,) metres by which a texel may lie behind the nearest surface and still be visible."""
    return config.depth_tolerance + config.grazing_tolerance * (1.0 - np.clip(warped.facing, 0.0, 1.0))


def _less_on_far_side(surface: TexelSurface, view: SourceView, nearest: Pixels, warped: Warp, weight: Floats) -> Floats:
    """``weight`` (N,), less on face and lips of a turned head beside what hides them and at the rim of the person."""
    config, share = surface.config.visibility, turned(view, surface.config.visibility)
    if share == 0.0:
        return weight
    less = weight
    if config.occluder_margin > 0.0:
        less = less * (1.0 - share * (1.0 - _beside_occluders(surface, view, nearest, warped)))
    if config.rim_margin > 0.0:
        less = less * (1.0 - share * (1.0 - _beside_background(surface, view, warped)))
    return np.where(surface.mask("face", "lips"), less, weight)


def _beside_occluders(surface: TexelSurface, view: SourceView, nearest: Pixels, warped: Warp) -> Floats:
    """(N,) 0 on texels that lie a few pixels beside a surface well in front of them, 1 elsewhere.

    The fit is a few pixels off: next to the edges of nose, lips and brow, the photo shows the nearer surface. That
        holds for turned
    heads; a photo from the front has no other sample of these places. Sideburns and hair keep their samples.
    """
    config = surface.config.visibility
    reach = 2 * round(config.occluder_margin * config.zbuffer_scale) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    around = cv2.erode(np.minimum(nearest, _FAR).astype(np.float32), kernel)
    facing = np.clip(warped.facing, 0.1, 1.0)
    # A tilted surface has itself in front of it within the margin.
    slope = np.sqrt(1.0 - facing**2) / facing
    own = config.occluder_margin * warped.depth / view.intrinsics[0, 0] * slope
    ahead = warped.depth - _at(around, _whole_pixels(warped.pixels * config.zbuffer_scale)) - own
    return 1.0 - smoothstep(ahead, *config.occluder_depth)


def _beside_background(surface: TexelSurface, view: SourceView, warped: Warp) -> Floats:
    """(N,) 0 on texels at the rim of the person in the photo, 1 from ``rim_margin`` pixels inside."""
    inside = np.asarray(cv2.distanceTransform((view.matte > 0.5).astype(np.uint8), cv2.DIST_L2, 5), np.float32)
    depth = bilinear(inside, warped.pixels)
    return smoothstep(depth, 0.2 * surface.config.visibility.rim_margin, surface.config.visibility.rim_margin)


def turned(view: SourceView, config: VisibilityConfig) -> float:
    """In [0, 1], how far the rules for the far side of a turned head apply: 0 on a head that faces the camera."""
    yaw = np.abs(face_yaw(view.params.rotation).cpu().double().numpy())
    return float(smoothstep(yaw, *config.occluder_yaw)[0])


def _whole_pixels(pixels: Floats) -> Ints:
    """Pixels (N, 2) rounded down; coordinates that are not finite count as outside of the picture."""
    return np.floor(np.nan_to_num(pixels, nan=-9.0, posinf=-9.0, neginf=-9.0)).astype(np.int64)


def _at(picture: Pixels, pixels: Ints) -> Pixels:
    """Values (N,) of a picture (H, W) at pixels (N, 2), those outside at its border."""
    height, width = picture.shape
    return picture[np.clip(pixels[:, 1], 0, height - 1), np.clip(pixels[:, 0], 0, width - 1)]


def inside_picture(view: SourceView, warped: Warp, border: float) -> Floats:
    """(N,) 0 at the picture's border and beyond, 1 from ``border`` pixels inside."""
    low, high = view.extent
    distance = np.minimum(warped.pixels - low, high - warped.pixels).min(1)
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
    the lid, and a smile leaves teeth on the lips. An eye that is half shut counts less, a shut one not at all.
    """
    weight = np.ones(len(warped.depth))
    if found is None:
        return weight
    behind_lids, behind_lips = surface.mask(*EYES), surface.mask(*BEHIND_LIPS)
    in_front = ~(behind_lids | behind_lips)
    weight[behind_lids] *= bilinear(found.eyes_inner, warped.pixels[behind_lids])
    for eye, share in zip(EYES, found.open_share):
        weight[surface.mask(eye)] *= share
    weight[behind_lips] *= bilinear(found.mouth_inner, warped.pixels[behind_lips])
    closed = np.maximum(found.eyes_outer, found.mouth_outer)
    lash = surface.tables.lash[in_front]
    weight[in_front] *= 1.0 - (1.0 - lash) * bilinear(closed, warped.pixels[in_front])
    return weight
