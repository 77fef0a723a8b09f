"""A motion: ARKit-52 weights and head pose over time.

It belongs to nobody's head: :meth:`Motion.to_track` turns it into the parameters of one head model, and
:meth:`Motion.from_track` reads it off a tracked video.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, mean_rotation
from spatialavatar.records import Camera, Track
from spatialavatar.tracking.cues import believed_scores
from spatialavatar.tracking.neutral import calm_frames, resting_units

_HELD_FPS = 25.0  # of a single frame, where any rate would do
_LARGEST_WEIGHT = 2.0  # exaggerated captures go a little over 1; percent and degrees go far over
_HEAD_HEIGHT_IN_VIEW = 0.62  # share of the picture's height that the resting head takes


@dataclass(frozen=True)
class Motion:
    """T frames of face and head motion, independent of any head.

    Attributes:
        weights: (T, 52) float32 ARKit weights in the order of ``ARKIT_52``; 0 is neutral, 1 the full unit.
        rotation: (T, 3) float32 head rotation, axis-angle, radians, head space; 0 faces the camera.
        translation: (T, 3) float32 displacement from the resting place, metres, head space.
        fps: frames per second.
        title: what the motion shows, for people.
        valid: (T,) bool, False where the capture lost the face and the frame before is held; None if all are good.
        neutral: (52,) weights of the person's own resting face, which driving takes off; None means all 0.
        neutral_rotation: (3,) head rotation, axis-angle, that counts as facing the viewer; None means 0.
        warnings: plain sentences about the file it was read from.
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
            InputError: shapes disagree, a value is not finite or far out of range, or the motion has no frame.
        """
        count = len(self.weights)
        if count == 0:
            raise InputError("The motion has no frames.")
        for name, width in (("weights", len(ARKIT_52)), ("rotation", 3), ("translation", 3)):
            tensor = getattr(self, name)
            if tuple(tensor.shape) != (count, width):
                raise InputError(f"The motion's {name} have shape {tuple(tensor.shape)}, not ({count}, {width}).")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"The motion's {name} hold values that are not finite; export the motion again.")
        for name, width in (("neutral", len(ARKIT_52)), ("neutral_rotation", 3)):
            tensor = getattr(self, name)
            if tensor is not None and not (tuple(tensor.shape) == (width,) and bool(torch.isfinite(tensor).all())):
                raise InputError(f"The motion's {name} is not {width} finite numbers; export the motion again.")
        if not (math.isfinite(self.fps) and 0.0 < self.fps <= 1000.0):
            raise InputError(f"The motion plays at {self.fps} frames per second; it needs a rate from 1 to 1000.")
        largest = float(self.weights.abs().max())
        if largest > _LARGEST_WEIGHT:
            raise InputError(f"The motion has a weight of {largest:g}; ARKit weights go from 0 to 1, not to 100.")

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    def to_track(self, head: HeadModel) -> Track:
        """The motion as parameters of ``head`` with its mean shape, seen by a frontal 512-pixel camera.

        The whole head rotation goes to the global joint, as the tracker has it. Without a neutral of its own the
        motion's is the neutral of ``head``, and its rotations are relative to the camera.
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
            params=params,
            camera=Camera.frontal().to(head.device),
            fps=self.fps,
            head_id=head.id,
            confidence=confidence,
            blendshapes=self.weights,
            neutral_expression=neutral,
            neutral_rotation=facing.to(head.device),
            warnings=self.warnings,
        )

    def rested(self) -> Motion:
        """The same motion with its neutral taken off, for formats that cannot say what the resting face is."""
        weights, rotation = self.weights, self.rotation
        if self.neutral is not None:
            weights = (weights - self.neutral).clamp_min(0.0)
        if self.neutral_rotation is not None:
            facing = axis_angle_to_matrix(self.neutral_rotation)
            rotation = matrix_to_axis_angle(axis_angle_to_matrix(rotation) @ facing.T)
        return replace(self, weights=weights, rotation=rotation, neutral=None, neutral_rotation=None)

    @staticmethod
    def cat(parts: Sequence[Motion], title: str = "") -> Motion:
        """Play motions of one frame rate one after the other, each relative to its own neutral."""
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
        """One frame: ARKit units by name, the others at rest, and the head's pose.

        Args:
            units: weights, 0 to 1.
            yaw: degrees about the head's y axis; positive turns to the subject's left.
            pitch: degrees about x; positive looks down.
            roll: degrees about z, applied first; positive leans to the subject's right.
            title: what it shows, for people.

        Raises:
            InputError: there is no unit of a name, or a value is not finite or far out of range.
        """
        if unknown := sorted(set(units) - set(ARKIT_52)):
            raise InputError(f"{unknown[0]!r} is no ARKit unit; docs/motion.md lists all 52.")
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

        What the person's face and head are like at rest goes along as the motion's neutral. Frames without a face hold
        the frame before.

        Raises:
            InputError: the track holds no blendshape scores, or is a photo.
        """
        scores = track.blendshapes
        if scores is None:
            raise InputError("The track holds no blendshape scores; track the video again with this release.")
        if track.fps <= 0:
            raise InputError("A photo has no motion; track a video.")
        track = track.replace(images=None, mattes=None, segments=None).to("cpu")
        weights, translation, seen = scores.cpu().float(), track.params.translation.float(), track.confidence > 0
        rotation = track.params.rotation.float()
        neutral, facing = None, track.neutral_rotation
        if track.landmarks is not None:  # scores of the network, which do not rest at zero; not a capture's weights
            weights = _held(believed_scores(weights), seen)
            neutral = resting_units(weights[calm_frames(track.params, track.confidence)], weights[seen])
        if facing is None and bool(seen.any()):
            facing = matrix_to_axis_angle(mean_rotation(axis_angle_to_matrix(rotation[seen])))
        return cls(
            weights=weights,
            rotation=rotation,
            translation=translation - translation.median(0).values,
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
    parts = head.having("face", "scalp", "ears")
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
