"""Gains from a tracked expression to that of an avatar on which it looks the same.

The fit passes on a part of an expression only (its priors and the network's scores pull towards rest), and the shapes
of the open head answer with less than one: a fully raised brow of the head is scored .3 by the landmark network.
Relative driving of a tracked person therefore maps each unit through a curve. The curves were chosen so that the
landmark network measures the same amplitude on driver and avatar, on twelve drivers and as many avatars.

Motion files contain weights of the head's own shapes and are not mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_KNOTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights relative to the neutral, at which the curves are given."""

_CURVES: Final = {
    "browDown": (0.0, 0.5, 0.85, 1.15, 1.4),
    "browInnerUp": (0.0, 0.6, 1.15, 1.65, 2.0),
    "browOuterUp": (0.0, 0.6, 1.15, 1.65, 2.0),
    "mouthLowerDown": (0.0, 0.35, 0.65, 0.95, 1.2),
    "mouthPucker": (0.0, 0.5, 0.9, 1.15, 1.35),
    "mouthSmile": (0.0, 0.3, 0.55, 0.8, 1.05),
    "mouthStretch": (0.0, 0.5, 0.95, 1.3, 1.5),
}
"""Weight of the avatar's unit at each knot; units that are not listed pass unchanged."""

_HIGHEST: Final = {"browDown": 1.5, "browInnerUp": 2.2, "browOuterUp": 2.2, "mouthStretch": 1.5}
"""Largest weight of a unit where its shape stays plausible beyond that of the others."""

_JAW_GAIN: Final = 1.25
_YAW_GAIN: Final = 1.3
_PITCH_GAIN: Final = 1.0  # a larger one moves the lids and is read as a blink
_JAW_CLOSING: Final = 0.03  # radians; the teeth stop it
_MAX_JAW: Final = 0.5  # radians
_MAX_YAW: Final = 0.5  # radians; beyond, the iris is behind the corner of the eye
_MAX_PITCH: Final = 0.4  # radians


def amplified_units(weights: Tensor, names: Sequence[str], limits: tuple[float, float]) -> Tensor:
    """Weights (T, E) of the avatar's units for weights (T, E) relative to the driver's neutral.

    Args:
        weights: T frames.
        names: the E names.
        limits: lowest and highest weight of units without an entry in the table.
    """
    knots = torch.tensor(_KNOTS, dtype=weights.dtype, device=weights.device)
    result = weights.clone()
    for index, name in enumerate(names):
        kind = name.removesuffix("Left").removesuffix("Right")
        if kind in _CURVES:
            curve = torch.tensor(_CURVES[kind], dtype=weights.dtype, device=weights.device)
            result[:, index] = _interpolated(weights[:, index], knots, curve)
        result[:, index].clamp_(limits[0], _HIGHEST.get(kind, limits[1]))
    return result


def amplified_jaw(jaw: Tensor) -> Tensor:
    """Jaw angles (T, 3) of the avatar, axis-angle, for those relative to the driver's neutral."""
    opening = (_JAW_GAIN * jaw[:, :1]).clamp(-_JAW_CLOSING, _MAX_JAW)
    return torch.cat([opening, jaw[:, 1:]], 1)


def amplified_gaze(eyes: Tensor) -> Tensor:
    """Angles (T, 6) of the avatar's left and right eye, axis-angle, for those relative to the driver's neutral."""
    gain = eyes.new_tensor([_PITCH_GAIN, _YAW_GAIN, 1.0]).repeat(2)
    limit = eyes.new_tensor([_MAX_PITCH, _MAX_YAW, _MAX_PITCH]).repeat(2)
    return torch.minimum(torch.maximum(gain * eyes, -limit), limit)


def _interpolated(values: Tensor, knots: Tensor, curve: Tensor) -> Tensor:
    """Piecewise linear interpolation; the last piece continues beyond its end, and values below 0 are unchanged."""
    piece = (torch.searchsorted(knots, values.contiguous()) - 1).clamp(0, len(knots) - 2)
    slope = (curve[piece + 1] - curve[piece]) / (knots[piece + 1] - knots[piece])
    return torch.where(values <= 0.0, values, curve[piece] + slope * (values - knots[piece]))
