"""Smoothing of the corrections over the frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from spatialavatar.records import HeadParams, Track


def smooth_corrections(changes: Tensor, information: Tensor, stiffness: Tensor, linked: Sequence[bool]) -> Tensor:
    """Smoothed corrections (T, P).

    Minimises sum_t (x_t - c_t)' A_t (x_t - c_t) + sum_(t linked) (x_t - x_t-1)' diag(w) (x_t - x_t-1), which is the
    result of a Kalman smoother, as one banded system. A frame whose own picture determines a parameter well moves less.

    Args:
        changes: (T, P) float64, c.
        information: (T, P, P) float64, A.
        stiffness: (P,) float64, w.
        linked: T flags, whether a frame continues the one before; the first one is not used.
    """
    count, width = changes.shape
    blocks = information.clone()
    band = np.zeros((2 * width, count * width))  # row k holds the k-th diagonal below the main one
    for t in range(1, count):
        if linked[t]:
            blocks[t - 1 : t + 1].diagonal(dim1=1, dim2=2).add_(stiffness)
            band[width, (t - 1) * width : t * width] = -stiffness.numpy()
    for column in range(width):
        for row in range(column, width):
            band[row - column, column::width] = blocks[:, row, column].numpy()
    right = (information @ changes[..., None]).flatten().numpy()
    return torch.from_numpy(solveh_banded(band, right, lower=True)).reshape(count, width)


def linked_frames(track: Track, frames: Sequence[int]) -> list[bool]:
    """Whether each of the frames continues the one before it in the list: no gap and no cut lie between them."""
    shot = torch.zeros(len(track)) if track.quality is None else track.quality.shot
    return [False, *(b - a == 1 and bool(shot[a] == shot[b]) for a, b in pairwise(frames))]


def moved_neutral(track: Track, params: HeadParams, frames: Tensor) -> Tensor | None:
    """The clip's neutral expression, moved by the change of the clip's median from the track's to ``params``."""
    if track.neutral.expression is None:
        return None

    def median(one: HeadParams) -> Tensor:
        return torch.cat([one.expression, one.jaw, one.eyes], 1)[frames].median(0).values

    return track.neutral.expression + median(params) - median(track.params)
