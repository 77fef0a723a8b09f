"""A motion: ARKit-52 weights and head pose over time, independent of any head model.

:meth:`Motion.to_track` converts it to the parameters of one head model; :meth:`Motion.from_track` computes it from a
tracked video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, mean_rotation
from spatialavatar.motion.schema import (
    NEUTRAL,
    NEUTRAL_ROTATION,
    ROTATION,
    TRANSLATION,
    WEIGHTS,
    check_rate,
)
from spatialavatar.records import Camera, Evidence, HeadMotion, Neutral, Track
from spatialavatar.tracking.cues import rescaled_scores
from spatialavatar.tracking.neutral import resting_units

_HELD_FPS = 25.0  # of a motion of one frame, whose rate has no effect
_HEAD_HEIGHT_IN_VIEW = 0.62  # height of the resting head as a share of the picture's height


@dataclass(frozen=True)
class Motion:
    """T frames of face and head motion, independent of any head.

    Attributes:
        weights: (T, 52) float32 ARKit weights in the order of ``ARKIT_52``; 0 is neutral, 1 the full unit.
        rotation: (T, 3) float32 head rotation, axis-angle, radians, head space; 0 faces the camera.
        translation: (T, 3) float32 displacement from the resting place, metres, head space.
        fps: frames per second.
        title: a description of the motion.
        valid: (T,) bool, False where the capture has no face and the frame before is held; None if all have one.
        neutral: (52,) weights of the person's resting face, which driving subtracts; None means all 0.
        neutral_rotation: (3,) head rotation, axis-angle, radians, that faces the viewer; None means 0.
        warnings: sentences about the file that the motion was read from.
    """

    weights: Tensor
    rotation: Tensor
    translation: Tensor
    fps: float
    title: str = ""
    valid: Tensor | None = None
    neutral: Tensor | None = None
    neutral_rotation: Tensor | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            InputError: shapes disagree, a value is not finite or not plausible, or the motion has no frame.
        """
        count = len(self.weights)
        if count == 0:
            raise InputError("The motion has no frames; give a longer one.")
        shapes = {field: (count, field.width) for field in (WEIGHTS, ROTATION, TRANSLATION)}
        shapes |= {field: (field.width,) for field in (NEUTRAL, NEUTRAL_ROTATION)}
        for field, shape in shapes.items():
            tensor: Tensor | None = getattr(self, field.name)
            if tensor is None and len(shape) == 1:
                continue
            if tensor is None or tuple(tensor.shape) != shape:
                found = None if tensor is None else tuple(tensor.shape)
                raise InputError(f"The {field.name} of the motion must have shape {shape}, not {found}.")
            field.check(tensor.numpy(force=True), "the motion")
        if self.valid is not None and tuple(self.valid.shape) != (count,):
            raise InputError(f"The valid flags of the motion must have shape ({count},).")
        check_rate(self.fps, "the motion")

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    def to_track(self, head: HeadModel) -> Track:
        """The motion as parameters of ``head`` with its mean shape, seen by a frontal 512-pixel camera.

        The root joint takes the whole head rotation, as in tracked videos. A motion without a neutral is relative to
        the neutral of ``head`` and to the camera.
        """
        weights = self.weights.to(head.device)
        expression, jaw, eyes = head.from_arkit(weights)
        params = head.neutral(len(self)).replace(
            expression=expression,
            jaw=jaw,
            eyes=eyes,
            rotation=self.rotation.to(head.device),
            translation=self.translation.to(head.device) + resting_place(head),
        )
        confidence = torch.ones(len(self)) if self.valid is None else self.valid.float()
        neutral = torch.zeros(head.expression_count + 9, device=head.device)
        if self.neutral is not None:
            neutral = torch.cat(head.from_arkit(self.neutral[None].to(head.device)), -1)[0]
        facing = torch.zeros(3) if self.neutral_rotation is None else self.neutral_rotation
        return Track(
            motion=HeadMotion(params, self.fps, head.id, confidence, Neutral(neutral, facing.to(head.device))),
            camera=Camera.frontal().to(head.device),
            evidence=Evidence(landmarks=None, blendshapes=self.weights),
            warnings=self.warnings,
        )

    def rested(self) -> Motion:
        """The same motion relative to its neutral, for formats that cannot store one."""
        weights, rotation = self.weights, self.rotation
        if self.neutral is not None:
            weights = (weights - self.neutral).clamp(0.0, WEIGHTS.limit)
        if self.neutral_rotation is not None:
            facing = axis_angle_to_matrix(self.neutral_rotation)
            rotation = matrix_to_axis_angle(axis_angle_to_matrix(rotation) @ facing.T)
        return replace(self, weights=weights, rotation=rotation, neutral=None, neutral_rotation=None)

    @staticmethod
    def cat(parts: Sequence[Motion], title: str = "") -> Motion:
        """Join motions of one frame rate in time, each relative to its own neutral.

        Raises:
            InputError: there is no motion, or their frame rates differ.
        """
        parts = [part.rested() for part in parts]
        if len({part.fps for part in parts}) != 1:
            raise InputError("Only motions of one frame rate can be joined.")
        valid = [torch.ones(len(part), dtype=torch.bool) if part.valid is None else part.valid for part in parts]
        return Motion(
            weights=torch.cat([part.weights for part in parts]),
            rotation=torch.cat([part.rotation for part in parts]),
            translation=torch.cat([part.translation for part in parts]),
            fps=parts[0].fps,
            title=title,
            valid=torch.cat(valid),
        )

    @classmethod
    def held(
        cls, units: Mapping[str, float], yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, title: str = ""
    ) -> Motion:
        """A motion of one frame: ARKit units by name, the others at 0, and the head pose.

        Args:
            units: weights, 0 to 1.
            yaw: degrees about the head's y axis; positive turns to the subject's left.
            pitch: degrees about x; positive looks down.
            roll: degrees about z, applied first; positive leans to the subject's right.
            title: a description.

        Raises:
            InputError: a name is not an ARKit unit, or a value is not finite or not plausible.
        """
        if unknown := sorted(set(units) - set(ARKIT_52)):
            raise InputError(f"{unknown[0]!r} is not an ARKit unit; docs/reference/motion.md lists all 52.")
        angles = torch.tensor([[yaw, pitch, roll]], dtype=torch.float64).deg2rad()
        return cls(
            weights=torch.tensor([[float(units.get(name, 0.0)) for name in ARKIT_52]]),
            rotation=yaw_pitch_roll_to_axis_angle(angles).float(),
            translation=torch.zeros(1, 3),
            fps=_HELD_FPS,
            title=title,
        )

    @classmethod
    def from_track(cls, track: Track, title: str = "") -> Motion:
        """The motion of a tracked video: its blendshape scores, its rotation, its translation about the median.

        Each unit of the neutral is a low quantile of its own values. Frames without a face hold the frame before.

        Raises:
            InputError: the track has no blendshape scores, or is a photo.
        """
        evidence = track.require_evidence()
        if track.fps <= 0:
            raise InputError("A photo has no motion; track a video.")
        track = track.without_pictures().to("cpu")
        weights, translation = evidence.blendshapes.cpu().float(), track.params.translation.float()
        rotation, seen = track.params.rotation.float(), track.confidence > 0
        neutral, facing = None, track.neutral.rotation
        if evidence.landmarks is not None:  # scores of the network, which do not rest at zero; not a capture's weights
            weights = _held(rescaled_scores(weights), seen)
            neutral = resting_units(weights[track.confidence >= 0.5 * track.confidence.max()], ARKIT_52)
        if facing is None and bool(seen.any()):
            facing = matrix_to_axis_angle(mean_rotation(axis_angle_to_matrix(rotation[seen])))
        return cls(
            weights=weights,
            rotation=rotation,
            translation=(translation - translation.median(0).values).clamp(-TRANSLATION.limit, TRANSLATION.limit),
            fps=float(track.fps),
            title=title,
            valid=seen,
            neutral=neutral,
            neutral_rotation=facing,
        )


