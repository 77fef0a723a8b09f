"""Measure the speech network on held-out voices and sentences of known phoneme times, clean and with noise.

    python scripts/measure_speech.py runs/speech/data [--weights FILE] [--clips N]

For each program and language it prints a row of the tables in docs/results/speech.md. Two baselines are measured in the
same way: a jaw that follows the loudness, and one that never moves.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.speech_data.augment import Clip, frames_of, in_room, load_clips, loudness_of, music, noise, telephone
from spatialavatar.speech.coarticulation import CLOSE, JAW, REACH, articulate, drop_uncertain_closures
from spatialavatar.speech.features import HOP, SAMPLE_RATE, LogMel
from spatialavatar.speech.network import DELAY, SpeechNetwork, load_weights, shipped_weights
from spatialavatar.speech.visemes import VISEME_INDEX, VISEMES

CONDITIONS = ("clean", "noise 15 dB", "noise 5 dB", "room", "music 10 dB", "telephone")
CLOSED = 0.7  # position of the lips' closing that counts as closed
WITHIN = 3  # frames of 20 ms that a closure may be early or late: 60 ms


@dataclass
class Scores:
    """Sums over the clips of one group."""

    hits: np.ndarray = field(default_factory=lambda: np.zeros(len(VISEMES)))
    frames: np.ndarray = field(default_factory=lambda: np.zeros(len(VISEMES)))
    closures: list[bool] = field(default_factory=list)
    false_closures: list[bool] = field(default_factory=list)
    jaws: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, clip: Clip, heard_sound: np.ndarray, weights: dict) -> None:
        """Score one clip as the microphone hears it."""
        count = len(clip.sound) // HOP
        shares, _ = frames_of(clip.spans, count)
        truth = _positions(shares, loudness_of(clip.sound.astype(np.float32) / 32768, count))
        padded = np.concatenate([heard_sound, np.zeros((DELAY + 3) * HOP, np.float32)])
        heard = SpeechNetwork(weights).push(LogMel().push(padded))
        found = heard.visemes[DELAY : DELAY + count]
        curves = _positions(drop_uncertain_closures(found), heard.loudness[DELAY : DELAY + count])
        sure = shares.max(1) > 0.9
        for wanted, got in zip(shares[sure].argmax(1), found[sure].argmax(1)):
            self.frames[wanted] += 1
            self.hits[wanted] += wanted == got
        lips = VISEME_INDEX["PP"]
        for viseme, start, end, _ in clip.spans:
            if int(viseme) == lips:
                low, high = max(0, int(start * 50) - WITHIN), int(end * 50) + WITHIN + 1
                self.closures.append(bool((curves[low:high, CLOSE] > CLOSED).any()))
        closed = np.convolve(shares[:, lips] + shares[:, 0] + shares[:, 2], np.ones(2 * WITHIN + 1), "same") > 0
        starts = np.nonzero(np.diff((curves[:, CLOSE] > CLOSED).astype(int)) == 1)[0] + 1
        self.false_closures.extend((~closed[starts]).tolist())
        level = loudness_of(heard_sound, count)
        self.jaws.append((truth[:, JAW], curves[:, JAW], level))

    def merge(self, other: Scores) -> None:
        """Add the sums of another group."""
        self.hits += other.hits
        self.frames += other.frames
        self.closures += other.closures
        self.false_closures += other.false_closures
        self.jaws += other.jaws

    def row(self) -> list[str]:
        """Frame accuracy, mean over classes, recall of closures, share of false ones, jaw, baseline of loudness."""
        seen = self.frames > 0
        truth, found, level = (np.concatenate(parts) for parts in zip(*self.jaws))
        figures = [
            100 * self.hits.sum() / self.frames.sum(),
            100 * (self.hits[seen] / self.frames[seen]).mean(),
            100 * np.mean(self.closures) if self.closures else np.nan,
            100 * np.mean(self.false_closures) if self.false_closures else 0.0,
        ]
        correlations = [np.corrcoef(truth, found)[0, 1], np.corrcoef(truth, level)[0, 1]]
        return [f"{figure:.0f}" for figure in figures] + [f"{value:.2f}" for value in correlations]


def _positions(shares: np.ndarray, loudness: np.ndarray) -> np.ndarray:
    before = np.zeros((REACH, shares.shape[1]), np.float32)
    before[:, 0] = 1.0
    return articulate(np.concatenate([before, shares, before]), np.pad(loudness, REACH))


def heard_through(sound: np.ndarray, condition: str, rng: np.random.Generator) -> np.ndarray:
    """The sound (N,) through one condition."""
    level = float(np.sqrt((sound**2).mean()))
    if condition.startswith("noise"):
        decibels = float(condition.split()[1])
        return (sound + noise(len(sound), rng) * level * 10 ** (-decibels / 20)).astype(np.float32)
    if condition == "music 10 dB":
        return (sound + music(len(sound), rng) * level * 10 ** (-10 / 20)).astype(np.float32)
    if condition == "room":
        return in_room(sound, rng).astype(np.float32)
    if condition == "telephone":
        return telephone(sound).astype(np.float32)
    return sound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--clips", type=int, default=25, help="of each group, at most")
    parser.add_argument("--all-conditions", action="store_true", help="measure each condition and not only two")
    options = parser.parse_args()
    weights = load_weights(options.weights) if options.weights else shipped_weights()
    total: dict[str, Scores] = {}
    families: dict[str, Scores] = {}
    print("| program, language | condition | frames % | classes % | closures % | false % | jaw | loudness |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for path in sorted(options.data.glob("*_test.npz")):
        program, language, _ = path.stem.split("_")
        clips = load_clips(path)[: options.clips]
        for condition in CONDITIONS if options.all_conditions else ("clean", "noise 15 dB"):
            rng = np.random.default_rng(0)
            scores = Scores()
            for clip in clips:
                sound = clip.sound.astype(np.float32) / 32768
                heard = heard_through(sound, condition, rng)
                scores.add(clip, heard, weights)
            total.setdefault(condition, Scores()).merge(scores)
            program = program.rstrip("0123456789")
            if condition == "clean":
                families.setdefault(program, Scores()).merge(scores)
            name = f"{program} {language}"
            print(f"| {name} | {condition} | " + " | ".join(scores.row()) + " |", flush=True)
    print()
    for condition, scores in total.items():
        print(f"| all | {condition} | " + " | ".join(scores.row()) + " |")
    print()
    for name, scores in families.items():
        print(f"| {name} | clean | " + " | ".join(scores.row()) + " |")
    print()
    print("| voices | " + " | ".join(VISEMES) + " |")
    print("|---|" + "---:|" * len(VISEMES))
    clean = total["clean"]
    for name, scores in (families | {"all": clean}).items():
        shares = (100 * scores.hits / scores.frames.clip(1.0)).round()
        print(f"| {name} | " + " | ".join(f"{share:.0f}" for share in shares) + " |")
    print(f"\n{clean.frames.sum() / 50:.0f} seconds of sure frames at {SAMPLE_RATE} Hz")


if __name__ == "__main__":
    main()
