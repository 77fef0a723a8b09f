"""Human speech with phoneme times by pocketsphinx's forced alignment (pip install pocketsphinx; tool only).

The recordings are those of Debian's ``pocketsphinx-testdata``: LibriVox, public domain. They are measured, and
not trained on.
"""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np

from scripts.speech_data.augment import Clip
from scripts.speech_data.voices import ARPABET
from spatialavatar.speech.visemes import Phoneme, viseme_spans


def aligned_clips(folder: Path) -> list[Clip]:
    """The recordings of a folder (``*.wav`` of 16 kHz and ``transcription``) with the times of their phonemes."""
    from pocketsphinx import Decoder  # pyright: ignore[reportMissingImports]

    texts = {}
    for line in (folder / "transcription").read_text("utf-8").splitlines():
        if found := re.match(r"(.*)\((.*)\)", line.strip()):
            texts[found[2].strip()] = re.sub(r"</?s>", "", found[1]).strip().lower()
    clips = []
    for path in sorted(path for path in folder.glob("*.wav") if path.stem in texts):
        with wave.open(str(path)) as file:
            data = file.readframes(file.getnframes())
        decoder = Decoder(lm=None, loglevel="ERROR")
        decoder.set_align_text(texts[path.stem])
        for again in (False, True):  # first the words, then their phonemes
            if again:
                decoder.set_alignment()
            decoder.start_utt()
            decoder.process_raw(data, full_utt=True)
            decoder.end_utt()
        phonemes = [
            Phoneme(ARPABET.get(one.name.lower(), ""), one.start / 100, (one.start + one.duration) / 100)
            for word in decoder.get_alignment()
            for one in word
        ]
        rows = [(span.viseme, span.start, span.end, span.voiced) for span in viseme_spans(phonemes)]
        clips.append(Clip(np.frombuffer(data, np.int16), np.array(rows, np.float32), "librivox"))
    return clips
