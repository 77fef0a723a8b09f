"""Speech from text, with the times of its phonemes: Kokoro-82M or espeak-ng, both of which the user installs."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Final

from spatialavatar.errors import InputError, MissingAssetError
from spatialavatar.speech.synthesis.espeak import Espeak
from spatialavatar.speech.synthesis.kokoro import Kokoro, is_voice
from spatialavatar.speech.synthesis.record import Utterance
from spatialavatar.speech.synthesis.voices import ESPEAK, VOICES, is_voice_name, missing_synthesiser

__all__ = [
    "DEFAULT_VOICE",
    "FALLBACK_VOICE",
    "FELL_BACK",
    "MAX_TEXT",
    "VOICES",
    "Espeak",
    "Kokoro",
    "Utterance",
    "is_voice_name",
    "missing_synthesiser",
    "synthesise",
]

DEFAULT_VOICE: Final = "af_heart"
FALLBACK_VOICE: Final = "espeak:en-us"
FELL_BACK: Final = (
    "espeak-ng speaks with a mechanical voice, because Kokoro's natural ones cannot be fetched; choose one by its name "
    "to see why."
)
"""What the user is told where ``FALLBACK_VOICE`` speaks for ``DEFAULT_VOICE``."""
MAX_TEXT: Final = 5000
"""Characters of the longest text."""

_one_at_a_time = threading.Lock()  # espeak-ng has one state in a process


def synthesise(text: str, voice: str | None = None) -> tuple[Utterance, tuple[str, ...]]:
    """Read a text.

    Args:
        text: in the language of the voice, at most ``MAX_TEXT`` characters.
        voice: one of Kokoro's (``af_heart``), or ``espeak:`` and a voice of espeak-ng (``espeak:de+f2``). None takes
            Kokoro's ``DEFAULT_VOICE``, and espeak-ng's where Kokoro cannot be fetched.

    Returns:
        The utterance, and sentences for the user.

    Raises:
        InputError: the text is empty or too long, or there is no such voice.
        MissingAssetError: the synthesiser is not installed, or cannot be fetched.
    """
    if not text.strip():
        raise InputError("There is no text to say; give some words.")
    if len(text) > MAX_TEXT:
        raise InputError(f"The text has {len(text)} characters; give at most {MAX_TEXT}, or several texts.")
    with _one_at_a_time:
        return _read(text, voice)


def _read(text: str, voice: str | None) -> tuple[Utterance, tuple[str, ...]]:
    if voice is not None and voice.startswith(ESPEAK):
        return _espeak().say(text, voice.removeprefix(ESPEAK)), ()
    if voice is not None and not is_voice(voice):
        raise InputError(f"There is no voice {voice!r}; give one such as {DEFAULT_VOICE} or {FALLBACK_VOICE}.")
    try:
        network = _kokoro()
    except MissingAssetError:
        if voice is not None:
            raise
        return _espeak().say(text, FALLBACK_VOICE.removeprefix(ESPEAK)), (FELL_BACK,)
    return network.say(text, voice or DEFAULT_VOICE), ()


@lru_cache(maxsize=1)
def _espeak() -> Espeak:
    return Espeak()


@lru_cache(maxsize=1)
def _kokoro() -> Kokoro:
    return Kokoro(espeak=_espeak())
