"""The measure of agreement between rendered lips and sound: it prefers lips in time to early and late ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.measure_lip_sync import FPS, agreement, at_visemes, loudness_correlation
from scripts.measure_speech_on_faces import LAGS, correlations
from scripts.speech_data.kokoro import Kokoro
from spatialavatar.speech import Phoneme
from spatialavatar.speech.synthesis import Utterance

from .support.sounds import RATE, silence, vowel


@pytest.fixture(scope="module")
def utterance() -> Utterance:
    """Syllables of uneven length: "ma", "pa", "ba" ..."""
    phonemes, sound, at = [], [], 0.0
    for index, length in enumerate((0.2, 0.31, 0.24, 0.4, 0.22, 0.35, 0.28, 0.19)):
        phonemes += [Phoneme("mpb"[index % 3], at, at + 0.1), Phoneme("a", at + 0.1, at + 0.1 + length)]
        sound += [silence(0.1), vowel(length)]
        at += 0.1 + length
    return Utterance(np.concatenate(sound), RATE, tuple(phonemes))


@pytest.fixture(scope="module")
def gaps(utterance: Utterance) -> np.ndarray:
    """Lips that close on the consonants, a frame each (T,)."""
    times = (np.arange(int(utterance.seconds * FPS)) + 0.5) / FPS
    closed = np.array(
        [any(one.ipa != "a" and one.start <= time < one.end for one in utterance.phonemes) for time in times]
    )
    return np.where(closed, 0.0, 0.2)


@pytest.mark.parametrize("shift", [-0.3, 0.3])
def test_lips_in_time_agree_better_than_shifted_ones(utterance: Utterance, gaps: np.ndarray, shift: float) -> None:
    assert agreement(gaps, FPS, utterance.phonemes) > 0.9
    assert agreement(gaps, FPS, utterance.phonemes, shift) < 0.75
    assert loudness_correlation(gaps, FPS, utterance) > 0.6 > loudness_correlation(gaps, FPS, utterance, shift) + 0.2


def test_a_still_mouth_agrees_with_nothing(utterance: Utterance, gaps: np.ndarray) -> None:
    assert agreement(np.full_like(gaps, 0.1), FPS, utterance.phonemes) == 0.5


def test_late_lips_are_found_by_their_shift(utterance: Utterance, gaps: np.ndarray) -> None:
    late = np.concatenate([np.zeros(3), gaps])  # 240 ms
    scores = {shift: agreement(late, FPS, utterance.phonemes, -shift) for shift in (0.0, 0.24)}
    assert scores[0.24] > scores[0.0]
    assert len(at_visemes(gaps, FPS, utterance.phonemes, ("PP",), 100.0)) == 0


@pytest.mark.parametrize("late", [0.0, 0.06])
def test_the_lag_of_heard_lips_behind_filmed_ones_is_found(late: float) -> None:
    rng = np.random.default_rng(0)
    heard = np.convolve(rng.standard_normal(400), np.hanning(9), "same")  # 50 a second
    times = np.arange(100) / 12.5 + 1 / 60
    filmed = np.interp(times + late, (np.arange(400) + 0.5) / 50.0, heard)
    filmed[10:14] = np.nan  # no face is found
    found = correlations(filmed, 12.5, heard)
    assert 0.02 * LAGS[int(found.argmax())] == pytest.approx(late)
    assert found.max() > 0.99


def test_voices_of_the_test_are_in_no_training_voice_and_no_mixture(tmp_path: Path) -> None:
    for name in ("af_heart", "af_nova", "ef_dora", "ff_siwis", "zm_yunxi"):
        (tmp_path / f"{name}.bin").touch()
    engine = object.__new__(Kokoro)  # the network is not needed
    engine._voices = tmp_path
    assert engine.voices("fr", "test") == ["ff_siwis"]
    assert engine.voices("en", "test") == ["af_nova"]
    assert set(engine.voices("en", "train")) == {"af_heart", "af_heart+ef_dora"}
    assert set(engine.voices("fr", "train")) == {"af_heart+ef_dora"}
