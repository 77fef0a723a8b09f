"""A whole face that speaks: lips from :class:`SpeechDriver`, everything else from :class:`Liveliness`."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch

from spatialavatar.motion import Motion
from spatialavatar.speech.driver import SpeechDriver, SpeechListener, checked_samples
from spatialavatar.speech.liveliness import Liveliness
from spatialavatar.speech.prosody import PROSODY_RATE, Prosody

PROSODY_LEAD: Final = 4
"""Frames of prosody by which head and brows are ahead of the voice, as people's are: 80 ms."""


class FaceFrames(NamedTuple):
    """Consecutive frames of a face.

    Attributes:
        weights: (T, 52) float32 in the order of ``ARKIT_52``; T can be 0.
        rotation: (T, 3) float32 head rotations, axis-angle, radians.
    """

    weights: np.ndarray
    rotation: np.ndarray


class ProsodyCues:
    """Prosody by frames of the face: cues of the sound around the time of each, a little ahead."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._prosody = Prosody()
        self._heard = np.zeros((0, 2), np.float32)
        self._first = 0  # index of the first stored row of cues
        self._taken = 0

    def push(self, samples: np.ndarray) -> None:
        """Add (N,) float32 samples of 16 kHz."""
        self._heard = np.concatenate([self._heard, self._prosody.push(samples)])

    def take(self, count: int) -> np.ndarray:
        """(T, 2) rows for :meth:`Liveliness.frames`: those of the next ``count`` frames, silent after the sound."""
        if count == 0:
            return np.zeros((0, 2), np.float32)
        times = (np.arange(self._taken, self._taken + count) + 0.5) / self._fps
        self._taken += count
        rows = np.floor(times * PROSODY_RATE).astype(int) + PROSODY_LEAD
        missing = max(0, int(rows[-1]) + 1 - self._first - len(self._heard))
        found = np.pad(self._heard, ((0, missing), (0, 0)))[rows - self._first]
        passed = min(int(rows[0]) - self._first, len(self._heard))
        self._heard, self._first = self._heard[passed:], self._first + passed
        return found


class SpeechPerformer:
    """Converts sound, in blocks of any size, to frames of a living face.

    The lips are those of :class:`SpeechDriver`. Call :meth:`idle` for frames between sentences, so that the head keeps
    moving. Take every shown frame from the same performer.

    Attributes:
        fps: frames per second.
    """

    def __init__(
        self, fps: float = 25.0, listener: SpeechListener | None = None, liveliness: float = 1.0, seed: int = 0
    ) -> None:
        """Start in silence.

        Args:
            fps: frames per second, 1 to 240.
            listener: speech network; by default the shipped one.
            liveliness: amount of the motion of head, brows, lids and eyes, 0 (only lips) to 1.
            seed: of that motion.

        Raises:
            InputError: a number is out of range.
            MissingAssetError: the network's weights are not on disk and cannot be fetched.
        """
        self.fps = fps
        self._liveliness = Liveliness(fps, liveliness, seed)
        self._driver = SpeechDriver(fps, listener)
        self._cues = ProsodyCues(fps)

    def feed(self, samples: np.ndarray) -> FaceFrames:
        """The frames that the new samples complete, which can be none.

        Args:
            samples: (N,) mono, 16 kHz: floats in [-1, 1], or int16. Values that are not finite count as silence.

        Raises:
            InputError: the array is not of that shape and type.
        """
        samples = checked_samples(samples)
        self._cues.push(samples)
        lips = self._driver.feed(samples)
        return self._joined(lips, self._cues.take(len(lips)))

    def finish(self) -> FaceFrames:
        """The frames that remain at the end of the sound; the next block starts a new sound."""
        lips = self._driver.finish()
        frames = self._joined(lips, self._cues.take(len(lips)))
        self._cues = ProsodyCues(self.fps)
        return frames

    def interrupt(self) -> FaceFrames:
        """Stop in the middle of a sentence: the frames in which the mouth returns to rest, 120 ms of them.

        What was fed and is not complete is dropped; the next block starts a new sound.
        """
        lips = self._driver.interrupt()
        self._cues = ProsodyCues(self.fps)
        return self._joined(lips, np.zeros((len(lips), 2), np.float32))

    def idle(self, frames: int) -> FaceFrames:
        """Frames without sound, between sentences."""
        return self._joined(np.zeros((frames, 52), np.float32), np.zeros((frames, 2), np.float32))

    def _joined(self, lips: np.ndarray, prosody: np.ndarray) -> FaceFrames:
        weights, rotation = self._liveliness.frames(prosody)
        return FaceFrames(np.clip(lips + weights, 0.0, 1.0), rotation)


def idle_motion(seconds: float, fps: float = 25.0, liveliness: float = 1.0, seed: int = 0) -> Motion:
    """The motion of a face that waits: it sways, blinks and looks at the viewer.

    Raises:
        InputError: a number is out of range.
    """
    silence = np.zeros((max(1, round(seconds * fps)), 2), np.float32)
    weights, rotation = Liveliness(fps, liveliness, seed).frames(silence)
    return motion_of(weights, fps, "idle", rotation=rotation)


def motion_of(weights: np.ndarray, fps: float, title: str = "", *, rotation: np.ndarray | None = None) -> Motion:
    """A motion of ARKit weights (T, 52) that stays in its place.

    Args:
        weights: (T, 52).
        fps: frames per second.
        title: of the motion.
        rotation: (T, 3) head rotations, axis-angle in radians; None for a still head.
    """
    count = len(weights)
    turns = np.zeros((count, 3), np.float32) if rotation is None else rotation
    frames = torch.from_numpy(np.ascontiguousarray(weights, np.float32))
    return Motion(frames, torch.from_numpy(turns.astype(np.float32)), torch.zeros(count, 3), fps, title)
