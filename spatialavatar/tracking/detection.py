"""Face detection: the short-range SSD of the landmark bundle for near faces, YuNet for small, far and turned ones.

Boxes and keypoints are in image pixels, x to the right, y down, pixel centres at + 0.5.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.tracking.runtimes import LiteRTNetwork, bundle_member, network_file

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYPOINTS: Final = ("eye_right", "eye_left", "nose", "mouth", "ear_right", "ear_left")
"""Order of :attr:`Detection.keypoints`; left and right are the subject's."""

_MIN_SCORE: Final = 0.5
_MAX_OVERLAP: Final = 0.3


@dataclass(frozen=True)
class Detection:
    """One face.

    Attributes:
        box: (4,) float32 x0, y0, x1, y1, brow to chin; may exceed the picture.
        keypoints: (6, 2) float32, order of :data:`KEYPOINTS`; NaN for points that the detector does not provide.
        score: in [0, 1].
    """

    box: np.ndarray
    keypoints: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """The longer side of the box, pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


class ShortRangeDetector:
    """The 128 x 128 SSD detector of the landmark bundle, for faces higher than about a fifth of the picture.

    Its 896 anchors lie on a 16 x 16 grid (2 a cell) and an 8 x 8 grid (6 a cell). Source: BlazeFace, arXiv 1907.05047.
    """

    SIZE: Final = 128

    def __init__(self, weights_dir: Path | str | None = None, threads: int = 1) -> None:
        bundle = network_file("face_landmarker.task", weights_dir)
        self._network = LiteRTNetwork(bundle_member(bundle, "face_detector.tflite"), threads)
        self._anchors = _anchors(((16, 2), (8, 6)))

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Detect.

        Args:
            image: (H, W, 3) uint8 sRGB.

        Returns:
            Faces, best score first.
        """
        height, width = image.shape[:2]
        side = max(height, width)
        scale = self.SIZE / side
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        left, top = (self.SIZE - inner[0]) // 2, (self.SIZE - inner[1]) // 2
        canvas = np.full((self.SIZE, self.SIZE, 3), -1.0, dtype=np.float32)  # the network's black
        small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
        canvas[top : top + inner[1], left : left + inner[0]] = small.astype(np.float32) / 127.5 - 1.0

        regressors, logits = self._network(canvas[None])
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits[0, :, 0], -80.0, 80.0)))
        keep = scores >= _MIN_SCORE
        values = regressors[0, keep].reshape(-1, 8, 2) / self.SIZE  # centre, size, six keypoints
        anchors = self._anchors[keep]
        centre, size = values[:, 0] + anchors, values[:, 1]
        points = values[:, 2:] + anchors[:, None]
        # Invert the resizing exactly: each axis was rounded to whole pixels.
        offset = np.array([left, top], dtype=np.float32)
        to_pixels = np.array([width / inner[0], height / inner[1]], dtype=np.float32)
        corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1).reshape(-1, 2, 2)
        boxes = ((corners * self.SIZE - offset) * to_pixels).reshape(-1, 4)
        points = (points * self.SIZE - offset) * to_pixels
        return _merge_overlapping(boxes, points, scores[keep])


