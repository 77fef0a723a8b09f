"""The photometric pass over a track: warm-up, frames one by one, smoothing; its result, cached in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.records import HeadParams, Track
from spatialavatar.refinement.checkpoint import StateFile, run_id
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.loop import refine
from spatialavatar.refinement.photometric.config import PhotometricConfig, WarmUp
from spatialavatar.refinement.photometric.smooth import linked_frames, moved_neutral, smooth_corrections
from spatialavatar.refinement.photometric.solve import FrameFit, FrameSolver
from spatialavatar.threads import one_torch_thread

ALIGNED_HEADS = StateFile("spatialavatar.aligned_heads", 1, "file of aligned heads", "clip, avatar or setting")

_PARAMS = ("shape", "expression", "rotation", "translation", "neck", "jaw", "eyes")


@dataclass(frozen=True, eq=False)
class Alignment:
    """Result of the pass.

    Attributes:
        track: with corrected parameters. Frames without a face, and frames whose difference did not decrease, keep
            their parameters, except for the smoothing over neighbours.
        before: (T,) mean absolute difference of render and frame over the compared pixels, colours in [0, 1]; NaN where
            there was nothing to compare.
        after: (T,) the same with the correction.
    """

    track: Track
    before: Tensor
    after: Tensor

    def __str__(self) -> str:
        """One sentence, for people."""
        compared = ~self.before.isnan()
        if not bool(compared.any()):
            return "No frame shows enough of the head to be compared with a render; the track is unchanged."
        moved = int((self.after < self.before).sum())
        before, after = (100.0 * float(values[compared].mean()) for values in (self.before, self.after))
        return (
            f"{moved} of {len(self.before)} frames were aligned; render and frame differ by {after:.2f} % of full "
            f"scale, {before:.2f} % before."
        )


def align(
    avatar: Avatar,
    track: Track,
    config: PhotometricConfig | None = None,
    *,
    seen: Tensor | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Align the head of each frame of a track with its picture, by renders of an avatar of the person.

    Frames are fitted one by one; only the smoothing uses the whole clip. Runs on the CPU.

    Args:
        avatar: of the person in the track; the more similar, the better. It is posed with the track's shape.
        track: with pictures and mattes, tracked with the avatar's head model.
        config: constants.
        seen: (H, W) bool, the pixels of the crop that may be used; all by default.
        progress: called with (fraction, message).

    Raises:
        FormatError: the track belongs to another head model.
        InputError: it has no pictures, or ``seen`` is not of their size.
    """
    config, report = config or PhotometricConfig(), progress or no_progress
    _check(avatar, track, seen)
    avatar, track = avatar.to("cpu"), track.to("cpu")
    solver = FrameSolver(avatar, track, config, seen)
    frames = (track.confidence > 0).nonzero().squeeze(1).tolist()
    fits: list[FrameFit] = []
    with one_torch_thread():
        for number, frame in enumerate(frames, 1):
            fits.append(solver.fit(frame))
            report(number / len(frames), f"Aligning frame {number} of {len(frames)}")
        return _corrected(track, solver, config, frames, fits)


