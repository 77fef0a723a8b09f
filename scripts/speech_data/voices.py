"""Speech of known phoneme times from three programs: espeak-ng, flite and Kokoro-82M.

All are tools of the training data only: nothing of them is in the package.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from spatialavatar.speech.features import SAMPLE_RATE
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

_SILENT = 10 ** (-58 / 20)


class Espeak:
    """The library of espeak-ng; one instance a process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._sound: list[bytes] = []
        self._events: list[tuple[int, str]] = []
        self._callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event)
        )(self._receive)  # fmt: skip
        self.rate = self._library.espeak_Initialize(2, 0, None, 1 | 2)  # retrieval; phoneme events in IPA
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: int | None, count: int, events: object) -> int:
        if samples and count > 0:
            self._sound.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != 0:
            if events[index].type == 7:
                name = ctypes.string_at(ctypes.addressof(events[index].id), 8).split(b"\0")[0]
                sound = name.decode("utf-8", "ignore").replace("s.", "ʂ").replace("z.", "ʐ")  # of pinyin
                self._events.append((events[index].sample, sound))
            index += 1
        return 0

    def say(self, text: str, voice: str, speed: int = 170, pitch: int = 50, spread: int = 50) -> Speech:
        """Read a text.

        Args:
            text: what to read.
            voice: name and variant, for instance "de+female2".
            speed: words a minute.
            pitch: 0 to 100.
            spread: of the pitch, 0 to 100.
        """
        self._sound, self._events = [], []
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((1, speed), (3, pitch), (4, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        sound = np.frombuffer(b"".join(self._sound), np.int16).astype(np.float32) / 32768
        return to_rate(sound, self.rate), _with_closures(sound, self.rate, self._events)


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("id", _Id),
    )  # fmt: skip


def _with_closures(sound: np.ndarray, rate: int, events: list[tuple[int, str]]) -> list[Phoneme]:
    """Phonemes of espeak's events. Those of voiceless stops begin with their burst: the silence before is theirs."""
    marks = [(sample, name) for sample, name in events if not name.startswith("(")]
    starts = [sample for sample, _ in marks]
    for index in range(len(marks)):
        name = marks[index][1]
        if name[:1] in "ptkqʈc" and name:
            low = starts[index - 1] if index else 0
            before = np.abs(sound[max(low, starts[index] - int(0.11 * rate)) : starts[index]])
            loud = np.nonzero(before > _SILENT)[0]
            silent = len(before) - 1 - (loud[-1] if len(loud) else -1)
            starts[index] -= silent
    ends = [*starts[1:], len(sound)]
    return [Phoneme(name, a / rate, b / rate) for (_, name), a, b in zip(marks, starts, ends) if b > a]


_ARPABET_TEXT = (
    "aa=ɑ ae=æ ah=ʌ ao=ɔ aw=aʊ ax=ə axr=ɚ ay=aɪ b=b ch=tʃ d=d dh=ð eh=ɛ er=ɝ ey=eɪ f=f g=ɡ hh=h ih=ɪ iy=i jh=dʒ k=k "
    "l=l m=m n=n ng=ŋ ow=oʊ oy=ɔɪ p=p r=ɹ s=s sh=ʃ t=t th=θ uh=ʊ uw=u v=v w=w y=j z=z zh=ʒ"
)
_ARPABET = dict(pair.split("=") for pair in _ARPABET_TEXT.split())


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
        phonemes.append(Phoneme(_ARPABET.get(name, ""), start, float(end)))
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
