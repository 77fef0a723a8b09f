"""Choice of frames: the training and held-out parts of a track, and its reference frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.records import Pictures, Track

MIN_FRAMES = 8
"""With fewer usable frames, too few sides of the head are visible for a refinement."""

_CLOSED_JAW = 1e-3  # radians; below this many frames have a closed jaw, and the first is no better than the others
_MIN_BRIGHTNESS = 4.0  # grey level below which the person's pixels are black
_BRIGHTNESS_FRAMES = 8  # frames that the brightness is measured on


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the frames with a face.

    Attributes:
        training: (A,) frames that the refinement uses.
        held_out: (B,) frames that it does not use, at the end of the clip.
    """

    training: Tensor
    held_out: Tensor


def split_frames(track: Track, holdout: float) -> Split:
    """Split the frames with a face; the last ``holdout`` share of the clip is held out."""
    found = track.confidence.cpu() > 0
    index = torch.arange(len(track))
    last = index >= round(len(track) * (1.0 - holdout))
    return Split(index[found & ~last], index[found & last])


def reference_frame(jaw: Tensor, generator: torch.Generator) -> int:
    """The frame that the output of stage 1 belongs to: argmin_t ||theta_jaw,t||_1, ties to the earliest.

    Where that minimum is below 1e-3, a frame drawn uniformly from the bottom decile (method section 3).

    Args:
        jaw: (T, 3), radians.
        generator: random generator of the draw.
    """
    opening = jaw.abs().sum(-1).cpu()
    first = int(opening.argmin())
    if float(opening[first]) >= _CLOSED_JAW:
        return first
    decile = opening.argsort(stable=True)[: max(1, len(opening) // 10)]
    return int(decile[torch.randint(len(decile), (), generator=generator)])


def with_track_shape(avatar: Avatar, track: Track, frame: int) -> Avatar:
    """The avatar with the head shape and the camera of a track, and one frame of the track as its reference."""
    return dataclasses.replace(avatar, shape=track.params.shape, reference=track.params[frame], camera=track.camera)


def check_track(track: Track, head: HeadModel, split: Split) -> None:
    """Check that a track can be used for a refinement.

    Raises:
        FormatError: it belongs to another head model.
        InputError: it has no pictures, too few frames, or is black.
    """
    track.require_head(head.id)
    pictures = track.require_pictures()
    if len(split.training) < MIN_FRAMES:
        raise InputError(
            f"The video has only {len(split.training)} frames for training; give one in which a face is visible in at "
            f"least {MIN_FRAMES} frames that are not held out, better ten seconds."
        )
    if _brightness(pictures, split.training) < _MIN_BRIGHTNESS:
        raise InputError("The person in the video is black; give a video that was filmed in enough light.")


def _brightness(pictures: Pictures, frames: Tensor) -> float:
    """Median grey level of the person's pixels in a few of the frames; 0 where no pixel is a person's."""
    picks = torch.linspace(0, len(frames) - 1, min(_BRIGHTNESS_FRAMES, len(frames))).long()
    few = frames[picks].to(pictures.images.device)
    grey = pictures.images[few].float().mean(-1)[pictures.mattes[few] > 127]
    return float(grey.median()) if len(grey) else 0.0
