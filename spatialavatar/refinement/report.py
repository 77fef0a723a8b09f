"""The report of a refinement: pictures and scores on held-out frames, before and after."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.files import atomic_output, make_folder
from spatialavatar.provenance import save_png
from spatialavatar.records import Track, as_uint8_image
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.frames import split_frames, with_track_shape
from spatialavatar.refinement.loop import RefineStep
from spatialavatar.refinement.scores import FrameScorer, Score, mean_score

MAX_FRAMES = 50
"""Frames of a report, at most; they are evenly spaced."""

_PICTURE_ROWS = 4
_ERROR_GAIN = 4.0  # makes errors of a few grey levels visible


@dataclass(frozen=True)
class RefineReport:
    """Mean scores over the report's frames.

    Attributes:
        before: of the initial avatar, with the video's head shape.
        after: of the refined avatar.
        held_out: whether the frames were held out from the refinement.
        files: paths of the written files.
    """

    before: Score
    after: Score
    held_out: bool
    files: tuple[Path, ...]


def write_report(
    folder: str | Path,
    before: Avatar,
    after: Avatar,
    track: Track,
    config: RefineConfig,
    curve: Sequence[tuple[int, Mapping[str, float]]] = (),
) -> RefineReport:
    """Write ``frames.png`` (target, before, after, error), ``frames.csv`` and ``curve.csv`` into ``folder``.

    Args:
        folder: created where it is missing.
        before: initial avatar.
        after: refined avatar.
        track: the video.
        config: of the run; gives the held-out frames. Where there are none, training frames are used.
        curve: (iteration, losses) pairs.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = make_folder(folder)
    split = split_frames(track, config.holdout)
    held_out = len(split.held_out) > 0
    frames = _evenly_spaced(split.held_out if held_out else split.training, MAX_FRAMES)
    in_picture = set(_evenly_spaced(torch.tensor(frames), _PICTURE_ROWS))
    start = with_track_shape(before, track, frames[0])
    scorer = FrameScorer(track, start, config.size)
    scores: list[tuple[Score, Score]] = []
    rows = []
    for frame in frames:
        image_before, target, score_before = scorer.score(start, frame)
        image_after, target_after, score_after = scorer.score(after, frame)
        scores.append((score_before, score_after))
        if frame in in_picture:
            error = (_ERROR_GAIN * (image_after - target_after).abs()).clamp(0.0, 1.0)
            rows.append(torch.cat([target, image_before, image_after, error], 1))
    files = (folder / "frames.png", folder / "frames.csv", folder / "curve.csv")
    _write_picture(files[0], torch.cat(rows))
    _write_table(
        files[1],
        ["frame", *(f"{name}_{when}" for when in ("before", "after") for name in vars(scores[0][0]))],
        [[frame, *vars(old).values(), *vars(new).values()] for frame, (old, new) in zip(frames, scores)],
    )
    names = sorted({name for _, losses in curve for name in losses})
    _write_table(files[2], ["iteration", *names], [[i, *(losses.get(n, "") for n in names)] for i, losses in curve])
    means = [mean_score([pair[which] for pair in scores]) for which in (0, 1)]
    return RefineReport(means[0], means[1], held_out, files)


def write_preview(folder: str | Path, step: RefineStep) -> Path:
    """Write a step's preview as ``preview_NNNNN.png`` into ``folder``, which is created where it is missing.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = Path(folder) / f"preview_{step.iteration:05d}.png"
    if step.preview is not None:
        save_png(path, step.preview)
    return path


def _evenly_spaced(frames: Tensor, limit: int) -> list[int]:
    """At most ``limit`` of the frames, evenly spaced, including the first and the last."""
    picks = torch.linspace(0, len(frames) - 1, min(limit, len(frames))).round().long()
    return [int(frame) for frame in frames[picks]]


def _write_picture(path: Path, picture: Tensor) -> None:
    with atomic_output(path) as temporary:
        Image.fromarray(np.ascontiguousarray(as_uint8_image(picture))).save(temporary)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with atomic_output(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([[f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows])
