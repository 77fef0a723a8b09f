"""The square crop around a face: its place in the source picture, and its pixels, matte and classes.

Crops have integer coordinates and a side that is a multiple of eight source pixels, so that the wider crop for matting
(an eighth more on each side) has the same pixel grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch

from spatialavatar.records import Camera, Surroundings
from spatialavatar.tracking.matting import fuse

if TYPE_CHECKING:
    from spatialavatar.tracking.networks import Networks

CROP_SIZE: Final = 512
FOCAL: Final = 900.0
"""Pixels of the crop. With this focal length the head is 0.76 m away, the distance of a portrait."""

_CROP_SCALE: Final = 2.3  # side of the crop over the longer side of the landmarks' box
_MARGIN: Final = CROP_SIZE // 8  # pixels on each side by which the input of the matting exceeds the crop
_INNER: Final = slice(_MARGIN, _MARGIN + CROP_SIZE)
_AROUND: Final = CROP_SIZE // 2  # pixels of the crop by which the surroundings exceed it on each side
_LIFT: Final = 0.06  # of the crop's side; above the face, hair needs more room than the chin below


@dataclass(frozen=True)
class Crop:
    """A square of the source picture.

    Attributes:
        x0: left border, source pixels; may lie outside the picture, as may all borders.
        y0: upper border.
        side: width and height, a multiple of 8.
    """

    x0: int
    y0: int
    side: int

    @classmethod
    def around(cls, centre: np.ndarray, side: float) -> Crop:
        """The crop of about ``side`` pixels around a ``centre`` (x, y)."""
        whole = max(8, 8 * round(side / 8))
        return cls(round(float(centre[0]) - whole / 2), round(float(centre[1]) - whole / 2), whole)

    def resized(self, side: float) -> Crop:
        """The crop of about ``side`` pixels around the same centre."""
        return Crop.around(np.array([self.x0 + self.side / 2, self.y0 + self.side / 2]), side)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1, source pixels."""
        return float(self.x0), float(self.y0), float(self.x0 + self.side), float(self.y0 + self.side)

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Source pixels (..., 2) to pixels of the crop."""
        return (points - np.array([self.x0, self.y0])) * (CROP_SIZE / self.side)

    def camera(self, tight_side: float | None = None) -> Camera:
        """The camera of the crop.

        Args:
            tight_side: side that fits the face, source pixels; None: that of this crop. A crop wider than that has a
                wider field of view at the same distance of the head.
        """
        return Camera.frontal(CROP_SIZE, FOCAL * (tight_side or self.side) / self.side)


def landmark_box(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (x, y) and longer side of the box around (..., L, 2+) landmarks."""
    flat = points.reshape(-1, points.shape[-1])[:, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    return (low + high) / 2, float((high - low).max())


def crop_around(points: np.ndarray) -> Crop:
    """The crop of one face: the head and some of the shoulders."""
    centre, size = landmark_box(points)
    side = _CROP_SCALE * size
    return Crop.around(centre - [0.0, _LIFT * side], side)


def crop_around_all(points: np.ndarray) -> tuple[Crop, float]:
    """One crop for the T frames of a clip, from (T, L, 2+) landmarks, and the side that fits the face alone.

    If the head stays in place, the crop is that of :func:`crop_around` on the median frame; if the head moves around,
    the crop is larger. It is the same in all frames.
    """
    low, high = points[..., :2].min(axis=1), points[..., :2].max(axis=1)
    size = float(np.median((high - low).max(axis=1)))
    largest = float(np.percentile((high - low).max(axis=1), 95))
    tight = _CROP_SCALE * size
    # Robust ends of the face's path, and around them the margin of a single frame, slightly reduced.
    first, last = np.percentile(low, 2, axis=0), np.percentile(high, 98, axis=0)
    side = max(tight, _CROP_SCALE * largest * 0.9, float((last - first).max()) + 0.9 * (tight - size))
    centre = (first + last) / 2
    return Crop.around(centre - [0.0, _LIFT * side], side), tight


def cut(image: np.ndarray, crop: Crop, margin: int = 0) -> np.ndarray:
    """The pixels of a crop.

    Args:
        image: (H, W, 3) uint8.
        crop: where.
        margin: more pixels of the crop on each side, a multiple of 64.

    Returns:
        (CROP_SIZE + 2 margin, CROP_SIZE + 2 margin, 3) uint8; outside the picture, its border is repeated.
    """
    extra = crop.side * margin // CROP_SIZE
    x0, y0, side = crop.x0 - extra, crop.y0 - extra, crop.side + 2 * extra
    height, width = image.shape[:2]
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = max(0, x0 + side - width), max(0, y0 + side - height)
    inside = image[max(0, y0) : min(height, y0 + side), max(0, x0) : min(width, x0 + side)]
    if left or top or right or bottom:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REPLICATE)
    size = CROP_SIZE + 2 * margin
    # INTER_AREA averages all source pixels that an output pixel covers, so nothing aliases.
    return cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def separate(image: np.ndarray, crop: Crop, networks: Networks) -> tuple[np.ndarray, np.ndarray]:
    """Matte and classes of a crop.

    Args:
        image: (H, W, 3) uint8, the source picture.
        crop: where.
        networks: the matting and the segmentation network.

    Returns:
        Matte (CROP_SIZE, CROP_SIZE) uint8, 255 = person, and classes (CROP_SIZE, CROP_SIZE) uint8, see ``Pictures``;
        both are background outside the picture.
    """
    wide, box = _wide(image, crop, _MARGIN)
    probabilities = networks.segmenter(wide, box)
    alpha = fuse(networks.matting(wide, box), probabilities)
    matte = np.round(alpha[_INNER, _INNER] * 255.0).astype(np.uint8)
    return matte, _classes(probabilities)


