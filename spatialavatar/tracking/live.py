"""Tracking of a live camera: the networks and the fit of the video tracker, one frame at a time, causal.

The fit of a frame starts from the frame before, and a causal one-euro filter replaces the zero-phase one. Shape and
neutral are estimated in the first second, in which the person should look into the camera with a calm face. Afterwards
the neutral adapts slowly, in case the face was not calm. Shut lids are closed in blinks and winks. Memory is constant.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.head.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quat,
    mean_rotation,
    quat_to_matrix,
)
from spatialavatar.records import Camera, Evidence, HeadMotion, HeadParams, Neutral, Track
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking.fit import FitConfig, FrameFit, Observations, fit_landmarks
from spatialavatar.tracking.framing import CROP_SIZE, Crop, crop_around
from spatialavatar.tracking.landmarker import FaceLandmarks
from spatialavatar.tracking.lids import blink_excess, shut_by_network, with_shut_lids
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.neutral import neutral_of
from spatialavatar.tracking.photos import shared_networks
from spatialavatar.tracking.smoothing import OneEuro, OneEuroFilter

State = Literal["calibrating", "tracked", "lost"]

_CALIBRATION_FRAMES: Final = 12  # evenly over the first second; their joint fit takes a sixth of a second
_WARM_ITERATIONS: Final = 3  # enough for weights within 0.002 of the converged ones
_MAX_ERROR: Final = 0.12  # as for videos: mean landmark error, part of the eye distance
_LONGEST_STEP: Final = 0.25  # seconds; after a longer gap the filters restart
SETTLING: Final = (0.3, 0.01)  # expression units a second by which the neutral moves, at first and later
SETTLING_TIME: Final = 5.0  # seconds after which the first rate has halved
RADIANS: Final = 0.3  # of jaw or eye that count as one expression unit
LID_SETTLING: Final = 0.02  # blink score a second by which the usual difference of the eyes moves: a wink is short
FILTERS: Final = {
    "expression": OneEuro(4.0, 12.0),
    "rotation": OneEuro(1.5, 12.0),
    "translation": OneEuro(1.5, 60.0),
    "jaw": OneEuro(4.0, 60.0),
    "eyes": OneEuro(4.0, 30.0),
}
"""Higher cut-offs than those of videos, because a causal filter lags and a blink lasts five frames only."""


@dataclass(frozen=True)
class LiveFrame:
    """Result of one frame.

    Attributes:
        state: ``calibrating`` in the first second with a face, then ``tracked``; ``lost`` without a face.
        params: one frame; without a face those of the frame before; None before the first face.
        landmarks: (478, 2) pixels of the frame; None without a face.
        blendshapes: (52,) scores of the network; None without a face.
        seconds: processing time of the frame.
    """

    state: State
    params: HeadParams | None
    landmarks: np.ndarray | None
    blendshapes: np.ndarray | None
    seconds: float


class LiveTracker:
    """Tracks one person in frames that arrive one by one."""

    def __init__(
        self,
        head: HeadModel,
        fps: float = 30.0,
        *,
        shape: Tensor | None = None,
        calibration: float = 1.0,
        networks: Networks | None = None,
        config: FitConfig | None = None,
    ) -> None:
        """Prepare for the first frame.

        Args:
            head: the head model.
            fps: frames per second, used if :meth:`update` gets no time.
            shape: (S,) known shape of the person; by default it is fitted.
            calibration: seconds with a face in which shape and neutral are estimated.
            networks: opened networks to reuse.
            config: settings of the fit.
        """
        self.head = head
        self.camera: Camera = Camera.frontal(CROP_SIZE)
        self._fps, self._calibration = fps, calibration
        self._networks = networks or shared_networks()
        self._config = config or FitConfig()
        self._known_shape = shape
        self._fit: FrameFit | None = None
        self._crop: Crop | None = None
        self._found: FaceLandmarks | None = None
        self._raw: HeadParams | None = None
        self._params: HeadParams | None = None
        self._evidence: Evidence | None = None
        self._filter: OneEuroFilter | None = None
        self._clock = self._last = 0.0
        self.recalibrate()

    def recalibrate(self) -> None:
        """Estimate shape and neutral again in the next second."""
        self._shape = self._known_shape
        self._samples: list[tuple[np.ndarray, np.ndarray]] = []
        self._seen_for = self._settled_for = 0.0
        self._neutral: Tensor | None = None
        self._facing: Tensor | None = None
        self._place: Tensor | None = None
        self._lid_excess: Tensor | None = None

    @property
    def calibrated(self) -> bool:
        """Whether shape and neutral are known."""
        return self._neutral is not None

    def update(self, frame: np.ndarray, at: float | None = None) -> LiveFrame:
        """Track the next frame.

        Args:
            frame: (H, W, 3) uint8 sRGB, the same size every time.
            at: its time in seconds; by default frames are evenly spaced.

        Raises:
            InputError: the frame is not (H, W, 3) uint8.
        """
        start = time.perf_counter()
        self._clock = self._clock + 1.0 / self._fps if at is None else at
        step = self._clock - self._last
        self._last = self._clock
        if not 0.0 < step <= _LONGEST_STEP:
            step = 1.0 / self._fps
            self._filter = None
        found = self._networks.landmarker.track(frame, self._found)
        self._found = found
        if found is None:
            return self._lost(start)
        if self._crop is None:
            self._crop = crop_around(found.points)
            self.camera = self._crop.camera()
        points = self._crop.to_crop(found.points[:, :2])
        with one_torch_thread():
            if not self._follow(points, found.blendshapes, step):
                return self._lost(start)
        state = "tracked" if self.calibrated else "calibrating"
        seconds = time.perf_counter() - start
        return LiveFrame(state, self._params, found.points[:, :2], found.blendshapes, seconds)

    def track(self) -> Track | None:
        """The last frame as a Track of one frame, for driving; None before the first face.

        After calibration it has the person's neutral expression, rotation and position.
        """
        if self._params is None:
            return None
        confidence = torch.tensor([0.0 if self._raw is None else 1.0])
        neutral = Neutral(self._neutral, self._facing, self._place)
        motion = HeadMotion(self._params, self._fps, self.head.id, confidence, neutral)
        return Track(motion, self.camera, evidence=self._evidence)

    def resting(self) -> Track:
        """The head at rest in front of the camera as a Track of one frame, for driving before the first face."""
        params = self.head.neutral().to("cpu")
        return Track(HeadMotion(params, self._fps, self.head.id, confidence=torch.zeros(1)), self.camera)

    def _lost(self, start: float) -> LiveFrame:
        """The result of a frame without a usable face."""
        self._raw = None
        self._filter = None
        return LiveFrame("lost", self._params, None, None, time.perf_counter() - start)

    def _follow(self, points: np.ndarray, scores: np.ndarray, step: float) -> bool:
        """Fit and filter one frame; False if the head does not fit the landmarks."""
        if not self.calibrated:
            self._calibrate(points, scores, step)
        observed = self._observed([(points, scores)])
        assert self._shape is not None  # the calibration sets it
        if self._fit is None or self._fit.shape is not self._shape:
            self._fit = FrameFit(self.head, self._shape, len(points), self._config)
        fit = self._fit(observed, self._raw, None if self._raw is None else _WARM_ITERATIONS)
        if not float(fit.error[0]) < _MAX_ERROR:
            return False
        self._raw = fit.params
        self._evidence = Evidence(observed.points, observed.blendshapes)
        self._params = self._with_lids(self._filtered(fit.params, step), observed, step)
        if self._neutral is not None:
            self._neutral = self._settled(self._neutral, fit.params, step)
        return True

    def _with_lids(self, params: HeadParams, observed: Observations, step: float) -> HeadParams:
        """The frame with its shut lids closed, as in videos. Before calibration no wink is known.

        The usual difference of the eyes is that of the calibration. Afterwards it moves towards each frame by a small
        step, which gives a running median: a lid that begins to droop is no wink for long.
        """
        shut = shut_by_network(observed.points, observed.blendshapes, self._lid_excess)
        if self._lid_excess is not None:
            away = blink_excess(observed.blendshapes)[0] - self._lid_excess
            self._lid_excess = self._lid_excess + away.clamp(-LID_SETTLING * step, LID_SETTLING * step)
        return with_shut_lids(self.head, params, shut) if float(shut.max()) > 0.0 else params

    def _settled(self, neutral: Tensor, params: HeadParams, step: float) -> Tensor:
        """The neutral after a small step towards the current frame.

        Named units and the jaw rest at their lowest values, so theirs can only decrease: a lasting smile does not
        become the neutral. Gaze and statistical coefficients move in both directions.
        """
        away = torch.cat([params.expression, params.jaw, params.eyes], 1)[0] - neutral
        first, later = SETTLING
        self._settled_for += step
        rate = torch.full_like(away, max(later, first / (1.0 + self._settled_for / SETTLING_TIME)))
        rate[-9:] *= RADIANS
        if self.head.has_named_units:
            resting = slice(None, -8)  # all but the jaw's turn and the gaze
            rate[resting] *= away[resting] < 0
        return neutral + torch.minimum(rate * step, away.abs()) * away.sign()

    def _calibrate(self, points: np.ndarray, scores: np.ndarray, step: float) -> None:
        """Collect a frame of the first second; at its end estimate shape and neutral."""
        if self._shape is None:  # a first estimate from one frame, so that a head is available at once
            self._shape = fit_landmarks(self.head, self._observed([(points, scores)]), config=self._config).params.shape
        if self._seen_for >= len(self._samples) * self._calibration / _CALIBRATION_FRAMES:
            self._samples.append((points, scores))
        self._seen_for += step
        if self._seen_for < self._calibration:
            return
        observed = self._observed(self._samples)
        params = fit_landmarks(self.head, observed, shape=self._known_shape, config=self._config).params
        self._shape = params.shape
        self._neutral = neutral_of(params, torch.ones(len(params)), self.head.unit_names)
        self._facing = matrix_to_axis_angle(mean_rotation(axis_angle_to_matrix(params.rotation)))
        self._place = params.translation.median(0).values
        self._lid_excess = blink_excess(observed.blendshapes).median(0).values
        self._samples.clear()
        self._raw = None  # the shape has changed, so restart the fit
        self._filter = None

    def _observed(self, samples: list[tuple[np.ndarray, np.ndarray]]) -> Observations:
        return Observations(
            points=torch.from_numpy(np.stack([points for points, _ in samples])),
            blendshapes=torch.from_numpy(np.stack([scores for _, scores in samples])),
            principal_point=torch.full((2,), CROP_SIZE / 2),
            focal=self.camera.intrinsics[0, 0].expand(len(samples)),
        )

    def _filtered(self, params: HeadParams, step: float) -> HeadParams:
        """One frame after the causal filters; the rotation is filtered as a quaternion of continuous sign."""
        quat = 2.0 * matrix_to_quat(axis_angle_to_matrix(params.rotation))
        if self._params is not None:
            before = matrix_to_quat(axis_angle_to_matrix(self._params.rotation))
            quat = torch.where((quat * before).sum(-1, keepdim=True) < 0, -quat, quat)
        values = {
            "expression": params.expression,
            "rotation": quat,
            "translation": params.translation,
            "jaw": params.jaw,
            "eyes": params.eyes,
        }
        sizes = [value.shape[1] for value in values.values()]
        if self._filter is None:
            self._filter = OneEuroFilter(1.0 / step, _filter_settings(dict(zip(values, sizes))))
        self._filter.fps = 1.0 / step
        smooth = dict(zip(values, self._filter(torch.cat(list(values.values()), 1)).split(sizes, 1)))
        smooth["rotation"] = matrix_to_axis_angle(quat_to_matrix(smooth["rotation"]))
        return params.replace(**smooth)


def _filter_settings(sizes: dict[str, int]) -> OneEuro:
    """The settings of :data:`FILTERS` for values of these sizes in a row."""
    low = torch.cat([torch.full((size,), FILTERS[name].min_cutoff) for name, size in sizes.items()])
    beta = torch.cat([torch.full((size,), FILTERS[name].beta) for name, size in sizes.items()])
    return OneEuro(low, beta)
