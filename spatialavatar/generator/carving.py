"""Carving: texels that lie outside the person in the photos are not drawn (visual hull)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.numerics import Floats, bilinear, blur, smoothstep
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.visibility import inside_picture

CARVED_PARTS = ("scalp", "ears", "neck")
"""Parts whose outline hair or clothes change; the face is always drawn."""


def carve(surface: TexelSurface, photos: Sequence[PhotoEvidence]) -> Floats:
    """(N,) 0 for texels of ``CARVED_PARTS`` that lie clearly outside the person in the photos, 1 for the others.

    A texel that projects outside a silhouette is not part of the person, whether that photo shows it or not. Where
    photos disagree, because hair falls differently in each, the texel stays in part.
    """
    margin = surface.config.carving.margin
    size = 2 * round(margin) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    inside = np.zeros(len(surface))
    for photo in photos:
        grown = blur(np.asarray(cv2.dilate(photo.view.matte, kernel), np.float32), 1.0)
        outside = 1.0 - smoothstep(bilinear(grown, photo.warp.pixels), 0.1, 0.5)
        inside += (1.0 - outside * inside_picture(photo.view, photo.warp, margin)) / len(photos)
    return np.where(surface.mask(*CARVED_PARTS), smoothstep(inside, 0.0, 0.7), 1.0)
