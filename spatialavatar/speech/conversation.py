"""The face of a voice agent: frames at a constant rate, from sound that arrives at any rate."""

from __future__ import annotations

from collections import deque
from threading import Lock

import numpy as np

from spatialavatar.easing import smoothstep
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.speech.driver import RELEASE, SpeechDriver, SpeechListener, checked_samples
from spatialavatar.speech.liveliness import Liveliness
from spatialavatar.speech.performer import FaceFrames, ProsodyCues


class Conversation:
    """Receives the agent's speech as it is made, and returns one frame at each call of the screen.

    Agents make speech faster than it is played. Its frames wait in a queue, from which :meth:`next_frame` takes one per
    call; without speech it returns idle motion. :meth:`interrupt` drops the frames that were not shown. The methods may
    be called from different threads.

    Attributes:
        fps: frames per second of :meth:`next_frame`.
    """

    def __init__(
        self, fps: float = 25.0, listener: SpeechListener | None = None, liveliness: float = 1.0, seed: int = 0
    ) -> None:
        """Start idle.

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
        self._life = Liveliness(fps, liveliness, seed)
        self._driver = SpeechDriver(fps, listener)
        self._cues = ProsodyCues(fps)
        self._waiting: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._lips = np.zeros(len(ARKIT_52), np.float32)  # of the last frame
        self._lock = Lock()

    @property
    def waiting(self) -> float:
        """Seconds of speech that are not shown yet."""
        return len(self._waiting) / self.fps

    def feed(self, samples: np.ndarray) -> None:
        """Add speech.

        Args:
            samples: (N,) mono, 16 kHz: floats in [-1, 1], or int16. Values that are not finite count as silence.

        Raises:
            InputError: the array is not of that shape and type.
        """
        samples = checked_samples(samples)
        with self._lock:
            self._cues.push(samples)
            self._queue(self._driver.feed(samples))

    def end(self) -> None:
        """Mark the end of an utterance: the frames that remain are shown, then the face is idle."""
        with self._lock:
            self._queue(self._driver.finish())
            self._cues = ProsodyCues(self.fps)

    def interrupt(self) -> None:
        """Stop speaking: what waits is dropped, and the mouth rests within 120 ms of frames."""
        with self._lock:
            self._driver.interrupt()
            self._cues = ProsodyCues(self.fps)
            self._waiting.clear()
            count = max(1, round(RELEASE * self.fps))
            shares = np.linspace(1.0, 0.0, count + 1)[1:]
            for share in smoothstep(shares, 0.0, 1.0):
                self._waiting.append((np.float32(share) * self._lips, np.zeros(2, np.float32)))

    def next_frame(self) -> FaceFrames:
        """One frame: (1, 52) weights and (1, 3) head rotation."""
        with self._lock:
            silent = (np.zeros(len(ARKIT_52), np.float32), np.zeros(2, np.float32))
            self._lips, cue = self._waiting.popleft() if self._waiting else silent
            weights, rotation = self._life.frames(cue[None])
            return FaceFrames(np.clip(weights + self._lips, 0.0, 1.0), rotation)

    def _queue(self, lips: np.ndarray) -> None:
        self._waiting.extend(zip(lips, self._cues.take(len(lips))))
