"""The landmark fit: pose, shape, expression, jaw, gaze and focal length from the landmarks of one or more frames.

The head is linear in shape and expression before skinning and is reduced to its landmarks once
(:mod:`.landmark_head`). :mod:`.geometry` poses them and differentiates their pixels, :mod:`.problem` defines the cost,
:mod:`.solver` minimises it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.records import HeadParams
from spatialavatar.tracking.fit.config import BoundConfig, DataTermConfig, FitConfig, PriorConfig, SolverConfig
from spatialavatar.tracking.fit.frame_fit import FrameFit
from spatialavatar.tracking.fit.landmark_head import reduced_head
from spatialavatar.tracking.fit.problem import FitProblem, eye_distance
from spatialavatar.tracking.fit.records import Anchor, Fit, Observations
from spatialavatar.tracking.fit.solver import solve, start_state

__all__ = [
    "Anchor",
    "BoundConfig",
    "DataTermConfig",
    "Fit",
    "FitConfig",
    "FrameFit",
    "Observations",
    "PriorConfig",
    "SolverConfig",
    "eye_distance",
    "fit_landmarks",
]

_BATCH: Final = 24  # frames solved at once when the shape is known: their Jacobians still fit the cache


def fit_landmarks(
    head: HeadModel,
    observed: Observations,
    *,
    shape: Tensor | None = None,
    start: HeadParams | None = None,
    anchor: Anchor | None = None,
    config: FitConfig | None = None,
) -> Fit:
    """Fit the head to the landmarks of T frames.

    With a known shape, frames have no unknowns in common. They are solved in batches, so memory does not grow with
    their number. The frames of a batch only share the number of steps, that of the slowest frame: alone, a frame may
    stop some steps earlier, at a result that differs by less than the solver's tolerance allows.

    Args:
        head: the head model.
        observed: detections of the T frames, one person.
        shape: (S,) known shape; None fits one shape to all frames together.
        start: where to start, T frames; None: the pose by perspective-n-point, the face by the blendshape scores.
        anchor: an additional prior towards expected parameters.
        config: weights.

    Raises:
        InputError: the head lacks the landmarks, or no frames were given.
    """
    if len(observed) == 0:
        raise InputError("There is no frame with a face to fit.")
    config = config or FitConfig()
    reduced = reduced_head(head, int(observed.points.shape[1]))
    if shape is None:
        problem = FitProblem(reduced, observed.double(), config, free_shape=True, anchor=anchor)
        return solve(problem, start_state(problem, None, start))
    shape = shape.double().cpu()
    parts = []
    for first in range(0, len(observed), _BATCH):
        frames = slice(first, first + _BATCH)
        near = None if anchor is None else replace(anchor, params=anchor.params[frames])
        problem = FitProblem(reduced, observed[frames].double(), config, free_shape=False, anchor=near)
        parts.append(solve(problem, start_state(problem, shape, None if start is None else start[frames])))
    return Fit(
        params=HeadParams.cat([part.params for part in parts]),
        focal=torch.cat([part.focal for part in parts]),
        error=torch.cat([part.error for part in parts]),
    )
