"""Draws the tracker's landmarks on a picture: contours of the face, irises and the 478 points."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.tracking.landmark_sets import (
    BROW_LEFT,
    BROW_RIGHT,
    FACE_OVAL,
    IRIS_LEFT,
    IRIS_RIGHT,
    LOWER_LID_LEFT,
    LOWER_LID_RIGHT,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    UPPER_LID_LEFT,
    UPPER_LID_RIGHT,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
)

COLOR: Final = (94, 234, 212)
"""sRGB of the lines: unlike skin, hair and lips, and visible on light and dark faces."""

_LANDMARKS: Final = 478
_NOSE_RIDGE: Final = (168, 6, 197, 195, 5, 4)
_NOSE_BASE: Final = (98, 97, 2, 326, 327)
_OPEN: Final = (
    UPPER_LID_RIGHT, LOWER_LID_RIGHT, UPPER_LID_LEFT, LOWER_LID_LEFT,
    UPPER_LIP_OUTER, LOWER_LIP_OUTER, UPPER_LIP_INNER, LOWER_LIP_INNER, _NOSE_RIDGE, _NOSE_BASE,
)  # fmt: skip
# The lower edge of a brow and then its upper one, from the temple inwards, closed to a loop.
_CLOSED: Final = (FACE_OVAL, *((*brow[:5], *brow[:4:-1]) for brow in (BROW_RIGHT, BROW_LEFT)))
_SUBPIXEL: Final = 4  # bits after the binary point of OpenCV's coordinates


def draw(image: np.ndarray, landmarks: np.ndarray, *, color: tuple[int, int, int] = COLOR) -> np.ndarray:
    """The picture with the landmarks and the contours through them, antialiased and slightly transparent.

    Args:
        image: (H, W, 3) uint8, sRGB; not changed.
        landmarks: (478, 2) pixels of ``image``, in the landmark network's order; points outside are left out.
        color: sRGB of lines and points.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: there are not 478 landmarks, or the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"The picture to draw on is {image.dtype} of shape {image.shape}; give (H, W, 3) uint8.")
    points = np.asarray(landmarks, np.float64)
    if points.shape != (_LANDMARKS, 2):
        raise InputError(f"The landmarks have shape {points.shape}, not ({_LANDMARKS}, 2).")
    # Pixel centres are at + 0.5 here and at integers in OpenCV.
    fixed = np.round((points - 0.5) * 2**_SUBPIXEL).astype(np.int32)
    size = np.ptp(points[list(FACE_OVAL)], axis=0).max()
    width = max(1, round(size / 110))
    lines, dots = image.copy(), image.copy()
    style = {"color": color, "lineType": cv2.LINE_AA, "shift": _SUBPIXEL}
    for closed, paths in ((False, _OPEN), (True, _CLOSED)):
        cv2.polylines(lines, [fixed[list(path)] for path in paths], closed, thickness=width, **style)
    for iris in (IRIS_RIGHT, IRIS_LEFT):
        radius = np.linalg.norm(points[list(iris[1:])] - points[iris[0]], axis=1).mean()
        cv2.circle(lines, fixed[iris[0]].tolist(), round(radius * 2**_SUBPIXEL), thickness=width, **style)
    dot = round(max(0.8, size / 220) * 2**_SUBPIXEL)
    for centre in fixed.tolist():
        cv2.circle(dots, centre, dot, thickness=cv2.FILLED, **style)
    return cv2.addWeighted(cv2.addWeighted(lines, 0.7, dots, 0.3, 0.0), 0.9, image, 0.1, 0.0)
