"""Changes of position and colour by expression, learned for one person: linear bases of each Gaussian (ours).

The paper's residual head is a network that all people share. Stage 2 has one person and few frames, so it learns the
changes of each Gaussian directly: K inputs, which are bounded functions of the expression, times K vectors a
Gaussian. Opacity, scale and rotation do not change. An avatar stores the bases as an ordinary
:class:`~spatialavatar.residual.ExpressionResidual`, which computes the same, so that files and exports need nothing
new.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spatialavatar.avatar import Avatar
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.records import Gaussians, HeadParams
from spatialavatar.refinement.attributes import texel_means
from spatialavatar.residual import ExpressionResidual, by_attribute, changed, expression_code

_SHARPNESS = 8.0
"""Of the bend of an input's limit, per standard deviation; the input exceeds the limit by at most .28 / 8."""

_MIN_SPREAD = 2e-3
"""Metres of vertex movement: inputs that spread less are partly tracking noise, and stay below unit spread."""

_MIN_VARIANCE = 1e-12
"""Square metres; an input that varies less does not vary."""

_SKULL_ARM = 0.02
"""Metres per radian: weight of the skull's rotation among the inputs."""

_OF_BASES = ("position", "color")


class ExpressionInputs:
    """K bounded numbers that describe an expression: principal components of a clip, within the range it shows.

    An input is x_k = d_k . (code - mean), zero at the mean expression and at most of unit variance over the clip. It is
    limited to the clip's range by the difference of two SiLU ramps, which is what an
    :class:`~spatialavatar.residual.ExpressionResidual` can compute.

    Attributes:
        directions: (K, E + 12) d of each input.
        offsets: (K,) d . mean.
        low: (K,) smallest value over the clip.
        high: (K,) largest value.
    """

    def __init__(self, params: HeadParams, head: HeadModel, count: int, *, skull: bool) -> None:
        """Find the inputs of a clip.

        Args:
            params: (T) frames.
            head: of the frames; its movement weighs the coefficients.
            count: K, at most; inputs that do not vary are left out.
            skull: whether the rotation of the skull counts.
        """
        codes = expression_code(params).cpu().double()
        weights = _movement(head, codes.shape[1], skull).to(codes)
        mean = codes.mean(0)
        weighted = (codes - mean) * weights
        variance, axes = torch.linalg.eigh(weighted.T @ weighted / len(codes))
        count = min(count, int((variance > _MIN_VARIANCE).sum()))
        axes = axes.flip(1)[:, :count].T
        axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # eigenvectors have no sign
        spread = variance.flip(0)[:count].clamp_min(0.0).sqrt().clamp_min(_MIN_SPREAD)
        directions = axes * weights / spread[:, None]
        values = (codes - mean) @ directions.T
        self.directions, self.offsets = directions.to(params.jaw), (directions @ mean).to(params.jaw)
        self.low, self.high = values.amin(0).to(params.jaw), values.amax(0).to(params.jaw)

    def layer(self) -> tuple[Tensor, Tensor]:
        """Weights (2 K, E + 12) and biases (2 K,) of the linear layer below the SiLUs: lower ramps, then upper."""
        weight = _SHARPNESS * self.directions
        biases = [-_SHARPNESS * (self.offsets + limit) for limit in (self.low, self.high)]
        return torch.cat([weight, weight]), torch.cat(biases)

    def at(self, code: Tensor) -> Tensor:
        """(K,) inputs at one code (1, E + 12)."""
        lower, upper = functional.silu(functional.linear(code[0], *self.layer())).chunk(2)
        return self.low + (lower - upper) / _SHARPNESS


def _movement(head: HeadModel, size: int, skull: bool) -> Tensor:
    """(E + 12,) metres that the vertex moves which a unit of each coefficient moves most."""
    count = head.expression_count
    weights = torch.zeros(size, device=head.device)
    weights[:count] = head.expression_basis.norm(dim=-1).amax(1)
    neutral = head.neutral()
    identity = head.identity(neutral.shape)
    rest = head.pose(identity, neutral)[0]
    weights[count : count + 3] = _SKULL_ARM if skull else 0.0
    for name, first, width in (("jaw", count + 3, 3), ("eyes", count + 6, 6)):
        for axis in range(width):
            turned = getattr(neutral, name).clone()
            turned[0, axis] = 0.1
            moved = head.pose(identity, neutral.replace(**{name: turned}))[0]
            weights[first + axis] = 10.0 * (moved - rest).norm(dim=-1).max()
    return weights


