"""Make an avatar speak a sound file or a text, or idle: a video with motion of lips, face and head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

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
from spatialavatar.speech import Liveliness, SpeechListener, SpeechStream, motion_of, utterance_motion
from spatialavatar.speech.synthesis import synthesise

MAX_IDLE_SECONDS: Final = 3600.0
_IDLE_STRETCH: Final = 4.0  # seconds


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


@dataclass(frozen=True)
class SpeechConfig:
    """How an avatar speaks.

    Attributes:
        fps: frames per second, 1 to 240.
        liveliness: amount of the motion of head, brows, lids and eyes, 0 (only the lips move) to 1.
        seed: of that motion.
        listener: speech network; None for the shipped one.
        voice: of a text, such as ``af_heart`` or ``espeak:de``; None for the default.
    """

    fps: float = 25.0
    liveliness: float = 1.0
    seed: int = 0
    listener: SpeechListener | None = None
    voice: str | None = None


def speak(
    avatar: Avatar,
    audio: str | Path,
    out: str | Path,
    config: DriveConfig | None = None,
    speech: SpeechConfig | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> DriveReport:
    """Render ``avatar`` speaking the sound ``audio`` into the video ``out``, which gets that sound.

    Memory does not grow with the length of the sound.

    Args:
        avatar: the avatar.
        audio: a file with sound, of any format; a video's pictures are not used.
        out: the mp4 to write; it appears whole or not at all.
        config: how the motion is transferred; its smoothing is not applied.
        speech: how the avatar speaks.
        device: where to render; by default a CUDA device if a renderer works on it, else the CPU.
        progress: called with (fraction, message).
        watch: called with every frame (H, W, 3) uint8 as it is written, for a preview.

    Raises:
        OutputError: ``out`` cannot be written; this is checked before the work starts.
        InputError: the sound cannot be read, or a number is out of range.
        MissingAssetError: the network's weights are not on disk and cannot be fetched.
    """
    speech = speech or SpeechConfig()
    check_not_an_input(Path(out), audio)
    check_drive(avatar, config or DriveConfig(), out)
    stream = SpeechStream(Path(audio), speech.fps, speech.listener, speech.liveliness, speech.seed)
    performance = Performance(stream, speech.fps, stream.seconds, stream.path, stream.warnings)
    return perform(avatar, performance, out, config, device=device, progress=progress, watch=watch)


def say(
    avatar: Avatar,
    text: str,
    out: str | Path,
    config: DriveConfig | None = None,
    speech: SpeechConfig | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> DriveReport:
    """Render ``avatar`` saying ``text`` into the video ``out``, with the voice of ``speech``.

    The lips follow the synthesiser's own phoneme times. The arguments are those of :func:`speak`.

    Raises:
        OutputError: ``out`` cannot be written; this is checked before the work starts.
        InputError: the text or the voice cannot be used, or a number is out of range.
        MissingAssetError: the synthesiser is not installed, or cannot be fetched.
    """
    speech = speech or SpeechConfig()
    check_drive(avatar, config or DriveConfig(), out)
    report = progress or no_progress
    report(0.0, "Reading the text")
    utterance, warnings = synthesise(text, speech.voice)
    motion = utterance_motion(utterance, speech.fps, speech.liveliness, speech.seed)
    with TemporaryDirectory() as folder:
        sound = utterance.save(Path(folder) / "speech.wav")
        performance = Performance([motion], speech.fps, utterance.seconds, sound, warnings)
        return perform(avatar, performance, out, config, device=device, progress=report, watch=watch)


def idle(
    avatar: Avatar,
    seconds: float,
    out: str | Path,
    config: DriveConfig | None = None,
    speech: SpeechConfig | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> DriveReport:
    """Render ``avatar`` waiting for ``seconds`` into the silent video ``out``: it sways, blinks, looks at the viewer.

    The other arguments are those of :func:`speak`.

    Raises:
        OutputError: ``out`` cannot be written; this is checked before the work starts.
        InputError: a number is out of range.
    """
    speech = speech or SpeechConfig()
    check_drive(avatar, config or DriveConfig(), out)
    performance = Performance(idle_parts(seconds, speech), speech.fps, seconds)
    return perform(avatar, performance, out, config, device=device, progress=progress, watch=watch)


def idle_parts(seconds: float, speech: SpeechConfig) -> Iterator[Motion]:
    """The motion of waiting in stretches of a few seconds.

    Raises:
        InputError: a number is out of range.
    """
    if not 0.0 < seconds <= MAX_IDLE_SECONDS:
        raise InputError(f"The avatar can idle for up to {MAX_IDLE_SECONDS:g} seconds, not {seconds:g}.")
    life = Liveliness(speech.fps, speech.liveliness, speech.seed)

    def parts() -> Iterator[Motion]:
        left = max(1, round(seconds * speech.fps))
        while left > 0:
            count = min(left, round(_IDLE_STRETCH * speech.fps))
            weights, rotation = life.frames(np.zeros((count, 2), np.float32))
            yield motion_of(weights, speech.fps, "idle", rotation=rotation)
            left -= count

    return parts()


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
            raise InputError("There are no frames to render; give a longer sound or motion.")
    return DriveReport(out, count, performance.fps, 0, (*performance.warnings, *writer.warnings))


def rested_track(motion: Motion, head: HeadModel) -> Track:
    """A stretch as a track whose head rests where the head rests in all stretches, not at its own mean."""
    track = motion.to_track(head)
    neutral = track.neutral.replace(translation=resting_place(head), rotation=torch.zeros(3, device=head.device))
    return track.with_motion(neutral=neutral)
