"""Expression transfer: how much of the driver's expression appears on the avatar, by the landmark network's scores.

The blendshape network is evaluated on the driver's frames and on the renders. For each group of :data:`GROUPS` both are
time series, which are compared over the measured frames:

* *r*: Pearson correlation; 0 where the render does not move.
* *amplitude*: standard deviation of the render over that of the driver.
* *mae*: mean absolute difference. *mae_change*: the same after the median of each series is subtracted, so that a
  difference between two persons' faces at rest does not count.
* *lag*: shift in frames of the video, within :data:`MAX_LAG`, at the largest correlation; positive where the render is
  late. The driver has a score in every frame, so a stride does not make the lag coarser.

A group counts for a clip only where the driver moves in it; see :data:`MIN_DRIVER_STD`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from spatialavatar.head.arkit import ARKIT_52

LIPS_APART: Final = "lips_apart"
_BOTH: Final = ("Left", "Right")

GROUPS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "jaw": (("jawOpen",), ()),
    "smile": (tuple(f"mouthSmile{side}" for side in _BOTH), ()),
    "pucker": (("mouthPucker",), ()),
    "funnel": (("mouthFunnel",), ()),
    "stretch": (tuple(f"mouthStretch{side}" for side in _BOTH), ()),
    LIPS_APART: ((), ()),
    "blink": (tuple(f"eyeBlink{side}" for side in _BOTH), ()),
    "brow_up": (("browInnerUp", *(f"browOuterUp{side}" for side in _BOTH)), ()),
    "brow_down": (tuple(f"browDown{side}" for side in _BOTH), ()),
    "gaze_horizontal": (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    "gaze_vertical": (tuple(f"eyeLookUp{side}" for side in _BOTH), tuple(f"eyeLookDown{side}" for side in _BOTH)),
}
"""By name: units whose mean score counts, and units whose mean score is subtracted. ``lips_apart`` is measured by
landmarks: the distance of the lips' inner edges over that of the outer eye corners."""

MIN_DRIVER_STD: Final = {name: 0.02 if name == LIPS_APART else 0.04 for name in GROUPS}
"""Smallest standard deviation of the driver over the measured frames. The scores of a still face vary by about .01; the
lips' distance is about half as large as the score of the jaw that moves them."""
MIN_FRAMES: Final = 8
"""Fewer frames have no transfer figures: a correlation would be chance."""
MAX_LAG: Final = 3
MIN_LAG_CORRELATION: Final = 0.5
"""A lag is measured only where the largest correlation reaches this; below, its place is noise."""
FIGURES: Final = {"r": 3, "amplitude": 2, "mae": 3, "mae_change": 3, "lag": 2}
"""Figures of a group, with their digits in tables."""

_UPPER_LIP, _LOWER_LIP, _EYE_CORNERS = 13, 14, (33, 263)  # of the 478 landmarks
_STILL: Final = 1e-6  # standard deviation of a series that does not move


def group_scores(blendshapes: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """The series (T,) of each group.

    Args:
        blendshapes: (T, 52) scores in the order of ``ARKIT_52``.
        points: (T, 478, 2 or more) landmarks, pixels; only ratios of distances count.
    """

    def mean(units: Sequence[str]) -> np.ndarray:
        columns = [ARKIT_52.index(unit) for unit in units]
        return blendshapes[:, columns].mean(axis=1) if columns else np.zeros(len(blendshapes), blendshapes.dtype)

    series = {name: mean(plus) - mean(minus) for name, (plus, minus) in GROUPS.items() if name != LIPS_APART}
    apart = np.linalg.norm(points[:, _UPPER_LIP, :2] - points[:, _LOWER_LIP, :2], axis=1)
    eyes = np.linalg.norm(points[:, _EYE_CORNERS[0], :2] - points[:, _EYE_CORNERS[1], :2], axis=1)
    series[LIPS_APART] = apart / np.maximum(eyes, 1e-6)
    return {name: series[name] for name in GROUPS}


def transfer(
    driver: Mapping[str, np.ndarray],
    seen: np.ndarray,
    rendered: Mapping[str, np.ndarray],
    frames: Sequence[int] | np.ndarray,
) -> dict[str, dict[str, float]]:
    """The figures of each group in which the driver moves; none for fewer than :data:`MIN_FRAMES` frames.

    Args:
        driver: series (T,) of every frame of the driver, see :func:`group_scores`.
        seen: (T,) bool, frames in which the driver was tracked.
        rendered: series (N,) of the renders.
        frames: (N) frames of the driver that the renders show.
    """
    shown = np.asarray(frames, dtype=np.int64)
    if len(shown) < MIN_FRAMES:
        return {}
    figures = {}
    for name in GROUPS:
        wanted, got = driver[name][shown].astype(np.float64), rendered[name].astype(np.float64)
        if wanted.std() < MIN_DRIVER_STD[name]:
            continue
        change = (got - np.median(got)) - (wanted - np.median(wanted))
        figures[name] = {
            "frames": float(len(shown)),
            "driver_std": float(wanted.std()),
            "r": _correlation(wanted, got),
            "amplitude": float(got.std() / wanted.std()),
            "mae": float(np.abs(got - wanted).mean()),
            "mae_change": float(np.abs(change).mean()),
        }
        lag = _lag(driver[name].astype(np.float64), seen, got, shown)
        if lag is not None:
            figures[name]["lag"] = float(lag)
    return figures


def transfer_means(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means of r, amplitude and MAE over the groups of one clip, by their names in the table of metrics."""
    if not figures:
        return {}
    return {
        f"transfer_{name}": statistics.fmean(group[name] for group in figures.values())
        for name in ("r", "amplitude", "mae")
    }


def transfer_over_clips(clips: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Each group's figures over the clips in which it counts: means, but the median of amplitudes, which are ratios."""
    summary = {}
    for name in GROUPS:
        having = [clip[name] for clip in clips if name in clip]
        if not having:
            continue
        row: dict[str, float] = {"clips": len(having)}
        for figure, digits in FIGURES.items():
            values = [group[figure] for group in having if figure in group]
            if values:
                middle = statistics.median(values) if figure == "amplitude" else statistics.fmean(values)
                row[figure] = round(middle, digits)
        summary[name] = row
    return summary


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation; 0 where one of the two does not move."""
    if first.std() < _STILL or second.std() < _STILL:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _lag(driver: np.ndarray, seen: np.ndarray, rendered: np.ndarray, frames: np.ndarray) -> int | None:
    """The shift of the largest correlation, in frames; None where no shift reaches ``MIN_LAG_CORRELATION``."""
    best, best_lag = MIN_LAG_CORRELATION, None
    for lag in sorted(range(-MAX_LAG, MAX_LAG + 1), key=abs):  # of equal correlations, the smallest shift
        source = frames - lag
        valid = (source >= 0) & (source < len(driver))
        valid[valid] &= seen[source[valid]]
        if valid.sum() < MIN_FRAMES:
            continue
        correlation = _correlation(driver[source[valid]], rendered[valid])
        if correlation > best + 1e-9:
            best, best_lag = correlation, lag
    return best_lag
