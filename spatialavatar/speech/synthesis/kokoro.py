"""Kokoro-82M (Apache-2.0): natural voices, with the times of the phonemes that its duration predictor chooses.

The ONNX export with durations is fetched from the Hub on first use. espeak-ng gives the phonemes of a text.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.hub.integrity import sha256
from spatialavatar.hub.transfer import fetch
from spatialavatar.speech.synthesis.espeak import Espeak
from spatialavatar.speech.synthesis.record import Utterance
from spatialavatar.speech.visemes import Phoneme

REPO: Final = "onnx-community/Kokoro-82M-v1.0-ONNX-timestamped"
LICENCE: Final = "Apache-2.0"
MODEL: Final = "onnx/model.onnx"
MODEL_SHA256: Final = "651ea8291843a92276a4a003581a215cb07d15e47dde6fcfb1b768f9a1682054"
LANGUAGES: Final = {
    "a": "en-us",
    "b": "en-gb-x-rp",
    "e": "es",
    "f": "fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "cmn-latn-pinyin",
}
"""espeak-ng's language by the first letter of a voice."""

RATE: Final = 24_000
EARLY: Final = 0.05
"""Seconds by which the sounds come before the times that the durations add up to."""
_FRAME: Final = 600  # samples of a unit of duration
_MAX_SYMBOLS: Final = 480  # in one call of the network, whose limit is 510
_STYLE: Final = 256
# How Kokoro's English writes diphthongs, and how all of it writes affricates.
ENGLISH: Final = {"eɪ": "A", "aɪ": "I", "aʊ": "W", "ɔɪ": "Y", "oʊ": "O", "əʊ": "Q", "əl": "ᵊl", "ɐ": "ə"}
AFFRICATES: Final = {"tʃ": "ʧ", "dʒ": "ʤ", "tɕ": "ʨ", "dʑ": "ʥ", "ts": "ʦ", "dz": "ʣ"}
_SPELLED: Final = {letter: sounds for sounds, letter in ENGLISH.items() if len(letter) == 1}
_VOICE: Final = re.compile(r"[abefhijpz][fm]_[a-z]+")


def is_voice(name: str) -> bool:
    """Whether a name has the form of Kokoro's voices: language, sex, name, for instance ``af_heart``."""
    return _VOICE.fullmatch(name) is not None


