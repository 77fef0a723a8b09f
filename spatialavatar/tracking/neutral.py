"""The neutral of a person, estimated from a clip: driving transfers the differences from it.

A talker hardly ever rests, so the median of a clip is no neutral: it has an open mouth and raised brows. Named units
and the jaw rest at a low quantile of their own values. Mouth opening and brows rest at most at a weight that calm faces
reach, so that a mouth that never closes in the clip still opens on the avatar. Lids rest at 0: an eye is as open as it
looks. A lasting smile is the person's neutral.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from spatialavatar.records import HeadParams

_CALM = 0.1  # share of the frames, the calmest ones, that the neutral of unnamed coefficients is estimated from
_JAW = 6.0  # a radian of jaw counts as six full units
_LOW = 0.1  # quantile of a unit's values at which it rests

_HIGHEST: Final = {
    "browDown": 0.25,
    "browInnerUp": 0.35,
    "browOuterUp": 0.35,
    "eyeBlink": 0.0,
    "eyeSquint": 0.25,
    "eyeWide": 0.1,
    "mouthFunnel": 0.1,
    "mouthLowerDown": 0.1,
    "mouthUpperUp": 0.1,
}
"""Highest resting weight of units that open the mouth, raise or lower the brows, or move the lids; others have none."""

_JAW_RESTS: Final = (-0.03, 0.05)  # radians about x
_GAZE_PITCH_RESTS: Final = (-0.15, 0.05)  # radians about x, negative is up; fits of level eyes lie 0.07 too high
_GAZE_YAW_RESTS: Final = (-0.1, 0.1)  # radians about y


def calm_frames(params: HeadParams, trust: Tensor) -> Tensor:
    """Indices of the frames with the least expression among the confident ones.

    Args:
        params: T frames.
        trust: (T,) confidence of each.
    """
    good = (trust >= 0.5 * trust.max()).nonzero().squeeze(1)
    effort = params.expression[good].abs().sum(1) + _JAW * params.jaw[good].norm(dim=1)
    return good[effort <= torch.quantile(effort, _CALM) + 1e-6]


def neutral_of(params: HeadParams, trust: Tensor, names: Sequence[str] | None) -> Tensor:
    """The neutral of a clip (E + 9,): expression, jaw and gaze at rest.

    Args:
        params: T frames.
        trust: (T,) confidence of each.
        names: the E names of expressions that are units, which rest near 0 and are positive. None for statistical
            coefficients: these and the jaw rest at the median of the calmest frames, the gaze at its median.
    """
    good = trust >= 0.5 * trust.max()
    jaw, eyes = params.jaw[good], params.eyes[good].median(0).values
    if names is None:
        calm = calm_frames(params, trust)
        return torch.cat([params.expression[calm].median(0).values, params.jaw[calm].median(0).values, eyes])
    rest = jaw.median(0).values
    rest[0] = torch.quantile(jaw[:, 0], _LOW).clamp(*_JAW_RESTS)
    eyes[[0, 3]] = eyes[[0, 3]].clamp(*_GAZE_PITCH_RESTS)
    eyes[[1, 4]] = eyes[[1, 4]].clamp(*_GAZE_YAW_RESTS)
    return torch.cat([resting_units(params.expression[good], names), rest, eyes])


def resting_units(weights: Tensor, names: Sequence[str]) -> Tensor:
    """(U,) resting values of named units from the values (T, U) in the good frames of a clip."""
    highest = [_HIGHEST.get(name.removesuffix("Left").removesuffix("Right"), torch.inf) for name in names]
    low = torch.quantile(weights, _LOW, dim=0).clamp_min(0.0)
    return torch.minimum(low, torch.tensor(highest, dtype=low.dtype, device=low.device))
