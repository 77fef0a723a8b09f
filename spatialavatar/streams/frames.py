"""One frame of live motion, which every protocol reads and writes, and its checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.motion import Motion

_LARGEST_WEIGHT: Final = 2.0  # as in motion files: captures exaggerate a little over 1, and percent are refused
_FARTHEST: Final = 100.0  # metres


@dataclass(frozen=True, eq=False)
class MotionFrame:
    """A face and a head at one moment, independent of any head model.

    Attributes:
        weights: (52,) float32 ARKit weights in the order of ``ARKIT_52``; 0 is neutral, 1 the full unit.
        rotation: (3,) float32 head rotation, axis-angle, radians, head space; 0 faces the camera.
        translation: (3,) float32 place of the head, metres, head space; its zero is that of the protocol.
        seen: whether the sender has a face; without one the values are those of the frame before.
    """

    weights: NDArray[np.float32]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    seen: bool = True


def rest_frame() -> MotionFrame:
    """A calm face that looks ahead."""
    return MotionFrame(np.zeros(len(ARKIT_52), np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32))


def file_frames(motion: Motion) -> Iterator[MotionFrame]:
    """The frames of a motion file, relative to its neutral."""
    motion = motion.rested()
    seen = [True] * len(motion) if motion.valid is None else motion.valid.tolist()
    for row, valid in enumerate(seen):
        yield MotionFrame(
            motion.weights[row].float().numpy(),
            motion.rotation[row].float().numpy(),
            motion.translation[row].float().numpy(),
            bool(valid),
        )


def checked_weights(weights: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    """``weights`` as float32, if every one of them is plausible.

    Raises:
        FormatError: one is not finite, or larger than captures have.
    """
    return _checked(weights, _LARGEST_WEIGHT)


def checked_weight(weight: float) -> float:
    """``weight``, if it is plausible.

    Raises:
        FormatError: it is not finite, or larger than captures have.
    """
    if not abs(weight) <= _LARGEST_WEIGHT:  # NaN compares false
        raise FormatError("A weight of the packet is not plausible.")
    return weight


def checked_place(values: Sequence[float]) -> NDArray[np.float32]:
    """(3,) metres.

    Raises:
        FormatError: a value is not finite, or too far away.
    """
    return _checked(values, _FARTHEST)


def _checked(values: Sequence[float] | NDArray[np.float64], limit: float) -> NDArray[np.float32]:
    numbers = np.asarray(values, np.float64)
    if not bool((np.abs(numbers) <= limit).all()):  # NaN compares false
        raise FormatError(f"A value of the packet is not plausible: it exceeds {limit:g}.")
    return numbers.astype(np.float32)


def axis_angle(rotation: Rotation) -> NDArray[np.float32]:
    """(3,) axis-angle."""
    return rotation.as_rotvec().astype(np.float32)


def from_yaw_pitch_roll(yaw: float, pitch: float, roll: float, largest: float) -> NDArray[np.float32]:
    """(3,) axis-angle of a roll about z, then a pitch about x, then a yaw about y, radians.

    Raises:
        FormatError: an angle is not finite or exceeds ``largest``.
    """
    if not all(abs(angle) <= largest for angle in (yaw, pitch, roll)):  # NaN compares false
        raise FormatError("The head angles of the packet are not plausible.")
    return axis_angle(Rotation.from_euler("YXZ", [yaw, pitch, roll]))


def to_yaw_pitch_roll(rotation: NDArray[np.float32]) -> tuple[float, float, float]:
    """Inverse of :func:`from_yaw_pitch_roll` for pitches under 90 degrees."""
    yaw, pitch, roll = Rotation.from_rotvec(rotation).as_euler("YXZ")
    return float(yaw), float(pitch), float(roll)