class Kokoro:
    """The network, its voices, and espeak-ng for the phonemes of a text."""

    def __init__(self, folder: str | Path = REPO, espeak: Espeak | None = None) -> None:
        """Load the network.

        Args:
            folder: a folder in the layout of :data:`REPO`, or a repository of the Hub.
            espeak: the library, where it is loaded already.

        Raises:
            MissingAssetError: a file or espeak-ng is missing and cannot be fetched.
            FormatError: the network is not the expected one.
        """
        import onnxruntime

        self._folder = Path(folder)
        self._repo = None if self._folder.is_dir() else str(folder)
        model = self._file(MODEL)
        if self._repo == REPO and sha256(model) != MODEL_SHA256:
            raise FormatError(
                f"{MODEL} of {REPO} is not the file that this version was written for; update the package."
            )
        self._espeak = espeak or Espeak()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            tokenizer = json.loads(self._file("tokenizer.json").read_text("utf-8"))
            self._vocabulary: dict[str, int] = dict(tokenizer["model"]["vocab"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise FormatError(f"{self._folder} has no network of Kokoro's form; fetch {REPO} again.") from error
        names = {node.name for node in self._session.get_outputs()}
        if not {"waveform", "durations"} <= names:
            raise FormatError(f"The network of {self._folder} gives no times of phonemes; use {REPO}.")

    def say(self, text: str, voice: str, speed: float = 1.0) -> Utterance:
        """Read a text.

        Args:
            text: what to read, in the language of the voice.
            voice: for instance ``af_heart``.
            speed: 1 is the voice's own.

        Raises:
            InputError: there is no such voice, or the text has nothing to say.
            MissingAssetError: the voice's file cannot be fetched.
        """
        if not is_voice(voice):
            raise InputError(f"Kokoro has no voice {voice!r}; give one such as af_heart, bm_george or ef_dora.")
        try:
            styles = np.fromfile(self._file(f"voices/{voice}.bin"), np.float32).reshape(-1, 1, _STYLE)
        except ValueError as error:
            raise FormatError(f"The voice {voice} is damaged; fetch it again.") from error
        parts = [self._part(symbols, styles, speed) for symbols in self._symbols(text, voice)]
        if not parts:
            raise InputError("The text has nothing that can be spoken; give words.")
        samples, phonemes, start = [], [], 0.0
        for sound, sounds in parts:
            samples.append(sound)
            phonemes += [Phoneme(one.ipa, one.start + start, one.end + start) for one in sounds]
            start += len(sound) / RATE
        return Utterance(np.concatenate(samples), RATE, tuple(phonemes))

    def _part(self, symbols: str, styles: np.ndarray, speed: float) -> tuple[np.ndarray, list[Phoneme]]:
        ids = [0, *(self._vocabulary[letter] for letter in symbols), 0]
        given = {
            "input_ids": np.array([ids], np.int64),
            "style": styles[min(len(ids) - 2, len(styles) - 1)],
            "speed": np.array([speed], np.float32),
        }
        sound, durations = self._session.run(["waveform", "durations"], given)
        return np.asarray(sound, np.float32).ravel(), phoneme_times(symbols, np.asarray(durations).ravel())

    def _symbols(self, text: str, voice: str) -> list[str]:
        """What Kokoro reads: espeak's phonemes with spaces and stops between them, in parts that it can take."""
        language = LANGUAGES[voice[0]]
        parts, current = [], ""
        for clause in re.split(r"[,.?!:;。、，．！？]+\s*", text):
            words = [symbols for word in clause.split() if (symbols := self._word(word, language))]
            if not words:
                continue
            spoken = " ".join(words)[: _MAX_SYMBOLS - 2]
            if current and len(current) + len(spoken) + 2 > _MAX_SYMBOLS:
                parts.append(current + ".")
                current = ""
            current = f"{current}, {spoken}" if current else spoken
        return [*parts, current + "."] if current else parts

    def _word(self, word: str, language: str) -> str:
        try:
            sounds = "".join(phoneme.ipa for phoneme in self._espeak.say(word, language).phonemes)
        except InputError:  # a word without sounds, such as a dash
            return ""
        for old, new in (AFFRICATES | (ENGLISH if language.startswith("en") else {})).items():
            sounds = sounds.replace(old, new)
        return "".join(letter for letter in sounds if letter in self._vocabulary and letter not in ". ,")

    def _file(self, name: str) -> Path:
        """The path of a file of the folder or the repository."""
        if self._repo is not None:
            try:
                self._folder = fetch(self._repo, files=[name])
            except MissingAssetError as error:
                raise MissingAssetError(f"The voice network cannot be fetched. {error}") from error
        path = self._folder / name
        if not path.is_file():
            raise MissingAssetError(f"{self._folder} lacks {name}; fetch {REPO} again, or give another voice.")
        return path


def phoneme_times(symbols: str, durations: np.ndarray) -> list[Phoneme]:
    """Times of the sounds. Marks belong to the next sound, and half of a short gap to each neighbour."""
    ends = np.cumsum(durations) * _FRAME / RATE - EARLY
    starts = np.concatenate([[-EARLY], ends[:-1]])
    found: list[Phoneme] = []
    waiting: float | None = None
    for letter, start, end in zip(symbols, starts[1:-1].tolist(), ends[1:-1].tolist()):
        begin = start if waiting is None else waiting
        if letter in "ˈˌ":
            waiting = begin
            continue
        if letter in "ːʰʲ" and found:
            found[-1] = Phoneme(found[-1].ipa, found[-1].start, end)
            continue
        if letter == " " and end - start < 0.1 and found and found[-1].ipa:
            found[-1] = Phoneme(found[-1].ipa, found[-1].start, (start + end) / 2)
            waiting = (start + end) / 2
            continue
        waiting = None
        pause = letter in " ,."
        found.append(Phoneme("" if pause else _SPELLED.get(letter, letter), begin, end))
    return found
