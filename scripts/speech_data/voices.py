"""Speech of known phoneme times from three programs: espeak-ng, flite and Kokoro-82M.

All are tools that a user installs: nothing of them is in the package.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.synthesis import espeak
from spatialavatar.speech.visemes import Phoneme

Speech = tuple[np.ndarray, list[Phoneme]]
"""Sound (N,) float32 of 16 kHz, and its phonemes."""

ESPEAK_VOICES = {
    "en": ("en-us", "en-gb-scotland", "en-gb-x-rp"), "de": ("de",), "es": ("es", "es-419"),
    "fr": ("fr", "fr-be"), "zh": ("cmn-latn-pinyin",), "hi": ("hi",), "ar": ("ar",), "ja": ("ja",),
}  # fmt: skip
TRAIN_VARIANTS = (
    *("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "klatt", "klatt2", "klatt3", "adam", "Andy"),
    *(
        "Annie",
        "Alicia",
        "belinda",
        "benjamin",
        "caleb",
        "david",
        "ed",
        "Gene",
        "Henrique",
        "Jacky",
        "john",
        "kaukovalta",
    ),
    *(
        "Lee",
        "linda",
        "marcelo",
        "max",
        "Michael",
        "Mike",
        "pablo",
        "pedro",
        "quincy",
        "rob",
        "steph",
        "shelby",
        "anika",
    ),
    *("grandma", "grandpa", "antonio", "victor", "travis"),
)
TEST_VARIANTS = ("m8", "f4", "f5", "klatt4", "Alex", "Andrea", "Mario", "paul", "steph2", "Hugo", "Denis")


class Espeak:
    """espeak-ng at 16 kHz."""

    def __init__(self) -> None:
        self._library = espeak.Espeak()

    def say(self, text: str, voice: str, speed: int = 170, pitch: int = 50, spread: int = 50) -> Speech:
        """Read a text; the arguments are those of the package's class."""
        spoken = self._library.say(text, voice, speed, pitch, spread)
        return to_rate(spoken.samples, spoken.rate), list(spoken.phonemes)


_ARPABET_TEXT = (
    "aa=ɑ ae=æ ah=ʌ ao=ɔ aw=aʊ ax=ə axr=ɚ ay=aɪ b=b ch=tʃ d=d dh=ð eh=ɛ er=ɝ ey=eɪ f=f g=ɡ hh=h ih=ɪ iy=i jh=dʒ k=k "
    "l=l m=m n=n ng=ŋ ow=oʊ oy=ɔɪ p=p r=ɹ s=s sh=ʃ t=t th=θ uh=ʊ uw=u v=v w=w y=j z=z zh=ʒ"
)
ARPABET = dict(pair.split("=") for pair in _ARPABET_TEXT.split())


def flite(text: str, voice: str) -> Speech:
    """Read an English text with flite; its times include the closures of stops."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.wav"
        done = subprocess.run(
            ["flite", "-voice", voice, "-t", text, "-o", str(path), "-psdur"], capture_output=True, check=True
        )
        sound, rate = read_wav(path)
    phonemes, start = [], 0.0
    for name, end in re.findall(r"([a-z]+):([0-9.]+)", done.stdout.decode()):
        phonemes.append(Phoneme(ARPABET.get(name, ""), start, float(end)))
        start = float(end)
    return to_rate(sound, rate), phonemes


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return data.astype(np.float32) / 32768, file.getframerate()


def to_rate(sound: np.ndarray, rate: int) -> np.ndarray:
    """Sound of 16 kHz."""
    if rate == SAMPLE_RATE:
        return sound
    common = int(np.gcd(rate, SAMPLE_RATE))
    return resample_poly(sound, SAMPLE_RATE // common, rate // common).astype(np.float32)
