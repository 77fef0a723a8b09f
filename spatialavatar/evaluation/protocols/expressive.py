"""Protocol ``expressive``: an avatar of the frame farthest from the person's neutral; targets are nearer to it.

The distance of a frame from the clip's neutral is the sum of the absolute differences of its expression coefficients,
blinks left out, plus the weighted angle of the jaw. Shut lids would otherwise make a blink the strongest expression of
a calm clip. The source is turned by 45 degrees at most. Targets are at least .3 s away from it, and their own distance
is below 70 % of its. A clip does not qualify if its source's distance is below 4 (four units at full strength), or if
there are fewer than five targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.protocols.chosen_frame import (
    MAX_SOURCE_YAW,
    MIN_TARGETS,
    FrameCandidates,
    FrameChoice,
    measure_chosen,
)
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.head import HeadModel
from spatialavatar.progress import Progress
from spatialavatar.records import Track

JAW_WEIGHT: Final = 6.0
"""Units per radian of jaw: an open mouth is about .3 radians."""
MIN_DISTANCE: Final = 4.0
"""Smallest distance of a source from the neutral, units. Two thirds of clips of people who talk reach it."""
MAX_TARGET_SHARE: Final = 0.7
"""Largest distance of a target, as a share of the source's."""
MIN_GAP: Final = 0.3
"""Seconds between the source and its targets."""
_LIDS: Final = ("eyeBlinkLeft", "eyeBlinkRight")


def expressive(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; see the module."""
    return measure_chosen(
        clip, bench, lambda track, frames: choose_expressive(clip.name, track, frames, bench.head), progress
    )


def choose_expressive(name: str, track: Track, frames: FrameCandidates, head: HeadModel) -> FrameChoice:
    """Source and targets of a clip called ``name``.

    Raises:
        InputError: no frame is expressive enough, or too few others are calmer.
    """
    distance = neutral_distance(track, head)
    candidates = frames.sources & (track.require_quality().yaw.nan_to_num(180.0).abs() <= MAX_SOURCE_YAW)
    source = int(distance.masked_fill(~candidates, -1.0).argmax())
    reached = float(distance[source]) if bool(candidates.any()) else 0.0
    if reached < MIN_DISTANCE:
        raise InputError(
            f"The strongest expression of {name} is {reached:.1f} units from neutral; the protocol expressive needs "
            f"{MIN_DISTANCE:.0f}."
        )
    apart = (torch.arange(len(track)) - source).abs() >= MIN_GAP * track.fps
    calmer = frames.reliable & apart & (distance < MAX_TARGET_SHARE * reached)
    targets = calmer.nonzero().flatten().tolist()
    if len(targets) < MIN_TARGETS:
        raise InputError(
            f"In {name}, {len(targets)} frames are calmer than the strongest expression; the protocol expressive needs "
            f"{MIN_TARGETS}."
        )
    return FrameChoice(source, targets, f"The source, frame {source}, is {reached:.1f} units from neutral.")


def neutral_distance(track: Track, head: HeadModel) -> Tensor:
    """(T,) distance of each frame from the clip's neutral, units; see the module."""
    params, count = track.params, head.expression_count
    neutral = track.neutral.expression
    if neutral is None:
        neutral = params.expression.new_zeros(count + 9)
    counted = torch.tensor([name not in _LIDS for name in head.expressions])
    units = (params.expression - neutral[:count]).abs()[:, counted].sum(1)
    return units + JAW_WEIGHT * (params.jaw - neutral[count : count + 3]).norm(dim=1)
