"""Avatars of a clip's own frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.media import PictureSequence, VideoReader
from spatialavatar.tracking import track_photos

_FIRST_FRAMES: Final = 50  # a face must be visible in one of these


@dataclass(frozen=True)
class Source:
    """An avatar and its sources.

    Attributes:
        avatar: the avatar.
        frames: of the clip that it was generated from.
        seconds: wall time of its generation.
        picture: (H, W, 3) uint8, the first source.
    """

    avatar: Avatar
    frames: tuple[int, ...]
    seconds: float
    picture: np.ndarray


def first_avatar(clip: Clip, bench: Bench) -> Source:
    """The avatar of the first frame that shows a usable face.

    Raises:
        NoFaceError: none of the first frames shows one.
    """
    reason: Exception | None = None
    for index, picture in enumerate(clip.recordings[0].open()):
        if index >= _FIRST_FRAMES:
            break
        try:
            avatar, seconds = avatar_of([picture], bench)
            return Source(avatar, (index,), seconds, picture)
        except InputError as error:
            reason = error
    raise NoFaceError(f"The first {_FIRST_FRAMES} frames of {clip.name} show no usable face: {reason}")


def spread_avatar(clip: Clip, bench: Bench) -> Source:
    """The avatar of one frame in each equal part of the clip, the first with a face; as many as there are sources.

    Raises:
        NoFaceError: a part shows none.
    """
    recording, count = clip.recordings[0], bench.config.sources
    length = sum(1 for _ in recording.open())
    starts = [round(length * number / count) for number in range(count)]
    found: dict[int, tuple[int, np.ndarray]] = {}
    for index, picture in enumerate(recording.open()):
        part_of = max(number for number, start in enumerate(starts) if index >= start)
        near = index - starts[part_of] < _FIRST_FRAMES
        if near and part_of not in found and bench.networks.landmarker.locate(picture) is not None:
            found[part_of] = (index, picture)
        if len(found) == count:
            break
    if len(found) < count:
        raise NoFaceError(f"{clip.name} shows no {count} frames with a face, evenly over its length.")
    frames, pictures = zip(*(found[number] for number in range(count)))
    avatar, seconds = avatar_of(pictures, bench)
    return Source(avatar, frames, seconds, pictures[0])


def avatar_at(clip: Clip, bench: Bench, frame: int) -> Source:
    """The avatar of one frame.

    Raises:
        InputError: the frame cannot be read again.
        NoFaceError: it shows no usable face.
    """
    for index, picture in enumerate(clip.recordings[0].open()):
        if index == frame:
            avatar, seconds = avatar_of([picture], bench)
            return Source(avatar, (frame,), seconds, picture)
    raise InputError(f"Frame {frame} of {clip.name} could not be read a second time; copy the clip again.")


def avatar_of(pictures: Sequence[np.ndarray], bench: Bench) -> tuple[Avatar, float]:
    """An avatar of pictures (H, W, 3) uint8, and the seconds that its generation took."""
    started = time.perf_counter()
    names = [f"source {number}" for number in range(1, len(pictures) + 1)]
    tracks = track_photos(list(pictures), bench.head, names=names, networks=bench.networks)
    avatar = bench.model.generate(tracks, polish=bench.config.polish)
    return avatar, time.perf_counter() - started


def damaged_frames(reader: VideoReader | PictureSequence) -> set[int]:
    """Frames that could not be read."""
    return reader.damaged if isinstance(reader, PictureSequence) else set()
