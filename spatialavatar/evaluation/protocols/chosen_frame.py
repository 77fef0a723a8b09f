"""Avatars of one chosen frame of a clip, compared with chosen other frames of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import Source, avatar_at, damaged_frames
from spatialavatar.evaluation.protocols.targets import Targets, compare, measurable_frames
from spatialavatar.progress import Progress, part
from spatialavatar.records import Track
from spatialavatar.tracking import track_video

MAX_SOURCE_YAW: Final = 45.0
"""Largest turn of a source, degrees: photos beyond it are refused or warned about."""
MIN_TARGETS: Final = 5
"""A clip with fewer targets does not qualify; a larger stride than leaves so many is made smaller."""
_MIN_CONFIDENCE: Final = 0.3  # of a source and of the frames that count
_MAX_SOURCES: Final = 4  # frames that are tried, where a photo of the first is refused
_SOURCE_GAP: Final = 0.2  # seconds between them: neighbours are refused for the same reason


@dataclass(frozen=True)
class FrameChoice:
    """The frames that a protocol chooses from a tracked clip.

    Attributes:
        source: frame that the avatar is generated from.
        targets: frames that it is compared with, increasing.
        note: sentence about the choice.
    """

    source: int
    targets: list[int]
    note: str


@dataclass(frozen=True, eq=False)
class FrameCandidates:
    """The frames that a protocol can choose.

    Attributes:
        reliable: (T,) bool, frames that were fitted with some confidence and can be read.
        sources: (T,) bool, those of which no photo near them was refused.
    """

    reliable: Tensor
    sources: Tensor


Rule = Callable[[Track, FrameCandidates], FrameChoice]
"""Chooses source and targets of a clip, given its track; raises InputError if the clip does not qualify."""


def reliable_frames(track: Track, damaged: set[int]) -> Tensor:
    """(T,) bool: frames that were fitted with some confidence and can be read."""
    reliable = track.require_quality().tracked & (track.confidence >= _MIN_CONFIDENCE)
    reliable[torch.tensor(sorted(damaged), dtype=torch.long)] = False
    return reliable


def measure_chosen(clip: Clip, bench: Bench, choose: Rule, progress: Progress) -> dict[str, Any]:
    """Track a clip, choose source and targets by the track, and compare the source's avatar with the targets.

    Args:
        clip: the clip.
        bench: the run.
        choose: the protocol's rule.
        progress: called with (fraction, message).

    Raises:
        InputError: the clip does not qualify.
        NoFaceError: no face is seen.
    """
    reader = clip.recordings[0].open()
    first = track_video(reader, bench.head, networks=bench.networks, progress=part(progress, 0.0, 0.25))
    choice, source = _usable_source(clip, bench, first, reliable_frames(first, damaged_frames(reader)), choose)
    track = track_video(
        reader, bench.head, shape=source.avatar.shape, networks=bench.networks, progress=part(progress, 0.3, 0.55)
    )
    frames, notes = measurable_frames(track, choice.targets, bench, damaged_frames(reader), MIN_TARGETS)
    targets = Targets(clip.recordings[0], track, frames, [choice.note, *notes])
    return compare(clip, bench, targets, {"K = 1": source}, part(progress, 0.55, 1.0))


def _usable_source(
    clip: Clip, bench: Bench, track: Track, reliable: Tensor, choose: Rule
) -> tuple[FrameChoice, Source]:
    """The best frame of which an avatar can be generated: frames near a refused one are not tried again."""
    sources, refusal = reliable.clone(), None
    for _ in range(_MAX_SOURCES):
        try:
            choice = choose(track, FrameCandidates(reliable, sources))
        except InputError as error:
            raise refusal or error from error
        try:
            return choice, avatar_at(clip, bench, choice.source)
        except InputError as error:
            refusal = refusal or error
        sources &= (torch.arange(len(track)) - choice.source).abs() > _SOURCE_GAP * track.fps
    raise refusal or InputError(f"{clip.name} has no frame that an avatar can be generated from.")
