"""How well and how fast photos and videos are tracked; prints markdown tables, or writes docs/benchmarks.md.

    python benchmarks/tracking.py PHOTOS_OR_CLIPS...          # folders or files; prints
    python benchmarks/tracking.py PHOTOS_OR_CLIPS... --write  # rewrites the section of docs/benchmarks.md

Errors are mean distances of the head's 478 landmarks to the detected ones, in percent of the distance of the outer eye
corners. Jitter is what is left of the motion of the points between the features after a Gaussian of three frames, over
the stillest third of the frames.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar import hub  # noqa: E402
from spatialavatar.errors import SpatialAvatarError  # noqa: E402
from spatialavatar.head import HeadModel, load_head  # noqa: E402
from spatialavatar.media import is_image, read_image  # noqa: E402
from spatialavatar.records import Track  # noqa: E402
from spatialavatar.tracking import track_photo, track_video  # noqa: E402
from spatialavatar.tracking.photos import face_yaw  # noqa: E402

STEADY = (168, 6, 197, 195, 5, 9, 151, 10)  # forehead and nose ridge: move with the skull only


def fitted_landmarks(track: Track, head: HeadModel) -> np.ndarray:
    """(T, 478, 2) the head's landmarks in the crop."""
    return track.camera.project(head.landmarks(head.vertices(track.params))).numpy()


def eye_distance(track: Track) -> np.ndarray:
    points = track.landmarks.numpy()
    return np.linalg.norm(points[:, 33] - points[:, 263], axis=1)


def errors(track: Track, head: HeadModel) -> np.ndarray:
    """(T,) percent of the eye distance."""
    distance = np.linalg.norm(fitted_landmarks(track, head) - track.landmarks.numpy(), axis=-1).mean(1)
    return 100 * distance / np.maximum(eye_distance(track), 1e-6)


def jitter(points: np.ndarray, unit: np.ndarray) -> float:
    """High-frequency motion of steady points (T, 478, 2), root mean square, percent of the eye distance ``unit``."""
    path = points[:, list(STEADY)] / unit[:, None, None] * 100
    slow = gaussian_filter1d(path, 3.0, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(slow, axis=0), axis=-1).mean(1)
    still = speed <= np.quantile(speed, 1 / 3)
    return float(np.sqrt(((path - slow)[still] ** 2).sum(-1).mean()))


def measure_photos(paths: list[Path], head: HeadModel) -> list[str]:
    """A row: set, photos, tracked, mean, median, 95th percentile and largest error, median seconds."""
    found, seconds, refused = [], [], []
    for path in paths:
        started = time.perf_counter()
        try:
            track = track_photo(read_image(path), head, name=path.name)
        except SpatialAvatarError as error:
            refused.append(str(error))
            continue
        seconds.append(time.perf_counter() - started)
        found.append(errors(track, head)[0])
    for sentence in refused:
        print(sentence, file=sys.stderr)
    if not found:
        return [paths[0].parent.name, str(len(paths)), "0", *["-"] * 5]
    return [
        paths[0].parent.name,
        str(len(paths)),
        f"{len(found)} ({100 * len(found) / len(paths):.1f} %)",
        f"{np.mean(found):.2f}",
        f"{np.median(found):.2f}",
        f"{np.percentile(found, 95):.2f}",
        f"{max(found):.2f}",
        f"{statistics.median(seconds):.2f}",
    ]


def measure_video(path: Path, head: HeadModel) -> list[str]:
    """A row: clip, frames, held, errors, jitter of the detector and of the fit, yaw range, frames per second."""
    started = time.perf_counter()
    track = track_video(path, head)
    seconds = time.perf_counter() - started
    good = (track.confidence > 0).numpy()
    found = errors(track, head)[good]
    unit = np.full(int(good.sum()), np.median(eye_distance(track)[good]))
    yaw = face_yaw(track.params.rotation).numpy()[good]
    return [
        path.name,
        str(len(track)),
        str(int((~good).sum())),
        f"{found.mean():.2f}",
        f"{np.percentile(found, 95):.2f}",
        f"{jitter(track.landmarks.numpy()[good], unit):.3f}",
        f"{jitter(fitted_landmarks(track, head)[good], unit):.3f}",
        f"{yaw.min():.0f} to {yaw.max():.0f}",
        f"{len(track) / seconds:.0f}",
    ]


def files_under(path: Path) -> list[Path]:
    """The path itself, or the files right in the folder."""
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=Path, nargs="+", help="photos, videos, or folders of them")
    parser.add_argument("--match", default="", help="only files whose names hold this text")
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    head = load_head(hub.weights_dir() / "head")
    photo_rows, video_rows = [], []
    for given in options.inputs:
        files = [path for path in files_under(given) if options.match in path.name]
        photos = [path for path in files if is_image(path)]
        if photos:
            photo_rows.append(measure_photos(photos, head))
        videos = [path for path in files if path.suffix.lower() in (".mp4", ".mov", ".mkv", ".webm", ".m4v")]
        video_rows += [measure_video(path, head) for path in videos]
    parts = [f"## Tracking\n\n`python benchmarks/tracking.py`, on {machine()}."]
    if photo_rows:
        header = ["photos", "count", "tracked", "mean error %", "median", "95th", "largest", "s a photo"]
        parts.append(table(header, photo_rows))
    if video_rows:
        header = [
            "clip",
            "frames",
            "held",
            "mean error %",
            "95th",
            "jitter of the detector %",
            "of the track %",
            "yaw °",
            "frames/s",
        ]
        parts.append(table(header, video_rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parts.append(f"Peak memory of the process: {peak:.0f} MiB.")
    text = "\n\n".join([parts[0], __doc__.strip().split("\n\n")[-1], *parts[1:]])
    if options.write:
        write_section("tracking", text)
    print(text)


if __name__ == "__main__":
    main()
