"""Sound of any rate as 16 kHz, block by block."""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.speech.features import SAMPLE_RATE

_CROSSINGS: Final = 16  # zero crossings of the sinc on each side
_KAISER: Final = 8.0
_LOW, _HIGH = 4_000, 192_000


class Resampler:
    """Band-limited interpolation with a windowed sinc; the result does not depend on how the sound is cut."""

    def __init__(self, rate: int) -> None:
        """Start.

        Args:
            rate: samples per second of the input, 4,000 to 192,000.

        Raises:
            InputError: the rate is out of range.
        """
        if not _LOW <= rate <= _HIGH:
            raise InputError(f"The sample rate is {rate}; give a number from {_LOW} to {_HIGH}.")
        self._step = rate / SAMPLE_RATE  # input samples of an output sample
        self._stretch = max(1.0, self._step)  # of the sinc, which removes what 16 kHz cannot hold
        self._reach = int(np.ceil(_CROSSINGS * self._stretch))
        self._buffer = np.zeros(self._reach, np.float32)
        self._first = -self._reach  # index of the buffer's first sample in the input
        self._count = 0  # samples given so far

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The samples (M,) float32 of 16 kHz that new ones (N,) complete; 1 ms of the input stays behind."""
        self._buffer = np.concatenate([self._buffer, samples.astype(np.float32, copy=False)])
        end = self._first + len(self._buffer) - self._reach - 1  # last index with enough samples after it
        count = max(0, int(np.floor(end / self._step)) + 1 - self._count) if end >= 0 else 0
        places = (self._count + np.arange(count)) * self._step
        low = np.floor(places).astype(int) - self._reach + 1
        taps = low[:, None] + np.arange(2 * self._reach)
        away = (places[:, None] - taps) / self._stretch
        window = np.i0(_KAISER * np.sqrt((1.0 - (away / _CROSSINGS) ** 2).clip(0.0))) / np.i0(_KAISER)
        kernel = np.sinc(away) * window / self._stretch
        out = (self._buffer[taps - self._first] * kernel).sum(1)
        self._count += count
        keep = int(np.floor(self._count * self._step)) - self._reach - self._first
        keep = min(max(0, keep), len(self._buffer))
        self._buffer, self._first = self._buffer[keep:], self._first + keep
        return out.astype(np.float32)