class YuNetDetector:
    """YuNet: detects faces from 10 pixels and at large yaw. Source: Wu et al., Machine Intelligence Research 2023."""

    def __init__(self, weights_dir: Path | str | None = None, max_side: int = 640) -> None:
        """Open the network.

        Args:
            weights_dir: the weights folder (None: the default one).
            max_side: pictures are scaled down so that their longer side is at most this.
        """
        self.max_side = max_side
        path = network_file("face_detection_yunet_2023mar.onnx", weights_dir)
        self._lock = threading.Lock()
        log_level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(
            cv2.utils.logging.LOG_LEVEL_ERROR
        )  # OpenCV 5 logs a warning about its default target
        try:
            self._network: Any = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.6, _MAX_OVERLAP, 100)
        except cv2.error as error:
            raise FormatError(f"The network file {path} is damaged; fetch the weights again.") from error
        finally:
            cv2.utils.logging.setLogLevel(log_level)

    def __call__(self, image: np.ndarray, max_side: int | None = None) -> list[Detection]:
        """Detect in an (H, W, 3) uint8 sRGB image; best score first. ``max_side`` overrides that of the detector."""
        height, width = image.shape[:2]
        scale = min(1.0, (max_side or self.max_side) / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        with self._lock:  # the input size is state of the network
            self._network.setInputSize(size)
            _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        to_pixels = np.array([width / size[0], height / size[1]], dtype=np.float32)
        found = []
        for row in rows:
            corner, extent = row[0:2] * to_pixels, row[2:4] * to_pixels
            points = row[4:14].reshape(5, 2) * to_pixels  # eyes, nose, mouth corners
            keypoints = np.full((6, 2), np.nan, dtype=np.float32)
            keypoints[:3] = points[:3]
            keypoints[3] = points[3:].mean(axis=0)
            found.append(Detection(np.concatenate([corner, corner + extent]), keypoints, float(row[14])))
        return sorted(found, key=lambda d: -d.score)


class FaceDetector:
    """Both detectors, each opened at its first use."""

    def __init__(self, weights_dir: Path | str | None = None, threads: int = 1) -> None:
        self._weights_dir = weights_dir
        self._threads = threads

    @functools.cached_property
    def short_range(self) -> ShortRangeDetector:
        """The detector for near faces."""
        return ShortRangeDetector(self._weights_dir, self._threads)

    @functools.cached_property
    def yunet(self) -> YuNetDetector:
        """The detector for all others."""
        return YuNetDetector(self._weights_dir)

    def __call__(self, image: np.ndarray, thorough: bool = True) -> list[Detection]:
        """Detect.

        Args:
            image: (H, W, 3) uint8 sRGB.
            thorough: run both detectors, so that every face is found (photos); otherwise YuNet runs only if the
                short-range detector finds nothing (video).

        Returns:
            Faces, the largest first.
        """
        found = self.short_range(image)
        if thorough or not found:
            found = _without_overlaps([*found, *self.yunet(image)])
        if not found and max(image.shape[:2]) > self.yunet.max_side:
            found = self.yunet(image, max_side=2 * self.yunet.max_side)
        return sorted(found, key=lambda d: -d.size)


def _anchors(grids: Sequence[tuple[int, int]]) -> np.ndarray:
    """(A, 2) anchor centres in [0, 1] for (cells a side, anchors a cell) grids, row by row."""
    centres = []
    for cells, per_cell in grids:
        axis = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        x, y = np.meshgrid(axis, axis)
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
    return np.concatenate(centres)


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one (4,) box with (N, 4) boxes."""
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.clip(inner, 0.0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / np.maximum(np.prod(box[2:] - box[:2]) + areas - shared, 1e-9)


def _merge_overlapping(boxes: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Weighted non-maximum suppression: every cluster of overlapping boxes becomes its score-weighted mean."""
    found = []
    left = np.argsort(-scores)
    while left.size:
        best = left[0]
        cluster = _overlap(boxes[best], boxes[left]) > _MAX_OVERLAP
        cluster[0] = True
        members = left[cluster]
        weights = scores[members] / scores[members].sum()
        box = np.tensordot(weights, boxes[members], axes=1).astype(np.float32)
        keypoints = np.tensordot(weights, points[members], axes=1).astype(np.float32)
        found.append(Detection(box, keypoints, float(scores[best])))
        left = left[~cluster]
    return found


def _without_overlaps(detections: list[Detection]) -> list[Detection]:
    """Drop each detection whose centre lies in, or that covers the centre of, an earlier one."""
    kept: list[Detection] = []
    for detection in detections:
        if not any(_same_face(detection.box, other.box) for other in kept):
            kept.append(detection)
    return kept


def _same_face(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the centre of either box lies in the other."""

    def inside(inner: np.ndarray, outer: np.ndarray) -> bool:
        centre = (inner[:2] + inner[2:]) / 2
        return bool(np.all(centre > outer[:2]) and np.all(centre < outer[2:]))

    return inside(a, b) or inside(b, a)
