"""478 face landmarks and 52 blendshape scores from one picture, by the graphs of MediaPipe's face_landmarker bundle.

The graphs run directly on LiteRT. Pre- and post-processing follow the published graph descriptions (face_detector,
face_landmarks_detector, face_blendshapes). Coordinates are image pixels, pixel centres at + 0.5.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.tracking.detection import Detection, FaceDetector
from spatialavatar.tracking.fan import FaceAlignmentLandmarks
from spatialavatar.tracking.runtimes import LiteRTNetwork, bundle_member, network_file

LANDMARK_COUNT: Final = 478
MIN_PRESENCE: Final = 0.5
"""Lowest presence of usable landmarks."""

_CROP: Final = 256
_MARGIN: Final = 1.5  # side of the square crop over the longer side of the face box
_EYE_RIGHT, _EYE_LEFT = 33, 263  # outer eye corners
# The 146 points that the blendshape graph reads (face_blendshapes_graph).
# fmt: off
_BLENDSHAPE_POINTS: Final = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, *range(468, 478),
])
# fmt: on


@dataclass(frozen=True)
class Roi:
    """A rotated square of the picture in which one face is upright.

    Attributes:
        centre: (2,) pixels.
        side: pixels.
        angle: radians; the direction from the subject's right eye to the left one, x towards y.
    """

    centre: np.ndarray
    side: float
    angle: float

    @classmethod
    def from_detection(cls, detection: Detection) -> Roi:
        """The square around a detected face, turned to its eye line."""
        right, left = detection.keypoints[0], detection.keypoints[1]
        angle = math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))
        return cls((detection.box[:2] + detection.box[2:]) / 2, _MARGIN * detection.size, angle)

    @classmethod
    def from_landmarks(cls, points: np.ndarray) -> Roi:
        """The square around (478, 2+) landmarks, turned to their eye line."""
        right, left = points[_EYE_RIGHT, :2], points[_EYE_LEFT, :2]
        angle = math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))
        axes = _axes(angle)
        upright = points[:, :2] @ axes
        low, high = upright.min(axis=0), upright.max(axis=0)
        return cls(axes @ ((low + high) / 2), _MARGIN * float((high - low).max()), angle)

    def to_image(self, crop_points: np.ndarray) -> np.ndarray:
        """(N, 2) points of the 256-pixel crop in image pixels."""
        return (crop_points / _CROP - 0.5) * self.side @ _axes(self.angle).T + self.centre

    def crop(self, image: np.ndarray) -> np.ndarray:
        """(256, 256, 3) uint8 upright crop; black outside the picture, low-passed where it is scaled down."""
        pixels_per_texel = self.side / _CROP
        axes = _axes(self.angle) * pixels_per_texel
        corner = self.centre - axes @ np.array([_CROP / 2, _CROP / 2])
        reach = math.ceil(self.side * 0.5 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))) + 2
        x0, y0 = np.maximum(np.floor(self.centre).astype(int) - reach, 0)
        x1, y1 = np.minimum(np.floor(self.centre).astype(int) + reach, (image.shape[1], image.shape[0]))
        if x1 <= x0 or y1 <= y0:
            return np.zeros((_CROP, _CROP, 3), dtype=np.uint8)
        source = image[y0:y1, x0:x1]
        # Bilinear sampling reads four pixels: average blocks first where a texel covers more.
        ratio = np.ones(2)
        if pixels_per_texel >= 2.0:
            block = int(pixels_per_texel)
            size = (max(1, (x1 - x0) // block), max(1, (y1 - y0) // block))
            ratio = np.array([size[0] / (x1 - x0), size[1] / (y1 - y0)])
            source = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
        # Texel index t has its centre at t + 0.5 in the crop; source pixel index p has its centre at p + 0.5.
        linear = ratio[:, None] * axes
        shift = ratio * (corner + axes @ np.array([0.5, 0.5]) - (x0, y0)) - 0.5
        return cv2.warpAffine(
            source,
            np.column_stack([linear, shift]),
            (_CROP, _CROP),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )


@dataclass(frozen=True)
class FaceLandmarks:
    """The landmarks of one face.

    Attributes:
        points: (478, 3) float32 image pixels; z in the same unit, away from the camera, relative to the head's middle.
            With the face-alignment backend (68, 3), z = 0.
        presence: in [0, 1], the network's score for a face in the crop.
        blendshapes: (52,) float32 scores in the order of ``ARKIT_52``; ``tongueOut``, which the network lacks, is 0.
            All 0 with the face-alignment backend.
    """

    points: np.ndarray
    presence: float
    blendshapes: np.ndarray


class FaceLandmarker:
    """Faces, landmarks and blendshape scores of pictures and of video frames."""

    def __init__(
        self, weights_dir: Path | str | None = None, threads: int = 1, landmarks_backend: str = "mediapipe"
    ) -> None:
        """Prepare; each network is opened at its first use.

        Args:
            weights_dir: the weights folder (None: the default one).
            threads: CPU threads of each network.
            landmarks_backend: ``mediapipe``, or ``face-alignment`` for 68 points by that package (which must be
                installed and fetches its own weights).

        Raises:
            InputError: for an unknown backend.
        """
        if landmarks_backend not in ("mediapipe", "face-alignment"):
            raise InputError(f"There is no landmark backend {landmarks_backend!r}; use mediapipe or face-alignment.")
        self._weights_dir = weights_dir
        self._threads = threads
        self._backend = landmarks_backend
        self._detector = FaceDetector(weights_dir, threads)

    @functools.cached_property
    def _landmark_network(self) -> LiteRTNetwork:
        return self._graph("face_landmarks_detector.tflite")

    @functools.cached_property
    def _blendshape_network(self) -> LiteRTNetwork:
        return self._graph("face_blendshapes.tflite")

    @functools.cached_property
    def _face_alignment(self) -> FaceAlignmentLandmarks:
        return FaceAlignmentLandmarks()

    def _graph(self, member: str) -> LiteRTNetwork:
        bundle = network_file("face_landmarker.task", self._weights_dir)
        return LiteRTNetwork(bundle_member(bundle, member), self._threads)

    def detect(self, image: np.ndarray, thorough: bool = True) -> list[Detection]:
        """All faces in an (H, W, 3) uint8 sRGB picture, the largest first; see :class:`FaceDetector`."""
        return self._detector(_checked(image), thorough)

    def landmarks(self, image: np.ndarray, roi: Roi | Detection, passes: int = 1) -> FaceLandmarks:
        """The landmarks of the face in a region.

        Args:
            image: (H, W, 3) uint8 sRGB.
            roi: where the face is.
            passes: 2 runs the network again on a crop around the landmarks of the first pass, which is more accurate if
                ``roi`` comes from a detector.
        """
        image = _checked(image)
        if self._backend == "face-alignment":
            box = roi.box if isinstance(roi, Detection) else _roi_box(roi)
            points = self._face_alignment(image, box)
            return FaceLandmarks(points, 1.0, np.zeros(52, dtype=np.float32))
        square = Roi.from_detection(roi) if isinstance(roi, Detection) else roi
        points, presence = self._run(image, square)
        for _ in range(passes - 1):
            if presence < MIN_PRESENCE:
                break
            points, presence = self._run(image, Roi.from_landmarks(points))
        return FaceLandmarks(points, presence, self._blendshapes(points))

    def locate(self, image: np.ndarray, passes: int = 2) -> FaceLandmarks | None:
        """Landmarks of the largest face in a photo that the landmark network confirms; None if there is none."""
        for detection in self.detect(image):
            found = self.landmarks(image, detection, passes)
            if found.presence >= MIN_PRESENCE:
                return found
        return None

    def track(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """The landmarks of one video frame.

        The face is searched at its previous place; if it is not there or ``previous`` is None, it is detected again.
        Returns None if the frame shows no face.
        """
        found = None if previous is None else self.follow(image, previous)
        return found or next(self.faces(image), None)

    def follow(self, image: np.ndarray, previous: FaceLandmarks) -> FaceLandmarks | None:
        """The face that was at ``previous`` in the frame before; None if it is not there."""
        if self._backend != "mediapipe":  # the other backend starts from a detection
            return None
        found = self.landmarks(image, Roi.from_landmarks(previous.points))
        return found if found.presence >= MIN_PRESENCE else None

    def faces(self, image: np.ndarray, limit: int | None = None) -> Iterator[FaceLandmarks]:
        """The faces of a video frame that the landmark network confirms, the largest first, of ``limit`` detections."""
        for detection in self.detect(image, thorough=False)[:limit]:
            found = self.landmarks(image, detection, passes=2)
            if found.presence >= MIN_PRESENCE:
                yield found

    def _run(self, image: np.ndarray, roi: Roi) -> tuple[np.ndarray, float]:
        """(478, 3) float32 points in image pixels, and the presence."""
        values, presence = self._landmark_network(roi.crop(image)[None].astype(np.float32) / 255.0)[:2]
        crop_points = values.reshape(LANDMARK_COUNT, 3)
        xy = roi.to_image(crop_points[:, :2])
        z = crop_points[:, 2:] * (roi.side / _CROP)
        return np.concatenate([xy, z], axis=1).astype(np.float32), float(1.0 / (1.0 + np.exp(-presence.item())))

    def _blendshapes(self, points: np.ndarray) -> np.ndarray:
        scores = self._blendshape_network(points[_BLENDSHAPE_POINTS, :2][None])[0]
        return np.append(scores[1:], np.float32(0.0))  # drops _neutral, adds tongueOut


def _axes(angle: float) -> np.ndarray:
    """(2, 2) the crop's right and down axes in the picture, as columns."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _roi_box(roi: Roi) -> np.ndarray:
    """(4,) the face box that a square region of interest was made from."""
    half = roi.side / _MARGIN / 2
    return np.concatenate([roi.centre - half, roi.centre + half])


def _checked(image: np.ndarray) -> np.ndarray:
    """The picture.

    Raises:
        InputError: it is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"A picture must be (H, W, 3) uint8, not {image.shape} {image.dtype}.")
    return image