def photometric_pass(
    avatar: Avatar,
    track: Track,
    config: PhotometricConfig | None = None,
    *,
    warm_up: WarmUp | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """:func:`align` with the avatar as the clip shows it: after a short refinement on the same track.

    An avatar of a photo has the light of that photo and the errors of one view, which would bias the alignment. A short
    refinement takes seconds, and averages over the track's drift.

    Args:
        avatar: of the person.
        track: as for :func:`align`, of a video.
        config: constants of the alignment.
        warm_up: the short refinement.
        progress: called with (fraction, message).

    Raises:
        FormatError: the track belongs to another head model.
        InputError: it has no pictures, too few frames, or is black.
    """
    report, warm_up = progress or no_progress, warm_up or WarmUp()
    if warm_up.steps > 0:
        short = RefineConfig(iterations=warm_up.steps, size=warm_up.size, holdout=warm_up.holdout)
        for step in refine(avatar, track, short, seed=warm_up.seed):
            report(0.2 * step.fraction, f"Fitting the avatar to the clip, step {step.iteration} of {warm_up.steps}")
        avatar = step.avatar
    return align(avatar, track, config, progress=part(report, 0.2, 1.0))


def aligned_heads_path(checkpoint: Path) -> Path:
    """Path of the aligned heads of the run that writes ``checkpoint``."""
    return checkpoint.with_name(f"{checkpoint.name}.heads")


def aligned_heads(
    avatar: Avatar,
    track: Track,
    path: Path | None,
    *,
    warm_up: WarmUp | None = None,
    progress: Progress | None = None,
) -> tuple[Track, list[str]]:
    """:func:`photometric_pass` with its result in a file, so that a continued refinement uses the same heads.

    Args:
        avatar: as for :func:`photometric_pass`.
        track: likewise.
        path: file of the corrected parameters; where it exists, they are read from it. None writes no file.
        warm_up: as for :func:`photometric_pass`.
        progress: likewise.

    Returns:
        The corrected track, and a sentence about the pass where it ran.

    Raises:
        FormatError: the track belongs to another head model, or the file to another run.
        InputError: as for :func:`photometric_pass`.
        OutputError: the file cannot be written.
    """
    warm_up = warm_up or WarmUp()
    run = "" if path is None else run_id(avatar, track, PhotometricConfig(), warm_up)
    if path is not None and path.exists():
        tensors, _ = ALIGNED_HEADS.read(path, run, _heads(track))
        params = HeadParams(**{name: tensors[name] for name in _PARAMS})
        return _with_heads(track, params, tensors.get("neutral")), []
    aligned = photometric_pass(avatar, track, warm_up=warm_up, progress=progress)
    if path is not None:
        ALIGNED_HEADS.write(path, run, _heads(aligned.track))
    return aligned.track, [str(aligned)]


def _heads(track: Track) -> dict[str, Tensor]:
    """The tensors of a track that the pass changes, by name."""
    found = {name: getattr(track.params, name) for name in _PARAMS}
    return found if track.neutral.expression is None else found | {"neutral": track.neutral.expression}


def _with_heads(track: Track, params: HeadParams, neutral: Tensor | None) -> Track:
    """The track with other parameters and another neutral expression."""
    return track.with_motion(params=params, neutral=track.neutral.replace(expression=neutral))


def _check(avatar: Avatar, track: Track, seen: Tensor | None) -> None:
    """Check that a track can be aligned."""
    track.require_head(avatar.head.id)
    size = track.require_pictures().images.shape[1:3]
    if seen is not None and seen.shape != size:
        raise InputError(f"The mask of usable pixels is {tuple(seen.shape)}, not {tuple(size)} as the crop.")


def _corrected(
    track: Track, solver: FrameSolver, config: PhotometricConfig, frames: Sequence[int], fits: Sequence[FrameFit]
) -> Alignment:
    """Smooth the corrections of the fitted frames and apply them."""
    before, after = torch.full((len(track),), torch.nan), torch.full((len(track),), torch.nan)
    if not frames:
        return Alignment(track, before, after)
    index = torch.tensor(frames)
    before[index] = torch.tensor([fit.before for fit in fits])
    after[index] = torch.tensor([fit.after for fit in fits])
    # The drift is a random walk: its variance is proportional to time.
    step = 25.0 / track.fps if track.fps > 0 else 1.0
    changes = smooth_corrections(
        torch.stack([fit.change for fit in fits]),
        torch.stack([fit.information for fit in fits]),
        solver.model.spread(config.drift).pow(-2) / step,
        linked_frames(track, frames),
    )
    parts = [track.params[frame] for frame in range(len(track))]
    for frame, change in zip(frames, changes):
        parts[frame] = solver.corrected(parts[frame], change)
    params = HeadParams.cat(parts)
    return Alignment(_with_heads(track, params, moved_neutral(track, params, index)), before, after)
