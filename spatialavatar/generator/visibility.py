"""How well a photo shows each texel: depth test, facing, matte, picture border, and the openings of eyes and mouth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.numerics import Floats, Pixels, bilinear, blur, smoothstep
from spatialavatar.generator.sources import CLOTHES, SourceView
from spatialavatar.generator.texels import part_mask
from spatialavatar.generator.warping import Warp
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.render.mesh import rasterize_mesh

# Closed contours among the 478 landmarks (the numbering of MediaPipe's face mesh).
_RIGHT_EYE: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_LEFT_EYE: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_INNER_LIPS: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

_EYES = ("eye_left", "eye_right")
_MOUTH = ("mouth", "tongue", "teeth_upper", "teeth_lower")

_CLOSED: Final = 2.0
"""An opening that is nowhere wider than twice this many pixels is closed."""


def visibility(head: HeadModel, layout: UVLayout, source: SourceView, warped: Warp, config: BaseConfig) -> Floats:
    """Weight (N,) in [0, 1] of each texel's sample: 0 where the photo does not show it, 1 where it shows it well."""
    weight = depth_test(head, source, warped, config)
    weight *= smoothstep(warped.facing, *config.facing)
    weight *= smoothstep(bilinear(blur(source.matte, config.matte_blur), warped.pixels), *config.matte)
    weight *= _inside(source, warped, config.border)
    weight *= _not_clothes(head, layout, source, warped)
    return weight * _through_openings(head, layout, source, warped, config.opening_margin)


def depth_test(head: HeadModel, source: SourceView, warped: Warp, config: BaseConfig) -> Floats:
    """(N,) share of the four z-buffer pixels around each texel's position in which it is the nearest surface."""
    scale = config.zbuffer_scale
    camera = source.camera.resized(source.camera.width * scale, source.camera.height * scale)
    faces = head.faces.cpu().numpy()
    depth = rasterize_mesh(
        warped.vertices_cam, faces, camera.intrinsics.cpu().numpy(), camera.width, camera.height
    ).depth
    tolerance = config.depth_tolerance + config.grazing_tolerance * (1.0 - np.clip(warped.facing, 0.0, 1.0))
    corner = np.floor(np.nan_to_num(warped.pixels * scale - 0.5, nan=-9.0, posinf=-9.0, neginf=-9.0)).astype(np.int64)
    passed = np.zeros(len(warped.depth))
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column = np.clip(corner[:, 0] + dx, 0, camera.width - 1)
        row = np.clip(corner[:, 1] + dy, 0, camera.height - 1)
        passed += 0.25 * (warped.depth <= depth[row, column] + tolerance)
    return passed


def _inside(source: SourceView, warped: Warp, border: float) -> Floats:
    """0 at the picture's border and beyond, 1 from ``border`` pixels inside."""
    size = np.array([source.camera.width, source.camera.height])
    distance = np.minimum(warped.pixels, size - warped.pixels).min(1)
    return smoothstep(np.nan_to_num(distance, nan=-1.0), 0.0, border) * (warped.depth > 1e-3)


def _not_clothes(head: HeadModel, layout: UVLayout, source: SourceView, warped: Warp) -> Floats:
    """A collar or a scarf in front of the head is no colour for it; on the neck it may stay."""
    if source.segments is None:
        return np.ones(len(warped.depth))
    clothes = blur((source.segments == CLOTHES).astype(np.float32), 1.0)
    seen = bilinear(clothes, warped.pixels)
    return np.where(part_mask(head, layout, "neck"), 1.0, 1.0 - smoothstep(seen, 0.3, 0.7))


@dataclass(frozen=True)
class _Opening:
    """Masks (H, W) of a detected opening: 1 surely inside, and 1 inside and at the rim."""

    inner: Pixels
    outer: Pixels


def _through_openings(head: HeadModel, layout: UVLayout, source: SourceView, warped: Warp, margin: float) -> Floats:
    """Eyes and the mouth's inside are seen through the detected openings only, and skin and lips never there.

    The fitted lids and lips are a pixel or two off; without this an open eye leaves lashes on the eyeball and white on
    the lid, and a smile leaves teeth on the lips.
    """
    weight = np.ones(len(warped.depth))
    if source.landmarks is None:
        return weight
    shape = source.matte.shape
    eyes = _opening(shape, [source.landmarks[list(_LEFT_EYE)], source.landmarks[list(_RIGHT_EYE)]], margin)
    mouth = _opening(shape, [source.landmarks[list(_INNER_LIPS)]], margin)
    behind_lids, behind_lips = part_mask(head, layout, *_EYES), part_mask(head, layout, *_MOUTH)
    in_front = ~(behind_lids | behind_lips)
    weight[behind_lids] *= bilinear(eyes.inner, warped.pixels[behind_lids])
    weight[behind_lips] *= bilinear(mouth.inner, warped.pixels[behind_lips])
    weight[in_front] *= 1.0 - bilinear(np.maximum(eyes.outer, mouth.outer), warped.pixels[in_front])
    return weight


def _opening(shape: tuple[int, ...], contours: list[Floats], margin: float) -> _Opening:
    """The masks of closed contours (n, 2); contours that enclose next to nothing (a closed mouth) open nothing."""
    inner, outer = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for contour in contours:
        mask = np.zeros(shape, np.uint8)
        # Four fractional bits; drawing puts pixel centres at whole numbers, our pixels have them at + 0.5.
        cv2.fillPoly(mask, [np.round((contour - 0.5) * 16).astype(np.int32)], 1, shift=4)
        far_inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
        if far_inside.max() < _CLOSED:
            continue
        far_outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        np.maximum(inner, smoothstep(far_inside, margin, 2.0 * margin), out=inner, casting="same_kind")
        # The rim itself belongs to the skin: it carries the lashes and the line between the lips.
        np.maximum(outer, 1.0 - smoothstep(far_outside, 0.0, margin), out=outer, casting="same_kind")
    return _Opening(inner, outer)
