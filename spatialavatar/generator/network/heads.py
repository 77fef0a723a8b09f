"""From the UV feature to corrections: the view's encoding, five parallel heads, and the expression's residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spatialavatar.generator.network.corrections import Corrections
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import Camera, HeadParams
from spatialavatar.residual import ATTRIBUTES, ExpressionResidual, by_attribute, expression_code, folded

__all__ = ["AttributeHeads", "ResidualHead", "expression_code", "harmonic_encoding", "view_direction"]

OCTAVES = 4
VIEW_CHANNELS = 3 + 2 * 3 * OCTAVES
"""Length of :func:`harmonic_encoding`: 27."""

FRONTAL = (0.0, 0.0, -1.0)
""":func:`view_direction` of a head that faces the camera."""


def view_direction(camera: Camera, params: HeadParams) -> Tensor:
    """D (T, 3): unit third column of the camera's world-to-camera rotation (method section 2, step 5).

    The paper's head stands and its camera moves; ours is the other way round, so that "world" here is the skull: torso
    and neck are taken into the camera.
    """
    skull = axis_angle_to_matrix(params.rotation) @ axis_angle_to_matrix(params.neck)
    return nn.functional.normalize((camera.world_to_camera[:3, :3] @ skull)[..., 2], dim=-1)


def harmonic_encoding(directions: Tensor) -> Tensor:
    """(d, sin 2^k pi d, cos 2^k pi d), k = 0..3: directions (..., 3) to (..., 27)."""
    angles = [2.0**k * torch.pi * directions for k in range(OCTAVES)]
    return torch.cat([directions, *(a.sin() for a in angles), *(a.cos() for a in angles)], -1)


ROTATION_GAIN = 0.1
"""Factor of the rotation outputs.

Gaussians lie flat on the surface: turned by as many radians as the other outputs change, they stand on edge. With a
factor of 1, rotations cost identity more than all other corrections together.
"""


class AttributeHeads(nn.Module):
    """Five two-layer heads over UV feature and view, shared by all texels; the second layers start at zero (step 5)."""

    def __init__(self, features: int, hidden: int, colors: int, opacity_gain: float) -> None:
        """Initialise with last layers of zero.

        Args:
            features: channels of the UV feature.
            hidden: width of the hidden layers.
            colors: channels of the colour.
            opacity_gain: factor of the opacity output.
        """
        super().__init__()
        self._opacity_gain = opacity_gain
        outputs = {"positions": 3, "rotations": 3, "scales": 3, "colors": colors, "opacities": 1}
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(features + VIEW_CHANNELS, hidden), nn.SiLU(), _zero(nn.Linear(hidden, count))
                )
                for name, count in outputs.items()
            }
        )

    def forward(self, features: Tensor, view: Tensor) -> Corrections:
        """UV features (B, N, C) and encoded directions (B, 27) to corrections (B, N, ...)."""
        values = {}
        for name, head in self.heads.items():
            first, *rest = head  # type: ignore[misc]
            own, of_view = first.weight.split([features.shape[-1], VIEW_CHANNELS], -1)
            # The view is the same at every texel: its share of the first layer is computed once, not N times.
            of_all = nn.functional.linear(view, of_view, first.bias)
            hidden = [torch.addmm(bias, feature, own.T) for bias, feature in zip(of_all, features)]
            x = hidden[0][None] if len(hidden) == 1 else torch.stack(hidden)  # of one person without a copy
            for layer in rest:
                x = layer(x)
            values[name] = x
        values |= {
            "rotations": ROTATION_GAIN * values["rotations"],
            "opacities": self._opacity_gain * values["opacities"].squeeze(-1),
        }
        return Corrections(**values)


class ResidualHead(nn.Module):
    """Corrections by the target's expression: FiLM of the UV feature, then one linear layer per attribute (step 6).

    Opacity is left out, because it would pump; shape is left out, because it acts through the mesh. FiLM starts as the
    identity and the output layers at zero, so that the untrained residual is zero.
    """

    def __init__(self, features: int, condition: int, hidden: int, colors: int) -> None:
        """Initialise with output layers of zero.

        Args:
            features: channels of the UV feature.
            condition: length of :func:`expression_code`.
            hidden: width of the MLP.
            colors: channels of the colour.
        """
        super().__init__()
        count = len(ATTRIBUTES)
        self.film = nn.Sequential(
            nn.Linear(condition, hidden), nn.SiLU(), _zero(nn.Linear(hidden, 2 * count * features))
        )
        widths = (3, 3, 3, colors)
        self.outputs = nn.ModuleList(nn.Linear(features, width) for width in widths)
        self.reset()

    def forward(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """UV features (B, N, C) and conditions (B, E + 12) to residuals (B, N, ...) by attribute."""
        modulation = self.film(condition).unflatten(-1, (len(ATTRIBUTES), 2, -1))
        weight, bias = folded(modulation, *self._outputs())
        return by_attribute(torch.baddbmm(bias[:, None], features, weight.transpose(1, 2)))

    def is_zero(self) -> bool:
        """Whether the residual is zero for every expression, so that avatars need not store it."""
        return not any(bool(parameter.any()) for parameter in self.outputs.parameters())

    def reset(self) -> None:
        """Set the output layers, and with them every residual, to zero."""
        for layer in self.outputs:
            _zero(layer)  # type: ignore[arg-type]

    @torch.no_grad()
    def of_person(self, features: Tensor, correction_weight: Tensor) -> ExpressionResidual:
        """The residual of one person as an avatar stores it: three colours, per-texel tensors in half precision.

        Args:
            features: (N, C) UV feature.
            correction_weight: (N,) factor of each Gaussian's residual.
        """
        first, _, second = self.film
        weight, bias = self._outputs()
        return ExpressionResidual(
            # Rounded here, so that a saved avatar is the same to the last bit.
            features.half().float(),
            correction_weight.half().float(),
            *(value.clone() for value in (first.weight, first.bias, second.weight, second.bias)),  # type: ignore
            output_weight=weight[: 3 * len(ATTRIBUTES)].clone(),
            output_bias=bias[: 3 * len(ATTRIBUTES)].clone(),
        )

    def _outputs(self) -> tuple[Tensor, Tensor]:
        """Weights (9 + colours, C) and biases of the output layers, one below the other."""
        gains = [ROTATION_GAIN if name == "rotations" else 1.0 for name in ATTRIBUTES]
        return (
            torch.cat([gain * layer.weight for gain, layer in zip(gains, self.outputs)]),  # type: ignore[operator]
            torch.cat([gain * layer.bias for gain, layer in zip(gains, self.outputs)]),  # type: ignore[operator]
        )


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
