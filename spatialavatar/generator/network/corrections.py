"""The network's corrections, and how they are added to the base: all zeros change no bit of the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spatialavatar.records import Gaussians, Record
from spatialavatar.residual import changed


@dataclass(frozen=True)
class Corrections(Record):
    """Changes of the base's N local Gaussians; ``...`` is empty or a batch axis.

    Attributes:
        positions: (..., N, 3) added to the means, triangle units.
        rotations: (..., N, 3) vector parts of quaternions of real part 1, in the Gaussians' own axes.
        scales: (..., N, 3) added to the logarithms of the scales.
        colors: (..., N, C) added to the colours; channels beyond the third have no counterpart in the base.
        opacities: (..., N) added to the logits of the opacities.
        residual: changes by the expression, by attribute (``spatialavatar.residual``), applied last; may be empty.
    """

    positions: Tensor
    rotations: Tensor
    scales: Tensor
    colors: Tensor
    opacities: Tensor
    residual: Mapping[str, Tensor] = field(default_factory=dict)

    def scaled(self, shares: Tensor) -> Corrections:
        """Every correction of a Gaussian times its share (..., N)."""
        own = {name: scaled(value, shares) for name, value in vars(self).items() if name != "residual"}
        return Corrections(**own, residual={name: scaled(value, shares) for name, value in self.residual.items()})

    def __getitem__(self, index: int) -> Corrections:
        """One entry of a batch."""
        own = {name: value[index] for name, value in vars(self).items() if name != "residual"}
        return Corrections(**own, residual={name: value[index] for name, value in self.residual.items()})


def apply_corrections(base: Gaussians, corrections: Corrections) -> Gaussians:
    """Add corrections (no batch axis) to the base; differentiable in both.

    First the part for all expressions, which an avatar stores as its Gaussians, then the residual, which it evaluates
    in every frame. Every formula returns its input exactly where the correction is zero; the usual way through
    logarithm and logit would not.

    Raises:
        InputError: the Gaussians are not local, or not as many as the corrections.
    """
    corrected = changed(base, vars(corrections))
    corrected = corrected.replace(opacities=_shift_logit(base.opacities, corrections.opacities))
    return changed(corrected, corrections.residual) if corrections.residual else corrected


def scaled(values: Tensor, shares: Tensor) -> Tensor:
    """Values (..., N) or (..., N, C) of Gaussians times their shares (..., N)."""
    return values * (shares if values.ndim == shares.ndim else shares[..., None])


def _shift_logit(opacities: Tensor, shift: Tensor) -> Tensor:
    """sigmoid(logit(o) + d) = o / (o + (1 - o) exp(-d)), written so that d = 0 is exact; 0 and 1 stay."""
    return opacities / (1.0 + (1.0 - opacities) * torch.expm1(-shift))
