"""Training batches: clips of speech in a row, heard through rooms, noise, music, telephones and bad microphones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve, lfilter

from spatialavatar.speech.features import HOP, SAMPLE_RATE, LogMel
from spatialavatar.speech.visemes import VISEMES

_LOUDNESS_RANGE = 40.0  # decibels from loudness 0 to 1


@dataclass(frozen=True)
class Clip:
    """A clip of speech: sound (N,) int16 of 16 kHz, and spans (S, 4): viseme, start, end in seconds, voiced."""

    sound: np.ndarray
    spans: np.ndarray
    voice: str


@dataclass(frozen=True)
class Batch:
    """Training examples: features (B, T, 80), shares (B, T, 15), voicing (B, T) and loudness (B, T), float32."""

    features: np.ndarray
    shares: np.ndarray
    voicing: np.ndarray
    loudness: np.ndarray


def load_clips(path: Path) -> list[Clip]:
    """The clips of a file that ``make.py`` wrote."""
    with np.load(path) as data:
        sounds = np.split(data["sound"], data["sound_ends"][:-1])
        spans = np.split(data["spans"], data["span_ends"][:-1])
        return [Clip(*parts) for parts in zip(sounds, spans, map(str, data["voices"]))]


def write_clips(path: Path, clips: Sequence[Clip]) -> None:
    """Write what :func:`load_clips` reads."""
    np.savez(
        path,
        sound=np.concatenate([clip.sound for clip in clips]),
        sound_ends=np.cumsum([len(clip.sound) for clip in clips]),
        spans=np.concatenate([clip.spans for clip in clips]),
        span_ends=np.cumsum([len(clip.spans) for clip in clips]),
        voices=np.array([clip.voice for clip in clips]),
    )


def frames_of(spans: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of visemes (T, 15) and voicing (T,) of spans (S, 4), at 50 frames a second."""
    fine = 4  # points of a frame
    labels, voiced = np.zeros(count * fine, np.int64), np.zeros(count * fine, np.float32)
    for viseme, start, end, is_voiced in spans:
        low, high = round(start * 50 * fine), round(end * 50 * fine)
        labels[max(0, low) : max(0, high)] = int(viseme)
        voiced[max(0, low) : max(0, high)] = is_voiced
    shares = np.eye(len(VISEMES), dtype=np.float32)[labels].reshape(count, fine, -1).mean(1)
    return shares, voiced.reshape(count, fine).mean(1)


def loudness_of(sound: np.ndarray, count: int) -> np.ndarray:
    """(T,) loudness of clean speech in [0, 1], relative to the loudest twentieth of it."""
    padded = np.zeros(count * HOP, np.float32)
    padded[: min(len(sound), len(padded))] = sound[: len(padded)]
    power = (padded.reshape(count, HOP) ** 2).mean(1)
    power = np.convolve(power, np.ones(3) / 3, "same")
    level = 10.0 * np.log10(power + 1e-9)
    if level.max() < -70.0:
        return np.zeros(count, np.float32)
    top = np.percentile(level[level > -70.0], 95)
    return ((level - top + _LOUDNESS_RANGE) / _LOUDNESS_RANGE).clip(0.0, 1.0).astype(np.float32)


