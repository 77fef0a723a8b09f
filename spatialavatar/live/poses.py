"""Frames of a stream as the poses of one head model."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch

from spatialavatar.head import HeadModel
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, mean_rotation
from spatialavatar.motion import Motion
from spatialavatar.motion.record import resting_place
from spatialavatar.records import Neutral, Track
from spatialavatar.streams import MotionFrame

_CALIBRATION: Final = 1.0  # seconds with a face, in which the resting pose is estimated
_FARTHEST: Final = 5.0  # metres from the resting place, as in motion files
_RATE: Final = 25.0  # of a track of one frame, whose rate has no effect


class RestingPose:
    """The pose at rest of whom a stream shows, estimated in the first second with a face.

    Attributes:
        facing: (3,) rotation that looks ahead, axis-angle; 0 unless rotations are relative to a camera that stands
            anywhere.
        home: (3,) mean place, metres.
    """

    def __init__(self, from_camera: bool) -> None:
        """Start the calibration.

        Args:
            from_camera: whether rotations are relative to a camera that stands anywhere.
        """
        self._from_camera = from_camera
        self._matrices: list[torch.Tensor] = []
        self._places: list[torch.Tensor] = []
        self._began: float | None = None
        self.facing, self.home = torch.zeros(3), torch.zeros(3)

    def observe(self, frame: MotionFrame, at: float) -> None:
        """Use a frame, if it belongs to the first second.

        Args:
            frame: the frame.
            at: when it came, seconds.
        """
        if not frame.seen:
            return
        self._began = at if self._began is None else self._began
        if self._places and at - self._began > _CALIBRATION:
            return
        self._places.append(torch.from_numpy(frame.translation))
        self.home = torch.stack(self._places).mean(0)
        if self._from_camera:
            self._matrices.append(axis_angle_to_matrix(torch.from_numpy(frame.rotation)))
            self.facing = matrix_to_axis_angle(mean_rotation(torch.stack(self._matrices)))

    def relative(self, frame: MotionFrame) -> MotionFrame:
        """The frame relative to the pose at rest."""
        turned = axis_angle_to_matrix(torch.from_numpy(frame.rotation)) @ axis_angle_to_matrix(self.facing).T
        place = torch.from_numpy(frame.translation) - self.home
        return replace(frame, rotation=matrix_to_axis_angle(turned).numpy(), translation=place.numpy())


class StreamPoses:
    """Converts frames, one by one, to tracks of one frame, for driving.

    Displacements are relative to the mean place in the first second. Where the protocol's rotations are relative to a
    camera that stands anywhere, they are relative to their mean in that second too, as with our own tracker.
    """

    def __init__(self, head: HeadModel, from_camera: bool) -> None:
        """Start the calibration.

        Args:
            head: the head model.
            from_camera: whether rotations are relative to a camera that stands anywhere.
        """
        self._head, self._rest = head, RestingPose(from_camera)

    def track(self, frame: MotionFrame, at: float) -> Track:
        """The frame as a track.

        Args:
            frame: the frame.
            at: when it came, seconds.
        """
        self._rest.observe(frame, at)
        place = torch.from_numpy(frame.translation) - self._rest.home
        motion = Motion(
            weights=torch.from_numpy(frame.weights)[None],
            rotation=torch.from_numpy(frame.rotation)[None],
            translation=place[None].clamp(-_FARTHEST, _FARTHEST),
            fps=_RATE,
            valid=torch.tensor([frame.seen]),
            neutral_rotation=self._rest.facing,
        )
        track = motion.to_track(self._head)
        neutral = track.neutral
        home = Neutral(neutral.expression, neutral.rotation, resting_place(self._head))
        return replace(track, motion=replace(track.motion, neutral=home))
