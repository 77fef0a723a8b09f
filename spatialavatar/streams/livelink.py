"""Packets of Epic's Live Link Face app (iPhone, ARKit): one packet a frame, big-endian.

Source: the layout that Unreal Engine's plug-in AppleARKitFaceSupport and PyLiveLinkFace (MIT) read, version 6:

    uint8 version; int32 length, device id; int32 length, subject name;
    int32 frame, float32 sub-frame, int32 rate, int32 rate's denominator;
    uint8 61; float32 x 61: the 52 ARKit units, then yaw, pitch and roll of the head, the left and the right eye

A packet without a face ends before the count. The angles are defined as in the app's CSV files
(docs/reference/motion.md); those of the eyes repeat the eyeLook units and are not read.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.streams.frames import (
    MotionFrame,
    checked_weights,
    from_yaw_pitch_roll,
    rest_frame,
    to_yaw_pitch_roll,
)

PORT: Final = 11111

_VERSION: Final = 6
_LONGEST_NAME: Final = 256  # bytes
_TIME: Final = struct.Struct(">ifii")
_VALUES: Final = struct.Struct(">B61f")
_LARGEST_ANGLE: Final = 3.15  # radians; degrees are larger
_DEVICE: Final = "00000000-0000-0000-0000-000000000000"  # as long as the app's; PyLiveLinkFace assumes that length
_SUBJECT: Final = "SpatialAvatar"

ORDER: Final = (
    *(f"eye{part}Left" for part in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")),
    *(f"eye{part}Right" for part in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")),
    *("jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft"),
    *("mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft"),
    *("mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft"),
    *("mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp"),
    *("browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft"),
    *("noseSneerRight", "tongueOut"),
)
"""The units in the packet's order, that of Unreal's EARFaceBlendShape."""

_COLUMNS: Final = [ARKIT_INDEX[name] for name in ORDER]


class LiveLinkDecoder:
    """Packets to frames."""

    def __init__(self) -> None:
        self._last = rest_frame()

    def decode(self, packet: bytes) -> MotionFrame:
        """The frame of a packet; without a face the one before, which is marked so.

        Raises:
            FormatError: the packet has an unknown layout or version, or a value is not plausible.
        """
        if not packet or packet[0] != _VERSION:
            raise FormatError("The packet is not from Live Link Face, version 6.")
        names = _skip_text(packet, _skip_text(packet, 1))
        at = names + _TIME.size
        if len(packet) < at + _VALUES.size:
            if len(packet) not in (names, at, at + 1):
                raise FormatError("The packet of Live Link Face is cut short.")
            self._last = MotionFrame(self._last.weights, self._last.rotation, self._last.translation, seen=False)
            return self._last
        count, *values = _VALUES.unpack_from(packet, at)
        if count != _VALUES.size // 4:
            raise FormatError(f"The packet of Live Link Face has {count} values instead of 61.")
        weights = np.zeros(len(ARKIT_52))
        weights[_COLUMNS] = values[: len(ORDER)]
        yaw, pitch, roll = values[52:55]
        rotation = from_yaw_pitch_roll(yaw, pitch, roll, _LARGEST_ANGLE)
        self._last = MotionFrame(checked_weights(weights), rotation, self._last.translation)
        return self._last


def _skip_text(packet: bytes, at: int) -> int:
    """Where the field after a text with its length begins."""
    length = int.from_bytes(packet[at : at + 4], "big", signed=True)
    end = at + 4 + length
    if not 0 <= length <= _LONGEST_NAME or end > len(packet):
        raise FormatError("The packet of Live Link Face is cut short.")
    return end


def encode(frame: MotionFrame, seconds: float) -> list[bytes]:
    """A frame as the app's packet, at 60 frames a second; without a face, without values.

    Args:
        frame: the frame.
        seconds: time since the sender's start.
    """
    number, part = divmod(60.0 * seconds, 1.0)
    names = b"".join(len(name).to_bytes(4, "big") + name.encode() for name in (_DEVICE, _SUBJECT))
    packet = bytes([_VERSION]) + names + _TIME.pack(int(number) & 0x7FFFFFFF, part, 60, 1)
    if frame.seen:
        angles = to_yaw_pitch_roll(frame.rotation)
        packet += _VALUES.pack(61, *frame.weights[_COLUMNS].tolist(), *angles, *[0.0] * 6)
    return [packet]
