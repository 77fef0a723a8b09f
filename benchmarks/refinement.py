"""How much and how fast refinement improves an avatar on frames it never saw; prints tables.

    python benchmarks/refinement.py CLIPS...                          # videos, or saved tracks with pictures
    python benchmarks/refinement.py CLIPS... --iterations 300 --size 256
    python benchmarks/refinement.py CLIP --ablation                   # the anti-spike table
    python benchmarks/refinement.py CLIP --try color_rate=1e-2 --try exposure=True
    python benchmarks/refinement.py CLIPS... --sheets DIR --write     # pictures; rewrites docs/benchmarks.md

The avatar of each clip is made from one of its training frames; the last fifth is held out. PSNR and SSIM are means
over the held-out frames at 512 pixels over white, torso and clothes left out; "inner" counts the head's pixels only;
"aligned" is inner PSNR on eight of the frames after the head's pose alone was fitted to each.
"""

from __future__ import annotations

import argparse
import ast
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar.avatar import Avatar, default_head  # noqa: E402
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle  # noqa: E402
from spatialavatar.pipeline import default_model  # noqa: E402
from spatialavatar.records import HeadParams, Track  # noqa: E402
from spatialavatar.refinement import RefineConfig, refine  # noqa: E402
from spatialavatar.refinement.frames import reference_frame, split_frames  # noqa: E402
from spatialavatar.refinement.loop import on_track  # noqa: E402
from spatialavatar.refinement.metrics import Judge, Score, mean_score, screen_aspect  # noqa: E402
from spatialavatar.tracking import load_track, track_video  # noqa: E402

ABLATIONS = {
    "full": {},
    "no warm-up": {"scale_freeze": 0},
    "no clamp": {"clamp_scales": False},
    "no penalty": {"aspect_weight": 0.0},
}
YAWS = (-30, -15, 0, 15, 30)


@dataclass(frozen=True)
class Result:
    """One refinement."""

    before: Score
    after: Score
    aligned_before: Score
    aligned_after: Score
    aspect: float
    seconds: float
    iterations: int
    avatar: Avatar


def read_clip(path: Path) -> Track:
    return load_track(path) if path.suffix == ".safetensors" else track_video(path, default_head(), with_images=True)


def frame_of(track: Track, frame: int) -> Track:
    """One frame as a tracked photo."""
    pixels = {
        name: getattr(track, name) for name in ("images", "mattes", "segments", "landmarks", "blendshapes", "crop")
    }
    one = {name: None if value is None else value[frame : frame + 1] for name, value in pixels.items()}
    return track.replace(params=track.params[frame], confidence=track.confidence[frame : frame + 1], **one)


def first_avatar(track: Track) -> Avatar:
    """Stage 1 on the reference frame of the training part."""
    training = split_frames(track, 0.2).training
    frame = int(training[reference_frame(track.params.jaw[training], torch.Generator().manual_seed(0))])
    return default_model().generate(frame_of(track, frame))


def judged(judge: Judge, track: Track, avatar: Avatar, stride: int) -> Score:
    """Means over every ``stride``-th held-out frame."""
    held = split_frames(track, 0.2).held_out[::stride].tolist()
    return mean_score([judge.compare(avatar, frame)[2] for frame in held])


def aligned(judge: Judge, track: Track, avatar: Avatar, count: int = 8) -> Score:
    """As :func:`judged` on a few frames, each with the head's pose fitted to it first."""
    held = split_frames(track, 0.2).held_out
    few = held[torch.linspace(0, len(held) - 1, count).round().long()].tolist()
    return mean_score([judge.compare(avatar, frame, judge.aligned(avatar, frame))[2] for frame in few])


def turned(params: HeadParams, yaw: float) -> HeadParams:
    """The head turned about its own vertical axis by ``yaw`` degrees."""
    turn = axis_angle_to_matrix(torch.tensor([[0.0, float(np.deg2rad(yaw)), 0.0]]))
    return params.replace(rotation=matrix_to_axis_angle(axis_angle_to_matrix(params.rotation) @ turn))


