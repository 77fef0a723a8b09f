"""Measure the lips that the network hears against the filmed lips of the person who speaks.

    python scripts/measure_speech_on_faces.py VIDEO ... [--weights FILE] [--cache FOLDER]

The face-landmark network measures the gap of the lips in the video, over the distance of the eyes. Beside it stand the
gap of the head model's lips under the motion that is heard in the video's sound, and two baselines: a jaw that follows
the loudness, and lips that never move. Every curve is mapped to the filmed one by the best line; the error is what
remains, over the deviation of the filmed gap, which is the error of lips that never move. The table is the one of
docs/results/speech.md; no frame of a video is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.measure_lip_sync import lip_gaps
from spatialavatar.avatar import default_head
from spatialavatar.media import SoundReader, VideoReader
from spatialavatar.speech import SAMPLE_RATE, speech_motion
from spatialavatar.speech import network as speech_network

LAGS = range(-12, 13)  # shifts of 20 ms
_MAX_FPS, _SIDE = 15.0, 640  # of the frames that are looked at
_EXPOSURE = 1 / 60  # seconds from a frame's time to the middle of what it shows, at 30 frames a second
_UPPER, _LOWER = 13, 14  # landmarks of the inner lips


def filmed_gaps(path: Path, cache: Path | None) -> tuple[np.ndarray, float]:
    """(T,) gap of the lips in the frames of a video, and its frame rate; NaN where no face is found."""
    stored = cache / f"{path.stem}.npz" if cache else None
    if stored is not None and stored.exists():
        with np.load(stored) as found:
            return found["gaps"], float(found["fps"])
    reader = VideoReader(path, _SIDE, _MAX_FPS)
    gaps = lip_gaps(list(reader))
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez(stored, gaps=gaps, fps=reader.fps)
    return gaps, reader.fps


def heard_gaps(path: Path) -> np.ndarray:
    """(T,) gap of the head model's inner lips under the motion heard in a file, 50 frames a second."""
    head = default_head()
    weights = speech_motion(path, 50.0).weights
    expression, jaw, _ = head.from_arkit(weights)
    with torch.no_grad():
        params = head.neutral(len(weights)).replace(expression=expression, jaw=jaw)
        points = head.landmarks(head.vertices(params))
    return (points[:, _UPPER] - points[:, _LOWER]).norm(dim=-1).numpy()


def loudness_curve(path: Path) -> np.ndarray:
    """(T,) level of the sound in dB, 50 frames a second, smoothed over 100 ms."""
    sound = np.concatenate(list(SoundReader(path, SAMPLE_RATE).blocks(SAMPLE_RATE)))
    hop = SAMPLE_RATE // 50
    power = (sound[: len(sound) // hop * hop].reshape(-1, hop) ** 2).mean(1)
    return 10.0 * np.log10(np.convolve(power, np.ones(5) / 5, "same") + 1e-5)


def correlations(filmed: np.ndarray, fps: float, curve: np.ndarray) -> np.ndarray:
    """Correlation of the filmed gaps with a curve of 50 frames a second, for each of ``LAGS`` by which it is late."""
    times = np.arange(len(filmed)) / fps + _EXPOSURE
    seen = np.isfinite(filmed)
    places = (np.arange(len(curve)) + 0.5) / 50.0
    return np.array([np.corrcoef(filmed[seen], np.interp(times[seen] + lag / 50, places, curve))[0, 1] for lag in LAGS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, help="of the network; those that ship by default")
    parser.add_argument("--cache", type=Path, help="folder for the filmed gaps")
    options = parser.parse_args()
    if options.weights is not None:
        found = speech_network.load_weights(options.weights)
        speech_network.shipped_weights = lambda: found  # pyright: ignore[reportAttributeAccessIssue]
    rows = []
    for path in options.videos:
        filmed, fps = filmed_gaps(path, options.cache)
        ours, level = (correlations(filmed, fps, curve) for curve in (heard_gaps(path), loudness_curve(path)))
        rows.append(np.stack([ours, level]))
        at, best = len(LAGS) // 2, [20 * LAGS[int(one.argmax())] for one in rows[-1]]
        words = f"network {ours[at]:.2f} (best at {best[0]} ms), loudness {level[at]:.2f} ({best[1]} ms)"
        print(f"{path.stem}: {words}", flush=True)
    mean = np.mean(rows, 0)
    print("\n| | correlation | median | error | best lag, ms | correlation there |\n|---|---:|---:|---:|---:|---:|")
    for index, name in enumerate(("network", "loudness to jaw")):
        now = np.array([row[index][len(LAGS) // 2] for row in rows])
        error = np.sqrt(1.0 - now.clip(0.0) ** 2).mean()
        best = int(mean[index].argmax())
        words = f"{now.mean():.2f} | {np.median(now):.2f} | {error:.2f} | {20 * LAGS[best]} | {mean[index][best]:.2f}"
        print(f"| {name} | {words} |")
    print("| lips that never move | none | none | 1.00 | none | none |")
    wins = sum(row[0][len(LAGS) // 2] > row[1][len(LAGS) // 2] for row in rows)
    print(f"\nThe network beats the loudness in {wins} of {len(rows)} videos.")


if __name__ == "__main__":
    main()
