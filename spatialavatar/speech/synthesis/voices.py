"""Voices to choose from by name, and whether this machine has any."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from spatialavatar.errors import MissingAssetError
from spatialavatar.speech.synthesis.espeak import MISSING, require_espeak
from spatialavatar.speech.synthesis.kokoro import is_voice

ESPEAK: Final = "espeak:"
"""Prefix of the voices of espeak-ng."""

VOICES: Final = {
    "English (US), woman": "af_heart",
    "English (US), man": "am_michael",
    "English (UK), woman": "bf_emma",
    "English (UK), man": "bm_george",
    "Spanish, woman": "ef_dora",
    "Spanish, man": "em_alex",
    "French, woman": "ff_siwis",
    "Hindi, woman": "hf_alpha",
    "Hindi, man": "hm_omega",
    "Italian, woman": "if_sara",
    "Italian, man": "im_nicola",
    "Japanese, woman": "jf_alpha",
    "Japanese, man": "jm_kumo",
    "Portuguese, woman": "pf_dora",
    "Portuguese, man": "pm_alex",
    "Chinese, woman": "zf_xiaobei",
    "Chinese, man": "zm_yunxi",
    "English (US), robot": "espeak:en-us",
    "English (UK), robot": "espeak:en-gb-x-rp",
    "Arabic, robot": "espeak:ar",
    "Chinese, robot": "espeak:cmn",
    "Dutch, robot": "espeak:nl",
    "French, robot": "espeak:fr",
    "German, robot": "espeak:de",
    "Hindi, robot": "espeak:hi",
    "Italian, robot": "espeak:it",
    "Japanese, robot": "espeak:ja",
    "Polish, robot": "espeak:pl",
    "Portuguese, robot": "espeak:pt-br",
    "Russian, robot": "espeak:ru",
    "Spanish, robot": "espeak:es",
    "Turkish, robot": "espeak:tr",
}
"""Voices by a description of each: Kokoro's, and after them espeak-ng's, which sound mechanical."""

_ESPEAK_NAME: Final = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8}){0,4}(\+[A-Za-z0-9]{1,16})?")


def is_voice_name(name: str) -> bool:
    """Whether a name has the form of a voice of either synthesiser. A name of espeak-ng that passes is not a path."""
    if name.startswith(ESPEAK):
        return _ESPEAK_NAME.fullmatch(name.removeprefix(ESPEAK)) is not None
    return is_voice(name)


@lru_cache(maxsize=1)
def missing_synthesiser() -> str | None:
    """What to install before a text can be read on this machine, as a sentence; None where all is there."""
    try:
        require_espeak()
    except MissingAssetError:
        return MISSING
    return None