def classes_of(image: np.ndarray, crop: Crop, networks: Networks) -> np.ndarray:
    """The classes of :func:`separate` without the matte, at a fraction of the cost."""
    return _classes(networks.segmenter(*_wide(image, crop, _MARGIN)))


def surroundings(
    image: np.ndarray, crop: Crop, camera: Camera, separated: tuple[np.ndarray, np.ndarray], networks: Networks
) -> Surroundings:
    """The picture around a crop, on the crop's pixel grid; nothing in it lies outside the picture.

    Args:
        image: (H, W, 3) uint8, the source picture.
        crop: the crop.
        camera: of the crop.
        separated: result of :func:`separate`, which is finer inside the crop.
        networks: as for :func:`separate`.
    """
    wide, (x0, y0, x1, y1) = _wide(image, crop, _AROUND)
    probabilities = networks.segmenter(wide, (x0, y0, x1, y1))
    matte = np.round(fuse(networks.matting(wide, (x0, y0, x1, y1)), probabilities) * 255.0).astype(np.uint8)
    segments = probabilities.argmax(axis=-1).astype(np.uint8)
    inner = slice(_AROUND, _AROUND + CROP_SIZE)
    matte[inner, inner], segments[inner, inner] = separated
    rows, columns = slice(y0, y1), slice(x0, x1)
    return Surroundings(
        image=torch.from_numpy(wide[rows, columns].copy()),
        matte=torch.from_numpy(matte[rows, columns].copy()),
        segments=torch.from_numpy(segments[rows, columns].copy()),
        camera=camera.window(x0 - _AROUND, y0 - _AROUND, x1 - _AROUND, y1 - _AROUND),
    )


def _wide(image: np.ndarray, crop: Crop, margin: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """The crop with a margin, and the box in it (x0, y0, x1, y1) that the picture covers."""
    wide = cut(image, crop, margin)
    pixel = CROP_SIZE / crop.side
    corner = np.array([crop.x0, crop.y0]) - margin / pixel
    limits = np.array([[0, 0], [image.shape[1], image.shape[0]]])
    (x0, y0), (x1, y1) = np.clip(np.round((limits - corner) * pixel), 0, wide.shape[0]).astype(int)
    return wide, (int(x0), int(y0), int(x1), int(y1))


def _classes(probabilities: np.ndarray) -> np.ndarray:
    """The most likely class of each pixel of a crop, (CROP_SIZE, CROP_SIZE) uint8; the margin is cut off."""
    return probabilities[_INNER, _INNER].argmax(axis=-1).astype(np.uint8)
