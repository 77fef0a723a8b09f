"""Gains from a tracked expression to that of an avatar on which it looks the same.

The fit passes on a part of an expression only (its priors and the network's scores pull towards rest), and the shapes
of the open head answer with less than one: a fully raised brow of the head is scored .3 by the landmark network.
Relative driving of a tracked person therefore maps each unit through a curve. :mod:`.avatar_response` measures the
curves of an avatar; the ones in this module replace those that were not measured. They were chosen so that the
landmark network measures the same amplitude on driver and avatar, on twelve drivers and as many avatars.

Motion files contain weights of the head's own shapes and are not mapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

KNOTS: Final = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
"""Weights relative to the neutral, at which the curves are given."""

CURVES: Final = {
    "browDown": (0.0, 0.25, 0.5, 0.675, 0.85, 1.0, 1.15, 1.275, 1.4),
    "browInnerUp": (0.0, 0.3, 0.6, 0.875, 1.15, 1.4, 1.65, 1.825, 2.0),
    "browOuterUp": (0.0, 0.3, 0.6, 0.875, 1.15, 1.4, 1.65, 1.825, 2.0),
    "mouthFunnel": (0.0, 0.4, 0.7, 0.9, 1.1, 1.25, 1.35, 1.45, 1.5),
    "mouthLowerDown": (0.0, 0.175, 0.35, 0.5, 0.65, 0.8, 0.95, 1.075, 1.2),
    "mouthPucker": (0.0, 0.25, 0.5, 0.7, 0.9, 1.025, 1.15, 1.25, 1.35),
    "mouthSmile": (0.0, 0.15, 0.3, 0.425, 0.55, 0.675, 0.8, 0.925, 1.05),
    "mouthStretch": (0.0, 0.25, 0.5, 0.725, 0.95, 1.125, 1.3, 1.4, 1.5),
}
"""Weight of the avatar's unit at each knot; units that are not listed pass unchanged."""

HIGHEST: Final = {"browDown": 1.8, "browInnerUp": 2.2, "browOuterUp": 2.2, "mouthFunnel": 1.5, "mouthStretch": 2.0}
"""Largest weight of a unit where its shape stays plausible beyond that of the others."""

_JAW_GAIN: Final = 1.25
_YAW_GAIN: Final = 1.3
_PITCH_GAIN: Final = 1.0  # a larger one moves the lids and is read as a blink
JAW_LIMITS: Final = (-0.03, 0.5)
"""Radians of the jaw's opening; the teeth stop it below."""
_LEVEL_PITCH: Final = -0.07  # radians; the eyeballs of the open head lie low between the lids, and look down at rest
_CONVERGENCE: Final = (-0.03, 0.15)  # radians that the right eye turns further to the left than the left one does
_MAX_YAW: Final = 0.5  # radians; beyond, the corner of the eye hides the iris
_MAX_PITCH: Final = 0.4  # radians


@dataclass(frozen=True)
class Gains:
    """Gains of one avatar.

    Attributes:
        curves: weights at :data:`KNOTS` of the kinds of units that were measured; others have those of
            :data:`CURVES`.
        factors: of kinds of units before their curve; others have 1.
        yaw: factor of the gaze's turn.
        lips: factor of the gap between the lips.
    """

    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    yaw: float = 1.0
    lips: float = 1.0


def amplified_units(
    weights: Tensor, names: Sequence[str], limits: tuple[float, float], gains: Gains | None = None
) -> Tensor:
    """Weights (T, E) of the avatar's units for weights (T, E) relative to the driver's neutral.

    Args:
        weights: T frames.
        names: the E names.
        limits: lowest and highest weight of units without an entry in the table.
        gains: those of the avatar; None: the usual ones.
    """
    gains = gains or Gains()
    curves = {**CURVES, **gains.curves}
    kinds = [name.removesuffix("Left").removesuffix("Right") for name in names]
    curved = [index for index, kind in enumerate(kinds) if kind in curves]
    result = weights.clone()
    if curved:
        factors, knots = (
            weights.new_tensor([gains.factors.get(kinds[i], 1.0) for i in curved]),
            weights.new_tensor(KNOTS),
        )
        table = weights.new_tensor([curves[kinds[i]] for i in curved])
        result[:, curved] = _interpolated(factors * weights[:, curved], knots, table)
    return result.clamp(
        weights.new_tensor(limits[0]), weights.new_tensor([HIGHEST.get(kind, limits[1]) for kind in kinds])
    )


def amplified_jaw(jaw: Tensor) -> Tensor:
    """Jaw angles (T, 3) of the avatar, axis-angle, for those relative to the driver's neutral."""
    opening = (_JAW_GAIN * jaw[:, :1]).clamp(*JAW_LIMITS)
    return torch.cat([opening, jaw[:, 1:]], 1)


def amplified_gaze(eyes: Tensor, factor: float = 1.0) -> Tensor:
    """Angles (T, 6) of the avatar's left and right eye, axis-angle, for those relative to the driver's neutral.

    Both eyes share one direction, but for the turn by which they converge on a near point. ``factor`` scales the turn.
    """
    left, right = eyes[:, :3], eyes[:, 3:]
    middle = 0.5 * (left + right)
    inwards = 0.5 * (right[:, 1] - left[:, 1]).clamp(*_CONVERGENCE)
    limit = eyes.new_tensor([_MAX_PITCH, _MAX_YAW, _MAX_PITCH])
    gain = eyes.new_tensor([_PITCH_GAIN, _YAW_GAIN * factor, 1.0])
    shared = torch.minimum(torch.maximum(gain * middle, -limit), limit)
    shared = shared + eyes.new_tensor([_LEVEL_PITCH, 0.0, 0.0])
    turn = torch.stack([torch.zeros_like(inwards), inwards, torch.zeros_like(inwards)], 1)
    return torch.cat([shared - turn, shared + turn], 1)


def _interpolated(values: Tensor, knots: Tensor, curves: Tensor) -> Tensor:
    """Piecewise linear interpolation of values (T, M) by the curves (M, K) at knots (K,).

    The last piece continues beyond its end, and values below 0 are unchanged.
    """
    piece = (torch.searchsorted(knots, values.contiguous()) - 1).clamp(0, len(knots) - 2)
    low, high = (curves.T.gather(0, end) for end in (piece, piece + 1))
    slope = (high - low) / (knots[piece + 1] - knots[piece])
    return torch.where(values <= 0.0, values, low + slope * (values - knots[piece]))
