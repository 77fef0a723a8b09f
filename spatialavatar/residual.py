"""Changes of a person's Gaussians that depend on the expression (method section 2, step 6), frame by frame.

The network's residual head modulates a feature of every texel by the target's expression and pose (FiLM) and maps it
to changes of position, rotation, scale and colour. Only the features belong to one person; the rest is a small MLP. An
avatar therefore stores both and computes exactly the network's output, by one product of (N, C) by (C, 12) a frame: a
modulation followed by a linear layer is a linear layer.

The changes are added to the local Gaussians of the person. Opacity does not change, because it would flicker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from spatialavatar.errors import InputError
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, quat_multiply
from spatialavatar.records import Gaussians, HeadParams, Record

ATTRIBUTES = ("positions", "rotations", "scales", "colors")

OF_TEXELS = ("features", "freedom")
"""Tensors of a residual that belong to one person, with an entry per Gaussian."""


def expression_code(params: HeadParams) -> Tensor:
    """c_t (T, E + 12): expression, global rotation, jaw and eyes; 112 numbers for FLAME's 100 expressions.

    The rotation is that of the skull, so that its division between torso and neck has no effect.
    """
    skull = axis_angle_to_matrix(params.rotation) @ axis_angle_to_matrix(params.neck)
    return torch.cat([params.expression, matrix_to_axis_angle(skull), params.jaw, params.eyes], -1)


def folded(modulation: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Combine FiLM and the following linear layers into one linear layer.

    W (f (1 + s) + t) + b = (W (1 + s)) f + (W t + b).

    Args:
        modulation: (..., 4, 2, C) s and t of each attribute.
        weight: (R, C) of the layers, stacked: three rows each, and the rest for colour.
        bias: (R,) likewise.

    Returns:
        Weights (..., R, C) and biases (..., R).
    """
    rows = torch.tensor([*(index for index in range(3) for _ in range(3)), *[3] * (len(weight) - 9)])
    scale, shift = modulation[..., rows.to(weight.device), :, :].unbind(-2)
    return weight * (1.0 + scale), bias + (weight * shift).sum(-1)


def by_attribute(values: Tensor) -> dict[str, Tensor]:
    """Split the rows (..., R) of the folded layer by attribute: (..., 3) each, (..., R - 9) for colour."""
    return dict(zip(ATTRIBUTES, values.split([3, 3, 3, values.shape[-1] - 9], -1)))


def changed(local: Gaussians, changes: Mapping[str, Tensor]) -> Gaussians:
    """Add changes to local Gaussians; differentiable in both.

    Every formula returns its input exactly where the change is zero.

    Args:
        local: N Gaussians.
        changes: "positions" (N, 3) triangle units; "rotations" (N, 3) vector parts of quaternions of real part 1, in
            the Gaussians' axes; "scales" (N, 3) of the logarithms; "colors" (N, C), where channels beyond the
            Gaussians' channels are new.

    Raises:
        InputError: the Gaussians are not local, or their number differs from the changes'.
    """
    if local.space != "local":
        raise InputError("Corrections are added to local Gaussians; convert them with to_local first.")
    if changes["positions"].shape != local.means.shape:
        raise InputError(
            f"The corrections are {tuple(changes['positions'].shape)} and the Gaussians {tuple(local.means.shape)}; "
            "take those of one layout, and one entry of a batch at a time."
        )
    turn = functional.normalize(functional.pad(changes["rotations"], (1, 0), value=1.0), dim=-1)
    extra = changes["colors"].shape[-1] - local.colors.shape[-1]
    colors = (functional.pad(local.colors, (0, extra)) if extra else local.colors) + changes["colors"]
    shown = colors[..., :3].clamp(0.0, 1.0)
    return local.replace(
        means=local.means + changes["positions"],
        quats=quat_multiply(local.quats, turn),
        # exp of a strided tensor takes a slow path in torch: 3 ms per frame.
        scales=local.scales * changes["scales"].contiguous().exp(),
        colors=shown if colors.shape[-1] == 3 else torch.cat([shown, colors[..., 3:]], -1),
    )


