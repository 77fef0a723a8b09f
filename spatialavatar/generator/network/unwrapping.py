"""From the pictures to the UV grid, without parameters: sampling at the texels, and the pool over the sources."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def sample_at(maps: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples of feature maps at the texels (method section 2, step 2).

    Args:
        maps: (B, C, h, w), each over the whole of a picture.
        places: (B, N, 2) x and y in that picture as shares of its width and height; positions outside read the border.

    Returns:
        (B, N, C).
    """
    grid = torch.nan_to_num(2.0 * places - 1.0, nan=-1.0, posinf=1.0, neginf=-1.0)
    # One row of N positions. Without align_corners a map's centres are at + 0.5, like those of our pixels.
    picked = functional.grid_sample(
        maps, grid[:, None].to(maps.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return picked[:, :, 0].transpose(1, 2)


def ordered_sum(values: Tensor) -> Tensor:
    """Sum over the first axis (K, ...), the same to the last bit for any order of its entries.

    Floating-point sums depend on their order; here entries are added in the order of their values.
    """
    ordered = values.sort(dim=0).values
    total = ordered[0]
    for value in ordered[1:]:
        total = total + value
    return total


def pool_sources(values: Tensor) -> Tensor:
    """Plain mean over the sources (K, ...): identity for one, invariant to order (method section 2, step 3)."""
    return values[0] if len(values) == 1 else ordered_sum(values) / len(values)


def pool_seen(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the sources, weighted by how well each shows the texel; where none does, the plain mean.

    With equal weights this is the paper's mean; the weights are the base's visibility, and no parameters.

    Args:
        values: (K, ..., C).
        weights: (K, ...) in [0, 1].
    """
    if len(values) == 1:
        return values[0]
    total = ordered_sum(weights)
    seen = total > 0
    shares = torch.where(seen, weights / torch.where(seen, total, torch.ones_like(total)), 1.0 / len(values))
    return ordered_sum(shares[..., None] * values)
