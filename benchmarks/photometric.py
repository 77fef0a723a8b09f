"""Measure the photometric pass on tracks of real clips; prints tables.

    python benchmarks/photometric.py CLIPS...                    # videos, or saved tracks with pictures
    python benchmarks/photometric.py CLIPS... --sheets DIR       # overlay pictures, before and after
    python benchmarks/photometric.py CLIPS... --refine 300       # the gain of the refinement
    python benchmarks/photometric.py CLIPS... --write            # rewrite the section of docs/results/photometric.md

The avatar of each clip is made from one frame and refined for a short time on the track as it was. The pass uses every
other 32-pixel square of a chessboard over the frames; L1 is the mean absolute difference of render and frame, percent
of full scale, on the other squares, inside the matte, torso and clothes left out, at 256 pixels.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]


from benchmarks.refinement import first_avatar, read_clip  # noqa: E402
from benchmarks.report import machine, table, write_section  # noqa: E402
from benchmarks.tracking import fitted_landmarks, landmark_errors  # noqa: E402
from spatialavatar.avatar import Avatar  # noqa: E402
from spatialavatar.records import Track, as_uint8_image  # noqa: E402
from spatialavatar.refinement import RefineConfig, refine  # noqa: E402
from spatialavatar.refinement.frames import split_frames, with_track_shape  # noqa: E402
from spatialavatar.refinement.photometric import align  # noqa: E402
from spatialavatar.refinement.scores import FrameScorer, mean_score  # noqa: E402
from spatialavatar.tracking.fit import eye_distance  # noqa: E402
from spatialavatar.tracking.quality import STEADY  # noqa: E402

SIZE, SQUARE = 256, 32


def chosen(track: Track, frames: Tensor) -> Track:
    """Some frames of a track; evenly spaced frames keep their duration."""
    step = float(frames.diff().double().mean()) if len(frames) > 1 else 1.0
    return track[frames].with_motion(fps=track.fps / step)


def chessboard(track: Track) -> Tensor:
    """(H, W) bool, every other square."""
    rows, columns = (torch.arange(n) // SQUARE for n in track.require_pictures().images.shape[1:3])
    return (rows[:, None] + columns) % 2 == 0


def stillest(track: Track, count: int) -> Tensor:
    """The ``count`` consecutive frames in which the landmarks move least."""
    points = track.require_evidence().require_landmarks()
    speed = torch.nn.functional.pad(points.diff(dim=0).norm(dim=-1).mean(1), (1, 0))
    speed[track.confidence <= 0] = torch.inf
    windows = speed.unfold(0, min(count, len(track)), 1)[:, 1:].sum(1)
    return int(windows.argmin()) + torch.arange(min(count, len(track)))


def jitter(points: np.ndarray, unit: float) -> float:
    """RMS of the high-frequency motion of the steady landmarks among points (T, 478, 2), percent of ``unit`` pixels."""
    path = points[:, list(STEADY)] / unit * 100
    slow = gaussian_filter1d(path, 3.0, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(slow, axis=0), axis=-1).mean(1)
    still = speed <= np.quantile(speed, 1 / 3)
    return float(np.sqrt(((path - slow)[still] ** 2).sum(-1).mean()))


def short_refinement(track: Track, iterations: int) -> Avatar:
    """An avatar of the clip: stage 1 on one frame, then a few steps on training frames."""
    avatar = first_avatar(track)
    if not iterations:
        return with_track_shape(avatar, track, 0)
    return refined(avatar, track, iterations)


def refined(avatar: Avatar, track: Track, iterations: int) -> Avatar:
    """The end of a refinement at 256 pixels; the last fifth of the clip is held out."""
    for last in refine(avatar, track, RefineConfig(iterations=iterations, size=SIZE)):
        step = last
    return step.avatar


def unseen_l1(scorer: FrameScorer, avatar: Avatar, track: Track, unseen: Tensor, frame: int) -> float:
    """L1 of one frame on the squares that the pass did not use, percent."""
    image, target, _ = scorer.score(avatar, frame, track.params[frame])
    view = scorer.view(frame)
    weight = view.weight * view.matte * unseen
    return 100.0 * float(((image - target).abs().mean(-1) * weight).sum() / weight.sum())


def measure(name: str, track: Track, avatar: Avatar, frames: int, still: int, sheets: Path | None) -> list[str]:
    """A row: clip, frames, L1 before and after, frames that gained, landmark errors, jitter, seconds a frame."""
    spread = chosen(track, torch.linspace(0, len(track) - 1, frames).long().unique())
    seen = chessboard(track)
    unseen = torch.nn.functional.interpolate((~seen)[None, None].float(), (SIZE, SIZE), mode="area")[0, 0]
    started, cpu = time.perf_counter(), time.process_time()
    aligned = align(avatar, spread, seen=seen).track
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    scorer = FrameScorer(spread, avatar, SIZE)
    found = (spread.confidence > 0).nonzero().squeeze(1).tolist()
    before, after = (np.array([unseen_l1(scorer, avatar, t, unseen, f) for f in found]) for t in (spread, aligned))
    marks = [landmark_errors(t, avatar.head)[found].numpy() for t in (spread, aligned)]
    shaking = ["-", "-"]
    if still:
        calm = chosen(track, stillest(track, still))
        unit = float(eye_distance(calm.require_evidence().require_landmarks()).median())
        pair = (calm, align(avatar, calm).track)  # as people run it, on all pixels
        shaking = [f"{jitter(fitted_landmarks(t, avatar.head).numpy(), unit):.3f}" for t in pair]
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet(scorer, avatar, spread, aligned)).save(sheets / f"{name}.png")
    moved = (aligned.params.translation - spread.params.translation).norm(dim=-1)[found]
    return [
        name,
        str(len(found)),
        f"{before.mean():.2f}",
        f"{after.mean():.2f}",
        f"{100 * (after.mean() / before.mean() - 1):+.1f}",
        f"{100 * (after < before).mean():.0f}",
        *(f"{m.mean():.2f} / {np.percentile(m, 95):.2f}" for m in marks),
        *shaking,
        f"{1000 * float(moved.median()):.1f}",
        f"{seconds / len(found):.2f}",
        f"{cpu / len(found):.2f}",
    ]


HEADER = [
    "clip",
    "frames",
    "L1 before",
    "after",
    "change %",
    "frames better %",
    "landmark error mean / 95th before",
    "after",
    "jitter before",
    "after",
    "moved mm",
    "s a frame",
    "CPU s",
]


def sheet(scorer: FrameScorer, avatar: Avatar, before: Track, after: Track, count: int = 4) -> np.ndarray:
    """A row a frame: frame, render before, difference before (four times), render after, difference after."""
    rows = []
    for frame in torch.linspace(0, len(before) - 1, count).long().tolist():
        parts = []
        for track in (before, after):
            image, target, _ = scorer.score(avatar, frame, track.params[frame])
            parts += [image, (4.0 * (image - target).abs()).clamp(0.0, 1.0)]
        rows.append(torch.cat([target, *parts], 1))
    return as_uint8_image(torch.cat(rows))


def gain(name: str, track: Track, avatar: Avatar, iterations: int, count: int = 10) -> list[list[str]]:
    """Rows: inner PSNR on held-out frames of a refinement on the track as it was, and of one on the aligned track.

    Each is scored as tracked, and after the pass on the scored frames with the refined avatar itself.
    """
    start = first_avatar(track)
    held = split_frames(track, 0.2).held_out
    few = held[torch.linspace(0, len(held) - 1, count).long()]
    rows = []
    for label, one in (("as tracked", track), ("aligned", align(avatar, track).track)):
        better = refined(start, one, iterations)
        tests = chosen(one, few)
        scorer = FrameScorer(chosen(track, few), with_track_shape(start, track, 0))
        scores = [
            mean_score([scorer.score(better, i, t.params[i])[2] for i in range(len(few))])
            for t in (tests, align(better, tests).track)
        ]
        rows.append([f"{name}, {label}", *(f"{s.psnr:.2f}" for s in scores), *(f"{s.inner_psnr:.2f}" for s in scores)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=40, help="of each clip, evenly spaced")
    parser.add_argument("--still", type=int, default=24, help="consecutive frames whose jitter is measured; 0: none")
    parser.add_argument("--iterations", type=int, default=150, help="of the short refinement of the avatar")
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS", help="measure refinement with and without")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    rows, gains = [], []
    for path in options.clips:
        name = path.name.split(".")[0]
        track = read_clip(path)
        avatar = short_refinement(track, options.iterations)
        if options.refine:
            gains += gain(name, track, avatar, options.refine)
            print("\n".join(" | ".join(row) for row in gains[-2:]), flush=True)
        else:
            rows.append(measure(name, track, avatar, options.frames, options.still, options.sheets))
            print(" | ".join(rows[-1]), flush=True)
    if options.refine:
        header = ["refinement on the track", "PSNR", "scored aligned", "inner PSNR", "scored aligned"]
        title, body = f"## Gain of {options.refine} steps of refinement", table(header, gains)
    else:
        title, body = "## Alignment", table(HEADER, rows)
    explained = __doc__.strip().split("\n\n")[-1]
    text = f"{title}\n\n`python benchmarks/photometric.py`, on {machine()}. {explained}\n\n{body}"
    print(f"\n{text}")
    if options.write:
        write_section("photometric-refinement" if options.refine else "photometric", text)


if __name__ == "__main__":
    main()
