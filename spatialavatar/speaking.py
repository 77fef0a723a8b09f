"""Make an avatar speak: sound to a video whose lips follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, DriveReport, check_drive, drive_frames, drive_writer
from spatialavatar.errors import InputError
from spatialavatar.files import check_not_an_input
from spatialavatar.head import HeadModel
from spatialavatar.motion import Motion
from spatialavatar.motion.record import resting_place
from spatialavatar.progress import Progress, no_progress
from spatialavatar.provenance import marked
from spatialavatar.records import Track
from spatialavatar.render import best_device
from spatialavatar.speech import SpeechListener, SpeechStream


@dataclass(frozen=True)
class Performance:
    """Motion in consecutive stretches, and the sound that belongs to it.

    Attributes:
        parts: stretches of one frame rate, each relative to the resting face and place.
        fps: frames per second.
        seconds: expected duration, for progress; 0 where it is not known.
        sound: the file whose sound the video gets; None for a silent one.
        warnings: sentences for the user, complete after the last stretch.
    """

    parts: Iterable[Motion]
    fps: float
    seconds: float = 0.0
    sound: Path | None = None
    warnings: Iterable[str] = ()


def speak(
    avatar: Avatar,
    audio: str | Path,
    out: str | Path,
    config: DriveConfig | None = None,
    *,
    fps: float = 25.0,
    listener: SpeechListener | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> DriveReport:
    """Render ``avatar`` speaking what ``audio`` says into the video ``out``, which gets that sound.

    Memory does not grow with the length of the sound.

    Args:
        avatar: the avatar.
        audio: a file with sound, of any format; a video's pictures are not used.
        out: the mp4 to write; it appears whole or not at all.
        config: how the motion is transferred; its smoothing is not applied.
        fps: frames per second, 1 to 240.
        listener: hears the sound; None for the network that ships.
        device: where to render; by default a CUDA device if a renderer works on it, else the CPU.
        progress: called with (fraction, message).
        watch: called with every frame (H, W, 3) uint8 as it is written, for a preview.

    Raises:
        OutputError: ``out`` cannot be written; this is checked before the work starts.
        InputError: the sound cannot be read.
        MissingAssetError: the network's weights are not on disk and cannot be fetched.
    """
    check_not_an_input(Path(out), audio)
    check_drive(avatar, config or DriveConfig(), out)
    stream = SpeechStream(Path(audio), fps, listener)
    performance = Performance(stream, fps, stream.seconds, stream.path, stream.warnings)
    return perform(avatar, performance, out, config, device=device, progress=progress, watch=watch)


def perform(
    avatar: Avatar,
    performance: Performance,
    out: str | Path,
    config: DriveConfig | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> DriveReport:
    """Render a performance stretch by stretch into the video ``out``; the arguments are those of :func:`speak`.

    Raises:
        OutputError: ``out`` cannot be written.
        InputError: the performance has no frames, or its sound cannot be read.
    """
    config = replace(config or DriveConfig(), smoothing=0.0, relative=True)
    out = Path(out)
    check_drive(avatar, config, out)
    report = progress or no_progress
    avatar = avatar.to(device or best_device())
    expected = performance.seconds * performance.fps
    count = 0
    with drive_writer(avatar, config, out, performance.fps, performance.sound) as writer:
        for part in performance.parts:
            for frame in drive_frames(avatar, rested_track(part, avatar.head), config):
                count += 1
                shown = marked(frame) if config.mark else frame
                writer.write(shown)
                if watch is not None:
                    watch(shown)
                report(min(1.0, count / max(expected, count)), f"Rendering frame {count}")
        if count == 0:
            raise InputError("There is nothing to perform; give a longer sound or motion.")
    return DriveReport(out, count, performance.fps, 0, (*performance.warnings, *writer.warnings))


def rested_track(motion: Motion, head: HeadModel) -> Track:
    """A stretch as a track whose head rests where the head rests in all stretches, not at its own mean."""
    track = motion.to_track(head)
    neutral = track.neutral.replace(translation=resting_place(head), rotation=torch.zeros(3, device=head.device))
    return track.with_motion(neutral=neutral)
