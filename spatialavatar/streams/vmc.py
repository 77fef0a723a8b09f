"""The Virtual Motion Capture protocol: ARKit weights as blendshape values, the head as bones, over OSC.

Source: the protocol's specification 3.1 (https://protocol.vmc.info/specification). Axes are Unity's (left-handed, x to
the model's right, y up, z forward), so x of positions and y, z of quaternions change their sign.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.motion.units import unit_index
from spatialavatar.streams.frames import MotionFrame, axis_angle, checked_place, checked_weight
from spatialavatar.streams.osc import Argument, read_message, split_packet, write_bundles, write_message

PORT: Final = 39539
"""The port of programs that receive whole motions ("Marionette")."""

_LARGEST_BUNDLE: Final = 1400  # bytes; the specification asks for less than 1500
_HEAD: Final = ("Neck", "Head")  # bones whose product is the head's rotation

_FLOAT: Final = struct.Struct(">f")
_VALUE: Final = b"/VMC/Ext/Blend/Val\0\0,sf\0"  # how a message of a name and a float begins
_MAX_KNOWN: Final = 4 * len(ARKIT_52)  # in any case (upper or lower)

_PRESETS: Final[dict[str, dict[str, float]]] = {
    "a": {"jawOpen": 0.7},
    "i": {"jawOpen": 0.15, "mouthStretchLeft": 0.6, "mouthStretchRight": 0.6},
    "u": {"jawOpen": 0.15, "mouthPucker": 0.8},
    "e": {"jawOpen": 0.35, "mouthStretchLeft": 0.4, "mouthStretchRight": 0.4},
    "o": {"jawOpen": 0.45, "mouthFunnel": 0.6},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "blink_l": {"eyeBlinkLeft": 1.0},
    "blink_r": {"eyeBlinkRight": 1.0},
    "joy": {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4},
    "fun": {"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6},
    "angry": {"browDownLeft": 0.9, "browDownRight": 0.9},
    "sorrow": {"browInnerUp": 0.8, "mouthFrownLeft": 0.7, "mouthFrownRight": 0.7},
}
"""The presets of VRM 0 as ARKit weights, for senders that do not send ARKit units."""

_RENAMED: Final = {
    "aa": "a",
    "ih": "i",
    "ou": "u",
    "ee": "e",
    "oh": "o",
    "blinkleft": "blink_l",
    "blinkright": "blink_r",
    "happy": "joy",
    "relaxed": "fun",
    "sad": "sorrow",
}
"""Presets of VRM 1 by those of VRM 0."""


class VmcDecoder:
    """Messages to frames. Values accumulate until ``/VMC/Ext/Blend/Apply``, as the specification has it."""

    def __init__(self) -> None:
        self._pending: dict[int, float] = {}
        self._known: dict[bytes, int] = {}  # units by the bytes before their value, the same in every frame
        self._presets: dict[str, float] = {}
        self._has_units = False
        self._weights = np.zeros(len(ARKIT_52), np.float32)
        self._bones: dict[str, Rotation] = {bone: _rotation(0.0, 0.0, 0.0, 1.0) for bone in _HEAD}
        self._place = np.zeros(3, np.float32)
        self._moved = False  # since the last frame

    def decode(self, packet: bytes) -> MotionFrame | None:
        """The frame that a packet completes; None where it completes none.

        A frame is complete with its blendshapes; for a sender of bones only, with the next head.

        Raises:
            FormatError: the packet is not OSC, or a value is not plausible. Messages before the fault count.
        """
        frame = None
        for message in split_packet(packet):
            index = self._known.get(message[:-4])
            if index is not None:
                self._pending[index] = checked_weight(_FLOAT.unpack(message[-4:])[0])
                continue
            address, arguments = read_message(message)
            frame = self._take(address, arguments) or frame
            if message[:24] == _VALUE and len(self._known) < _MAX_KNOWN:
                known = unit_index(str(arguments[0]))
                if known is not None and len(arguments) == 2:
                    self._known[message[:-4]] = known
        return frame

    def _take(self, address: str, arguments: tuple[Argument, ...]) -> MotionFrame | None:
        """Read one message; unknown ones are ignored, as specified."""
        if address == "/VMC/Ext/Blend/Val":
            self._take_value(arguments)
        elif address == "/VMC/Ext/Blend/Apply":
            self._apply()
            return self._frame()
        elif address == "/VMC/Ext/Bone/Pos" and arguments and arguments[0] in _HEAD:
            before = self._frame() if arguments[0] == "Head" and self._moved else None
            x, y, z, w = _numbers(arguments, 8)[3:7]
            self._bones[str(arguments[0])] = _rotation(x, y, z, w)
            self._moved = self._moved or arguments[0] == "Head"
            return before
        elif address == "/VMC/Ext/Root/Pos":
            x, y, z = _numbers(arguments, 8)[:3]
            self._place = checked_place((-x, y, z))
        return None

    def _take_value(self, arguments: tuple[Argument, ...]) -> None:
        (value,) = _numbers(arguments, 2)
        name = str(arguments[0])
        checked_weight(value)
        index = unit_index(name)
        if index is not None:
            self._pending[index] = value
            self._has_units = True
        else:
            preset = _RENAMED.get(name.lower(), name.lower())
            if preset in _PRESETS:
                self._presets[preset] = value

    def _apply(self) -> None:
        if self._pending:
            weights = self._weights.copy()
            weights[list(self._pending)] = list(self._pending.values())
            self._weights = weights
            self._pending.clear()
        elif self._presets and not self._has_units:
            weights = np.zeros(len(ARKIT_52), np.float32)
            for preset, value in self._presets.items():
                for unit, weight in _PRESETS[preset].items():
                    weights[ARKIT_INDEX[unit]] = min(1.0, weights[ARKIT_INDEX[unit]] + value * weight)
            self._weights = weights

    def _frame(self) -> MotionFrame:
        self._moved = False
        return MotionFrame(self._weights, axis_angle(self._bones["Neck"] * self._bones["Head"]), self._place)


def _numbers(arguments: tuple[Argument, ...], count: int) -> tuple[float, ...]:
    """The numbers after the name, of ``count`` arguments; further ones are ignored, as specified.

    Raises:
        FormatError: there are fewer, or one is not a number.
    """
    values = arguments[1:count]
    if len(values) < count - 1 or not isinstance(arguments[0], str):
        raise FormatError("The VMC message has too few arguments.")
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise FormatError("The VMC message has an argument that is not a number.")
    return tuple(float(value) for value in values if value is not None)


def _rotation(x: float, y: float, z: float, w: float) -> Rotation:
    """The rotation of a Unity quaternion in head space."""
    length = float(np.linalg.norm([x, y, z, w]))
    if not 0.5 < length < 2.0:  # NaN compares false
        raise FormatError("The quaternion of the VMC message has no length.")
    return Rotation.from_quat([x, -y, -z, w])


def encode(frame: MotionFrame, seconds: float) -> list[bytes]:
    """A frame as packets: availability, time, the place of the root, the head bone, all 52 values, Apply.

    Args:
        frame: the frame.
        seconds: time since the sender's start.
    """
    x, y, z = (float(value) for value in frame.translation)
    messages = [
        write_message("/VMC/Ext/OK", 1, 3, 0, int(frame.seen)),
        write_message("/VMC/Ext/T", float(seconds)),
        write_message("/VMC/Ext/Root/Pos", "root", -x, y, z, 0.0, 0.0, 0.0, 1.0),
        write_message("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, *_unity_quaternion(frame.rotation)),
        *(
            write_message("/VMC/Ext/Blend/Val", name[:1].upper() + name[1:], float(weight))
            for name, weight in zip(ARKIT_52, frame.weights)
        ),
        write_message("/VMC/Ext/Blend/Apply"),
    ]
    return list(write_bundles(messages, _LARGEST_BUNDLE))


def _unity_quaternion(rotation: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x, y, z, w = Rotation.from_rotvec(rotation).as_quat().tolist()
    return x, -y, -z, w
