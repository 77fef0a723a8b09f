"""Log-mel features of sound, computed as it arrives."""

from __future__ import annotations

from typing import Final

import numpy as np

SAMPLE_RATE: Final = 16_000
"""Samples per second of all sound in this package."""
HOP: Final = 320
"""Samples between two feature frames: 20 ms."""
FEATURE_COUNT: Final = 80
"""Values of a feature frame: two spectra of 40 bands, 10 ms apart."""
LOOK_AHEAD: Final = 440 - HOP // 2
"""Samples after the middle of a frame that the frame is computed from."""

BANDS: Final = 40
"""Bands of a spectrum."""
WINDOW: Final = 400
"""Samples of a spectrum."""
FFT_SIZE: Final = 512
"""Points of its Fourier transform."""
LEAD: Final = 120
"""Samples of silence before the first, which centre the first window on its 10 ms."""
FLOOR: Final = 1e-6
"""Power of a band below which it is silence."""
_LOW_HZ, _HIGH_HZ = 60.0, 7600.0


def _mel_filters() -> np.ndarray:
    """(257, 40) triangles on the mel scale, each of unit sum."""

    def to_mel(hertz: np.ndarray) -> np.ndarray:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)

    low, high = to_mel(np.array([_LOW_HZ, _HIGH_HZ]))
    edges = np.linspace(low, high, BANDS + 2)
    bins = to_mel(np.fft.rfftfreq(FFT_SIZE, 1.0 / SAMPLE_RATE))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.minimum(rising, falling).clip(0.0)
    return (triangles / triangles.sum(0).clip(1e-9)).astype(np.float32)


MEL_FILTERS: Final = _mel_filters()
"""(257, 40) from the power of each frequency to the bands."""
TAPER: Final = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
"""(400,) the window's weights."""


class LogMel:
    """Turns mono sound of 16 kHz into feature frames, block by block."""

    def __init__(self) -> None:
        self._rest = np.zeros(LEAD, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The feature frames that the new samples complete.

        Args:
            samples: (N,) float32 in [-1, 1].

        Returns:
            (T, 80) float32, about -1 to 1.
        """
        self._rest = np.concatenate([self._rest, samples.astype(np.float32, copy=False)])
        count = max(0, (len(self._rest) - (WINDOW - HOP // 2)) // HOP)
        spectra = 2 * count
        if not count:
            return np.zeros((0, FEATURE_COUNT), np.float32)
        hop = HOP // 2
        windows = np.lib.stride_tricks.sliding_window_view(self._rest, WINDOW)[: spectra * hop : hop][:spectra]
        power = np.abs(np.fft.rfft(windows * TAPER, FFT_SIZE)) ** 2
        bands = np.log10(power.astype(np.float32) @ MEL_FILTERS / WINDOW + FLOOR)
        self._rest = self._rest[spectra * hop :]
        return ((bands + 3.0) / 3.0).reshape(count, FEATURE_COUNT)
