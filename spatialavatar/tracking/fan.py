"""68 landmarks by the face-alignment package: an optional alternative.

Its networks (FAN) are fetched by the package itself at first use and are not part of this project's weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spatialavatar.errors import MissingAssetError


class FaceAlignmentLandmarks:
    """The 2D FAN landmarks (iBUG 68) of the face-alignment package."""

    def __init__(self) -> None:
        """Open the network; the package downloads it where it is not in its cache.

        Raises:
            MissingAssetError: where the package is missing or its weights cannot be fetched.
        """
        try:
            import face_alignment
        except ImportError as error:
            raise MissingAssetError(
                "The package face-alignment is not installed; run pip install face-alignment or use the mediapipe "
                "landmark backend."
            ) from error
        try:
            # "folder": no detector of its own, the boxes are ours; compile=False: compiling takes minutes on a CPU.
            self._network: Any = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D, device="cpu", face_detector="folder", compile=False
            )
        except (OSError, RuntimeError) as error:  # download errors are OSErrors; a cut file is a RuntimeError
            raise MissingAssetError(
                "The weights of face-alignment cannot be fetched; connect to the internet once or use the mediapipe "
                "landmark backend."
            ) from error

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """(68, 3) float32 landmarks in image pixels (z = 0) of the face in ``box`` (x0, y0, x1, y1)."""
        points = self._network.get_landmarks_from_image(image, detected_faces=[[*map(float, box), 1.0]])[0]
        return np.pad(np.asarray(points, dtype=np.float32)[:, :2], ((0, 0), (0, 1)))
