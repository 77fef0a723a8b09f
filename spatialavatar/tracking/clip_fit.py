"""The fit of a clip: one shape, every frame fitted with it, and jitter removed without lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.progress import Progress
from spatialavatar.records import HeadParams
from spatialavatar.tracking.fit import Anchor, Fit, FitConfig, Observations, eye_distance, fit_landmarks
from spatialavatar.tracking.smoothing import low_pass, low_pass_rotations, one_euro, one_euro_rotations

_SHAPE_FRAMES: Final = 24  # frames that the shape is fitted to
_CANDIDATES: Final = 2000  # frames, spread over the clip, that they are chosen from
_USUAL: Final = 0.95  # share of the candidates that are not outliers
_ROUGH_ITERATIONS: Final = 6
_MAX_HEAD_FREQUENCY: Final = 5.0  # Hz; a head that nods or shakes does so three times a second at most
_NEAR_NYQUIST: Final = 0.4  # the cut-off is never above this share of the frame rate


@dataclass(frozen=True)
class Timing:
    """Which fitted frames follow each other, and how fast.

    Attributes:
        stretches: indices of fitted frames in runs without a gap or a cut.
        fps: frames per second; 0 if unknown: then nothing is smoothed.
    """

    stretches: list[Tensor]
    fps: float


def fit_clip(
    head: HeadModel,
    observed: Observations,
    timing: Timing,
    shape: Tensor | None,
    config: FitConfig,
    report: Progress,
) -> Fit:
    """Fit every frame of a clip, then refit it with its smoothed neighbours as a prior.

    Args:
        head: the head model.
        observed: detections of the T frames with the person.
        timing: their order in time.
        shape: (S,) known shape; None fits one to the frames that differ most.
        config: weights.
        report: called with (fraction, message).
    """
    if shape is None:
        shape = fit_landmarks(head, observed[_diverse(observed)], config=config).params.shape
    report(0.2, "Fitting every frame")
    rough = fit_landmarks(head, observed, shape=shape, config=config.with_iterations(_ROUGH_ITERATIONS))
    report(0.6, "Smoothing")
    expected = smoothed(rough.params, timing)
    anchor = Anchor(expected, rotation_sigma=0.004, translation_sigma=0.001, expression_sigma=0.06, angle_sigma=0.015)
    fit = fit_landmarks(head, observed, shape=shape, start=rough.params, anchor=anchor, config=config)
    report(1.0, "Fitted")
    return Fit(smoothed(fit.params, timing), fit.focal, fit.error)


def unbroken(seen: Tensor, shot: Tensor) -> list[Tensor]:
    """Split the frames with the person, counted from 0, into runs without a gap or a cut.

    Args:
        seen: (T,) bool, frames with the person.
        shot: (T,) number of the shot.
    """
    numbers = seen.nonzero().squeeze(1)
    breaks = (numbers.diff() > 1) | (shot[numbers].diff() != 0)
    return list(torch.tensor_split(torch.arange(len(numbers)), breaks.nonzero().squeeze(1) + 1))


def smoothed(params: HeadParams, timing: Timing) -> HeadParams:
    """Zero-phase filtering of every unbroken stretch of frames.

    A low-pass removes head motion that is faster than a head can shake. One-euro filters then smooth pose and face, the
    more the slower they move.
    """
    fps = timing.fps
    if fps <= 0:
        return params
    cutoff = min(_MAX_HEAD_FREQUENCY, _NEAR_NYQUIST * fps)
    parts = []
    for stretch in timing.stretches:
        part = params[stretch]
        rotation = low_pass_rotations(part.rotation, fps, cutoff)
        translation = low_pass(part.translation, fps, cutoff)
        parts.append(
            part.replace(
                expression=one_euro(part.expression, fps, 3.0, 6.0, zero_phase=True),
                rotation=one_euro_rotations(rotation, fps, 1.0, 14.0, zero_phase=True),
                translation=one_euro(translation, fps, 1.0, 70.0, zero_phase=True),
                jaw=one_euro(part.jaw, fps, 3.0, 30.0, zero_phase=True),
                eyes=one_euro(part.eyes, fps, 3.0, 20.0, zero_phase=True),
            )
        )
    return HeadParams.cat(parts)


def with_held_frames(params: HeadParams, seen: Tensor, trust: Tensor, shot: Tensor) -> HeadParams:
    """Parameters for all T frames; a frame without a trusted face gets those of the trusted frame before it.

    Before the first trusted frame of a shot it gets that frame's; a shot without any gets those of the shot before.

    Args:
        params: of the frames with the person.
        seen: (T,) bool, frames with the person.
        trust: (T,) confidence; 0 where the parameters are not trusted.
        shot: (T,) number of the shot.
    """
    own = torch.full((len(seen),), -1, dtype=torch.long)
    own[seen] = torch.arange(len(params))
    trusted = (trust > 0) if bool((trust > 0).any()) else seen
    source = [-1] * len(seen)
    last, last_shot = -1, -1
    for index, (mine, good, number) in enumerate(zip(own.tolist(), trusted.tolist(), shot.tolist())):
        if good:
            last, last_shot = mine, number
        source[index] = last if last_shot == number else -1
    following, following_shot, before = -1, -1, -1
    for index in reversed(range(len(source))):
        if trusted[index]:
            following, following_shot = int(own[index]), int(shot[index])
        elif source[index] < 0 and following_shot == int(shot[index]):
            source[index] = following
    first = int(own[trusted][0])
    for index, value in enumerate(source):  # shots without a trusted frame
        before = value if value >= 0 else before
        source[index] = value if value >= 0 else max(before, first)
    return params[torch.tensor(source)]


def _diverse(observed: Observations) -> Tensor:
    """Indices of frames that differ most in pose and expression: farthest-point sampling without outliers."""
    if len(observed) <= _SHAPE_FRAMES:
        return torch.arange(len(observed))
    candidates = torch.arange(0, len(observed), -(-len(observed) // _CANDIDATES))
    points = observed.points[candidates]
    features = (points - points.mean(1, keepdim=True)) / eye_distance(points).median()
    features = features.flatten(1)
    distance = (features - features.median(0).values).norm(dim=1)
    usual = (distance <= torch.quantile(distance, _USUAL)).nonzero().squeeze(1)
    features, chosen = features[usual], [int(distance[usual].argmin())]
    distance = (features - features[chosen[0]]).norm(dim=1)
    while len(chosen) < _SHAPE_FRAMES and float(distance.max()) > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=1))
    return candidates[usual[torch.tensor(sorted(chosen))]]
