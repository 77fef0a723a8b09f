"""The neutral of a person, estimated from a clip: driving transfers the differences from it."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.records import HeadParams

_CALM = 0.1  # share of the frames, the calmest ones, that the neutral is estimated from
_JAW = 6.0  # a radian of jaw counts as six full units


def calm_frames(params: HeadParams, trust: Tensor) -> Tensor:
    """Indices of the frames with the least expression among the confident ones.

    Args:
        params: T frames.
        trust: (T,) confidence of each.
    """
    good = (trust >= 0.5 * trust.max()).nonzero().squeeze(1)
    effort = params.expression[good].abs().sum(1) + _JAW * params.jaw[good].norm(dim=1)
    return good[effort <= torch.quantile(effort, _CALM) + 1e-6]


def neutral_of(params: HeadParams, trust: Tensor, named: bool = True) -> Tensor:
    """The neutral of a clip (E + 9,): expression and jaw of its calmest frames, and its median gaze.

    Args:
        params: T frames.
        trust: (T,) confidence of each.
        named: whether the expressions are units that rest at 0 and are positive, not statistical coefficients.
    """
    good, calm = trust >= 0.5 * trust.max(), calm_frames(params, trust)
    expression = params.expression[good]
    resting = resting_units(params.expression[calm], expression) if named else params.expression[calm].median(0).values
    return torch.cat([resting, params.jaw[calm].median(0).values, params.eyes[good].median(0).values])


def resting_units(calm: Tensor, all_frames: Tensor) -> Tensor:
    """(U,) resting values of units from the calm frames (C, U) and all good ones (T, U).

    A unit rests at the lower of both medians, so that calm frames with half-closed lids do not set the neutral.
    """
    return torch.minimum(calm.median(0).values, all_frames.median(0).values)
