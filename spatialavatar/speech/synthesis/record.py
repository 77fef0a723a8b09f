"""Output of a synthesiser: sound and the times of its phonemes."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spatialavatar.files import atomic_output
from spatialavatar.speech.visemes import Phoneme


@dataclass(frozen=True)
class Utterance:
    """A spoken text.

    Attributes:
        samples: (N,) float32 mono in [-1, 1].
        rate: samples per second.
        phonemes: in the order of time; pauses have an empty symbol.
    """

    samples: np.ndarray
    rate: int
    phonemes: tuple[Phoneme, ...]

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / self.rate

    def save(self, path: Path) -> Path:
        """Write the sound as a WAV of 16 bits; the file appears whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        data = np.rint(self.samples.clip(-1.0, 1.0) * 32767.0).astype("<i2")
        with atomic_output(path) as temporary, wave.open(str(temporary), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(data.tobytes())
        return path