def _held(weights: Tensor, seen: Tensor) -> Tensor:
    """Weights (T, 52) with those of unseen frames taken from the frame before, the first ones from the first seen."""
    if not bool(seen.any()):
        return weights
    source = torch.where(seen, torch.arange(len(seen)), -1).cummax(0).values
    return weights[torch.where(source < 0, int(seen.nonzero()[0]), source)]


def resting_place(head: HeadModel) -> Tensor:
    """(3,) world translation that centres the mean skull in the frontal camera's picture, metres."""
    parts = head.available_parts("face", "scalp", "ears")
    skull = head.template[head.part_vertices(*parts)] if parts else head.template
    low, high = skull.amin(0), skull.amax(0)
    camera = Camera.frontal()
    distance = float(high[1] - low[1]) * float(camera.intrinsics[1, 1]) / (_HEAD_HEIGHT_IN_VIEW * camera.height)
    away = torch.tensor([0.0, 0.0, -distance], device=head.device)
    return away - (low + high) / 2


def yaw_pitch_roll_to_axis_angle(angles: Tensor) -> Tensor:
    """(T, 3) yaw about y, pitch about x, roll about z, radians, applied roll first, to axis-angle (T, 3)."""
    yaw, pitch, roll = angles.unbind(-1)
    zero = torch.zeros_like(yaw)
    turn, nod, tilt = (
        axis_angle_to_matrix(torch.stack(axis, -1))
        for axis in ((zero, yaw, zero), (pitch, zero, zero), (zero, zero, roll))
    )
    return matrix_to_axis_angle(turn @ nod @ tilt)


def axis_angle_to_yaw_pitch_roll(rotation: Tensor) -> Tensor:
    """Inverse of :func:`yaw_pitch_roll_to_axis_angle` for pitches under 90 degrees."""
    matrix = axis_angle_to_matrix(rotation)
    yaw = torch.atan2(matrix[:, 0, 2], matrix[:, 2, 2])
    pitch = torch.asin((-matrix[:, 1, 2]).clamp(-1.0, 1.0))
    roll = torch.atan2(matrix[:, 1, 0], matrix[:, 1, 1])
    return torch.stack([yaw, pitch, roll], -1)
