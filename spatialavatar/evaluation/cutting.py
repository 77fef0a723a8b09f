"""Frames of a recording as crops with mattes and classes, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import Recording
from spatialavatar.evaluation.evaluator import without_beyond
from spatialavatar.progress import Progress, no_progress
from spatialavatar.records import Pictures, Track
from spatialavatar.tracking.framing import Crop, classes_of, cut, separate
from spatialavatar.tracking.networks import Networks


def crop_of(track: Track, frame: int = 0) -> Crop:
    """Where a frame's crop lies: each shot of a video has its own."""
    x0, y0, x1, _ = track.require_crop()[frame].tolist()
    return Crop(round(x0), round(y0), round(x1 - x0))


def cut_frames(
    recording: Recording,
    frames: Sequence[int],
    crops: Callable[[int], Crop],
    networks: Networks,
    progress: Progress,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Index, crop, matte and classes (``without_beyond``) of the chosen frames; published mattes if the set has them.

    Args:
        recording: the frames' source, which is read once.
        frames: increasing.
        crops: where a frame's crop lies.
        networks: for mattes and classes.
        progress: called with (fraction, message).
    """
    mattes = recording.open_mattes()
    published = iter(mattes) if mattes is not None else None
    behind = 0
    for index, picture in _chosen(recording, frames, progress):
        crop = crops(index)
        given = None
        if published is not None:
            for _ in range(index - behind):
                next(published, None)
            behind = index + 1
            given = next(published, None)
        if given is None:
            matte, segments = separate(picture, crop, networks)
        else:
            matte, segments = cut(given, crop)[..., 0], classes_of(picture, crop, networks)
        size = (picture.shape[1], picture.shape[0])
        yield index, cut(picture, crop), matte, without_beyond(segments, crop, size)


def with_pictures(
    track: Track, frames: Sequence[int], recording: Recording, networks: Networks, progress: Progress = no_progress
) -> Track:
    """The chosen frames of a track of ``recording``, with crops, mattes and classes; those that can be read.

    Raises:
        InputError: none can be read.
    """
    cuts = list(cut_frames(recording, frames, lambda frame: crop_of(track, frame), networks, progress))
    if not cuts:
        raise InputError("The frames of a recording could not be read a second time; copy it again.")
    index = torch.tensor([number for number, *_ in cuts])
    images, mattes, segments = (torch.from_numpy(np.stack([one[i] for one in cuts])) for i in (1, 2, 3))
    return track.without_pictures()[index].replace(pictures=Pictures(images, mattes, segments))


def _chosen(recording: Recording, frames: Sequence[int], progress: Progress) -> Iterator[tuple[int, np.ndarray]]:
    wanted = set(frames)
    for index, picture in enumerate(recording.open()):
        if index > frames[-1]:
            return
        if index in wanted:
            yield index, picture
            progress((index + 1) / (frames[-1] + 1), f"Frame {index + 1} of {frames[-1] + 1}")
