"""What the network says, and how it is added to the base: all zeros leave every bit of the base as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spatialavatar.errors import InputError
from spatialavatar.head.rotations import quat_multiply
from spatialavatar.records import Gaussians, _Record


@dataclass(frozen=True)
class Corrections(_Record):
    """Changes of the base's N local Gaussians; ``...`` is nothing, or a batch axis.

    Attributes:
        positions: (..., N, 3) added to the means, triangle units.
        rotations: (..., N, 3) vector parts of quaternions of real part 1, in the Gaussians' own axes.
        scales: (..., N, 3) added to the logarithms of the scales.
        colors: (..., N, C) added to the colours; channels beyond the third have no counterpart in the base.
        opacities: (..., N) added to the logits of the opacities.
    """

    positions: Tensor
    rotations: Tensor
    scales: Tensor
    colors: Tensor
    opacities: Tensor

    def __getitem__(self, index: int) -> Corrections:
        """One entry of a batch."""
        return Corrections(**{name: value[index] for name, value in vars(self).items()})


def apply_corrections(base: Gaussians, corrections: Corrections) -> Gaussians:
    """Add corrections (no batch axis) to the base; differentiable in both.

    Every formula is one that gives its input back exactly where the correction is zero; the usual way through logarithm
    and logit would not.

    Raises:
        InputError: the Gaussians are not local, or not as many as the corrections.
    """
    if base.space != "local":
        raise InputError("Corrections are added to local Gaussians; convert them with to_local first.")
    if corrections.positions.shape != base.means.shape:
        raise InputError(
            f"The corrections are {tuple(corrections.positions.shape)} and the Gaussians {tuple(base.means.shape)}; "
            "take those of one layout, and one entry of a batch at a time."
        )
    turn = functional.normalize(functional.pad(corrections.rotations, (1, 0), value=1.0), dim=-1)
    extra = corrections.colors.shape[-1] - base.colors.shape[-1]
    colors = functional.pad(base.colors, (0, extra)) + corrections.colors
    return base.replace(
        means=base.means + corrections.positions,
        quats=quat_multiply(base.quats, turn),
        scales=base.scales * corrections.scales.exp(),
        opacities=_shift_logit(base.opacities, corrections.opacities),
        colors=torch.cat([colors[..., :3].clamp(0.0, 1.0), colors[..., 3:]], -1),
    )


def _shift_logit(opacities: Tensor, shift: Tensor) -> Tensor:
    """sigmoid(logit(o) + d) = o / (o + (1 - o) exp(-d)), written so that d = 0 is exact; 0 and 1 stay."""
    return opacities / (1.0 + (1.0 - opacities) * torch.expm1(-shift))
