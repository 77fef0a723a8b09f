"""How well a photo shows each texel: depth test, facing, matte, picture border, and the openings of eyes and mouth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.contours import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from spatialavatar.generator.numerics import Floats, Pixels, bilinear, blur, smoothstep
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.texels import TexelTables, part_mask
from spatialavatar.generator.warping import Warp
from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout
from spatialavatar.records import CLOTHES, HAIR
from spatialavatar.render.mesh import rasterize_mesh

_EYES = ("eye_left", "eye_right")

_CLOSED: Final = 2.0
"""An opening that is nowhere wider than twice this many pixels is closed."""


def visibility(
    head: HeadModel,
    layout: UVLayout,
    tables: TexelTables,
    source: SourceView,
    found: Openings | None,
    warped: Warp,
    config: BaseConfig,
) -> Floats:
    """Weight (N,) in [0, 1] of each texel's sample: 0 where the photo does not show it, 1 where it shows it well."""
    weight = depth_test(head, source, warped, config)
    weight *= _facing(source, warped, config)
    weight *= smoothstep(bilinear(blur(source.matte, config.matte_blur), warped.pixels), *config.matte)
    weight *= _inside(source, warped, config.border)
    weight *= _not_clothes(head, layout, source, warped)
    return weight * _through_openings(head, layout, tables, found, warped)


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


def carve(
    head: HeadModel, layout: UVLayout, sources: Sequence[SourceView], warps: Sequence[Warp], margin: float
) -> Floats:
    """(N,) 0 for texels of scalp, ears and neck that lie clearly outside the person in the photos, 1 for the others.

    What projects outside a silhouette is not part of the person, whether that photo sees it or not (visual hull). Where
    photos disagree, as hair falls otherwise in each, the texel stays in part.
    """
    inside = np.zeros(len(layout))
    size = 2 * round(margin) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    for source, warped in zip(sources, warps):
        grown = blur(np.asarray(cv2.dilate(source.matte, kernel), np.float32), 1.0)
        outside = 1.0 - smoothstep(bilinear(grown, warped.pixels), 0.1, 0.5)
        inside += (1.0 - outside * _inside(source, warped, margin)) / len(sources)
    return np.where(part_mask(head, layout, "scalp", "ears", "neck"), smoothstep(inside, 0.0, 0.7), 1.0)


def _facing(source: SourceView, warped: Warp, config: BaseConfig) -> Floats:
    """Weight (N,) by the angle to the viewer; hair may be seen at a more grazing one, since a smear of it is hair.

    Not so a loose strand before the cheek: the hair must be some pixels thick.
    """
    skin = smoothstep(warped.facing, *config.facing)
    if source.segments is None:
        return skin
    hair = bilinear(blur((source.segments == HAIR).astype(np.float32), config.hair_blur), warped.pixels)
    return skin + smoothstep(hair, 0.5, 0.8) * (smoothstep(warped.facing, *config.hair_facing) - skin)


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
class Openings:
    """Masks (H, W) of the detected openings of eyes and mouth: 1 surely inside, and 1 inside and at the rim."""

    eyes_inner: Pixels
    eyes_outer: Pixels
    mouth_inner: Pixels
    mouth_outer: Pixels


def openings(source: SourceView, margin: float) -> Openings | None:
    """The openings that the landmarks outline; None where the tracker gave no dense landmarks."""
    if source.landmarks is None:
        return None
    eyes = _opening(source.matte.shape, [source.landmarks[list(c)] for c in (LEFT_EYE, RIGHT_EYE)], margin)
    mouth = _opening(source.matte.shape, [source.landmarks[list(INNER_LIPS)]], margin)
    return Openings(*eyes, *mouth)


def lash_line(source: SourceView, found: Openings) -> Pixels:
    """The photo (H, W, 3) with the darkest of a few pixels around, the inside of the eyes left out.

    The fitted lids' edge is a pixel or two beside the lashes; this is what to look at to find them.
    """
    around = np.where(found.eyes_inner[..., None] > 0.5, np.float32(1.0), source.image)
    darkest = cv2.erode(around.min(axis=2), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    brightness = np.maximum(source.image.min(axis=2), 1e-3)
    return source.image * np.minimum(darkest / brightness, 1.0)[..., None]


def _through_openings(
    head: HeadModel, layout: UVLayout, tables: TexelTables, found: Openings | None, warped: Warp
) -> Floats:
    """Eyes and the mouth's inside are seen through the detected openings only, and skin and lips never there.

    The fitted lids and lips are a pixel or two off; without this an open eye leaves lashes on the eyeball and white on
    the lid, and a smile leaves teeth on the lips.
    """
    weight = np.ones(len(warped.depth))
    if found is None:
        return weight
    behind_lids, behind_lips = part_mask(head, layout, *_EYES), part_mask(head, layout, *BEHIND_LIPS)
    in_front = ~(behind_lids | behind_lips)
    weight[behind_lids] *= bilinear(found.eyes_inner, warped.pixels[behind_lids])
    weight[behind_lips] *= bilinear(found.mouth_inner, warped.pixels[behind_lips])
    closed = np.maximum(found.eyes_outer, found.mouth_outer)
    weight[in_front] *= 1.0 - (1.0 - tables.lash[in_front]) * bilinear(closed, warped.pixels[in_front])
    return weight


def _opening(shape: tuple[int, ...], contours: list[Floats], margin: float) -> tuple[Pixels, Pixels]:
    """The masks of closed contours (n, 2); contours that enclose next to nothing (a closed mouth) open nothing."""
    inner, outer = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for contour in contours:
        mask = np.zeros(shape, np.uint8)
        # Four fractional bits; drawing puts pixel centres at whole numbers, our pixels have them at + 0.5.
        cv2.fillPoly(mask, [np.round((contour - 0.5) * 16).astype(np.int32)], 1, shift=4)
        far_inside = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32)
        if far_inside.max() < _CLOSED:
            continue
        far_outside = np.asarray(cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5), np.float32)
        np.maximum(inner, smoothstep(far_inside, margin, 2.0 * margin), out=inner, casting="same_kind")
        # The rim itself belongs to the skin: it carries the lashes and the line between the lips.
        np.maximum(outer, 1.0 - smoothstep(far_outside, 0.0, margin), out=outer, casting="same_kind")
    return inner, outer
