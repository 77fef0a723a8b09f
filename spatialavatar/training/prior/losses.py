"""Losses of the prior's network against true maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spatialavatar.generator.prior.network import Prediction


@dataclass(frozen=True)
class PriorLossWeights:
    """Weights of the terms. Colours, gradient and hair count less where the photo already shows the head.

    Attributes:
        color: of the mean absolute difference of sRGB.
        gradient: of that of colours' differences from cell to cell.
        hair: of the cross entropy of the hair mask.
        height: of the mean absolute difference of heights, in units of 5 cm.
        slope: of that of heights' differences from cell to cell, relative to ``height``.
        direction: of the mean absolute difference of the doubled direction, on hair.
        seen: share by which a fully visible cell counts less.
    """

    color: float = 3.0
    gradient: float = 1.5
    hair: float = 0.3
    height: float = 1.0
    slope: float = 2.0
    direction: float = 0.5
    seen: float = 0.8


HEIGHT_UNIT = 0.05  # metres


def prior_losses(
    found: Prediction, maps: Mapping[str, Tensor], area: Tensor, mobility: Tensor, weights: PriorLossWeights
) -> dict[str, Tensor]:
    """The terms by name, unweighted means over the batch.

    Args:
        found: (B, ...) of the network.
        maps: of the samples, each (B, ROWS, COLUMNS[, C]) float32.
        area: (ROWS, COLUMNS) relative area of the cells, 0 beside the head.
        mobility: (ROWS, COLUMNS) in [0, 1], where heights may differ from 0.
        weights: only ``seen`` is used here.
    """
    known = area * maps["known"] * (1.0 - weights.seen * maps["visibility"])
    shaped = area * maps["shaped"]
    difference = found.colors - maps["true_colors"]
    height = (found.height - maps["true_height"]) / HEIGHT_UNIT
    cross = F.binary_cross_entropy_with_logits(found.hair_logit, maps["true_hair"], reduction="none")
    turned = (found.direction - maps["direction"]).abs().mean(-1)
    return {
        "color": _mean(difference.abs().mean(-1), known),
        "gradient": _steps(difference, known),
        "hair": _mean(cross, known),
        "height": _mean(height.abs(), shaped * mobility),
        "slope": _steps(height[..., None], shaped * mobility),
        "direction": _mean(turned, shaped * maps["true_hair"]),
    }


def total_loss(terms: Mapping[str, Tensor], weights: PriorLossWeights) -> Tensor:
    """The weighted sum."""
    return (
        weights.color * terms["color"]
        + weights.gradient * terms["gradient"]
        + weights.hair * terms["hair"]
        + weights.height * (terms["height"] + weights.slope * terms["slope"])
        + weights.direction * terms["direction"]
    )


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


def _steps(values: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference of values (B, R, C, n) between neighbouring cells; columns wrap around."""
    sideways = (torch.roll(values, -1, 2) - values).abs().mean(-1)
    down = (values[:, 1:] - values[:, :-1]).abs().mean(-1)
    return _mean(sideways, weight) + _mean(down, weight[:, 1:])
