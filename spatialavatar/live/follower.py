"""The motion of a person in front of the camera, frame by frame, as ARKit weights that the tracker sends.

The landmark network's scores, relative to those of a calm face, as :meth:`spatialavatar.motion.Motion.from_track` has
them for a clip, and as the web page has them for the visitor's camera.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.streams import MotionFrame
from spatialavatar.streams.frames import rest_frame
from spatialavatar.tracking.cues import rescaled_scores, shut_eyes
from spatialavatar.tracking.live import FILTERS, SETTLING, SETTLING_TIME, LiveFrame, LiveTracker
from spatialavatar.tracking.neutral import resting_units
from spatialavatar.tracking.smoothing import OneEuroFilter

_LONGEST_STEP: Final = 0.25  # seconds; after a longer gap the filter restarts
_SAMPLES: Final = 100  # of the calibration

_GAZE: Final = {
    side: [ARKIT_INDEX[f"eyeLook{way}{side}"] for way in ("Down", "In", "Out", "Up")] for side in ("Right", "Left")
}


class CameraMotion:
    """Follows a person with a tracker and yields motion frames: relative to the face and the pose at rest."""

    def __init__(self, tracker: LiveTracker) -> None:
        """Start with a tracker that is not calibrated yet."""
        self.tracker = tracker
        self._samples: list[Tensor] = []
        self._neutral: Tensor | None = None
        self._filter: OneEuroFilter | None = None
        self._last, self._settled = 0.0, 0.0
        self._frame = rest_frame()

    def update(self, picture: np.ndarray, at: float) -> tuple[LiveFrame, MotionFrame]:
        """Track the next picture.

        During the calibration the motion is at rest; without a face it is that of the frame before.

        Args:
            picture: (H, W, 3) uint8 sRGB.
            at: its time in seconds.

        Raises:
            InputError: the picture is not (H, W, 3) uint8.
        """
        found = self.tracker.update(picture, at)
        step, self._last = at - self._last, at
        if not 0.0 < step <= _LONGEST_STEP:
            step, self._filter = 1.0 / 30.0, None
        if found.landmarks is None or found.blendshapes is None:
            self._filter = None
            last = self._frame
            self._frame = MotionFrame(last.weights, last.rotation, last.translation, seen=False)
            return found, self._frame
        weights = _weights(found.landmarks, found.blendshapes)
        if self._filter is None:
            self._filter = OneEuroFilter(1.0 / step, FILTERS["expression"])
        self._filter.fps = 1.0 / step
        weights = self._filter(weights)
        if not self.tracker.calibrated:
            self._samples = [*self._samples, weights][-_SAMPLES:]
            self._neutral = None
            return found, self._frame
        self._settle(weights, step)
        self._frame = self._relative(weights)
        return found, self._frame

    def _settle(self, weights: Tensor, step: float) -> None:
        """Estimate the resting face, which afterwards only sinks, as that of the tracker."""
        if self._neutral is None:
            self._neutral = resting_units(torch.cat([*self._samples, weights]), ARKIT_52)
            self._samples, self._settled = [], 0.0
        self._settled += step
        first, later = SETTLING
        rate = max(later, first / (1.0 + self._settled / SETTLING_TIME))
        away = (self._neutral - weights[0]).clamp_min(0.0)
        self._neutral = self._neutral - away.clamp_max(rate * step)

    def _relative(self, weights: Tensor) -> MotionFrame:
        track = self.tracker.track()
        assert track is not None
        assert self._neutral is not None
        rest = track.neutral
        assert rest.rotation is not None
        assert rest.translation is not None
        turned = axis_angle_to_matrix(track.params.rotation[0]) @ axis_angle_to_matrix(rest.rotation).T
        return MotionFrame(
            (weights[0] - self._neutral).clamp(0.0, 1.0).numpy().astype(np.float32),
            matrix_to_axis_angle(turned).numpy().astype(np.float32),
            (track.params.translation[0] - rest.translation).numpy().astype(np.float32),
        )


def _weights(landmarks: np.ndarray, scores: np.ndarray) -> Tensor:
    """(1, 52) scores without their resting values; shut eyes are fully shut, and have no gaze."""
    weights = rescaled_scores(torch.from_numpy(np.asarray(scores, np.float32))[None])
    shut = shut_eyes(torch.from_numpy(np.asarray(landmarks, np.float32))[None])[0]
    for side, closure in zip(("Right", "Left"), shut):
        blink = ARKIT_INDEX[f"eyeBlink{side}"]
        weights[0, blink] = torch.maximum(weights[0, blink], closure)
        weights[0, _GAZE[side]] *= 1.0 - closure
    return weights
