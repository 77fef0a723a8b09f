"""Fills holes of pictures: a smooth surface through the pixels around a hole, with their grain."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_SMOOTHING: Final = 12
"""Averages with the neighbours at each scale: the multigrid form of a membrane (Laplace's equation)."""
_SMOOTHING_FINE: Final = 2  # at scales of more than _COARSE pixels
_COARSE: Final = 300
_PAD: Final = 0.5  # of the hole's longer side: pixels around it that are read
_BESIDE: Final = 0.02  # of the width: pixels beside the hole whose mean a row continues
_DETAIL: Final = 0.06  # of the longer side: how far detail reaches into the hole
_MAX_DETAIL: Final = 18.0  # 8-bit levels
_SMOOTH_OFFSET: Final = 0.7  # of _DETAIL
_GRAIN_SIGMA: Final = 1.0  # pixels; a blur of this width removes the grain
_GRAIN_WINDOW: Final = 1 / 16  # of the longer side: neighbourhood in which the grain is measured
_MAX_GRAIN: Final = 4.0  # 8-bit levels; more is texture, which noise does not imitate
_MAD_TO_SIGMA: Final = 1.4826


def fill(picture: NDArray[np.uint8], known: NDArray[np.bool_], seed: int = 0) -> NDArray[np.uint8]:
    """A copy of a picture whose unknown pixels are filled from the known ones.

    Rows are continued from side to side, since what is behind people lies in layers: ground, horizon, sky. What is left
    at the hole's border is filled by a push-pull pyramid (Gortler et al., 1996) that is relaxed at every scale, which
    approximates a membrane: the colours on every side continue without an edge. The detail beside the
    hole is mirrored into it and fades out inwards, where noise of the strength of the surrounding grain takes over.

    Args:
        picture: (H, W, 3) sRGB.
        known: (H, W), False in the holes.
        seed: of the grain.

    Returns:
        (H, W, 3); known pixels are unchanged, and without any known pixel the picture is returned as it is.
    """
    if known.all() or not known.any():
        return picture.copy()
    rows, columns = np.flatnonzero((~known).any(1)), np.flatnonzero((~known).any(0))
    pad = round(_PAD * max(np.ptp(rows), np.ptp(columns))) + 8
    window = (
        slice(max(0, int(rows[0]) - pad), int(rows[-1]) + 1 + pad),
        slice(max(0, int(columns[0]) - pad), int(columns[-1]) + 1 + pad),
    )
    part, solid = picture[window], known[window]
    guide = _across(part, solid)
    smooth = guide + _membrane(part.astype(np.float32) - guide, solid.astype(np.float32))
    detail, share = _mirrored_detail(part, solid)
    noise = np.random.default_rng(seed).standard_normal(solid.shape).astype(np.float32) * _grain(part, solid)
    levels = smooth + detail * share[..., None] + (noise * (1.0 - share))[..., None]
    filled = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    result = picture.copy()
    result[window] = np.where(solid[..., None], part, filled)
    return result


def _across(picture: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(H, W, 3): each row a straight line between its colours beside the hole; also in rows that the hole misses."""
    height, width = known.shape
    holes = ~known
    rows = np.flatnonzero(holes.any(1))
    nearest = rows[np.abs(np.arange(height)[:, None] - rows[None]).argmin(1)]
    first, last = holes.argmax(1)[nearest], (width - 1 - holes[:, ::-1].argmax(1))[nearest]
    reach = max(2, round(_BESIDE * width))
    sums = np.cumsum(np.pad(picture * known[..., None].astype(np.float32), ((0, 0), (1, 0), (0, 0))), 1)
    counts = np.cumsum(np.pad(known.astype(np.float32), ((0, 0), (1, 0))), 1)
    index = np.arange(height)

    def mean(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        low, high = low.clip(0, width), high.clip(0, width)
        weight = counts[index, high] - counts[index, low]
        total = sums[index, high] - sums[index, low]
        return cv2.blur(total, (1, reach + 1)), cv2.blur(weight[:, None], (1, reach + 1))

    (left, has_left), (right, has_right) = mean(first - reach, first), mean(last + 1, last + 1 + reach)
    left_color, right_color = left / np.maximum(has_left, 1e-3), right / np.maximum(has_right, 1e-3)
    one, other = has_left[:, :1] > 0.1, has_right[:, :1] > 0.1
    both = np.where(one, left_color, right_color), np.where(other, right_color, left_color)
    middle = (left + right) / np.maximum(has_left + has_right, 1e-3)
    start, end = (np.where(one | other, side, middle) for side in both)
    t = ((np.arange(width)[None] - first[:, None]) / np.maximum(last - first, 1)[:, None]).clip(0.0, 1.0)[..., None]
    return ((1.0 - t) * start[:, None] + t * end[:, None]).astype(np.float32)


def _membrane(picture: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """The picture with a smooth surface in its unknown pixels."""
    height, width = known.shape
    if min(height, width) <= 2:
        weight = known.sum()
        mean = (picture * known[..., None]).sum((0, 1)) / max(float(weight), 1e-6)
        return np.where(known[..., None] > 0, picture, mean.astype(np.float32))
    size = (-(-width // 2), -(-height // 2))
    weight = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(picture * known[..., None], size, interpolation=cv2.INTER_AREA)
    colour = colour / np.maximum(weight, 1e-6)[..., None]
    coarse = _membrane(colour, (weight > 0).astype(np.float32))
    inside = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    hole = known == 0
    filled = np.where(hole[..., None], inside, picture)
    # The pixels of large scales are smooth already; only their border has to be joined.
    for _ in range(_SMOOTHING if max(height, width) <= _COARSE else _SMOOTHING_FINE):
        filled[hole] = cv2.blur(filled, (3, 3), borderType=cv2.BORDER_REPLICATE)[hole]
    return filled


def _mirrored_detail(
    picture: NDArray[np.uint8], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Detail (H, W, 3) of the pixels mirrored at the border of the hole, and its share (H, W) in the hole's pixels."""
    height, width = known.shape
    reach = _DETAIL * max(height, width)
    weight = known.astype(np.float32)
    sigma = 0.5 * reach + 1.0
    colours = _blurred(picture.astype(np.float32) * weight[..., None], sigma)
    low = colours / np.maximum(_blurred(weight, sigma), 1e-3)[..., None]
    detail = (picture.astype(np.float32) - low) * weight[..., None]
    detail = _MAX_DETAIL * np.tanh(detail / _MAX_DETAIL)  # an edge that ends at the hole is not continued into it
    distance, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    ys, xs = np.nonzero(known)
    nearest = np.zeros((int(labels.max()) + 1, 2), np.float32)
    nearest[labels[ys, xs]] = np.stack([xs, ys], 1)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    # Smooth offsets to the border: those of the nearest pixels alone break the mirrored detail into facets.
    offset = _blurred(nearest[labels] - np.stack([columns, rows], -1), _SMOOTH_OFFSET * reach)
    away = 2.0 * distance / np.maximum(np.hypot(offset[..., 0], offset[..., 1]), 1e-3)
    there_x, there_y = columns + away * offset[..., 0], rows + away * offset[..., 1]
    valid = cv2.remap(weight, there_x, there_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    mirrored = cv2.remap(detail, there_x, there_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    share = np.where(known, 0.0, valid * np.exp(-0.5 * (distance / reach) ** 2))
    return mirrored, share.astype(np.float32)


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """About a Gaussian blur, in a time that does not grow with its width."""
    width = 2 * max(1, round(sigma)) + 1  # two boxes of this width have about the variance
    return cv2.blur(cv2.blur(values, (width, width)), (width, width))


def _grain(picture: NDArray[np.uint8], known: NDArray[np.bool_]) -> float:
    """Standard deviation of the grain in the known pixels near the hole, 8-bit levels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), _GRAIN_SIGMA)
    reach = 2 * round(_GRAIN_WINDOW * max(known.shape)) + 1
    kernel = np.ones((reach, reach), np.uint8)
    # A blur would mix the hole's own pixels into those beside it.
    inner = cv2.erode(known.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    near = inner & (cv2.dilate((~known).astype(np.uint8), kernel) > 0)
    values = fine[near if near.any() else known]
    return min(_MAD_TO_SIGMA * float(np.median(np.abs(values))), _MAX_GRAIN)
