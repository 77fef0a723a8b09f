"""Measure renders of other methods with this project's metrics, with equal crops and masks.

    python scripts/peer_compare.py truth.mp4 GAGAvatar=gaga.mp4 LAM=lam_frames/ --out compare/

Truth and renders are videos or folders of pictures. Pictures are paired by name, frames of videos by number; renders
of another size are scaled to the truth's. The truth is tracked; truth and renders are cut by the tracker's crop of the
truth, and its region counts for all (see spatialavatar/evaluation/evaluator.py). A render must show the head where
the truth does. Renders over another colour than white are cut out by the matting network (--cut-out).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from spatialavatar.avatar import default_head
from spatialavatar.errors import InputError, SpatialAvatarError
from spatialavatar.evaluation import report
from spatialavatar.evaluation.comparison import Comparison, ComparisonFiles, RenderedFrame, TargetFrame
from spatialavatar.evaluation.datasets import Recording, recording_of
from spatialavatar.evaluation.evaluator import REGIONS, Evaluator, without_beyond
from spatialavatar.files import atomic_output
from spatialavatar.tracking import track_video
from spatialavatar.tracking.framing import Crop, cut, separate
from spatialavatar.tracking.networks import Networks


def paired(recordings: Sequence[Recording]) -> tuple[list[Recording], list[str]]:
    """Return the recordings with their common pictures only, and sentences about the others."""
    named = [recording.frames for recording in recordings if isinstance(recording.frames, tuple)]
    if len(named) < len(recordings):
        return list(recordings), []
    stems = set.intersection(*({path.stem for path in paths} for paths in named))
    if not stems:
        raise InputError("No picture has the same name in all folders; name renders like the frames they belong to.")
    lost = sorted({path.stem for paths in named for path in paths} - stems)
    notes = [f"{len(lost)} pictures are not in every folder and are not compared (from {lost[0]})."] if lost else []
    return [
        Recording(tuple(path for path in paths if path.stem in stems), fps=recording.fps)
        for recording, paths in zip(recordings, named)
    ], notes


def frames_together(recordings: Sequence[Recording]) -> Iterator[list[np.ndarray]]:
    """Frames of the same number, renders scaled to the first recording's size."""
    for frames in zip(*(recording.open() for recording in recordings)):
        size = (frames[0].shape[1], frames[0].shape[0])
        yield [
            frame if frame.shape == frames[0].shape else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            for frame in frames
        ]


class CompareOptions(NamedTuple):
    """Options of a comparison.

    Attributes:
        region: "head" or "full", see :mod:`spatialavatar.evaluation.evaluator`.
        stride: every n-th frame is compared.
        fps: of pictures.
        cut_out: cut the renders out of their background first.
    """

    region: str = "head"
    stride: int = 1
    fps: float = 25.0
    cut_out: bool = False


def compare(truth: Path, renders: dict[str, Path], out: Path, options: CompareOptions) -> dict[str, Any]:
    """Measure, and write ``compare.json``, ``compare.png`` and ``compare.mp4`` into ``out``."""
    networks, head = Networks(threads=2), default_head()
    recordings, notes = paired([recording_of(path, options.fps) for path in (truth, *renders.values())])
    track = track_video(recordings[0].open(), head, networks=networks)
    crops, landmarks = track.require_crop(), track.require_evidence().require_landmarks()
    focal = float(track.camera.intrinsics[0, 0])
    evaluator = Evaluator(networks, options.region)
    out.mkdir(parents=True, exist_ok=True)
    with Comparison(evaluator, head, ComparisonFiles(out, "compare", track.fps / options.stride)) as comparison:
        for index, (picture, *shown) in enumerate(frames_together(recordings)):
            if index % options.stride or track.confidence[index] <= 0:
                continue
            x0, y0, x1, _ = crops[index].tolist()
            crop = Crop(round(x0), round(y0), round(x1 - x0))  # shots have different crops
            matte, segments = separate(picture, crop, networks)
            segments = without_beyond(segments, crop, (picture.shape[1], picture.shape[0]))
            target = evaluator.target(cut(picture, crop), matte, segments, landmarks[index].numpy())
            parts = {}
            for name, render in zip(renders, shown):
                pixels = torch.from_numpy(cut(render, crop)).float() / 255.0
                if options.cut_out:
                    alpha = torch.from_numpy(separate(render, crop, networks)[0]).float()[..., None] / 255.0
                    pixels = pixels * alpha + 1.0 - alpha
                parts[name] = RenderedFrame(pixels)
            comparison.add(TargetFrame(index, target, track.params.shape, focal), parts)
        results = comparison.finish()
    results["notes"] = [*notes, *track.warnings]
    with atomic_output(out / "compare.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path)
    parser.add_argument("renders", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, default=Path("compare"))
    parser.add_argument("--region", choices=REGIONS, default="head")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--fps", type=float, default=25.0, help="of pictures")
    parser.add_argument("--cut-out", action="store_true", help="renders are not over white: cut them out")
    options = parser.parse_args(arguments)
    renders = {name: Path(path) for name, _, path in (text.partition("=") for text in options.renders)}
    try:
        results = compare(
            options.truth,
            renders,
            options.out,
            CompareOptions(options.region, options.stride, options.fps, options.cut_out),
        )
    except SpatialAvatarError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.means_table({name: method["means"] for name, method in results["methods"].items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
