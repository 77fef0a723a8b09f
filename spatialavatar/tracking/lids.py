"""Full closure of the lids in blinks.

Landmarks and smoothing both leave a shut eye slightly open: the network's lids do not meet, and a low-pass flattens a
blink of three frames. The last step therefore closes the lids in frames with a shut eye by their blink unit. The gap
between the lids is linear in the expression, so the needed weight has a closed form.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import HeadParams
from spatialavatar.tracking.cues import shut_eyes
from spatialavatar.tracking.landmark_sets import (
    LOWER_LID_LEFT,
    LOWER_LID_RIGHT,
    UPPER_LID_LEFT,
    UPPER_LID_RIGHT,
)

CLOSED_GAP: Final = 0.005
"""Gap between the lids over the width of the eye, at or below which the eyeball is hidden."""

CLOSED_LIDS_GAP: Final = -0.015  # gap of closed lids: they overlap, so that no corner stays open
BLINK_SCORES: Final = (0.42, 0.50)  # blink score at which closing begins, and from which it is complete
BLINK_SHAPES: Final = (0.05, 0.25)  # the same for closure by landmarks; it excludes eyes that look down
WINK_EXCESS: Final = (0.16, 0.26)  # blink score of one eye beyond the other's at which a wink begins, and is complete
WINK_SCORES: Final = (0.25, 0.35)  # least blink score of the eye that winks
WINK_OPEN: Final = (0.25, 0.40)  # blink score of the other eye up to which it is open, and from which it is not
WINK_WIDTHS: Final = (0.65, 0.80)  # narrower over wider eye, at which winks begin to count, and count fully
_PLAUSIBLE_WEIGHTS: Final = (0.5, 1.5)  # of a blink unit that shut a lid
MAX_BLINK: Final = 1.3
"""Largest weight of a blink unit that closing gives; relative driving limits it again (``driving.UNIT_LIMITS``)."""

BLINK_UNITS: Final = ("eyeBlinkRight", "eyeBlinkLeft")
_LIDS: Final = ((UPPER_LID_RIGHT, LOWER_LID_RIGHT), (UPPER_LID_LEFT, LOWER_LID_LEFT))


def shut_by_network(points: Tensor, scores: Tensor, usual: Tensor | None = None) -> Tensor:
    """Degree of closure of the right and the left eye by scores and landmarks, (T, 2) in [0, 1].

    Args:
        points: (T, 478, 2) landmarks.
        scores: (T, 52) blendshape scores.
        usual: (2,) usual :func:`blink_excess` of the person; None: its median over these frames.
    """
    own = scores[:, [ARKIT_INDEX[unit] for unit in BLINK_UNITS]]
    # People blink with both eyes, so the mean of both scores counts as much as the eye's own; a wink is still possible.
    by_score = _ramp(0.5 * (own + own.mean(1, keepdim=True)), *BLINK_SCORES)
    blink = by_score * _ramp(shut_eyes(points).mean(1, keepdim=True), *BLINK_SHAPES)
    return torch.maximum(blink, winks(own, usual) * _frontal(points)[:, None])


def blink_excess(scores: Tensor) -> Tensor:
    """(T, 2) blink score of the right and the left eye beyond that of the other eye, from scores (T, 52)."""
    own = scores[:, [ARKIT_INDEX[unit] for unit in BLINK_UNITS]]
    return own - own.flip(1)


def winks(scores: Tensor, usual: Tensor | None = None) -> Tensor:
    """Degree to which one eye is shut and the other is not, from the blink scores (T, 2) of both eyes; (T, 2).

    The network scores a wink lower than a blink of the same lid, often below the score of half-closed lids. Its sign is
    the difference of the eyes beyond the ``usual`` one (2,) of a drooping lid; None: the median of the frames.
    """
    excess = scores - scores.flip(1)
    excess = excess - (excess.median(0).values if usual is None else usual)
    other_open = 1.0 - _ramp(scores.flip(1), *WINK_OPEN)
    return _ramp(excess, *WINK_EXCESS) * _ramp(scores, *WINK_SCORES) * other_open


def _frontal(points: Tensor) -> Tensor:
    """(T,) degree to which both eyes are seen equally wide; on a turned head the scores differ without a wink."""
    right, left = ((points[:, lid[0]] - points[:, lid[-1]]).norm(dim=-1) for lid, _ in _LIDS)
    return _ramp(torch.minimum(right, left) / torch.maximum(right, left).clamp_min(1e-6), *WINK_WIDTHS)


def lid_gaps(head: HeadModel, params: HeadParams) -> Tensor:
    """(T, 2) mean gap between the lids of the right and the left eye over its width; negative where they overlap.

    It is the upright distance between the inner landmarks of both lids, in the head's own frame, eyes looking ahead.
    """
    rest, basis = _gap_basis(head, params.shape)
    return rest + params.expression @ basis


def with_shut_lids(head: HeadModel, params: HeadParams, shut: Tensor) -> HeadParams:
    """Parameters with the lids closed by the share ``shut`` (T, 2) of their gap; lids are never opened.

    Parameters of a head without blink units of these names are returned unchanged.
    """
    if not all(unit in head.expressions for unit in BLINK_UNITS):
        return params
    _, basis = _gap_basis(head, params.shape)
    gaps = lid_gaps(head, params)
    expression = params.expression.clone()
    for side, unit in enumerate(BLINK_UNITS):
        index = head.expressions.index(unit)
        closing = -basis[index, side].clamp_max(-1e-6)
        missing = (shut[:, side] * (gaps[:, side] - CLOSED_LIDS_GAP)).clamp_min(0.0) / closing
        now = expression[:, index]
        expression[:, index] = torch.maximum(now, (now + missing).clamp_max(MAX_BLINK))
    return params.replace(expression=expression)


def lids_as_shut(head: HeadModel, expression: Tensor, shapes: tuple[Tensor, Tensor]) -> Tensor:
    """Expression (T, E) with the blink units scaled so that a lid covers the same share of the second person's eye.

    Eyes of other people are open by another height, so that a weight which shuts one leaves another slightly open.
    Expressions of a head without blink units of these names are returned unchanged.

    Args:
        head: the head model of both.
        expression: (T, E) of the first person, lids at rest at 0.
        shapes: (S,) each, of the first and of the second person.
    """
    if not all(unit in head.expressions for unit in BLINK_UNITS):
        return expression
    first, second = (_shutting_weights(head, tuple(shape.tolist())) for shape in shapes)
    scaled = expression.clone()
    for side, unit in enumerate(BLINK_UNITS):
        scaled[:, head.expressions.index(unit)] *= second[side] / first[side]
    return scaled


@lru_cache(maxsize=8)  # live driving calls this in every frame
def _shutting_weights(head: HeadModel, shape: tuple[float, ...]) -> tuple[float, ...]:
    """Weights that shut the right and the left eye of a person at rest."""
    rest, basis = _gap_basis(head, torch.tensor(shape, device=head.device))
    closing = -basis[[head.expressions.index(unit) for unit in BLINK_UNITS], [0, 1]].clamp_max(-1e-6)
    return tuple(((rest - CLOSED_LIDS_GAP) / closing).clamp(*_PLAUSIBLE_WEIGHTS).tolist())


def _gap_basis(head: HeadModel, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Gaps of the neutral face (2,) and their change per expression unit (E, 2), both over the eyes' width."""
    neutral = head.landmarks(head.identity(shape).vertices)
    units = head.landmarks(head.expression_basis)
    rest, basis = [], []
    for upper, lower in _LIDS:
        width = (neutral[upper[0]] - neutral[upper[-1]]).norm()
        above, below = list(upper[1:-1]), list(lower[1:-1])
        rest.append((neutral[above, 1] - neutral[below, 1]).mean() / width)
        basis.append((units[:, above, 1] - units[:, below, 1]).mean(1) / width)
    return torch.stack(rest), torch.stack(basis, -1)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 at or below ``low``, 1 at or above ``high``, linear between."""
    return ((values - low) / (high - low)).clamp(0.0, 1.0)