def measure(track: Track, avatar: Avatar, config: RefineConfig, stride: int) -> Result:
    start = on_track(avatar, track, 0)
    for step in refine(avatar, track, config):
        if step.iteration == 0:
            began = time.perf_counter()
    seconds = time.perf_counter() - began
    refined = step.avatar
    aspect = max(screen_aspect(refined, turned(refined.reference, yaw), refined.camera) for yaw in YAWS)
    judge = Judge(track, start)
    scores = [judged(judge, track, one, stride) for one in (start, refined)]
    posed = [aligned(judge, track, one) for one in (start, refined)]
    return Result(scores[0], scores[1], posed[0], posed[1], aspect, seconds, config.iterations, refined)


def sheet(track: Track, avatar: Avatar, refined: Avatar) -> np.ndarray:
    """Held-out frames (target, before, after, four times the error), then both avatars turned."""
    start = on_track(avatar, track, 0)
    judge = Judge(track, start)
    held = split_frames(track, 0.2).held_out
    rows = []
    for frame in held[torch.linspace(0, len(held) - 1, 4).long()].tolist():
        before, target, _ = judge.compare(start, frame)
        after, same, _ = judge.compare(refined, frame)
        rows.append(torch.cat([target, before, after, (4 * (after - same).abs()).clamp(0, 1)], 1)[::2, ::2])
    white = torch.ones(3)
    start = replace(start, reference=refined.reference)
    for one in (start, refined):
        views = [one.render(turned(one.reference, yaw), background=white)[0][::2, ::2] for yaw in YAWS]
        rows.append(torch.cat(views, 1))
    width = max(row.shape[1] for row in rows)
    rows = [torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[1]), value=1.0) for row in rows]
    return (torch.cat(rows).clamp(0, 1) * 255).byte().numpy()


def row(name: str, result: Result) -> list[str]:
    before, after = result.before, result.after
    return [
        name,
        f"{before.psnr:.2f}",
        f"{after.psnr:.2f}",
        f"{before.inner_psnr:.2f}",
        f"{after.inner_psnr:.2f}",
        f"{result.aligned_before.inner_psnr:.2f}",
        f"{result.aligned_after.inner_psnr:.2f}",
        f"{before.ssim:.3f}",
        f"{after.ssim:.3f}",
        f"{result.aspect:.1f}",
        f"{result.iterations / result.seconds:.1f}",
    ]


HEADER = [
    "",
    "PSNR before",
    "after",
    "inner before",
    "after",
    "aligned before",
    "after",
    "SSIM before",
    "after",
    "largest aspect",
    "steps/s",
]


def changes(text: str) -> dict[str, object]:
    """Changed constants, from text such as a=1,b=True."""
    return {name: ast.literal_eval(value) for name, value in (part.split("=") for part in text.split(",") if part)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--stride", type=int, default=1, help="judge every n-th held-out frame")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--try", dest="tries", action="append", type=changes, metavar="NAME=VALUE,...")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    base = RefineConfig(iterations=options.iterations, size=options.size)
    variants = ABLATIONS if options.ablation else {"": {}}
    if options.tries:
        variants = {"": {}, **{", ".join(f"{k} {v}" for k, v in change.items()): change for change in options.tries}}
    rows = []
    for path in options.clips:
        track = read_clip(path)
        avatar = first_avatar(track)
        for name, change in variants.items():
            result = measure(track, avatar, replace(base, **change), options.stride)
            rows.append(row(f"{path.name.split('.')[0]} {name}".strip(), result))
            print(" | ".join(rows[-1]), flush=True)
            if options.sheets:
                options.sheets.mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(sheet(track, avatar, result.avatar))
                picture.save(options.sheets / f"{path.stem}_{name or 'full'}.png".replace(" ", "_"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    text = (
        f"## Refinement{', ablation' if options.ablation else ''}\n\n"
        f"`python benchmarks/refinement.py`, on {machine()}, PyTorch {torch.__version__}; {options.iterations} steps "
        f"at {options.size} pixels, "
        f"peak memory {peak:.1f} GiB.\n\n{table(HEADER, rows)}"
    )
    print(f"\n{text}")
    if options.write:
        write_section("refinement-ablation" if options.ablation else "refinement", text)


if __name__ == "__main__":
    main()