@dataclass(frozen=True)
class ExpressionResidual(Record):
    """The residual of one person.

    Attributes:
        features: (N, C) UV feature of each Gaussian's texel.
        freedom: (N,) in [0, 1], the correction weight: factor of the changes of each Gaussian.
        hidden_weight: (H, E + 12) of the MLP that reads :func:`expression_code`.
        hidden_bias: (H,) of it.
        film_weight: (8 C, H) of its second layer, to the modulation's (4, 2, C).
        film_bias: (8 C,) of it.
        output_weight: (12, C) of the four linear layers to position, rotation, scale and colour.
        output_bias: (12,) of them.
    """

    features: Tensor
    freedom: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    film_weight: Tensor
    film_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor

    def at(self, local: Gaussians, code: Tensor) -> Gaussians:
        """Return the N local Gaussians under one :func:`expression_code` (1, E + 12); differentiable in all."""
        changes = by_attribute(self.changes(code))
        if self._turns_nothing() and local.space == "local" and local.colors.shape[1] == 3:
            # What ``changed`` computes, without the products by one: half the time of a driven frame.
            colors = (local.colors + changes["colors"]).clamp(0.0, 1.0)
            return local.replace(means=local.means + changes["positions"], colors=colors)
        return changed(local, changes)

    def _turns_nothing(self) -> bool:
        """Whether rotations, scales and new channels of colour stay as they are, and are not being learned."""
        weight, bias = self.output_weight, self.output_bias
        return len(weight) == 12 and not (weight.requires_grad or weight[3:9].any() or bias[3:9].any())

    def changes(self, code: Tensor) -> Tensor:
        """Return (N, 12) the changes under one code (1, E + 12): position, rotation, scale and colour."""
        hidden = functional.silu(functional.linear(code[0], self.hidden_weight, self.hidden_bias))
        modulation = functional.linear(hidden, self.film_weight, self.film_bias).unflatten(-1, (len(ATTRIBUTES), 2, -1))
        weight, bias = folded(modulation, self.output_weight, self.output_bias)
        return torch.addmm(bias, self.features, weight.T).mul_(self.freedom[:, None])

    def plus(self, other: ExpressionResidual) -> ExpressionResidual:
        """A residual whose changes are the sum of both, under the same freedom.

        Args:
            other: of the same N Gaussians and expressions; its freedom is not used.
        """
        # Hidden units and features of both stand side by side; a hidden unit modulates the features of its own part.
        film = [part.film_weight.unflatten(0, (8, -1)) for part in (self, other)]
        above = functional.pad(film[0], (0, film[1].shape[-1]))
        below = functional.pad(film[1], (film[0].shape[-1], 0))
        bias = [part.film_bias.unflatten(0, (8, -1)) for part in (self, other)]
        return ExpressionResidual(
            features=torch.cat([self.features, other.features], 1),
            freedom=self.freedom,
            hidden_weight=torch.cat([self.hidden_weight, other.hidden_weight]),
            hidden_bias=torch.cat([self.hidden_bias, other.hidden_bias]),
            film_weight=torch.cat([above, below], 1).flatten(0, 1),
            film_bias=torch.cat(bias, 1).flatten(),
            output_weight=torch.cat([self.output_weight, other.output_weight], 1),
            output_bias=self.output_bias + other.output_bias,
        )

    def subset(self, rows: Tensor) -> ExpressionResidual:
        """The residual of the Gaussians ``rows`` (n,) alone."""
        return replace(self, **{name: getattr(self, name)[rows] for name in OF_TEXELS})

    def copied(self, learns: bool = False) -> ExpressionResidual:
        """Detached copies of the tensors; with ``learns`` those of the shared MLP take gradients."""
        copies = {name: value.detach().clone() for name, value in self.tensors().items()}
        return ExpressionResidual(
            **{name: value.requires_grad_(learns and name not in OF_TEXELS) for name, value in copies.items()}
        )

    def weights(self) -> dict[str, Tensor]:
        """Tensors of the small MLP by name; all people share it."""
        return {name: value for name, value in self.tensors().items() if name not in OF_TEXELS}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def shapes(count: int, expressions: int, *, features: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors by name.

        Args:
            count: N, number of Gaussians.
            expressions: E of the head.
            features: C, width of a texel's feature.
            hidden: H, width of the MLP's hidden layer.
        """
        return {
            "features": (count, features),
            "freedom": (count,),
            "hidden_weight": (hidden, expressions + 12),
            "hidden_bias": (hidden,),
            "film_weight": (8 * features, hidden),
            "film_bias": (8 * features,),
            "output_weight": (12, features),
            "output_bias": (12,),
        }
