"""Packets of the iFacialMocap app and of compatible programs: one text a frame.

Source: the app's page for developers (https://www.ifacialmocap.com/for-developer/), versions 1 and 2:

    mouthSmile_R-12|eyeLookOut_L-0|...|=head#x,y,z,px,py,pz|rightEye#x,y,z|leftEye#x,y,z|

Weights are percent, after ``-`` in version 1 and ``&`` in version 2. Angles are degrees, positions metres. The axes are
taken as ARKit's, which are those of head space: in the published packet, the eye angles then agree with the eyeLook
weights. The angles of the eyes repeat those weights and are not read.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.motion.units import unit_index
from spatialavatar.number_text import parse_float
from spatialavatar.streams.frames import (
    MotionFrame,
    checked_place,
    checked_weights,
    from_yaw_pitch_roll,
    rest_frame,
    to_yaw_pitch_roll,
)

PORT: Final = 49983

_MAX_PARTS: Final = 200
_MIN_UNITS: Final = 10  # a text with fewer is not a packet of the app
_HEAD: Final = "head#"
_SIDES: Final = {"_l": "left", "_r": "right"}


class IFacialMocapDecoder:
    """Packets to frames."""

    def __init__(self) -> None:
        self._last = rest_frame()

    def decode(self, packet: bytes) -> MotionFrame:
        """The frame of a packet.

        Raises:
            FormatError: the text is none of the app, or a value is not plausible.
        """
        try:
            parts = packet.decode("utf-8").split("|")
        except UnicodeDecodeError:
            raise FormatError("The packet is not text.") from None
        if len(parts) > _MAX_PARTS:
            raise FormatError("The packet has too many parts.")
        weights, count, head = np.zeros(len(ARKIT_52)), 0, None
        for part in (part.strip().removeprefix("=") for part in parts):
            if part.startswith(_HEAD):
                head = _head(part.removeprefix(_HEAD))
            elif "#" not in part and (unit := _unit(part)) is not None:
                weights[unit[0]] = unit[1]
                count += 1
        if count < _MIN_UNITS:
            raise FormatError("The packet is not from iFacialMocap.")
        rotation, place = head or (self._last.rotation, self._last.translation)
        self._last = MotionFrame(checked_weights(weights), rotation, place)
        return self._last


def _unit(part: str) -> tuple[int, float] | None:
    """Index and weight of a part; None for another part."""
    name, separator, percent = part.partition("&") if "&" in part else part.partition("-")
    name = name.strip().lower()
    index = unit_index(name[:-2] + _SIDES.get(name[-2:], name[-2:]))
    if index is None or not separator:
        return None
    return index, _number(percent) / 100.0


def _head(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and place from the six numbers of the head."""
    values = [_number(value) for value in text.split(",")]
    if len(values) != 6:
        raise FormatError("The head in the packet does not have six numbers.")
    pitch, yaw, roll = (math.radians(value) for value in values[:3])
    x, y, z = values[3:]
    return from_yaw_pitch_roll(yaw, pitch, roll, 2 * math.pi), checked_place((x, y, z))


def _number(text: str) -> float:
    try:
        return parse_float(text)
    except ValueError:
        raise FormatError("A value of the packet is not a number.") from None


def encode(frame: MotionFrame, _seconds: float) -> list[bytes]:
    """A frame as a packet of version 2, whose numbers have decimals.

    Args:
        frame: the frame.
    """
    parts = [f"{_short(name)}&{100 * weight:.3f}" for name, weight in zip(ARKIT_52, frame.weights.tolist())]
    yaw, pitch, roll = (math.degrees(angle) for angle in to_yaw_pitch_roll(frame.rotation))
    head = ",".join(f"{value:.5f}" for value in (pitch, yaw, roll, *frame.translation.tolist()))
    return ["|".join([*parts, f"={_HEAD}{head}", "rightEye#0,0,0", "leftEye#0,0,0", ""]).encode()]


def _short(name: str) -> str:
    """The app's spelling: ``eyeBlinkLeft`` is ``eyeBlink_L``, but ``jawLeft`` and ``mouthLeft`` have no sides."""
    if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return name
    return name.replace("Left", "_L").replace("Right", "_R")
