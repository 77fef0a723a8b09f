"""The sliders that move the avatar by hand, and the ARKit units and angles that each controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_Units = Mapping[str, float]


def _both(*names: str, weight: float = 1.0) -> _Units:
    """The left and the right unit of each name."""
    return {f"{name}{side}": weight for name in names for side in ("Left", "Right")}


@dataclass(frozen=True)
class Control:
    """One slider; 0 is neutral.

    Attributes:
        label: what it moves, in plain words.
        up: ARKit weights at its right end.
        down: ARKit weights at its left end; without them the slider starts at 0.
        angle: ``yaw``, ``pitch`` or ``roll`` instead of units; degrees, in the sense of ``Motion.held``.
        limit: the value at the right end.
    """

    label: str
    up: _Units = field(default_factory=dict)
    down: _Units = field(default_factory=dict)
    angle: str = ""
    limit: float = 1.0

    @property
    def low(self) -> float:
        """The value at the left end."""
        return -abs(self.limit) if self.down or self.angle else 0.0


MOUTH: Final = (
    Control("Frown – smile", {**_both("mouthSmile"), **_both("cheekSquint", weight=0.5)}, _both("mouthFrown")),
    Control("Open the mouth", {"jawOpen": 1.0}),
    Control("Wide – kiss", {"mouthPucker": 1.0}, _both("mouthStretch", "mouthDimple", weight=0.8)),
    Control("Mouth to the side", {"mouthLeft": 1.0}, {"mouthRight": 1.0}),
    Control("Puff the cheeks", {"cheekPuff": 1.0}),
)
EYES: Final = (
    Control("Brows down – up", {"browInnerUp": 1.0, **_both("browOuterUp")}, _both("browDown")),
    Control("Squint – wide eyes", _both("eyeWide"), _both("eyeSquint")),
    Control("Close the left eye", {"eyeBlinkLeft": 1.0}),
    Control("Close the right eye", {"eyeBlinkRight": 1.0}),
    Control("Wrinkle the nose", _both("noseSneer")),
    Control(
        "Look left – right",
        {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8},
        {"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8},
    ),
    Control("Look down – up", _both("eyeLookUp", weight=0.8), _both("eyeLookDown", weight=0.8)),
)
HEAD: Final = (
    Control("Turn the head", angle="yaw", limit=45.0),
    Control("Nod", angle="pitch", limit=30.0),
    Control("Tilt the head", angle="roll", limit=30.0),
)
GROUPS: Final = {"Mouth": MOUTH, "Eyes and brows": EYES, "Head": HEAD}
CONTROLS: Final = (*MOUTH, *EYES, *HEAD)

# The right end of Nod looks up and that of Tilt leans to the right of the picture, against the sign of the angles.
_REVERSED: Final = frozenset({"pitch", "roll"})

MOODS: Final[Mapping[str, Mapping[str, float]]] = {
    "Neutral": {},
    "Smile": {"Frown – smile": 0.9, "Squint – wide eyes": -0.3, "Brows down – up": 0.15},
    "Surprise": {"Open the mouth": 0.55, "Brows down – up": 0.9, "Squint – wide eyes": 0.8},
    "Wink": {"Close the left eye": 1.0, "Frown – smile": 0.6, "Tilt the head": 6.0},
    "Kiss": {"Wide – kiss": 0.9, "Close the left eye": 0.9, "Close the right eye": 0.9},
    "Doubt": {"Brows down – up": -0.7, "Mouth to the side": -0.6, "Look left – right": 0.6, "Turn the head": -12.0},
}
"""Expressions to start from: slider values by label."""


def mood_values(mood: str) -> list[float]:
    """The sliders' values for one of :data:`MOODS`, in the order of :data:`CONTROLS`."""
    return [MOODS[mood].get(control.label, 0.0) for control in CONTROLS]


def movements() -> list[dict[str, dict[str, float]]]:
    """The movement of each of :data:`CONTROLS` per unit of its value to the right (``up``) and to the left (``down``).

    ARKit units by name, and ``yaw``, ``pitch`` and ``roll`` in radians.
    """
    table = []
    for control in CONTROLS:
        if control.angle:
            radians = math.radians(-1.0 if control.angle in _REVERSED else 1.0)
            table.append({"up": {control.angle: radians}, "down": {control.angle: -radians}})
        else:
            table.append({"up": dict(control.up), "down": dict(control.down)})
    return table
