"""The pretrained networks of the tracker, each opened at its first use and kept for later frames.

All of them run on the CPU, offline, from files in ``weights/networks``.
"""

from __future__ import annotations

import functools
from pathlib import Path

from spatialavatar.tracking.identity import IdentityEmbedder
from spatialavatar.tracking.landmarker import FaceLandmarker
from spatialavatar.tracking.matting import Matting, Segmenter


class Networks:
    """The tracker's networks. A network is opened when its attribute is first read.

    Attributes:
        weights_dir: the weights folder; None: the default one.
        threads: CPU threads of each network.
        landmarks_backend: ``mediapipe`` (478 points and blendshapes) or ``face-alignment`` (68 points).
    """

    def __init__(
        self, weights_dir: Path | str | None = None, threads: int = 1, landmarks_backend: str = "mediapipe"
    ) -> None:
        self.weights_dir = weights_dir
        self.threads = threads
        self.landmarks_backend = landmarks_backend

    @functools.cached_property
    def landmarker(self) -> FaceLandmarker:
        """Face detection, landmarks and blendshape scores."""
        return FaceLandmarker(self.weights_dir, threads=self.threads, landmarks_backend=self.landmarks_backend)

    @functools.cached_property
    def matting(self) -> Matting:
        """Alpha matte of the person."""
        return Matting(self.weights_dir, threads=self.threads)

    @functools.cached_property
    def segmenter(self) -> Segmenter:
        """Classes of pixels: hair, skin, clothes and others."""
        return Segmenter(self.weights_dir, threads=self.threads)

    @functools.cached_property
    def identity(self) -> IdentityEmbedder:
        """Embedding of a face, which identifies the person."""
        return IdentityEmbedder(self.weights_dir, threads=self.threads)
