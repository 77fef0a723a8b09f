"""Protocol ``turned``: an avatar of the frame that is turned most, up to 45 degrees; targets look elsewhere.

The targets are the frames whose yaw differs from the source's by at least 20 degrees, so they show parts that the
source hides. A clip with fewer than five such frames does not qualify.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
from spatialavatar.progress import Progress
from spatialavatar.records import Track

MIN_YAW_CHANGE: Final = 20.0
"""Smallest difference of yaw between source and target, degrees."""


def turned(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; see the module."""
    return measure_chosen(clip, bench, lambda track, frames: choose_turned(clip.name, track, frames), progress)


def choose_turned(name: str, track: Track, frames: FrameCandidates) -> FrameChoice:
    """Source and targets of a clip called ``name``.

    Raises:
        InputError: too few frames are turned away from the source.
    """
    yaw = track.require_quality().yaw.nan_to_num()
    candidates = frames.sources & (yaw.abs() <= MAX_SOURCE_YAW)
    source = int(yaw.abs().masked_fill(~candidates, -1.0).argmax())
    away = frames.reliable & ((yaw - yaw[source]).abs() >= MIN_YAW_CHANGE)
    targets = away.nonzero().flatten().tolist()
    if not bool(candidates.any()) or len(targets) < MIN_TARGETS:
        raise InputError(
            f"In {name}, {len(targets)} frames are turned {MIN_YAW_CHANGE:.0f} degrees away from the most turned one; "
            f"the protocol turned needs {MIN_TARGETS}."
        )
    return FrameChoice(source, targets, f"The source, frame {source}, has a yaw of {yaw[source]:.0f} degrees.")
