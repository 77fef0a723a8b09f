"""From the UV feature to corrections: the view's encoding, five parallel heads, and the expression's residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spatialavatar.generator.network.corrections import Corrections
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import Camera, HeadParams

OCTAVES = 4
VIEW_CHANNELS = 3 + 2 * 3 * OCTAVES
"""Length of :func:`harmonic_encoding`: 27."""


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


def expression_code(params: HeadParams) -> Tensor:
    """c_t (T, E + 12): expression, global rotation, jaw and eyes; 112 numbers for FLAME's 100 expressions (step 6)."""
    return torch.cat([params.expression, params.rotation, params.jaw, params.eyes], -1)


class AttributeHeads(nn.Module):
    """Five two-layer heads over UV feature and view, alike at every texel; the second layers start at zero (step 5)."""

    def __init__(self, features: int, hidden: int, colors: int) -> None:
        """Start at zero.

        Args:
            features: channels of the UV feature.
            hidden: width of the hidden layers.
            colors: channels of the colour.
        """
        super().__init__()
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
        x = torch.cat([features, view[:, None].expand(-1, features.shape[1], -1)], -1)
        values = {name: head(x) for name, head in self.heads.items()}
        return Corrections(**{**values, "opacities": values["opacities"].squeeze(-1)})


class ResidualHead(nn.Module):
    """What the target's expression adds: FiLM of the UV feature, then one linear layer per attribute (step 6).

    Opacity is left out, because it would pump; shape is left out, because it acts through the mesh. FiLM starts as the
    identity and the output layers at zero, so that at first the residual is nothing.
    """

    ATTRIBUTES = ("positions", "rotations", "scales", "colors")

    def __init__(self, features: int, condition: int, hidden: int, colors: int) -> None:
        """Start at zero.

        Args:
            features: channels of the UV feature.
            condition: length of :func:`expression_code`.
            hidden: width of the MLP.
            colors: channels of the colour.
        """
        super().__init__()
        count = len(self.ATTRIBUTES)
        self.film = nn.Sequential(
            nn.Linear(condition, hidden), nn.SiLU(), _zero(nn.Linear(hidden, 2 * count * features))
        )
        widths = (3, 3, 3, colors)
        self.outputs = nn.ModuleList(_zero(nn.Linear(features, width)) for width in widths)

    def forward(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """UV features (B, N, C) and conditions (B, E + 12) to residuals (B, N, ...) by attribute."""
        modulation = self.film(condition).unflatten(-1, (len(self.ATTRIBUTES), 2, 1, -1))
        residual = {}
        for index, (name, output) in enumerate(zip(self.ATTRIBUTES, self.outputs)):
            scale, shift = modulation[:, index].unbind(1)
            residual[name] = output(features * (1.0 + scale) + shift)
        return residual


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