class Augmenter:
    """Makes batches from clips, by a seeded generator."""

    def __init__(
        self, groups: list[list[Clip]], rng: np.random.Generator, seconds: float, odds: Sequence[float] | None = None
    ) -> None:
        """Start.

        Args:
            groups: clips by program and language.
            rng: source of all chance.
            seconds: length of an example.
            odds: how often each group is drawn, in any unit; None for all alike.
        """
        self._groups, self._rng, self._frames = groups, rng, round(seconds * 50)
        self._odds = np.array(odds or [1.0] * len(groups)) / sum(odds or [1.0] * len(groups))

    def batch(self, size: int) -> Batch:
        """A batch of ``size`` examples."""
        parts = [self._example() for _ in range(size)]
        return Batch(*(np.stack(column).astype(np.float32) for column in zip(*parts)))

    def _example(self) -> tuple[np.ndarray, ...]:
        rng, count = self._rng, self._frames
        length = count * HOP
        if rng.random() < 0.07:
            sound, spans = np.zeros(length, np.float32), np.zeros((0, 4), np.float32)
        else:
            sound, spans = self._speech(length)
        shares, voicing = frames_of(spans, count)
        loudness = loudness_of(sound, count)
        heard = degrade(sound, rng, lambda: self._speech(length)[0])
        mel = LogMel()
        features = mel.push(np.concatenate([heard, np.zeros(HOP, np.float32)]))[:count]
        return features, shares, voicing, loudness

    def _speech(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Clips of one group in a row, with gaps, at one random speed (which moves pitch and formants too)."""
        rng = self._rng
        group = self._groups[rng.choice(len(self._groups), p=self._odds)]
        sound, spans, position = np.zeros(length, np.float32), [], 0
        if rng.random() < 0.5:
            position = int(rng.uniform(0.0, 0.6) * SAMPLE_RATE)
        while position < length - SAMPLE_RATE // 2:
            clip = group[rng.integers(len(group))]
            factor = float(np.exp(rng.normal(0.0, 0.09))) if rng.random() < 0.8 else 1.0
            source = clip.sound.astype(np.float32) / 32768.0
            skipped = 0.0
            if position == 0 and len(source) > SAMPLE_RATE:
                skipped = rng.uniform(0.0, 0.6) * len(source) / SAMPLE_RATE
                source = source[int(skipped * SAMPLE_RATE) :]
            source = np.interp(np.arange(0, len(source) - 1, factor), np.arange(len(source)), source)
            source = source[: length - position]
            sound[position : position + len(source)] = source
            moved = clip.spans.copy()
            moved[:, 1:3] = (moved[:, 1:3] - skipped) / factor + position / SAMPLE_RATE
            spans.append(moved[moved[:, 2] > position / SAMPLE_RATE])
            position += len(source) + int(rng.choice((0.02, 0.2, 0.8)) * rng.random() * SAMPLE_RATE)
        return sound, np.concatenate(spans) if spans else np.zeros((0, 4), np.float32)


def degrade(sound: np.ndarray, rng: np.random.Generator, other_voice) -> np.ndarray:
    """What a microphone hears of clean speech (N,): a random choice of faults."""
    level = float(np.sqrt((sound**2).mean())) or 0.05
    heard = sound
    if rng.random() < 0.7:
        heard = equalised(heard, rng)
    if rng.random() < 0.4:
        heard = in_room(heard, rng)
    if rng.random() < 0.6:
        heard = heard + noise(len(sound), rng) * level * 10 ** (-rng.uniform(3.0, 35.0) / 20)
    if rng.random() < 0.2:
        heard = heard + music(len(sound), rng) * level * 10 ** (-rng.uniform(3.0, 25.0) / 20)
    if rng.random() < 0.08:
        babble = other_voice() + other_voice()
        heard = heard + babble * level / (np.sqrt((babble**2).mean()) + 1e-6) * 10 ** (-rng.uniform(10.0, 25.0) / 20)
    if rng.random() < 0.2:
        heard = telephone(heard)
    heard = heard * 10 ** (rng.uniform(-24.0, 6.0) / 20)
    if rng.random() < 0.1:
        heard = heard * (rng.uniform(1.0, 5.0) / max(1e-3, float(np.abs(heard).max())))
    heard = heard.clip(-1.0, 1.0)
    if rng.random() < 0.1:
        heard = np.round(heard * 127.0) / 127.0
    return heard.astype(np.float32)


def noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit power with a random tilt of its spectrum, and sometimes a level that wanders."""
    white = rng.standard_normal(count)
    pole = rng.uniform(-0.3, 0.97)
    out = lfilter([1.0], [1.0, -pole], white)
    if rng.random() < 0.3:
        wander = np.interp(np.arange(count), np.linspace(0, count, 12), rng.uniform(0.1, 2.0, 12))
        out = out * wander
    return out / np.sqrt((out**2).mean())


def music(count: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of decaying tones with overtones, and a beat, of unit power."""
    out = np.zeros(count)
    beat = int(rng.uniform(0.15, 0.7) * SAMPLE_RATE)
    for start in range(0, count, beat):
        time = np.arange(min(count - start, 3 * beat)) / SAMPLE_RATE
        for _ in range(int(rng.integers(1, 4))):
            pitch = 55.0 * 2 ** (rng.integers(0, 48) / 12)
            for overtone in range(1, int(rng.integers(2, 9))):
                if pitch * overtone < 7000:
                    phase = rng.uniform(0, 2 * np.pi)
                    tone = np.sin(2 * np.pi * pitch * overtone * time + phase) / overtone
                    out[start : start + len(time)] += tone * np.exp(-time * rng.uniform(0.5, 8.0))
        if rng.random() < 0.4:
            hit = rng.standard_normal(min(1600, count - start))
            out[start : start + len(hit)] += 2.0 * hit * np.exp(-np.arange(len(hit)) / 300)
    return out / (np.sqrt((out**2).mean()) + 1e-9)


def equalised(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sound through a smooth random frequency response within 10 dB, as of another microphone or voice."""
    spectrum = np.fft.rfft(sound)
    places = np.sort(rng.uniform(0.0, 1.0, 7)) * len(spectrum)
    gain = np.interp(np.arange(len(spectrum)), places, rng.uniform(-10.0, 10.0, 7))
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(sound))


def in_room(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sound with the decaying echo of a room of 0.1 to 0.6 seconds."""
    decay = rng.uniform(0.1, 0.6)
    length = int(decay * SAMPLE_RATE)
    echo = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    echo[0] = 0.0
    echo *= rng.uniform(0.1, 0.7) / (np.sqrt((echo**2).sum()) + 1e-9)
    echo[0] = 1.0
    return fftconvolve(sound, echo)[: len(sound)]


def telephone(sound: np.ndarray) -> np.ndarray:
    """Sound with the band of a telephone, 300 to 3400 Hz."""
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    slope = np.clip((hertz - 200.0) / 150.0, 0.0, 1.0) * np.clip((3700.0 - hertz) / 300.0, 0.0, 1.0)
    return np.fft.irfft(spectrum * slope, len(sound))
