"""Visemes, and the viseme of each phoneme.

The fifteen classes are those of MPEG-4's face animation as games and headsets name them. A phoneme is written in the
International Phonetic Alphabet.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

VISEMES: Final = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U")
"""Names of the classes, in the order of every (..., 15) array."""
VISEME_INDEX: Final = {name: index for index, name in enumerate(VISEMES)}

VISEME_RATE: Final = 50.0
"""Frames of visemes per second; frame ``k`` describes the sound around ``(k + 0.5) / 50`` seconds."""

_SOUNDS: Final = {
    "PP": "p b m ɓ ɱ β ʙ",
    "FF": "f v ʋ ⱱ",
    "TH": "θ ð",
    "DD": "t d ʈ ɖ ɗ",
    "kk": "k g ɡ q ɢ x ɣ χ ħ ʕ h ɦ ʔ c ɟ ç ʝ ɰ",
    "CH": "ʃ ʒ ɕ ʑ ʂ ʐ ʧ ʤ ʨ ʥ",
    "SS": "s z ʦ ʣ",
    "nn": "n l ŋ ɲ ɳ ɴ ɫ ʎ ɭ ɬ",
    "RR": "r ɹ ɾ ɽ ɻ ʁ ʀ ɚ ɝ",
    "aa": "a ɑ ɐ æ ʌ ᵄ",
    "E": "e ɛ ə ɜ ɤ ɘ ᵊ",
    "I": "i ɪ j ɨ ᵻ",
    "O": "o ɔ ɒ ø œ ɵ ɞ",
    "U": "u ʊ w ɯ y ʏ ɥ ʉ ɸ ʍ",
}
_VISEME_OF: Final = {sound: viseme for viseme, sounds in _SOUNDS.items() for sound in sounds.split()}
_UNVOICED: Final = frozenset("ptkqfθsʃɕʂxχhħçcʈʦʧʨɸʔʍɬ")
_FRICATIVES: Final = ("SS", "CH")


@dataclass(frozen=True)
class Phoneme:
    """A sound of speech and its time.

    Attributes:
        ipa: its symbol, for instance "tʃ" or "aʊ"; empty in a pause.
        start, end: seconds.
    """

    ipa: str
    start: float
    end: float


@dataclass(frozen=True)
class VisemeSpan:
    """A stretch of time in which the mouth makes one viseme.

    Attributes:
        viseme: index into ``VISEMES``.
        start, end: seconds.
        voiced: whether the vocal folds vibrate.
    """

    viseme: int
    start: float
    end: float
    voiced: bool


def viseme_spans(phonemes: Sequence[Phoneme]) -> Iterator[VisemeSpan]:
    """The visemes of phonemes. A diphthong has two; an affricate has the one of its fricative.

    A symbol that is not a sound (stress, tone, an unknown letter) has no share; a phoneme without a sound is silence.
    """
    for phoneme in phonemes:
        sounds = [sound for sound in _plain(phoneme.ipa) if sound in _VISEME_OF]
        classes = [_VISEME_OF[sound] for sound in sounds]
        if len(classes) > 1 and classes[0] == "DD" and classes[-1] in _FRICATIVES:
            sounds, classes = sounds[-1:], classes[-1:]
        if not classes:
            yield VisemeSpan(0, phoneme.start, phoneme.end, False)
            continue
        length = (phoneme.end - phoneme.start) / len(classes)
        for index, (sound, name) in enumerate(zip(sounds, classes)):
            start = phoneme.start + index * length
            yield VisemeSpan(VISEME_INDEX[name], start, start + length, sound not in _UNVOICED)


def viseme_frames(phonemes: Sequence[Phoneme], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Known phoneme times as frames.

    Args:
        phonemes: in the order of time; gaps between them are silence.
        count: T, the number of frames.

    Returns:
        (T, 15) float32 shares of each frame's time, which sum to 1, and (T,) float32 voiced shares.
    """
    shares, voiced = np.zeros((count, len(VISEMES)), np.float32), np.zeros(count, np.float32)
    for span in viseme_spans(phonemes):
        low, high = span.start * VISEME_RATE, span.end * VISEME_RATE
        for frame in range(max(0, int(low)), min(count, int(np.ceil(high)))):
            share = max(0.0, min(high, frame + 1.0) - max(low, float(frame)))
            shares[frame, span.viseme] += share
            voiced[frame] += share * span.voiced
    total = shares.sum(1)
    shares[:, 0] += np.maximum(0.0, 1.0 - total)
    return shares / shares.sum(1, keepdims=True), voiced.clip(0.0, 1.0)


def _plain(ipa: str) -> list[str]:
    """The letters of a symbol without diacritics; "r-coloured" vowels keep theirs."""
    return [letter for letter in unicodedata.normalize("NFD", ipa) if not unicodedata.combining(letter)]
