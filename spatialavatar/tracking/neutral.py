"""A person's own neutral, found in the clip itself: what driving takes off, so that a resting face drives nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.records import HeadParams

_CALM = 0.1  # share of the frames, the calmest, that say what the resting face is
_JAW = 6.0  # a radian of jaw is as much effort as six full units


def calm_frames(params: HeadParams, trust: Tensor) -> Tensor:
    """Indices of the frames with the least expression among those that are believed.

    Args:
        params: T frames.
        trust: (T,) confidence of each.
    """
    good = (trust >= 0.5 * trust.max()).nonzero().squeeze(1)
    effort = params.expression[good].abs().sum(1) + _JAW * params.jaw[good].norm(dim=1)
    return good[effort <= torch.quantile(effort, _CALM) + 1e-6]


def neutral_of(params: HeadParams, trust: Tensor, named: bool = True) -> Tensor:
    """The clip's own neutral (E + 9,): expression, jaw, eyes of its calmest frames; the gaze is the usual one.

    Args:
        params: T frames.
        trust: (T,) confidence of each.
        named: whether the expressions are units that rest at 0 and go up; statistical ones go both ways.
    """
    good, calm = trust >= 0.5 * trust.max(), calm_frames(params, trust)
    expression = params.expression[good]
    resting = resting_units(params.expression[calm], expression) if named else params.expression[calm].median(0).values
    return torch.cat([resting, params.jaw[calm].median(0).values, params.eyes[good].median(0).values])


def resting_units(calm: Tensor, all_frames: Tensor) -> Tensor:
    """(U,) resting values of units from the calm frames (C, U) and all good ones (T, U).

    Lids are judged apart by the second: a blink must not keep a calm frame out, nor a drowsy look set the neutral.
    """
    return torch.minimum(calm.median(0).values, all_frames.median(0).values)
