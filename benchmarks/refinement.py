"""Measure the gain and the speed of the refinement on held-out frames; prints tables.

    python benchmarks/refinement.py CLIPS... --results DIR            # videos, or saved tracks with pictures
    python benchmarks/refinement.py CLIPS... --results DIR --iterations 300 --size 256
    python benchmarks/refinement.py CLIP --results DIR --ablation     # the anti-spike table
    python benchmarks/refinement.py CLIP --results DIR --try bases.inputs=0     # without changes by expression
    python benchmarks/refinement.py CLIP --results DIR --try rates.color=1e-2 --try colors.gate=None
    python benchmarks/refinement.py --results DIR --write             # write the tables of DIR into docs/results

Each run writes a JSON file, the refined avatar and a picture sheet into DIR when it ends. Runs whose files exist are
skipped, so that several processes can share the work. A run that was stopped continues from its checkpoint. DIR must
not be in the repository: sheets show people.

The avatar of each clip is made from one of its training frames; the last fifth is held out. Heads are first aligned
with the pictures (the photometric pass), as by the command. PSNR, SSIM and LPIPS are means over the held-out frames at
512 pixels over white, without torso and clothes; "inner" counts the head's pixels only. "Holes" and "specks" are those
of turned heads, percent. "Before" is the avatar of the photo on the track before the alignment.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar.avatar import Avatar, default_head  # noqa: E402
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle  # noqa: E402
from spatialavatar.pipeline import load_model  # noqa: E402
from spatialavatar.records import HeadParams, Track  # noqa: E402
from spatialavatar.refinement import RefineConfig, WarmUp, aligned_heads, refine  # noqa: E402
from spatialavatar.refinement.frames import reference_frame, split_frames, with_track_shape  # noqa: E402
from spatialavatar.refinement.scores import FrameScorer, Score, mean_score, screen_aspect  # noqa: E402
from spatialavatar.tracking import load_track, track_video  # noqa: E402

ABLATIONS = {
    "full": {},
    "no warm-up": {"anti_spike.scale_freeze": 0},
    "no clamp": {"anti_spike.clamp": False},
    "no penalty": {"anti_spike.aspect_weight": 0.0},
}
YAWS = (-30, -15, 0, 15, 30)


SNAPSHOTS = (300, 1000)
"""Steps after which a longer run is scored too."""

FIGURES = {"psnr": ("PSNR", 2), "inner_psnr": ("inner", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3)}


def read_clip(path: Path) -> Track:
    return load_track(path) if path.suffix == ".safetensors" else track_video(path, default_head(), with_images=True)


def first_avatar(track: Track) -> Avatar:
    """The output of stage 1 for the reference frame of the training part."""
    training = split_frames(track, 0.2).training
    frame = int(training[reference_frame(track.params.jaw[training], torch.Generator().manual_seed(0))])
    return load_model(None, base=True).generate(track[frame], polish=0)  # whatever network ships


def mean_held_out(scorer: FrameScorer, track: Track, avatar: Avatar, stride: int) -> Score:
    """Means over every ``stride``-th held-out frame."""
    held = split_frames(track, 0.2).held_out[::stride].tolist()
    return mean_score([scorer.score(avatar, frame)[2] for frame in held])


def turned(params: HeadParams, yaw: float) -> HeadParams:
    """The head turned about its own vertical axis by ``yaw`` degrees."""
    turn = axis_angle_to_matrix(torch.tensor([[0.0, float(np.deg2rad(yaw)), 0.0]]))
    return params.replace(rotation=matrix_to_axis_angle(axis_angle_to_matrix(params.rotation) @ turn))


@torch.no_grad()
def turned_faults(start: Avatar, refined: Avatar, size: int = 256) -> tuple[float, float]:
    """Holes and specks of a refined avatar, means over turns of its reference frame to both sides, percent.

    Args:
        start: initial avatar, with the refined one's shape.
        refined: the refined one.
        size: of the renders, pixels.

    Returns:
        The alpha lost where the initial avatar covers the background, and the share of covered pixels that differ
        from the median of the 5 x 5 around them by more than 25 levels.
    """
    camera, holes, specks = refined.camera.resized(size, size), [], []
    for yaw in (yaw for yaw in YAWS if yaw):
        params = turned(refined.reference, yaw)
        _, expected = start.render(params, camera)
        image, alpha = refined.render(params, camera, torch.ones(3))
        holes.append(float((expected - alpha).clamp_min(0.0)[expected > 0.98].mean()))
        levels = (image.clamp(0.0, 1.0) * 255).round().byte().numpy()
        median = np.stack([cv2.medianBlur(np.ascontiguousarray(levels[..., c]), 5) for c in range(3)], -1)
        off = np.abs(levels.astype(int) - median).max(-1) > 25
        specks.append(float(off[alpha.numpy() > 0.9].mean()))
    return 100.0 * float(np.mean(holes)), 100.0 * float(np.mean(specks))


def measure(
    track: Track, aligned: Track, avatar: Avatar, config: RefineConfig, stride: int, place: Path
) -> tuple[dict[str, Any], Avatar]:
    """Refine and measure.

    Args:
        track: as tracked.
        aligned: after the photometric pass.
        avatar: initial avatar.
        config: of the refinement.
        stride: score every n-th held-out frame.
        place: path of the checkpoint; the scores of a run that is not finished lie beside it.

    Returns:
        Measurements, and the refined avatar.
    """
    scorer = FrameScorer(aligned, with_track_shape(avatar, aligned, 0))
    partial = place.with_suffix(".partial")
    scores: dict[str, dict[str, float]] = json.loads(partial.read_text()) if partial.exists() else {}

    def score(key: str, by: FrameScorer, scored_track: Track, one: Avatar) -> None:
        scores[key] = asdict(mean_held_out(by, scored_track, one, stride))
        partial.write_text(json.dumps(scores))

    if not scores:
        start = with_track_shape(avatar, track, 0)
        score("before", FrameScorer(track, start), track, start)
        score("aligned", scorer, aligned, with_track_shape(avatar, aligned, 0))
    steps = refine(avatar, aligned, config, checkpoint=place)
    step = next(steps)  # not timed: it loads the compiled kernels and computes the colour gate
    made, seconds, cpu_seconds = 0, 0.0, 0.0
    while step.fraction < 1.0:
        began, cpu = time.perf_counter(), time.process_time()
        step = next(steps)
        made, seconds = made + 1, seconds + time.perf_counter() - began
        cpu_seconds += time.process_time() - cpu
        if step.iteration in SNAPSHOTS and step.fraction < 1.0:
            score(str(step.iteration), scorer, aligned, step.avatar)
    refined = step.avatar
    steps.close()
    score(str(step.iteration), scorer, aligned, refined)
    for leftover in (partial, place):
        leftover.unlink(missing_ok=True)
    aspect = max(screen_aspect(refined, turned(refined.reference, yaw), refined.camera) for yaw in YAWS)
    start = replace(with_track_shape(avatar, aligned, 0).without_bust(), reference=refined.reference)
    holes, specks = turned_faults(start, refined.without_bust())
    return {
        "scores": scores,
        "holes": holes,
        "specks": specks,
        "iterations": step.iteration,
        "size": config.size,
        "stride": stride,
        "aspect": aspect,
        "steps_per_second": made / seconds if made else 0.0,
        "steps_per_cpu_second": made / cpu_seconds if made else 0.0,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "frames": len(split_frames(track, config.holdout).training),
        "gaussians": len(refined.gaussians),
        "config": config.as_dict(),
    }, refined


def sheet(track: Track, avatar: Avatar, refined: Avatar) -> np.ndarray:
    """Held-out frames (target, before, after, four times the error), then both avatars turned."""
    start = with_track_shape(avatar, track, 0)
    scorer = FrameScorer(track, start)
    held = split_frames(track, 0.2).held_out
    rows = []
    for frame in held[torch.linspace(0, len(held) - 1, 4).long()].tolist():
        before, target, _ = scorer.score(start, frame)
        after, same, _ = scorer.score(refined, frame)
        rows.append(torch.cat([target, before, after, (4 * (after - same).abs()).clamp(0, 1)], 1)[::2, ::2])
    white = torch.ones(3)
    start = replace(start, reference=refined.reference)
    for one in (start, refined):
        views = [one.render(turned(one.reference, yaw), background=white)[0][::2, ::2] for yaw in YAWS]
        rows.append(torch.cat(views, 1))
    width = max(row.shape[1] for row in rows)
    rows = [torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[1]), value=1.0) for row in rows]
    return (torch.cat(rows).clamp(0, 1) * 255).byte().numpy()


def rows(results: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """One row per run, and the mean over them."""
    lines, sums = [], []
    for name, result in results.items():
        moments = list(result["scores"].values())
        values = [[moment[figure] for moment in (moments[0], moments[-1])] for figure in FIGURES]
        sums.append(values)
        speed = f"{result['steps_per_cpu_second']:.1f}"
        faults = [f"{result[name]:.2f}" if name in result else "" for name in ("holes", "specks")]
        lines.append([name, *_pairs(values), *faults, f"{result['aspect']:.1f}", speed, f"{result['peak_gib']:.1f}"])
    if len(lines) > 1:
        lines.append(["mean", *_pairs(np.mean(sums, 0).tolist()), "", "", "", "", ""])
    return lines


def _pairs(values: list[list[float]]) -> list[str]:
    digits = [places for _, places in FIGURES.values()]
    return [f"{before:.{n}f} → {after:.{n}f}" for (before, after), n in zip(values, digits)]


HEADER = [
    "",
    *(name for name, _ in FIGURES.values()),
    "holes",
    "specks",
    "largest aspect",
    "steps per CPU second",
    "GiB",
]


def early_rows(results: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """PSNR after some of the steps, one row per run."""
    return [
        [name, *(f"{score['psnr']:.2f}" for score in result["scores"].values())] for name, result in results.items()
    ]


def changes(text: str) -> dict[str, Any]:
    """Changed constants by dotted name, from text such as iterations=1,rates.color=1e-2,colors.gate=(0.1,0.2)."""
    keywords = re.sub(r"(\b[a-z_]+)[.]([a-z_]+)=", r"\1__\2=", text)
    call = ast.parse(f"f({keywords})", mode="eval").body
    if not isinstance(call, ast.Call):
        raise argparse.ArgumentTypeError(f"{text} is no list of NAME=VALUE")
    return {str(one.arg).replace("__", "."): ast.literal_eval(one.value) for one in call.keywords}


def texts(results: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The sections of the report, by name, from the results by ``clip`` or ``clip, variant``."""

    def where(one: dict[str, Any]) -> str:
        scored_on = "every held-out frame" if one["stride"] == 1 else f"one held-out frame in {one['stride']}"
        run = f"{one['iterations']} steps at {one['size']} pixels on one thread"
        return f"on {machine()}, PyTorch {torch.__version__}: {run}, scored on {scored_on}"

    plain = {name: result for name, result in results.items() if ", " not in name}
    found: dict[str, str] = {}
    if plain:
        one = next(iter(plain.values()))
        found["refinement"] = (
            f"### Steps\n\n`python benchmarks/refinement.py CLIPS...`, {where(one)}.\n\n"
            f"{table(HEADER, rows(plain))}\n\n"
            f"PSNR on the way, in steps:\n\n{table(['', *one['scores']], early_rows(plain))}"
        )
    varied = {name: result for name, result in results.items() if name.split(", ")[-1] in ABLATIONS}
    if varied:
        one = next(iter(varied.values()))
        found["refinement-ablation"] = (
            f"### Ablation\n\n`python benchmarks/refinement.py CLIP --ablation`, {where(one)}.\n\n"
            f"{table(HEADER, [row for row in rows(varied) if row[0] != 'mean'])}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--results", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--stride", type=int, default=1, help="score every n-th held-out frame")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--try", dest="tries", action="append", type=changes, metavar="NAME=VALUE,...")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    base = RefineConfig(iterations=options.iterations, size=options.size)
    variants: dict[str, dict[str, Any]] = {"": {}}
    if options.ablation:
        variants = ABLATIONS
    elif options.tries:
        variants |= {" and ".join(f"{k} {v}" for k, v in change.items()): change for change in options.tries}
    for path in options.clips:
        track = aligned = avatar = None
        for variant, change in variants.items():
            name = ", ".join(filter(None, (path.name.split(".")[0], variant)))
            target = options.results / f"{name}.json"
            if target.exists():
                continue
            track = track or read_clip(path)
            avatar = avatar or first_avatar(track)
            kept = options.results / f"{path.name.split('.')[0]}.heads.safetensors"
            aligned = aligned or aligned_heads(avatar, track, kept, warm_up=WarmUp(holdout=0.2))[0]
            place = target.with_suffix(".checkpoint")
            result, refined = measure(track, aligned, avatar, base.changed(change), options.stride, place)
            target.write_text(json.dumps(result, indent=1))
            refined.save(target.with_suffix(".safetensors"))
            Image.fromarray(sheet(aligned, avatar, refined)).save(target.with_suffix(".png"))
            print(name, *rows({name: result})[0][1:], sep=" | ", flush=True)
    results = {path.stem: json.loads(path.read_text()) for path in sorted(options.results.glob("*.json"))}
    for name, text in texts(results).items():
        print(f"\n{text}")
        if options.write:
            write_section(name, text)


if __name__ == "__main__":
    main()
