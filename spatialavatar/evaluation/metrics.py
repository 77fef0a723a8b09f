"""The metrics of pictures, faces and motions, each with its source.

Pictures are (H, W, 3) float32 sRGB in [0, 1]. A weight (H, W) in [0, 1] gives each pixel its share. Where a paper's
network may not be shipped, the metric's title names the network that replaces it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import missing_extra
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.metrics import WINDOW, lpips, psnr, shared_lpips, ssim
from spatialavatar.records import HeadParams
from spatialavatar.refinement.scores import screen_aspect

__all__ = [
    "ADDED",
    "METRICS",
    "MIN_SIDE",
    "Metric",
    "csim",
    "expression_distance",
    "jitter",
    "keypoint_distance",
    "lpips",
    "ms_ssim",
    "pose_distance",
    "psnr",
    "require",
    "screen_aspect",
    "silhouette",
    "ssim",
]

_SCALES: Final = 5  # of MS-SSIM
MIN_SIDE: Final = WINDOW * 2 ** (_SCALES - 1)
"""Pictures with a shorter side than this have no MS-SSIM."""


@dataclass(frozen=True)
class Metric:
    """How a metric is printed.

    Attributes:
        title: as it stands in a table, with the network's name where there is one.
        unit: or "".
        better: "higher", "lower", or "" if neither is.
        digits: after the point.
        source: where it is defined.
    """

    title: str
    unit: str
    better: str
    digits: int
    source: str


METRICS: Final[dict[str, Metric]] = {
    "psnr": Metric("PSNR", "dB", "higher", 2, "-10 log10 of the mean squared error over the region"),
    "psnr_person": Metric("PSNR, person", "dB", "higher", 2, "as PSNR, weighted by the matte: no background"),
    "ssim": Metric("SSIM", "", "higher", 4, "Wang et al. 2004, window 11, sigma 1.5, mean over the region"),
    "ms_ssim": Metric("MS-SSIM", "", "higher", 4, "Wang et al. 2003, five scales; torchmetrics"),
    "lpips": Metric("LPIPS (AlexNet)", "", "lower", 4, "Zhang et al. 2018, heads v0.1"),
    "spill": Metric("spill", "%", "lower", 2, "alpha beyond the matte, of the person's area"),
    "missing": Metric("missing", "%", "lower", 2, "matte beyond the alpha, of the person's area"),
    "csim": Metric("CSIM (SFace)", "", "higher", 4, "cosine of SFace embeddings, Zhong et al. 2021"),
    "aed": Metric("AED (our tracker)", "", "lower", 3, "length of the difference of expression and jaw codes"),
    "apd": Metric("APD (our tracker)", "deg", "lower", 2, "angle between the head rotations"),
    "akd": Metric("AKD (478 points)", "px", "lower", 2, "mean distance of the detected landmarks, of 512 px"),
    "jitter": Metric("jitter", "px", "lower", 3, "mean second difference of the projected landmarks, of 512 px"),
    "aspect": Metric("largest aspect", "", "lower", 1, "longest over shortest axis on screen of any Gaussian seen"),
    "transfer_r": Metric(
        "transfer r", "", "higher", 3, "correlation of the scores of driver and render, mean of groups"
    ),
    "transfer_amplitude": Metric("transfer amplitude", "", "", 2, "deviation of the render's scores over the driver's"),
    "transfer_mae": Metric("transfer MAE", "", "lower", 3, "mean absolute difference of the scores, mean of groups"),
    "avatar_seconds": Metric("avatar", "s", "lower", 1, "wall time from source pictures to the avatar"),
    "render_ms": Metric("render", "ms", "lower", 1, "median wall time of posing and rendering a frame"),
}


ADDED: Final = frozenset({"spill", "missing", "transfer", "transfer_r", "transfer_amplitude", "transfer_mae"})
"""Figures that were added to the first set; ``results.digest`` leaves them out, so that it stays comparable."""


def ms_ssim(image: Tensor, target: Tensor) -> float:
    """Multi-scale structural similarity of two pictures of at least 176 pixels a side.

    Raises:
        MissingAssetError: torchmetrics is not installed.
    """
    first, second = (picture.movedim(-1, 0)[None] for picture in (image, target))
    return float(_multiscale()(first, second, data_range=1.0))


@functools.lru_cache(maxsize=1)
def _multiscale() -> Callable[..., Tensor]:
    try:
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
    except ImportError as error:
        raise missing_extra("MS-SSIM", "eval") from error
    return multiscale_structural_similarity_index_measure


def require() -> None:
    """Load the metrics' networks, so that a missing one is reported before hours of work.

    Raises:
        MissingAssetError: a package or a weight file is missing.
    """
    _multiscale()
    shared_lpips()


def silhouette(alpha: Tensor, person: Tensor, region: Tensor) -> dict[str, float]:
    """``spill`` and ``missing``: where the render's outline differs from the person's, percent of the person's area.

    Args:
        alpha: (H, W) of the render.
        person: (H, W) matte of the target inside the region.
        region: (H, W), 1 where pixels count.
    """
    area = person.sum().clamp_min(1.0)
    difference = alpha * region - person
    return {
        "spill": 100.0 * float(difference.clamp_min(0.0).sum() / area),
        "missing": 100.0 * float((-difference).clamp_min(0.0).sum() / area),
    }


def csim(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of two identity embeddings of length 1."""
    return float(first @ second)


def expression_distance(first: HeadParams, second: HeadParams) -> Tensor:
    """AED: (T,) length of the difference of expression coefficients and jaw angles of frames of one head model."""
    codes = [torch.cat([params.expression, params.jaw], 1) for params in (first, second)]
    return (codes[0] - codes[1]).norm(dim=1)


def pose_distance(first: HeadParams, second: HeadParams) -> Tensor:
    """APD: (T,) angle in degrees between the rotations of the skull (torso and neck together)."""
    turns = [axis_angle_to_matrix(p.rotation) @ axis_angle_to_matrix(p.neck) for p in (first, second)]
    # The angle by its sine and cosine: the inverse cosine alone loses small angles to rounding.
    relative = (turns[0].transpose(-1, -2) @ turns[1]).double()
    axis = torch.stack([relative[:, i, j] - relative[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1).norm(dim=-1)
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.atan2(axis, trace - 1.0)).float()


def keypoint_distance(first: np.ndarray, second: np.ndarray) -> float:
    """AKD: mean distance of two sets of landmarks (L, 2 or more), pixels; the first two coordinates count."""
    return float(np.linalg.norm(first[:, :2] - second[:, :2], axis=1).mean())


def jitter(points: Tensor, whole: Tensor | None = None) -> float:
    """Mean length of the second difference over time of points (T, L, 2), pixels; 0 for fewer than three frames.

    ``whole`` (T,) bool: only where three frames in a row have it do they count, so that neither gaps nor cuts do.
    """
    second = (points[2:] - 2.0 * points[1:-1] + points[:-2]).norm(dim=-1)
    if whole is not None:
        second = second[whole[2:] & whole[1:-1] & whole[:-2]]
    return float(second.mean()) if second.numel() else 0.0
