"""Speech to motion as the sound arrives."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from spatialavatar.easing import smoothstep
from spatialavatar.errors import InputError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.speech.coarticulation import REACH, arkit_weights, articulate, drop_uncertain_closures
from spatialavatar.speech.features import HOP, LOOK_AHEAD, SAMPLE_RATE, LogMel
from spatialavatar.speech.network import DELAY, Heard, SpeechNetwork
from spatialavatar.speech.resampling import Resampler
from spatialavatar.speech.visemes import VISEME_RATE, VISEMES

LATENCY: Final = (LOOK_AHEAD + (DELAY + REACH + 1) * HOP) / SAMPLE_RATE
"""Seconds of sound after a video frame's middle that the frame is computed from, at most."""
RELEASE: Final = 0.12
"""Seconds in which the mouth returns to rest after :meth:`SpeechDriver.interrupt`."""


class SpeechListener(Protocol):
    """Sound to ARKit weights, block by block: the interface of every network that drives the lips.

    Attributes:
        rate: frames per second of the weights; frame ``k`` describes the sound around ``(k + 0.5) / rate`` seconds.
    """

    rate: float

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Weights (T, 52) float32 of the frames that the new samples (N,), float32 at 16 kHz, complete."""
        ...

    def finish(self) -> np.ndarray:
        """The frames that remain at the end of the sound, as if silence followed; the next sound starts anew."""
        ...


class LipListener:
    """The listener that ships: our network and the coarticulation model.

    Attributes:
        rate: 50 frames per second.
    """

    rate: float = VISEME_RATE

    def __init__(self) -> None:
        """Load the network.

        Raises:
            MissingAssetError: the weights are not on disk and cannot be fetched.
            FormatError: their file is damaged.
        """
        self._start()

    def _start(self) -> None:
        self._mel, self._network = LogMel(), SpeechNetwork()
        self._skip = DELAY
        self._shares = np.zeros((REACH, len(VISEMES)), np.float32)
        self._shares[:, 0] = 1.0  # silence comes before
        self._loudness = np.zeros(REACH, np.float32)
        self._samples = self._frames = 0

    def hear(self, samples: np.ndarray) -> Heard:
        """Network output for the frames that the new samples complete."""
        heard = self._network.push(self._mel.push(samples))
        skipped = min(self._skip, len(heard))
        self._skip -= skipped
        return Heard(heard.visemes[skipped:], heard.voicing[skipped:], heard.loudness[skipped:])

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Weights (T, 52) float32 of the frames that the new samples complete."""
        self._samples += len(samples)
        heard = self.hear(samples)
        return self._articulated(heard.visemes, heard.loudness)

    def finish(self) -> np.ndarray:
        """The frames that remain at the end of the sound; the next sound starts anew."""
        missing = -(-self._samples // HOP) - self._frames
        weights = self.push(np.zeros((missing + DELAY + REACH + 2) * HOP, np.float32))[:missing]
        self._start()
        return weights

    def _articulated(self, shares: np.ndarray, loudness: np.ndarray) -> np.ndarray:
        self._shares = np.concatenate([self._shares, drop_uncertain_closures(shares)])
        self._loudness = np.concatenate([self._loudness, loudness])
        if len(self._shares) <= 2 * REACH:
            return np.zeros((0, len(ARKIT_52)), np.float32)
        weights = arkit_weights(articulate(self._shares, self._loudness))
        self._shares, self._loudness = self._shares[-2 * REACH :], self._loudness[-2 * REACH :]
        self._frames += len(weights)
        return weights


class SpeechDriver:
    """Converts sound, in blocks of any size, to frames of ARKit weights.

    Frame ``i`` shows the mouth at ``(i + 0.5) / fps`` seconds of the sound. It is complete once ``LATENCY`` more
    seconds have arrived. A block may have any length; the same sound gives the same frames however it is cut.

    Attributes:
        fps: frames per second.
    """

    def __init__(self, fps: float = 25.0, listener: SpeechListener | None = None, rate: int = SAMPLE_RATE) -> None:
        """Start in silence.

        Args:
            fps: frames per second, 1 to 240.
            listener: network for the sound; by default the one that ships.
            rate: samples per second of the input, 4,000 to 192,000.

        Raises:
            InputError: the rate is out of range.
            MissingAssetError: the network's weights are not on disk and cannot be fetched.
        """
        if not 1.0 <= fps <= 240.0:
            raise InputError(f"The frame rate is {fps}; give a number from 1 to 240.")
        self.fps = fps
        self._rate = rate
        self._listener = listener or LipListener()
        self._start()

    def _start(self) -> None:
        self._curve = np.zeros((1, len(ARKIT_52)), np.float32)  # the mouth before the first frame
        self._first = -1  # index of the curve's first frame in the sound
        self._emitted = 0
        self._heard = 0
        self._resampler = None if self._rate == SAMPLE_RATE else Resampler(self._rate)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """The frames that the new samples complete.

        Args:
            samples: (N,) mono: floats in [-1, 1], or int16. Values that are not finite count as silence.

        Returns:
            (T, 52) float32 weights in the order of ``ARKIT_52``; T can be 0.

        Raises:
            InputError: the array is not of that shape and type.
        """
        samples = checked_samples(samples)
        self._heard += len(samples)
        self._extend(self._listener.push(samples if self._resampler is None else self._resampler.push(samples)))
        return self._complete()

    def finish(self) -> np.ndarray:
        """The frames that remain at the end of the sound; the driver is then at the start again."""
        total = int(np.ceil(self._heard / self._rate * self.fps - 1e-9))
        self._extend(self._listener.finish())
        last = self._curve[-1:]
        self._extend(np.repeat(last, 2 + int(np.ceil(self._listener.rate / self.fps)), 0))
        frames = self._complete(total)
        self._start()
        return frames

    def interrupt(self) -> np.ndarray:
        """Stop in the middle of a sentence: the frames in which the mouth returns to rest, ``RELEASE`` seconds of them.

        What was fed and is not complete is dropped; the next block starts a new sound.
        """
        count = max(1, round(RELEASE * self.fps))
        now = self._curve[-1]
        self._listener.finish()
        self._start()
        fade = np.linspace(1.0, 0.0, count + 1)[1:, None]
        return (now * smoothstep(fade, 0.0, 1.0)).astype(np.float32)

    def _extend(self, weights: np.ndarray) -> None:
        self._curve = np.concatenate([self._curve, weights])

    def _complete(self, limit: int | None = None) -> np.ndarray:
        """Sample the frames that lie within the curve, and drop the curve before them."""
        end = self._first + len(self._curve) - 1
        rate = self._listener.rate
        count = int(np.floor((end + 0.5) / rate * self.fps - 0.5 + 1e-6)) + 1 if end >= 0 else 0
        count = max(self._emitted, count if limit is None else min(count, limit))
        places = (np.arange(self._emitted, count) + 0.5) / self.fps * rate - 0.5 - self._first
        places = places.clip(0.0, len(self._curve) - 1.0)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, len(self._curve) - 1)
        part = (places - low).astype(np.float32)[:, None]
        frames = self._curve[low] * (1.0 - part) + self._curve[high] * part
        self._emitted = count
        next_place = (count + 0.5) / self.fps * rate - 0.5 - self._first
        drop = min(max(0, int(next_place) - 1), len(self._curve) - 1)
        self._curve, self._first = self._curve[drop:], self._first + drop
        return frames


def checked_samples(samples: np.ndarray) -> np.ndarray:
    """Samples (N,) as finite float32 in [-1, 1].

    Raises:
        InputError: they are not an array of one channel of floats or of 16-bit integers.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise InputError(f"Sound must be mono: an array of shape (N,), not {samples.shape}; average the channels.")
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / 32768.0
    if samples.dtype.kind != "f":
        raise InputError(f"Samples must be floats in [-1, 1] or 16-bit integers, not {samples.dtype}; convert them.")
    finite = np.where(np.isfinite(samples), samples, 0.0)
    return finite.astype(np.float32).clip(-1.0, 1.0)
