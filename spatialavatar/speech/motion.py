"""Motion of sound files and of known phoneme times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import gcd
from pathlib import Path
from typing import Final

import numpy as np
import torch

from spatialavatar.media import SoundReader
from spatialavatar.motion import Motion
from spatialavatar.progress import Progress, no_progress
from spatialavatar.speech.coarticulation import REACH, arkit_weights, articulate
from spatialavatar.speech.driver import SpeechListener
from spatialavatar.speech.features import HOP, SAMPLE_RATE
from spatialavatar.speech.liveliness import Liveliness
from spatialavatar.speech.performer import ProsodyCues, SpeechPerformer, motion_of
from spatialavatar.speech.synthesis.record import Utterance
from spatialavatar.speech.visemes import VISEME_RATE, VISEMES, Phoneme, viseme_frames

BLOCK_SECONDS: Final = 4
"""Seconds of sound that are decoded and heard at a time."""
_MEAN_LOUDNESS: Final = 0.75  # of speech whose loudness is not known
_LOUDNESS_RANGE: Final = 40.0  # dB between the softest and the loudest speech


@dataclass
class SpeechStream:
    """The motion of a sound file, block by block, in constant memory. Iterate once.

    Attributes:
        path: the file.
        fps: frames per second.
        listener: speech network; None for the shipped one.
        liveliness: amount of the motion of head, brows, lids and eyes, 0 (only lips) to 1.
        seed: of that motion.
        seconds: duration that the file declares; 0 where it does not.
        warnings: sentences about the sound, complete after the iteration.
    """

    path: Path
    fps: float = 25.0
    listener: SpeechListener | None = None
    liveliness: float = 0.0
    seed: int = 0
    seconds: float = field(init=False)
    warnings: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Open the file and load the network.

        Raises:
            InputError: the file is missing or has no sound, or the rate is out of range.
            MissingAssetError: the network's weights are not on disk and cannot be fetched.
        """
        self._performer = SpeechPerformer(self.fps, self.listener, self.liveliness, self.seed)
        self._reader = SoundReader(self.path, SAMPLE_RATE)
        self.seconds, self.warnings = self._reader.duration, self._reader.warnings

    def __iter__(self) -> Iterator[Motion]:
        """Yield the motion of consecutive stretches of a few seconds.

        Raises:
            InputError: no sound can be decoded.
        """
        for block in self._reader.blocks(BLOCK_SECONDS * SAMPLE_RATE):
            frames = self._performer.feed(block)
            if len(frames.weights):
                yield motion_of(frames.weights, self.fps, rotation=frames.rotation)
        frames = self._performer.finish()
        if len(frames.weights):
            yield motion_of(frames.weights, self.fps, rotation=frames.rotation)


def speech_motion(
    path: str | Path,
    fps: float = 25.0,
    listener: SpeechListener | None = None,
    progress: Progress | None = None,
    *,
    liveliness: float = 0.0,
    seed: int = 0,
) -> Motion:
    """The motion of a face for a sound file.

    Args:
        path: a file with sound; a video's pictures are not used.
        fps: frames per second, 1 to 240.
        listener: speech network; None for the shipped one.
        progress: called with (fraction, message).
        liveliness: amount of the motion of head, brows, lids and eyes, 0 (only lips and jaw) to 1.
        seed: of that motion.

    Raises:
        InputError: the file is missing or has no sound, or a number is out of range.
        MissingAssetError: the network's weights are not on disk and cannot be fetched.
    """
    stream = SpeechStream(Path(path), fps, listener, liveliness, seed)
    report = progress or no_progress
    parts, count = [], 0
    for part in stream:
        parts.append(part)
        count += len(part)
        seconds = count / fps
        report(min(1.0, seconds / max(stream.seconds, seconds)), f"Heard {seconds:.0f} seconds of speech")
    weights, rotation = (torch.cat([getattr(part, name) for part in parts]) for name in ("weights", "rotation"))
    motion = motion_of(weights.numpy(), fps, stream.path.stem, rotation=rotation.numpy())
    return replace(motion, warnings=tuple(stream.warnings))


def utterance_motion(utterance: Utterance, fps: float = 25.0, liveliness: float = 0.0, seed: int = 0) -> Motion:
    """The motion of a face for a spoken text, from its phoneme times; the sound is used for stress only.

    Args:
        utterance: from a synthesiser.
        fps: frames per second, 1 to 240.
        liveliness: amount of the motion of head, brows, lids and eyes, 0 (only lips and jaw) to 1.
        seed: of that motion.

    Raises:
        InputError: a number is out of range.
    """
    sound = _resampled(utterance.samples, utterance.rate)
    hops = np.pad(sound, (0, -len(sound) % HOP)).reshape(-1, HOP)
    level = 10.0 * np.log10((hops**2).mean(1) + 1e-10)
    loudness = ((level - np.percentile(level, 95.0)) / _LOUDNESS_RANGE + 1.0).clip(0.0, 1.0).astype(np.float32)
    lips = phoneme_motion(utterance.phonemes, utterance.seconds, fps, loudness)
    cues = ProsodyCues(fps)
    cues.push(np.pad(sound, (0, SAMPLE_RATE)))  # its last windows reach beyond the end
    weights, rotation = Liveliness(fps, liveliness, seed).frames(cues.take(len(lips)))
    return motion_of((lips.weights.numpy() + weights).clip(0.0, 1.0), fps, "speech", rotation=rotation)


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    from scipy.signal import resample_poly  # half a second to import, which only texts need

    common = gcd(rate, SAMPLE_RATE)
    return resample_poly(samples, SAMPLE_RATE // common, rate // common).astype(np.float32)


def phoneme_motion(
    phonemes: Sequence[Phoneme], seconds: float, fps: float = 25.0, loudness: np.ndarray | None = None
) -> Motion:
    """The motion for phonemes of known times, as a speech synthesiser returns them; no sound is used.

    Args:
        phonemes: in the order of time.
        seconds: length of the motion.
        fps: frames per second.
        loudness: (T,) in [0, 1] at 50 frames a second, T = ceil(50 seconds); None for even speech.
    """
    count = max(1, int(np.ceil(seconds * VISEME_RATE)))
    shares, _ = viseme_frames(phonemes, count + REACH)
    level = np.full(count, _MEAN_LOUDNESS, np.float32) if loudness is None else loudness[:count]
    before = np.zeros((REACH, len(VISEMES)), np.float32)
    before[:, 0] = 1.0
    level = np.pad(level, (REACH, count + REACH - len(level)), mode="edge")
    curve = arkit_weights(articulate(np.concatenate([before, shares]), level))
    total = max(1, round(seconds * fps))
    places = ((np.arange(total) + 0.5) / fps * VISEME_RATE - 0.5).clip(0.0, count - 1.0)
    low = np.floor(places).astype(int)
    part = (places - low).astype(np.float32)[:, None]
    frames = curve[low] * (1.0 - part) + curve[np.minimum(low + 1, count - 1)] * part
    return motion_of(frames, fps)
