"""Sounds for tests: made of formulas, written as WAV of any kind."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

RATE = 16_000


def vowel(seconds: float, pitch: float = 120.0, formants: tuple[float, ...] = (750.0, 1200.0, 2500.0)) -> np.ndarray:
    """A sung vowel, (N,) float32: harmonics of the pitch, louder near the formants."""
    time = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros_like(time)
    for number in range(1, int(4000 / pitch)):
        gain = sum(np.exp(-(((number * pitch - formant) / 120.0) ** 2)) for formant in formants) + 0.02
        sound += gain * np.sin(2 * np.pi * number * pitch * time) / number**0.5
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    """(N,) float32 zeros."""
    return np.zeros(int(seconds * RATE), np.float32)


def write_wav(path: Path, sound: np.ndarray, rate: int = RATE, floats: bool = False) -> Path:
    """Write (N,) or (N, channels) samples as 16-bit integers or as floats, NaN and values beyond 1 included."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    data = sound.astype("<f4").tobytes() if floats else (sound.clip(-1, 1) * 32767).astype("<i2").tobytes()
    kind, width = (3, 4) if floats else (1, 2)
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path
