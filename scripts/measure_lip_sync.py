"""Measure whether rendered lips agree with the sound: on speech of known phoneme times, against shifted versions.

    python scripts/measure_lip_sync.py me.safetensors ... [--kokoro FOLDER] [--sheets FOLDER] [--known]

Each avatar speaks six sentences of three languages. The face-landmark network measures the gap of the lips in the
rendered frames, without knowledge of the motion. Two figures tell how well it agrees with the sound at each shift in
time: the share of pairs of a closure (p, b, m) and an open vowel in which the lips are further apart at the vowel, and
the correlation of the gap with the sound's loudness. The table is the one of docs/results/speech.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, drive_frames
from spatialavatar.speaking import rested_track
from spatialavatar.speech import Phoneme, speech_motion, utterance_motion
from spatialavatar.speech.synthesis import Espeak, Kokoro, Utterance
from spatialavatar.speech.visemes import VISEMES, viseme_spans
from spatialavatar.tracking.landmarker import FaceLandmarker

FPS, SIZE = 12.5, 256
SHIFTS = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)  # seconds by which the lips are late
SENTENCES = (  # Kokoro's voice, espeak-ng's, text
    ("af_heart", "en-us", "My mother bought a big brown map of Africa, and a small boat."),
    ("am_michael", "en-us", "Bob, may I have five more apples before the show, please?"),
    ("ef_dora", "es", "Mi mamá compra pan, fruta y un poco de vino para la fiesta."),
    ("em_alex", "es", "Pablo vive cerca del mar, pero trabaja en un pueblo pequeño."),
    ("ff_siwis", "fr", "Ma maman a fait un bon gâteau pour le petit bébé."),
    ("ff_siwis", "fr", "Il faut beaucoup de pommes et un peu de beurre."),
)
OPEN = ("aa", "E", "O")
_UPPER, _LOWER, _RIGHT, _LEFT = 13, 14, 33, 263  # landmarks: inner lips, outer corners of the eyes


def lip_gaps(frames: Sequence[np.ndarray]) -> np.ndarray:
    """(T,) gap of the lips over the distance of the eyes, as the landmark network sees it in rendered frames."""
    landmarker, found, gaps = FaceLandmarker(), None, []
    for frame in frames:
        found = landmarker.track(frame, found)
        if found is None:
            gaps.append(np.nan)
            continue
        points = found.points[:, :2]
        gaps.append(
            np.linalg.norm(points[_UPPER] - points[_LOWER]) / max(1e-6, np.linalg.norm(points[_RIGHT] - points[_LEFT]))
        )
    return np.array(gaps)


def agreement(gaps: np.ndarray, fps: float, phonemes: Sequence[Phoneme], shift: float = 0.0) -> float:
    """Share of pairs of a closure and an open vowel in which the lips are further apart at the vowel; ties are halves.

    Args:
        gaps: (T,) of frames at ``(k + 0.5) / fps`` seconds.
        fps: frames per second.
        phonemes: what is said, and when.
        shift: seconds by which the lips are late.
    """
    closed, opened = (at_visemes(gaps, fps, phonemes, names, shift) for names in (("PP",), OPEN))
    difference = opened[:, None] - closed[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def at_visemes(
    gaps: np.ndarray, fps: float, phonemes: Sequence[Phoneme], names: Sequence[str], shift: float = 0.0
) -> np.ndarray:
    """The gaps at the middles of the visemes of some names; those that a shift moves out of the motion are left out."""
    middles = [(one.start + one.end) / 2 for one in viseme_spans(phonemes) if VISEMES[one.viseme] in names]
    times = np.array(middles) - shift
    times = times[(times >= 0.0) & (times <= len(gaps) / fps)]
    return np.interp(times, (np.arange(len(gaps)) + 0.5) / fps, gaps)


def loudness_correlation(gaps: np.ndarray, fps: float, utterance: Utterance, shift: float = 0.0) -> float:
    """Correlation of the gap and the level of the sound, dB."""
    times = (np.arange(len(gaps)) + 0.5) / fps
    reach = utterance.rate // 25
    power = np.convolve(utterance.samples**2, np.ones(2 * reach) / (2 * reach), "same")
    places = ((times + shift) * utterance.rate).astype(int)
    inside = (places >= 0) & (places < len(power))
    level = 10.0 * np.log10(power[places[inside]] + 1e-5)
    return float(np.corrcoef(level, gaps[inside])[0, 1])


def sheet(frames: Sequence[np.ndarray], phonemes: Sequence[Phoneme], path: Path) -> None:
    """Write the frames of closures, rounded and open sounds and pauses, each with its phoneme."""
    chosen = [one for one in phonemes if not one.ipa or one.ipa[0] in "pbmfvoɔuwaɑ"][:24]
    columns = 8
    page = Image.new("RGB", (columns * 160, -(-len(chosen) // columns) * 176), "white")
    for index, one in enumerate(chosen):
        frame = frames[min(len(frames) - 1, int((one.start + one.end) / 2 * FPS))]
        left, top = index % columns * 160, index // columns * 176
        page.paste(Image.fromarray(frame[64:224, 48:208]), (left, top + 16))
        ImageDraw.Draw(page).text((left + 4, top), f"{one.ipa or 'pause'} {one.start:.2f}-{one.end:.2f}", fill="black")
    page.save(path)


def rendered(avatar: Avatar, utterance: Utterance, known: bool) -> list[np.ndarray]:
    """The frames of an avatar that hears the sound, or follows the known phonemes."""
    if known:
        motion = utterance_motion(utterance, FPS)
    else:
        with tempfile.TemporaryDirectory() as folder:
            motion = speech_motion(utterance.save(Path(folder) / "speech.wav"), FPS)
    return list(drive_frames(avatar, rested_track(motion, avatar.head), DriveConfig(smoothing=0.0, size=SIZE)))


def utterances(kokoro: Path | None) -> list[Utterance]:
    """The six sentences, by Kokoro where its folder is given, else by espeak-ng."""
    espeak = Espeak()
    if kokoro is None:
        return [espeak.say(text, language) for _, language, text in SENTENCES]
    voice = Kokoro(kokoro, espeak)
    return [voice.say(text, name) for name, _, text in SENTENCES]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatars", type=Path, nargs="+")
    parser.add_argument("--kokoro", type=Path, help="its folder; without one, espeak-ng speaks")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    parser.add_argument("--known", action="store_true", help="follow the known phonemes instead of hearing the sound")
    options = parser.parse_args()
    spoken = utterances(options.kokoro)
    taken: list[tuple[np.ndarray, Utterance]] = []
    for path in options.avatars:
        avatar = Avatar.load(path)
        for index, utterance in enumerate(spoken):
            frames = rendered(avatar, utterance, options.known)
            gaps = lip_gaps(frames)
            taken.append((gaps, utterance))
            if options.sheets is not None:
                options.sheets.mkdir(parents=True, exist_ok=True)
                sheet(frames, utterance.phonemes, options.sheets / f"{path.stem}_{index}.png")
            means = [at_visemes(gaps, FPS, utterance.phonemes, names).mean() for names in (("sil",), ("PP",), OPEN)]
            print(
                path.stem,
                index,
                "gap at pauses, closures, vowels:",
                " ".join(f"{mean:.3f}" for mean in means),
                flush=True,
            )
    print("| lips late by, ms | " + " | ".join(f"{1000 * shift:.0f}" for shift in SHIFTS) + " |")
    print("|---|" + "---:|" * len(SHIFTS))
    scores = {
        "vowel wider than closure, %": lambda gaps, one, shift: 100 * agreement(gaps, FPS, one.phonemes, shift),
        "correlation with loudness": lambda gaps, one, shift: loudness_correlation(gaps, FPS, one, shift),
    }
    for name, score in scores.items():
        rows = np.array([[score(gaps, one, shift) for shift in SHIFTS] for gaps, one in taken])
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in rows.mean(0)) + " |")
        best = rows[:, len(SHIFTS) // 2, None] > rows[:, [0, -1]]
        print(f"{name}: aligned preferred to 300 ms early {best[:, 0].sum()}, late {best[:, 1].sum()} of {len(rows)}")


if __name__ == "__main__":
    main()
