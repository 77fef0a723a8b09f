"""Stage 2: per-subject refinement that keeps the layout (method section 3), as an iterator over its steps."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.records import Track
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.run import RefinementRun

PREVIEWS = (0, 100, 300, 500, 1000, 2000, 4000, 6000, 8000)
"""Iterations after which a step has a preview; the last step has one too."""

_CHECKPOINT_SECONDS = 15.0  # of computing, from one checkpoint to the next


@dataclass(frozen=True, eq=False)
class RefineStep:
    """One step of a refinement.

    Attributes:
        iteration: steps made. The first step of the iterator has 0, or, after a checkpoint, the number that follows it.
        fraction: share of the run that is done, in [0, 1].
        preview: (H, W, 3) uint8 render of the reference frame over white, after some steps; otherwise None.
    """

    iteration: int
    fraction: float
    preview: np.ndarray | None
    _terms: dict[str, Tensor]
    _run: RefinementRun

    @property
    def losses(self) -> dict[str, float]:
        """The terms of the loss by name, before their weights, for the frame of this step; empty at the start."""
        return {name: float(value) for name, value in self._terms.items()}

    @property
    def avatar(self) -> Avatar:
        """The current refined avatar. Read it before the next step is taken."""
        return self._run.avatar()


def refine(
    avatar: Avatar,
    track: Track,
    config: RefineConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
) -> Generator[RefineStep, None, None]:
    """Refine an avatar on a tracked video: same head, same layout, same number of Gaussians, better attributes.

    The steps are taken while the result is iterated over. Closing the iterator early leaves a checkpoint. The input
    avatar is not changed. The refined avatar has the video's head shape, which was fitted to many frames, and the
    video's reference frame.

    Args:
        avatar: initial avatar.
        track: T frames with pictures and mattes, tracked with the avatar's head model.
        config: constants.
        checkpoint: a file to continue from, where it exists. It is written every 15 seconds and at the end.
        minutes: time budget; the learning rates reach their end with the steps or the time, whichever ends first.
        seed: of the order of the frames and of the backgrounds.

    Raises:
        FormatError: the track belongs to another head model, the avatar to another layout, or the checkpoint to
            another run.
        InputError: the track has no pictures, too few frames, or is black.
        OutputError: the checkpoint cannot be written.
    """
    if minutes is not None and not minutes > 0:
        raise InputError(f"The time budget is {minutes} minutes; give a positive number.")
    run = RefinementRun(avatar, track, config or RefineConfig(), seed, minutes)
    if checkpoint is None:
        return _steps(run, None, "")
    path, run_id = Path(checkpoint), run.id()
    if path.exists():
        run.restore(path, run_id)
    return _steps(run, path, run_id)


def _steps(run: RefinementRun, path: Path | None, run_id: str) -> Generator[RefineStep, None, None]:
    """Take the steps of a run, and write its checkpoints to ``path``."""
    saved, saved_at = run.iteration, run.seconds
    if run.iteration == 0 or run.finished:
        yield RefineStep(run.iteration, run.fraction, run.preview(), {}, run)
    try:
        while not run.finished:
            terms = run.step()
            if path is not None and run.seconds > saved_at + _CHECKPOINT_SECONDS:
                run.checkpoint(run_id).save(path)
                saved, saved_at = run.iteration, run.seconds
            preview = run.preview() if run.finished or run.iteration in PREVIEWS else None
            yield RefineStep(run.iteration, run.fraction, preview, terms, run)
    finally:
        # After an interrupt in mid-step, the last written checkpoint is the state to continue from.
        if path is not None and saved != run.iteration and run.consistent:
            run.checkpoint(run_id).save(path)
