"""The library of espeak-ng, if it is installed: a synthesiser, and the phonemes of a text.

It is Debian's ``espeak-ng``, or PyPI's ``espeakng-loader``, which the extra ``speech`` installs. Its licence is
GPL-3.0; it is loaded where a user has it and is not part of this package.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Final

import numpy as np

from spatialavatar.errors import InputError, MissingAssetError, install_extra
from spatialavatar.speech.synthesis.record import Utterance
from spatialavatar.speech.visemes import Phoneme

MISSING: Final = (
    f"Speech from text needs espeak-ng: install the package espeak-ng of your system, or, {install_extra('speech')}."
)

_RETRIEVAL: Final = 2  # the library gives the sound back and plays none
_PHONEME_EVENTS, _IPA = 1, 2
_RATE, _PITCH, _RANGE = 1, 3, 4  # parameters
_PHONEME: Final = 7  # kind of an event
_UTF8: Final = 1
_SILENT: Final = 10 ** (-58 / 20)
_LONGEST_CLOSURE: Final = 0.11  # seconds of silence before the burst of a stop that are the stop's


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class Espeak:
    """The library, started. It has one state in a process: use one instance, from one thread."""

    def __init__(self) -> None:
        """Load and start the library.

        Raises:
            MissingAssetError: this machine does not have it, or its data.
        """
        self._library, data = _library()
        self._sound: list[bytes] = []
        self._events: list[tuple[int, str]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = kind(self._receive)  # the library keeps only the address
        self.rate = int(self._library.espeak_Initialize(_RETRIEVAL, 0, data, _PHONEME_EVENTS | _IPA))
        if self.rate <= 0:
            raise MissingAssetError(MISSING)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, speed: int = 165, pitch: int = 50, spread: int = 50) -> Utterance:
        """Read a text.

        Args:
            text: what to read.
            voice: a language and optionally a variant, for instance ``de`` or ``en-us+f3``.
            speed: words a minute.
            pitch: 0 to 100.
            spread: of the pitch, 0 to 100.

        Raises:
            InputError: there is no voice of that name, or the text has nothing to say.
        """
        self._sound, self._events = [], []
        if self._library.espeak_SetVoiceByName(voice.encode("utf-8", "replace")) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}; 'espeak-ng --voices' lists the languages.")
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode("utf-8", "replace")  # half a pair of surrogates has no encoding
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        sound = np.frombuffer(b"".join(self._sound), np.int16).astype(np.float32) / 32768
        if not len(sound) or not self._events:
            raise InputError("The text has nothing that can be spoken; give words.")
        return Utterance(sound, self.rate, tuple(_with_closures(sound, self.rate, self._events)))

    def _receive(self, samples: int | None, count: int, events: Any) -> int:
        if samples and count > 0:
            self._sound.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != 0:
            if events[index].type == _PHONEME:
                name = ctypes.string_at(ctypes.addressof(events[index].id), 8).split(b"\0")[0]
                sound = name.decode("utf-8", "ignore").replace("s.", "ʂ").replace("z.", "ʐ")  # of pinyin
                self._events.append((events[index].sample, sound))
            index += 1
        return 0


def require_espeak() -> None:
    """Load the library without starting it.

    Raises:
        MissingAssetError: this machine does not have it.
    """
    _library()


def _library() -> tuple[Any, bytes | None]:
    """The library and the folder of its data; None for the library's own."""
    try:
        import espeakng_loader
    except ImportError:
        for name in (ctypes.util.find_library("espeak-ng"), "libespeak-ng.so.1"):
            try:
                if name:
                    return ctypes.CDLL(name), None
            except OSError:
                continue
        raise MissingAssetError(MISSING) from None
    return ctypes.CDLL(espeakng_loader.get_library_path()), espeakng_loader.get_data_path().encode()


def _with_closures(sound: np.ndarray, rate: int, events: list[tuple[int, str]]) -> list[Phoneme]:
    """Phonemes of espeak's events. Those of voiceless stops begin with their burst: the silence before is theirs."""
    marks = [(sample, name) for sample, name in events if not name.startswith("(")]
    starts = [sample for sample, _ in marks]
    for index, (_, name) in enumerate(marks):
        if name and name[0] in "ptkqʈc":
            low = starts[index - 1] if index else 0
            before = np.abs(sound[max(low, starts[index] - int(_LONGEST_CLOSURE * rate)) : starts[index]])
            loud = np.nonzero(before > _SILENT)[0]
            starts[index] -= len(before) - 1 - (int(loud[-1]) if len(loud) else -1)
    ends = [*starts[1:], len(sound)]
    return [Phoneme(name, a / rate, b / rate) for (_, name), a, b in zip(marks, starts, ends) if b > a]
