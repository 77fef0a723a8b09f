"""Corrections of two systematic errors of the landmark network.

Its scores do not rest at zero: a calm face scores some squint, blink and downward gaze. And its lids never meet: on a
shut eye the points of the upper and lower lid are a millimetre apart, which would leave the avatar's eyes slightly open
in every blink.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from spatialavatar.easing import smoothstep_tensor
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.tracking.landmark_sets import (
    LOWER_LID_LEFT,
    LOWER_LID_RIGHT,
    UPPER_LID_LEFT,
    UPPER_LID_RIGHT,
)

_RESTING: Final = {
    "browDown": 0.12,
    "browOuterUp": 0.08,
    "eyeBlink": 0.12,
    "eyeSquint": 0.28,
    "eyeLookDown": 0.16,
    "eyeLookIn": 0.10,
    "eyeLookOut": 0.10,
    "eyeLookUp": 0.08,
    "mouthPress": 0.08,
    "mouthPucker": 0.10,
    "mouthShrugLower": 0.20,
    "mouthShrugUpper": 0.06,
}
"""Mean score of a unit on neutral, frontal studio portraits."""

_SPREADS: Final = {
    "browDown": 0.1,
    "browInnerUp": 0.1,
    "cheekPuff": 0.15,
    "eyeBlink": 0.25,
    "eyeSquint": 0.12,
    "eyeWide": 0.1,
    "jawForward": 0.1,
    "mouthClose": 0.15,
    "mouthDimple": 0.1,
    "mouthFunnel": 0.06,
    "mouthPress": 0.1,
    "mouthPucker": 0.1,
    "mouthShrugLower": 0.1,
    "mouthShrugUpper": 0.1,
    "mouthSmile": 0.1,
    "mouthStretch": 0.1,
    "tongueOut": 0.05,
}
"""Standard deviation of a unit about its score where it is not the default: small where landmarks do not determine the
unit or confuse it with another: smile, pucker and funnel move the same points of the lips. Chosen on portraits."""

SHUT, OPEN = 0.06, 0.15  # lid gap over eye width: shut at or below the first, open above the second
_GAP_OF_SHUT = 0.09  # of the eye width: how much too high the upper lid of a shut eye is

_UPPER: Final = torch.tensor([UPPER_LID_RIGHT, UPPER_LID_LEFT])
_LOWER: Final = torch.tensor([LOWER_LID_RIGHT, LOWER_LID_LEFT])
_QUARTER_TURN: Final = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])  # (2 eyes, 2), of swapped coordinates
_PROFILE: Final = 1.0 - torch.linspace(-1.0, 1.0, _UPPER.shape[1], dtype=torch.float64)[1:-1] ** 2
"""Movement of the points of an upper lid between its corners, as a share of that of its middle."""


@lru_cache(maxsize=1)
def resting_scores() -> tuple[float, ...]:
    """Scores of a calm face, in the order of ``ARKIT_52``."""
    return tuple(_looked_up(_RESTING, name, 0.0) for name in ARKIT_52)


def rescaled_scores(scores: Tensor) -> Tensor:
    """Scores (T, 52) without their resting values, rescaled so that 1 stays 1."""
    resting = torch.tensor(resting_scores(), dtype=scores.dtype)
    return ((scores - resting) / (1.0 - resting)).clamp(0.0, 1.0)


def unit_sigmas(names: tuple[str, ...], usual: float) -> Tensor:
    """(E,) standard deviations of named units about their scores; ``usual`` is the default."""
    return torch.tensor([_looked_up(_SPREADS, name, usual) for name in names], dtype=torch.float64)


def shut_eyes(points: Tensor) -> Tensor:
    """(T, 2) degree of closure of the right and the left eye, 0 to 1, from landmarks (T, 478, 2)."""
    upper, lower = points[:, _UPPER], points[:, _LOWER]  # (T, 2, 9, 2)
    width = (upper[:, :, 0] - upper[:, :, -1]).norm(dim=-1).clamp_min(1e-6)
    gaps = (upper[:, :, 3:6] - lower[:, :, 3:6]).norm(dim=-1).mean(-1) / width
    return 1.0 - smoothstep_tensor(gaps, SHUT, OPEN)


def close_lids(points: Tensor, shut: Tensor) -> Tensor:
    """Landmarks (T, 478, 2) with the upper lids of shut eyes moved onto the lower ones.

    Args:
        points: (T, 478, 2).
        shut: (T, 2) result of :func:`shut_eyes`.
    """
    closed = points.clone()
    across = points[:, _UPPER[:, -1]] - points[:, _UPPER[:, 0]]  # (T, 2, 2)
    # A quarter turn of the eye's axis; its sense is that from the upper to the lower lid of the open eye, which is
    # opposite for the two eyes, since both lids run from the outer to the inner corner.
    down = across.flip(-1) * _QUARTER_TURN.to(points.dtype)
    shift = _GAP_OF_SHUT * shut[..., None, None] * _PROFILE.to(points.dtype)[:, None] * down[:, :, None]
    closed[:, _UPPER[:, 1:-1]] += shift
    return closed


def _looked_up(table: dict[str, float], name: str, otherwise: float) -> float:
    """The entry for a unit's name, with or without its side."""
    return table.get(name.removesuffix("Left").removesuffix("Right"), otherwise)
