"""The measured response of an avatar to its expression units, and the gains that compensate it.

The landmark network scores a fully raised brow of the open head .3 and a full pucker .9, and the scores differ from
avatar to avatar. A few expressions of the avatar are therefore rendered and scored. The inverse of this response
replaces the curves of :mod:`.transfer_gain`, so that the network scores the avatar as it scored the driver.

The pucker keeps its usual curve: alone on a face at rest it is scored more than in a performance, where other units
move the mouth, too, so that the inverse of its response is too small (docs/results/tracking.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.records import Camera, HeadParams, Track, as_uint8_image
from spatialavatar.render import render
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking.cues import rescaled_scores
from spatialavatar.tracking.landmarker import LANDMARK_COUNT, FaceLandmarker, FaceLandmarks
from spatialavatar.transfer_gain import CURVES, HIGHEST, KNOTS, Gains

_BROWS: Final = (
    {"browInnerUp": 0.6, "browOuterUp": 0.6},
    {"browInnerUp": 1.2, "browOuterUp": 1.2},
    {"browInnerUp": 2.0, "browOuterUp": 2.0},
    {"browDown": 0.6},
    {"browDown": 1.2},
    {"browDown": 1.8},
)
_MOUTHS: Final = (
    {"mouthSmile": 0.3},
    {"mouthSmile": 0.6},
    {"mouthSmile": 1.0},
    {"mouthPucker": 0.35},
    {"mouthPucker": 0.65},
    {"mouthPucker": 1.0},
    {"mouthFunnel": 0.5, "mouthPucker": 0.3, "jawOpen": 0.2},
    {"mouthFunnel": 1.0, "mouthPucker": 0.3, "jawOpen": 0.2},
    {"mouthFunnel": 1.5, "mouthPucker": 0.3, "jawOpen": 0.2},
    {"mouthStretch": 0.7, "mouthLowerDown": 0.4, "mouthUpperUp": 0.3, "jawOpen": 0.15},
    {"mouthStretch": 1.4, "mouthLowerDown": 0.4, "mouthUpperUp": 0.3, "jawOpen": 0.15},
    {"mouthStretch": 2.0, "mouthLowerDown": 0.4, "mouthUpperUp": 0.3, "jawOpen": 0.15},
)
"""Expressions that are rendered; brows and mouth do not affect each other's scores and share a picture. The first unit
of a mouth is the measured one; the others accompany it in faces."""
_UNMEASURED: Final = ("mouthPucker",)
"""Units that keep their usual curve; pictures of them measure the brows only."""
_STEEPEST: Final = 3.5  # weight per unit of score; a flat start of a response would turn noise into motion
_GENTLEST: Final = 0.5
_FLAT: Final = 0.02  # change of the score below which a unit has no response

_MATCHED: Final = {
    "browUp": (0.04, 0.4, 1.6),
    "browDown": (0.04, 0.4, 1.6),
    "mouthSmile": (0.04, 0.5, 1.6),
    "mouthPucker": (0.04, 0.4, 2.0),
    "mouthFunnel": (0.04, 0.4, 2.0),
    "mouthStretch": (0.04, 0.3, 2.0),
    "gaze": (0.04, 0.8, 1.4),
    "lips": (0.02, 0.8, 1.35),
}
"""Of each measure: the standard deviation above which the driver moves in it, and the lowest and highest factor."""
_MIN_FRAMES: Final = 6
_EVEN_FRAMES: Final = 12  # frames spread over the clip; the one with the most of each measure is added


def measured_gains(avatar: Avatar, camera: Camera, home: torch.Tensor, landmarker: FaceLandmarker) -> Gains:
    """Gains of an avatar with named units; the usual ones where the network finds no face on it.

    Args:
        avatar: the avatar.
        camera: sees its face from the front.
        home: (3,) translation of the head before this camera, metres.
        landmarker: the landmark network.
    """
    rest = _scores(avatar, camera, home, landmarker, {})
    if rest is None:
        return Gains()
    samples: dict[str, list[tuple[float, float]]] = {}
    for brows, mouth in zip(itertools.cycle(_BROWS), _MOUTHS):
        found = _scores(avatar, camera, home, landmarker, {**brows, **mouth})
        if found is None:
            continue
        for kind in (*brows, next(iter(mouth))):
            if kind in _UNMEASURED:
                continue
            weight = {**brows, **mouth}[kind]
            samples.setdefault(kind, []).append((weight, _of_kind(found, kind) - _of_kind(rest, kind)))
    return Gains({kind: _inverse(kind, pairs) for kind, pairs in samples.items()})


def _inverse(kind: str, samples: list[tuple[float, float]]) -> tuple[float, ...]:
    """The weight at each knot at which the score changes by as much as the knot."""
    highest = HIGHEST.get(kind, 1.25)
    by_weight: dict[float, list[float]] = {}
    for weight, change in samples:
        by_weight.setdefault(weight, []).append(change)
    weights = [0.0, *sorted(by_weight)]
    changes = [0.0]
    for weight in weights[1:]:
        changes.append(max(changes[-1] + 1e-3, float(np.mean(by_weight[weight]))))
    if changes[-1] < _FLAT:
        return CURVES[kind]
    slope = (weights[-1] - weights[-2]) / (changes[-1] - changes[-2])
    curve = []
    for knot in KNOTS:
        inside = knot <= changes[-1]
        weight = float(np.interp(knot, changes, weights)) if inside else weights[-1] + slope * (knot - changes[-1])
        curve.append(float(np.clip(weight, _GENTLEST * knot, min(highest, _STEEPEST * knot))))
    return tuple(curve)


def _of_kind(scores: np.ndarray, kind: str) -> float:
    """Mean score of a unit over its sides."""
    return float(np.mean([scores[index] for name, index in ARKIT_INDEX.items() if name.startswith(kind)]))


def _scores(
    avatar: Avatar, camera: Camera, home: torch.Tensor, landmarker: FaceLandmarker, units: Mapping[str, float]
) -> np.ndarray | None:
    """Calibrated scores (52,) of the avatar with these units on both sides; None where no face is found."""
    coefficients = torch.tensor([[_weight(units, name) for name in ARKIT_52]], device=home.device)
    expression, jaw, eyes = avatar.head.from_arkit(coefficients)
    params = avatar.head.neutral().replace(
        shape=avatar.shape, expression=expression, jaw=jaw, eyes=eyes, translation=home[None]
    )
    found = _seen(avatar, params, camera, landmarker)
    return None if found is None else rescaled_scores(torch.from_numpy(found.blendshapes)[None])[0].numpy()


def _seen(avatar: Avatar, params: HeadParams, camera: Camera, landmarker: FaceLandmarker) -> FaceLandmarks | None:
    """The detection on a render of one frame of parameters, on white."""
    with torch.inference_mode(), one_torch_thread():
        image, _ = render(avatar.pose(params), camera, background=avatar.shape.new_ones(3))
    return landmarker.locate(as_uint8_image(image))


def _weight(units: Mapping[str, float], name: str) -> float:
    return next((weight for kind, weight in units.items() if name.startswith(kind)), 0.0)


def matched_gains(
    gains: Gains, avatar: Avatar, track: Track, moved: HeadParams, camera: Camera, landmarker: FaceLandmarker
) -> Gains:
    """Gains at which the network measures the same amplitude on the avatar as on the driver of this performance.

    The response of single units does not contain their context: a pucker is scored less on an open mouth.

    Args:
        gains: those with which ``moved`` was made.
        avatar: the avatar.
        track: the performance of a tracked person.
        moved: the avatar's parameters for each of its frames.
        camera: sees the avatar.
        landmarker: the landmark network.
    """
    evidence = track.evidence
    if evidence is None or evidence.landmarks is None or evidence.landmarks.shape[1] != LANDMARK_COUNT:
        return gains
    driver = _measures(evidence.blendshapes.cpu().numpy(), evidence.landmarks.cpu().numpy())
    frames = _telling_frames(driver, (track.confidence > 0).cpu().numpy())
    found = {frame: _seen(avatar, moved[frame], camera, landmarker) for frame in frames}
    frames = [frame for frame in frames if found[frame] is not None]
    if len(frames) < _MIN_FRAMES:
        return gains
    faces = [face for face in found.values() if face is not None]
    shown = _measures(np.stack([face.blendshapes for face in faces]), np.stack([face.points for face in faces]))
    factor = {}
    for name, (least, low, high) in _MATCHED.items():
        wanted, got = float(driver[name][frames].std()), float(shown[name].std())
        factor[name] = float(np.clip(wanted / max(got, 1e-6), low, high)) if wanted > least else 1.0
    brows = dict.fromkeys(("browInnerUp", "browOuterUp"), factor["browUp"])
    units = {kind: value for kind, value in factor.items() if kind in CURVES}
    return replace(gains, factors={**units, **brows}, yaw=factor["gaze"], lips=factor["lips"])


def _measures(scores: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Series (T,) of what is matched, of scores (T, 52) and landmarks (T, 478, 2 or 3)."""

    def mean(*kinds: str) -> np.ndarray:
        return np.mean([scores[:, index] for name, index in ARKIT_INDEX.items() if name.startswith(kinds)], 0)

    lips = np.linalg.norm(points[:, 13, :2] - points[:, 14, :2], axis=1)
    eyes = np.linalg.norm(points[:, 33, :2] - points[:, 263, :2], axis=1)
    return {
        "browUp": mean("browInnerUp", "browOuterUp"),
        **{kind: mean(kind) for kind in ("browDown", "mouthSmile", "mouthPucker", "mouthFunnel", "mouthStretch")},
        "gaze": mean("eyeLookOutLeft", "eyeLookInRight") - mean("eyeLookInLeft", "eyeLookOutRight"),
        "lips": lips / np.maximum(eyes, 1e-6),
    }


def _telling_frames(measures: Mapping[str, np.ndarray], seen: np.ndarray) -> list[int]:
    """Frames spread over those with a face, and those with the most of each measure."""
    usable = seen.nonzero()[0]
    if not len(usable):
        return []
    places = np.linspace(0, len(usable) - 1, min(_EVEN_FRAMES, len(usable))).round().astype(int)
    chosen = set(usable[places].tolist())
    for series in measures.values():
        chosen.add(int(usable[series[usable].argmax()]))
    return sorted(chosen)
