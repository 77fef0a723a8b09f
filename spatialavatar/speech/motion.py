"""Motion of sound files and of known phoneme times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.media import SoundReader
from spatialavatar.motion import Motion
from spatialavatar.progress import Progress, no_progress
from spatialavatar.speech.coarticulation import REACH, arkit_weights, articulate
from spatialavatar.speech.driver import SpeechDriver, SpeechListener
from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.visemes import VISEME_RATE, VISEMES, Phoneme, viseme_frames

BLOCK_SECONDS: Final = 4
"""Seconds of sound that are decoded and heard at a time."""
_MEAN_LOUDNESS: Final = 0.75  # of speech whose loudness is not known


@dataclass
class SpeechStream:
    """The motion of a sound file, block by block, in constant memory. Iterate once.

    Attributes:
        path: the file.
        fps: frames per second.
        listener: hears the sound; None for the network that ships.
        seconds: duration that the file declares; 0 where it does not.
        warnings: sentences about the sound, complete after the iteration.
    """

    path: Path
    fps: float = 25.0
    listener: SpeechListener | None = None
    seconds: float = field(init=False)
    warnings: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Open the file and load the network.

        Raises:
            InputError: the file is missing or has no sound, or the rate is out of range.
            MissingAssetError: the network's weights are not on disk and cannot be fetched.
        """
        self._driver = SpeechDriver(self.fps, self.listener)
        self._reader = SoundReader(self.path, SAMPLE_RATE)
        self.seconds, self.warnings = self._reader.duration, self._reader.warnings

    def __iter__(self) -> Iterator[Motion]:
        """Yield the motion of consecutive stretches of a few seconds.

        Raises:
            InputError: no sound can be decoded.
        """
        for block in self._reader.blocks(BLOCK_SECONDS * SAMPLE_RATE):
            frames = self._driver.feed(block)
            if len(frames):
                yield motion_of(frames, self.fps)
        frames = self._driver.finish()
        if len(frames):
            yield motion_of(frames, self.fps)


def speech_motion(
    path: str | Path, fps: float = 25.0, listener: SpeechListener | None = None, progress: Progress | None = None
) -> Motion:
    """The motion of the lips and the jaw for a sound file.

    Args:
        path: a file with sound; a video's pictures are not used.
        fps: frames per second, 1 to 240.
        listener: hears the sound; None for the network that ships.
        progress: called with (fraction, message).

    Raises:
        InputError: the file is missing or has no sound, or the rate is out of range.
        MissingAssetError: the network's weights are not on disk and cannot be fetched.
    """
    report = progress or no_progress
    stream = SpeechStream(Path(path), fps, listener)
    frames, count = [], 0
    for part in stream:
        frames.append(part.weights)
        count += len(part)
        seconds = count / fps
        report(min(1.0, seconds / max(stream.seconds, seconds)), f"Heard {seconds:.0f} seconds of speech")
    motion = motion_of(torch.cat(frames).numpy(), fps, Path(path).stem)
    return replace(motion, warnings=tuple(stream.warnings))


def phoneme_motion(
    phonemes: Sequence[Phoneme], seconds: float, fps: float = 25.0, loudness: np.ndarray | None = None
) -> Motion:
    """The motion for phonemes of known times, as a speech synthesiser gives them; no sound is heard.

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


def motion_of(weights: np.ndarray, fps: float, title: str = "") -> Motion:
    """A motion of ARKit weights (T, 52) whose head is still."""
    count = len(weights)
    assert weights.shape == (count, len(ARKIT_52))
    frames = torch.from_numpy(np.ascontiguousarray(weights, np.float32))
    return Motion(frames, torch.zeros(count, 3), torch.zeros(count, 3), fps, title)
