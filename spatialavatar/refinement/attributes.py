"""The refined attributes of the Gaussians, in the unconstrained form that an optimiser moves."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.head import UVLayout
from spatialavatar.records import Gaussians

ATTRIBUTE_FAMILIES = ("position", "rotation", "scale", "opacity", "color")
"""Names of the attributes' families; each has one learning rate (method section 3)."""

VECTOR_FAMILIES = ("position", "rotation", "scale")
"""The families whose rows are vectors in the triangle's frame."""

MIN_OPACITY = 1e-4
"""Distance that opacities keep from 0 and 1, where the logit is infinite."""

_MIN_SCALE = 1e-8  # triangle units; the logarithm of 0 is infinite


def texel_means(values: Tensor, layout: UVLayout) -> Tensor:
    """Means (N, C) of values (N, C) over the valid ones of the 3 x 3 texels around each."""
    values = torch.cat([values, torch.ones_like(values[:, :1])], 1)
    # Sums of shifted pictures take a tenth of the time of a pooling with channels last.
    picture = torch.nn.functional.pad(layout.to_image(values), (0, 0, 1, 1, 1, 1))
    rows = (picture[:-2] + picture[1:-1]).add_(picture[2:])
    around = layout.from_image((rows[:, :-2] + rows[:, 1:-1]).add_(rows[:, 2:]))
    return around[:, :-1] / around[:, -1:]


class Attributes:
    """Local Gaussians as five leaf tensors: means, quaternions, log scales, opacity logits, colours.

    Attributes:
        tensors: by family: (N, 3), (N, 4), (N, 3), (N,), (N, C).
    """

    def __init__(self, gaussians: Gaussians, color_gate: Tensor | None = None) -> None:
        """Copy local ``gaussians``.

        Args:
            gaussians: N local Gaussians; they are not changed.
            color_gate: (N,) in [0, 1], the share of each colour's change that is applied; None applies all.
        """
        self._color_gate = None if color_gate is None else color_gate[:, None]
        raw = {
            "position": gaussians.means,
            "rotation": gaussians.quats,
            "scale": gaussians.scales.clamp_min(_MIN_SCALE).log(),
            "opacity": gaussians.opacities.clamp(MIN_OPACITY, 1.0 - MIN_OPACITY).logit(),
            "color": gaussians.colors,
        }
        self._start = {name: value.detach().clone().float() for name, value in raw.items()}
        self.tensors: dict[str, Tensor] = {name: value.clone().requires_grad_() for name, value in self._start.items()}

    @torch.no_grad()
    def pull_colors(self, share: float) -> None:
        """Undo ``share`` of the change of each colour."""
        self.tensors["color"].lerp_(self._start["color"], share)

    @torch.no_grad()
    def smooth_colors(self, share: float, layout: UVLayout) -> None:
        """Move the change of each colour by ``share`` towards the mean change of the 3 x 3 texels around it."""
        change = self.tensors["color"] - self._start["color"]
        self.tensors["color"].add_(texel_means(change, layout) - change, alpha=share)

    def gaussians(self) -> Gaussians:
        """The local Gaussians, differentiable; quaternions of any length (the rasteriser normalises them)."""
        return self._gaussians(self.tensors)

    def initial_shape(self) -> Gaussians:
        """The initial means, quaternions, scales and opacities with the current colours, detached."""
        return self._gaussians(self._start | {"color": self.tensors["color"].detach()})

    def _gaussians(self, raw: dict[str, Tensor]) -> Gaussians:
        """Local Gaussians of one tensor per family, with the colour gate applied."""
        color = raw["color"] if self._color_gate is None else self._start["color"].lerp(raw["color"], self._color_gate)
        return Gaussians(raw["position"], raw["rotation"], raw["scale"].exp(), raw["opacity"].sigmoid(), color)

    @torch.no_grad()
    def snapshot(self) -> Gaussians:
        """A detached copy with unit quaternions."""
        live = self.gaussians()
        return Gaussians(
            means=live.means.clone(),
            quats=torch.nn.functional.normalize(live.quats, dim=-1),
            scales=live.scales,
            opacities=live.opacities,
            colors=live.colors.clamp(0.0, 1.0),
        )
