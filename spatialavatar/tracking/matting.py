"""Segmentation of the person: an alpha matte (MODNet) and six classes (selfie segmenter).

Both networks run on a crop around the head, not on the whole picture, so that a small face in a wide photo gets as many
network pixels as a portrait.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from spatialavatar.records import SEGMENT_CLASSES
from spatialavatar.tracking.runtimes import LiteRTNetwork, OnnxNetwork, network_file

Box = tuple[int, int, int, int]


class Matting:
    """MODNet portrait matting. Source: Ke et al., arXiv 2011.11961."""

    def __init__(self, weights_dir: Path | str | None = None, threads: int = 1) -> None:
        self._weights_dir = weights_dir
        self._threads = threads

    @functools.cached_property
    def _network(self) -> OnnxNetwork:
        return OnnxNetwork(network_file("modnet.onnx", self._weights_dir), self._threads)

    def __call__(self, image: np.ndarray, box: Box | None = None, size: int = 512) -> np.ndarray:
        """The matte of a picture.

        Args:
            image: (H, W, 3) uint8 sRGB.
            box: the part to process, x0, y0, x1, y1 whole pixels; the rest is background. None: all of it.
            size: shorter side of the network's input; it was trained for 512; 256 is four times as fast.

        Returns:
            (H, W) float32 alpha in [0, 1].
        """
        x0, y0, x1, y1 = box or (0, 0, image.shape[1], image.shape[0])
        crop = image[y0:y1, x0:x1]
        height, width = crop.shape[:2]
        scale = size / min(height, width)
        longest = 2 * size  # bounds the time for extreme aspect ratios
        net_size = tuple(min(longest, max(32, round(side * scale / 32) * 32)) for side in (width, height))
        small = _resize(crop, net_size)
        tensor = (small.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)
        alpha_small = np.clip(self._network(tensor[None])[0, 0], 0.0, 1.0)
        alpha = np.zeros(image.shape[:2], dtype=np.float32)
        alpha[y0:y1, x0:x1] = _guided_resize(alpha_small, small, crop)
        return alpha


class Segmenter:
    """The six-class selfie segmenter of MediaPipe, 256 x 256."""

    SIZE: Final = 256

    def __init__(self, weights_dir: Path | str | None = None, threads: int = 1) -> None:
        self._weights_dir = weights_dir
        self._threads = threads

    @functools.cached_property
    def _network(self) -> LiteRTNetwork:
        path = network_file("selfie_multiclass_256x256.tflite", self._weights_dir)
        return LiteRTNetwork(path.read_bytes(), self._threads)

    def __call__(self, image: np.ndarray, box: Box | None = None) -> np.ndarray:
        """Class probabilities of a picture.

        Args:
            image: (H, W, 3) uint8 sRGB.
            box: the part to process, x0, y0, x1, y1 whole pixels; the rest is background. None: all of it.

        Returns:
            (H, W, 6) float32, order of :data:`~spatialavatar.records.SEGMENT_CLASSES`; sums to 1.
        """
        x0, y0, x1, y1 = box or (0, 0, image.shape[1], image.shape[0])
        crop = image[y0:y1, x0:x1]
        small = _resize(crop, (self.SIZE, self.SIZE))
        logits = self._network(small[None].astype(np.float32) / 127.5 - 1.0)[0][0]
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
        result = np.zeros((*image.shape[:2], len(SEGMENT_CLASSES)), dtype=np.float32)
        result[..., 0] = 1.0
        result[y0:y1, x0:x1] = _resize(probabilities, (crop.shape[1], crop.shape[0]))
        return result


def fuse(alpha: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Correct the matte where the classes are confident, and keep its soft edges elsewhere.

    The matte resolves single hairs but may miss a shoulder or include an object behind the head; the classes are coarse
    but reliable. Confident person becomes opaque; pixels with confident background all around become transparent.

    Args:
        alpha: (H, W) float32 of :class:`Matting`.
        probabilities: (H, W, 6) float32 of :class:`Segmenter` for the same picture and box.

    Returns:
        (H, W) float32 in [0, 1].
    """
    person = 1.0 - probabilities[..., 0]
    rows, columns = np.flatnonzero((person > 0.5).any(axis=1)), np.flatnonzero((person > 0.5).any(axis=0))
    if rows.size == 0:
        return alpha
    reach = max(1, round(0.04 * max(np.ptp(rows), np.ptp(columns))))  # distance of hair from the region of the classes
    sure_person = _ramp(cv2.erode(person, np.ones((3, 3), dtype=np.uint8)), 0.90, 0.97)
    maybe_person = _ramp(cv2.dilate(person, np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)), 0.2, 0.5)
    return np.maximum(np.minimum(alpha, maybe_person), sure_person)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, linear between."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def _resize(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize to (width, height): the mean of the covered area when shrinking, bilinear when growing."""
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, tuple(size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _guided_resize(alpha: np.ndarray, guide: np.ndarray, target: np.ndarray, radius: int = 3) -> np.ndarray:
    """Upsample a matte to the picture's resolution along the picture's edges.

    Shrinking averages areas. Growing is the fast guided filter (He and Sun, arXiv 1505.00996): the local linear model
    alpha = a * grey + b is fitted at the matte's resolution and applied at the picture's.

    Args:
        alpha: (h, w) float32.
        guide: (h, w, 3) uint8, the picture at the matte's resolution.
        target: (H, W, 3) uint8, the picture.
        radius: of the fit's window, matte pixels.

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = target.shape[:2]
    if height <= alpha.shape[0] and width <= alpha.shape[1]:
        return _resize(alpha, (width, height))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * radius + 1, 2 * radius + 1))

    grey = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    mean_grey, mean_alpha = mean(grey), mean(alpha)
    slope = (mean(grey * alpha) - mean_grey * mean_alpha) / (mean(grey * grey) - mean_grey**2 + 1e-4)
    offset = mean_alpha - slope * mean_grey
    slope, offset = (cv2.resize(mean(v), (width, height), interpolation=cv2.INTER_LINEAR) for v in (slope, offset))
    fine = cv2.cvtColor(target, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    return np.clip(slope * fine + offset, 0.0, 1.0)