class ExpressionBases:
    """The bases of N Gaussians as two leaf tensors.

    Attributes:
        inputs: the K inputs.
        tensors: "position" (N, 3, K) triangle units, "color" (N, 3, K), per unit of the inputs; zero at first.
    """

    def __init__(self, inputs: ExpressionInputs, avatar: Avatar, color_gate: Tensor | None) -> None:
        """Start at no change.

        Args:
            inputs: of the clip.
            avatar: gives N, and the residual that the bases are added to.
            color_gate: (N,) in [0, 1], the share of a colour's change that is applied; None applies all.
        """
        self.inputs = inputs
        means = avatar.gaussians.means
        shape = (len(means), 3, len(inputs.low))
        self.tensors = {name: means.new_zeros(shape).requires_grad_() for name in _OF_BASES}
        self._color_gate = None if color_gate is None else color_gate[:, None]
        self._freedom = None if avatar.residual is None else avatar.residual.freedom[:, None]

    def changes(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) of positions and (N, 3) of colours under one code (1, E + 12); differentiable in the bases."""
        values = self.inputs.at(code)
        position, color = (self.tensors[name] @ values for name in _OF_BASES)
        if self._color_gate is not None:
            color = color * self._color_gate
        return (position, color) if self._freedom is None else (position * self._freedom, color * self._freedom)

    def at(self, local: Gaussians, code: Tensor, below: ExpressionResidual | None) -> Gaussians:
        """The N local Gaussians under one code, with the changes of ``below``, if any; differentiable in all."""
        position, color = self.changes(code)
        if below is None:
            return local.replace(means=local.means + position, colors=(local.colors + color).clamp(0.0, 1.0))
        own = by_attribute(below.changes(code))
        return changed(local, {**own, "positions": own["positions"] + position, "colors": own["colors"] + color})

    @torch.no_grad()
    def pull(self, share: float) -> None:
        """Undo ``share`` of every basis."""
        for tensor in self.tensors.values():
            tensor.mul_(1.0 - share)

    @torch.no_grad()
    def smooth(self, share: float, layout: UVLayout) -> None:
        """Move every basis by ``share`` towards its mean over the 3 x 3 texels around it."""
        for tensor in self.tensors.values():
            tensor.lerp_(texel_means(tensor.flatten(1), layout).view_as(tensor), share)

    @torch.no_grad()
    def residual(self, below: ExpressionResidual | None) -> ExpressionResidual:
        """A residual that computes the same changes, added to those of ``below``, the avatar's own."""
        count, inputs = len(self.inputs.low), self.inputs
        width = 6 * count
        gated = self.tensors["color"].detach()
        if self._color_gate is not None:
            gated = gated * self._color_gate[..., None]
        features = torch.cat([self.tensors["position"].detach().flatten(1), gated.flatten(1)], 1)
        # Feature (attribute, axis, k) is multiplied by 1 + s = x_k, and goes to its axis of its attribute alone.
        hidden_weight, hidden_bias = inputs.layer()
        ramps = torch.cat([torch.eye(count), -torch.eye(count)], 1).to(features) / _SHARPNESS
        film_weight = features.new_zeros(4, 2, width, 2 * count)
        film_weight[:, 0] = ramps.repeat(6, 1)
        film_bias = features.new_zeros(4, 2, width)
        film_bias[:, 0] = inputs.low.repeat(6) - 1.0
        output_weight = features.new_zeros(12, width)
        for row, axis in (*zip(range(3), range(3)), *zip(range(9, 12), range(3, 6))):
            output_weight[row, axis * count : (axis + 1) * count] = 1.0
        own = ExpressionResidual(
            features=features.contiguous(),
            freedom=features.new_ones(len(features)),
            hidden_weight=hidden_weight,
            hidden_bias=hidden_bias,
            film_weight=film_weight.flatten(0, 2),
            film_bias=film_bias.flatten(),
            output_weight=output_weight,
            output_bias=features.new_zeros(12),
        )
        return own if below is None else below.plus(own)
