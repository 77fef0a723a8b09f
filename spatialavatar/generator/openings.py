"""The openings of eyes and mouth that the tracker's landmarks outline in a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from spatialavatar.generator.contours import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from spatialavatar.generator.numerics import Floats, Pixels, smoothstep
from spatialavatar.generator.sources import SourceView

_MIN_RADIUS: Final = 2.0
"""Pixels: an opening whose inscribed circles are all smaller is closed."""

_HALF_SHUT: Final = ((0.12, 0.18), (0.3, 0.5))
"""Areas of an eye's opening over its width squared up to which it counts as half shut and from which on as open, and
blink scores up to which it is open and from which on half shut. Open eyes of the London set have .19 to .27 and .03 to
.25."""

_SHUT: Final = ((0.04, 0.08), (0.5, 0.65))
"""The same between shut and half shut. Landmarks outline an opening on shut lids too, so the score counts as well."""

_THROUGH_LIDS: Final = 0.02
"""Share of an eye that is half shut: its colours tint what hides, but none is kept as it is."""

_LASH_REACH: Final = 5
"""Pixels across, in which the darkest one is taken for the lash."""


@dataclass(frozen=True, eq=False)
class Openings:
    """Masks (H, W) of the openings of eyes and mouth: 1 well inside ("inner"), 1 inside and at the rim ("outer").

    Attributes:
        open_share: of the left and the right eye, in [0, 1]. Through half-shut lids the photo shows little of the eye,
            in the shadow of lids and lashes.
    """

    eyes_inner: Pixels
    eyes_outer: Pixels
    mouth_inner: Pixels
    mouth_outer: Pixels
    open_share: tuple[float, float]


def find_openings(view: SourceView, margin: float) -> Openings | None:
    """The openings, with ``margin`` pixels between rim and mask; None without dense landmarks."""
    if view.landmarks is None:
        return None
    contours = [view.landmarks[list(contour)] for contour in (LEFT_EYE, RIGHT_EYE)]
    eyes = _masks(view.matte.shape, contours, margin)
    mouth = _masks(view.matte.shape, [view.landmarks[list(INNER_LIPS)]], margin)
    left, right = (_open_share(contour, blink) for contour, blink in zip(contours, view.blinks or (0.0, 0.0)))
    return Openings(*eyes, *mouth, open_share=(left, right))


def _open_share(contour: Floats, blink: float) -> float:
    """``Openings.open_share`` of an eye by its contour (n, 2), pixels, and its blink score."""
    aperture = np.array(_aperture(contour))
    through, wide = (
        float(smoothstep(aperture, *apertures) * (1.0 - smoothstep(np.array(blink), *blinks)))
        for apertures, blinks in (_SHUT, _HALF_SHUT)
    )
    return _THROUGH_LIDS * through + (1.0 - _THROUGH_LIDS) * wide


def _aperture(contour: Floats) -> float:
    """Area of a closed contour (n, 2) over its width squared."""
    x, y = contour.T
    area = 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    width = np.linalg.norm(contour[:, None] - contour, axis=2).max()
    return float(area / max(width**2, 1e-12))


def lash_line(view: SourceView, found: Openings) -> Pixels:
    """The photo (H, W, 3) with the darkest of a few pixels around, the inside of the eyes left out.

    The fitted lids' edge is a pixel or two beside the lashes; sampled there, this picture shows the lashes.
    """
    around = np.where(found.eyes_inner[..., None] > 0.5, np.float32(1.0), view.image)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_LASH_REACH, _LASH_REACH))
    darkest = cv2.erode(_least_channel(around), kernel)
    brightness = np.maximum(_least_channel(view.image), 1e-3)
    return view.image * np.minimum(darkest / brightness, 1.0)[..., None]


def _least_channel(picture: Pixels) -> Pixels:
    """(H, W) of a picture (H, W, 3); a reduction over an axis of length 3 takes several times as long."""
    return np.minimum(np.minimum(picture[..., 0], picture[..., 1]), picture[..., 2])


def _masks(shape: tuple[int, ...], contours: Sequence[Floats], margin: float) -> tuple[Pixels, Pixels]:
    """Inner and outer mask of closed contours (n, 2); one that encloses next to nothing (a closed mouth) is skipped."""
    inner, outer = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for contour in contours:
        mask = np.zeros(shape, np.uint8)
        # Four fractional bits; fillPoly has pixel centres at whole numbers, our pixels have them at + 0.5.
        cv2.fillPoly(mask, [np.round((contour - 0.5) * 16).astype(np.int32)], 1, shift=4)
        far_inside = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32)
        if far_inside.max() < _MIN_RADIUS:
            continue
        far_outside = np.asarray(cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5), np.float32)
        np.maximum(inner, smoothstep(far_inside, margin, 2.0 * margin), out=inner, casting="same_kind")
        # The rim itself belongs to the skin: it carries the lashes and the line between the lips.
        np.maximum(outer, 1.0 - smoothstep(far_outside, 0.0, margin), out=outer, casting="same_kind")
    return inner, outer
