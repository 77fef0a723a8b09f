"""Identity of a face: SFace embeddings of aligned faces.

The network is SFace (Zhong et al. 2021, IEEE TIP), as published in OpenCV's model zoo. Its cosines are not comparable
with the CSIM of papers that use other networks.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.tracking.landmark_sets import IRIS_LEFT, IRIS_RIGHT
from spatialavatar.tracking.runtimes import OnnxNetwork, network_file

SAME_PERSON: Final = 0.45
"""Photos with a cosine below this count as different people; docs/results/tracking.md lists the error rates."""

_SIDE: Final = 112
_POINTS: Final = (IRIS_RIGHT[0], IRIS_LEFT[0], 1, 61, 291)  # pupils, tip of the nose, corners of the mouth
# Their positions in the 112 x 112 crop of ArcFace (Deng et al. 2019), right eye first, pixel centres at integers.
_TEMPLATE: Final = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class IdentityEmbedder:
    """SFace: maps a face to a unit vector. The network is opened at its first use."""

    def __init__(self, weights_dir: Path | str | None = None, threads: int = 1) -> None:
        self._weights_dir = weights_dir
        self._threads = threads

    @functools.cached_property
    def _network(self) -> OnnxNetwork:
        return OnnxNetwork(network_file("face_recognition_sface_2021dec.onnx", self._weights_dir), self._threads)

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The embedding of one face.

        Args:
            image: (H, W, 3) uint8 sRGB.
            landmarks: (478, 2 or more) float, pixels of ``image``, pixel centres at + 0.5.

        Returns:
            (128,) float32 of length 1; the cosine of two faces is their dot product.

        Raises:
            InputError: the picture is not uint8 RGB, or there are not 478 landmarks.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"A picture must be (H, W, 3) uint8, not {image.shape} {image.dtype}.")
        features = self._network(align(image, landmarks).transpose(2, 0, 1)[None])[0]
        return features / max(float(np.linalg.norm(features)), 1e-12)


def align(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face in an (H, W, 3) uint8 picture, aligned by five points, (112, 112, 3).

    Raises:
        InputError: the landmarks are not the 478 dense ones.
    """
    if landmarks.ndim != 2 or len(landmarks) != 478:
        raise InputError(f"Faces are aligned by 478 landmarks, not by an array of shape {landmarks.shape}.")
    to_crop = _similarity(landmarks[list(_POINTS), :2].astype(np.float64), _TEMPLATE + 0.5)
    # cv2.warpAffine does not low-pass, so the picture is halved until the remaining scale is at least 0.5.
    scale = float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    while scale < 0.5 and min(image.shape[:2]) > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        to_crop[:, :2] *= 2.0
        scale *= 2.0
    to_crop[:, 2] += to_crop[:, :2].sum(axis=1) * 0.5 - 0.5  # OpenCV has pixel centres at integers
    return cv2.warpAffine(image, to_crop, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The (2, 3) rotation, uniform scale and shift that map points (P, 2) onto others with the least squared error."""
    points, goal = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    centred = points - points.mean()
    turn = np.vdot(centred, goal) / max(np.vdot(centred, centred).real, 1e-12)
    shift = goal.mean() - turn * points.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
