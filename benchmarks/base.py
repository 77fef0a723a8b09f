"""Measure how well the base reproduces its source photos and held-out photos; prints Markdown or writes the docs.

    python benchmarks/base.py portraits PHOTOS...        # folders or files: the re-rendered source views
    python benchmarks/base.py heldout FOLDER...          # folders of photos of one person: K = 1, 2, 3 sources
    ... --write                                          # rewrites a section of docs/results/base.md

PSNR in dB against the photo, over light grey. "head": the matte above the chin without clothes, photo composited by
its matte, render by its alpha. "inner": the part of it where the render is opaque. "cover": how much of it that is.
"spill": opaque render outside the person above the chin, relative to the head's area. A held-out photo is fitted with
the avatar's identity frozen, and its exposure is matched by one gain per channel, because photos of a series differ.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar.avatar import Avatar  # noqa: E402
from spatialavatar.errors import SpatialAvatarError  # noqa: E402
from spatialavatar.generator import SpatialAvatar  # noqa: E402
from spatialavatar.media import is_image, read_image  # noqa: E402
from spatialavatar.pipeline import load_model  # noqa: E402
from spatialavatar.records import CLOTHES, HeadParams, Track  # noqa: E402
from spatialavatar.tracking import track_photo, track_photos  # noqa: E402
from spatialavatar.tracking.fit import Observations, fit_landmarks  # noqa: E402

BACKGROUND = 0.92
CHIN = 152  # of the 478 landmarks


@dataclass(frozen=True)
class Score:
    """Measures of one view, as above."""

    head: float
    inner: float
    cover: float
    spill: float


def psnr(difference: np.ndarray) -> float:
    return float(-10 * np.log10(max(float((difference**2).mean()), 1e-10)))


def score(avatar: Avatar, params: HeadParams, track: Track, match_exposure: bool = False) -> Score:
    """Compare a render with the only frame of a track."""
    image, alpha = (t.numpy() for t in avatar.render(params, track.camera))
    pictures, landmarks = track.require_pictures(), track.require_evidence().require_landmarks()
    photo = pictures.images[0].numpy() / 255.0
    matte = pictures.mattes[0].numpy()[..., None] / 255.0
    rows = np.arange(len(photo))[:, None] < landmarks[0, CHIN, 1].item()
    person = (matte[..., 0] > 0.5) & rows
    head = person & (pictures.require_segments()[0].numpy() != CLOTHES)
    inner = head & (alpha > 0.5)
    if match_exposure:
        image = image * (photo[inner].mean(0) / np.maximum(image[inner].mean(0), 1e-3))
    seen = photo * matte + BACKGROUND * (1 - matte)
    shown = image + BACKGROUND * (1 - alpha[..., None])
    return Score(
        head=psnr((shown - seen)[head]),
        inner=psnr((shown - photo)[inner]),
        cover=float(inner.sum() / head.sum()),
        spill=float(((alpha > 0.5) & rows & ~person).sum() / head.sum()),
    )


def photos_of(paths: list[str]) -> list[Path]:
    found = []
    for path in map(Path, paths):
        found += sorted(p for p in path.iterdir() if is_image(p)) if path.is_dir() else [path]
    return found


def portraits(model: SpatialAvatar, paths: list[Path]) -> str:
    scores, track_seconds, base_seconds, refused = [], [], [], 0
    for path in paths:
        try:
            image = read_image(path)
            start = time.perf_counter()
            track = track_photo(image, model.head)
        except SpatialAvatarError as error:
            refused += 1
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        tracked = time.perf_counter()
        avatar = model.generate(track, polish=0)
        track_seconds.append(tracked - start)
        base_seconds.append(time.perf_counter() - tracked)
        scores.append(score(avatar, track.params, track))
        print(f"{path.name}: {scores[-1]} {track_seconds[-1]:.2f} s {base_seconds[-1]:.2f} s", file=sys.stderr)
    rows = []
    for name in ("inner", "head", "cover", "spill"):
        values = sorted(getattr(s, name) for s in scores)
        low, middle, high = (float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95))
        digits = 2 if name in ("inner", "head") else 3
        rows.append([name, f"{middle:.{digits}f}", f"{low:.{digits}f}", f"{high:.{digits}f}"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return "\n\n".join(
        [
            f"Source views of {len(scores)} portraits, one photo each ({refused} refused).",
            table(["", "median", "5 %", "95 %"], rows),
            f"Median seconds: tracking {statistics.median(track_seconds):.2f}, "
            f"base {statistics.median(base_seconds):.2f}; peak memory {memory:.0f} MB.",
        ]
    )


def refit(avatar: Avatar, track: Track) -> HeadParams:
    """Pose and expression of a photo with the avatar's identity."""
    focal = track.camera.intrinsics[:1, 0]
    evidence = track.require_evidence()
    observed = Observations(evidence.require_landmarks(), evidence.blendshapes, track.camera.intrinsics[:2, 2], focal)
    return fit_landmarks(avatar.head, observed, shape=avatar.shape).params


def heldout(model: SpatialAvatar, folders: list[Path]) -> str:
    rows, notes = [], []
    for folder in folders:
        images = [read_image(path) for path in photos_of([str(folder)])]
        names = list(range(len(images)))
        by_count: dict[int, list[float]] = {}
        for count in range(1, len(images)):
            for sources in itertools.combinations(names, count):
                avatar = model.generate(track_photos([images[i] for i in sources], model.head), polish=0)
                for target in sorted(set(names) - set(sources)):
                    track = track_photo(images[target], model.head)
                    by_count.setdefault(count, []).append(score(avatar, refit(avatar, track), track, True).inner)
        rows.append([folder.name, *(f"{statistics.mean(by_count[k]):.2f}" for k in sorted(by_count))])
        notes.append(f"{folder.name}: {order_difference(model, images):.1e}")
    counts = [f"K = {k}" for k in range(1, max(len(row) for row in rows))]
    return "\n\n".join(
        [
            "Held-out photos, inner PSNR in dB, mean over all choices of sources and target.",
            table(["", *counts], rows),
            f"Greatest difference of any colour between two orders of the same photos: {', '.join(notes)}.",
        ]
    )


def order_difference(model: SpatialAvatar, images: list[np.ndarray]) -> float:
    first = model.generate(track_photos(images, model.head), polish=0).gaussians.colors
    second = model.generate(track_photos(images[::-1], model.head), polish=0).gaussians.colors
    return float((first - second).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["portraits", "heldout"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--every", type=int, default=1, help="use every n-th photo")
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/results/base.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(None, base=True)
    if arguments.what == "portraits":
        text = portraits(model, photos_of(arguments.paths)[:: arguments.every])
    else:
        text = heldout(model, [Path(path) for path in arguments.paths])
    print(text)
    if arguments.write:
        heading = "Source views" if arguments.what == "portraits" else "More photos"
        write_section(f"base-{arguments.what}", f"### {heading}\n\n{machine()}.\n\n{text}")


if __name__ == "__main__":
    main()
