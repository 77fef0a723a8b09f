"""Loudness, pitch and stress of speech, computed as the sound arrives."""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.speech.features import HOP, SAMPLE_RATE

PROSODY_RATE: Final = SAMPLE_RATE / HOP
"""Frames per second of prosody: 50."""

_WINDOW: Final = 1024  # 64 ms, four periods of the lowest voice
_LOW_HZ, _HIGH_HZ = 65.0, 400.0
_VOICED: Final = 0.45  # autocorrelation at the period from which a frame counts as voiced
_RANGE_DB: Final = 26.0  # speech is louder than its peaks less this
_FORGET: Final = 0.995  # of the running means, a frame: 4 seconds
_PEAK_FALL_DB: Final = 0.03  # by which the remembered peak falls, a frame
_QUIETEST_DB: Final = -55.0  # below it nothing counts as speech, at any peak


class Prosody:
    """Detects speech and its stressed syllables.

    A syllable is stressed where voice and loudness rise above those of the last seconds, in standard deviations: the
    cues to which head and brows of a speaker are tied (Munhall et al., 2004, "Visual prosody and speech
    intelligibility").
    """

    def __init__(self) -> None:
        self._rest = np.zeros(_WINDOW - HOP, np.float32)
        self._peak = _QUIETEST_DB + _RANGE_DB
        self._taper = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
        # Autocorrelation of the window itself, by which that of the sound is divided.
        self._own = _autocorrelation(self._taper)
        self._mean = np.zeros(2)
        self._variance = np.array([9.0, 4.0])  # dB squared, semitones squared
        self._heard = 0.0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The frames that the new samples complete.

        Args:
            samples: (N,) float32 in [-1, 1], 16 kHz.

        Returns:
            (T, 2) float32, 50 a second: whether there is speech (0 or 1), and stress in standard deviations, 0 where
            there is none.
        """
        self._rest = np.concatenate([self._rest, samples.astype(np.float32, copy=False)])
        count = max(0, (len(self._rest) - _WINDOW) // HOP + 1)
        frames = [self._frame(self._rest[i * HOP : i * HOP + _WINDOW]) for i in range(count)]
        self._rest = self._rest[count * HOP :]
        return np.array(frames, np.float32).reshape(-1, 2)

    def _frame(self, window: np.ndarray) -> tuple[float, float]:
        recent = window[-2 * HOP :]
        level = 10.0 * np.log10(float(recent @ recent) / len(recent) + 1e-10)
        self._peak = max(level, self._peak - _PEAK_FALL_DB, _QUIETEST_DB + _RANGE_DB)
        if level < max(self._peak - _RANGE_DB, _QUIETEST_DB):
            return 0.0, 0.0
        pitch = self._pitch(window)
        if pitch is None:
            return 1.0, 0.0
        values = np.array([level, 12.0 * np.log2(pitch / 100.0)])
        self._heard += 1.0
        forget = min(_FORGET, 1.0 - 1.0 / self._heard)  # a plain mean at first
        away = values - self._mean
        self._mean += (1.0 - forget) * away
        if self._heard > 5.0:
            self._variance = forget * self._variance + (1.0 - forget) * away**2
        stress = away / np.sqrt(self._variance.clip(1.0))
        return 1.0, float(np.clip(stress.mean(), -3.0, 3.0)) if self._heard > 10.0 else 0.0

    def _pitch(self, window: np.ndarray) -> float | None:
        """The frequency of the voice, Hz; None where the frame has none (Boersma, 1993)."""
        sound = (window - window.mean()) * self._taper
        correlation = _autocorrelation(sound) / self._own
        low, high = int(SAMPLE_RATE / _HIGH_HZ), int(SAMPLE_RATE / _LOW_HZ)
        # The shortest of nearly equal periods: a multiple of the period correlates as well as the period.
        lags = correlation[low:high] - 0.02 * np.log2(np.arange(low, high) / low)
        best = int(lags.argmax())
        return SAMPLE_RATE / (low + best) if correlation[low + best] > _VOICED else None


def _autocorrelation(sound: np.ndarray) -> np.ndarray:
    """(N / 2,) autocorrelation by lag, 1 at lag 0; 0 for silence."""
    spectrum = np.fft.rfft(sound, 2 * len(sound))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(sound) // 2]
    return correlation / correlation[0] if correlation[0] > 0.0 else np.zeros(len(correlation))
