"""The refined attributes in the unconstrained form that Adam moves, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spatialavatar.head import UVLayout
from spatialavatar.records import Gaussians
from spatialavatar.refinement.config import RefineConfig

FAMILIES = ("position", "rotation", "scale", "opacity", "color")
"""One learning rate each (method section 3)."""

FORM = ("position", "rotation", "scale")
"""The families that are vectors in the triangle's frame."""

_LEAST = 1e-4
"""Opacities are kept this far from 0 and 1, where a logit would be infinite."""

_LEAST_SCALE = 1e-8


class Attributes:
    """Local Gaussians as five leaf tensors: positions, quaternions, log scales, opacity logits, colours.

    Attributes:
        tensors: by family: (N, 3), (N, 4), (N, 3), (N,), (N, C).
    """

    def __init__(self, gaussians: Gaussians, color_gate: Tensor | None = None) -> None:
        """Take over local ``gaussians``; they are not changed.

        ``color_gate`` (N,) in [0, 1] is how far the colours may leave those they start with; None is all the way.
        """
        self._color_gate = None if color_gate is None else color_gate[:, None]
        raw = {
            "position": gaussians.means,
            "rotation": gaussians.quats,
            "scale": gaussians.scales.clamp_min(_LEAST_SCALE).log(),
            "opacity": gaussians.opacities.clamp(_LEAST, 1.0 - _LEAST).logit(),
            "color": gaussians.colors,
        }
        self._start = {name: value.detach().clone().float() for name, value in raw.items()}
        self.tensors: dict[str, Tensor] = {name: value.clone().requires_grad_() for name, value in self._start.items()}

    @torch.no_grad()
    def pull_colors(self, share: float) -> None:
        """Bring each colour's change back by ``share`` of it."""
        self.tensors["color"].lerp_(self._start["color"], share)

    @torch.no_grad()
    def smooth_colors(self, share: float, layout: UVLayout) -> None:
        """Bring each colour's change nearer, by ``share``, to the mean change of the 3 x 3 texels around it."""
        change = self.tensors["color"] - self._start["color"]
        values = torch.cat([change, torch.ones_like(change[:, :1])], 1)
        picture = layout.to_image(values).movedim(-1, 0)
        around = layout.from_image(torch.nn.functional.avg_pool2d(picture, 3, stride=1, padding=1).movedim(0, -1))
        self.tensors["color"].add_(around[:, :-1] / around[:, -1:] - change, alpha=share)

    def gaussians(self) -> Gaussians:
        """The local Gaussians, differentiable; quaternions of any length (the rasteriser normalises them)."""
        return self._gaussians(self.tensors)

    def initial_form(self) -> Gaussians:
        """The form of the start in the colours of now, detached."""
        return self._gaussians(self._start | {"color": self.tensors["color"].detach()})

    def _gaussians(self, raw: dict[str, Tensor]) -> Gaussians:
        """The local Gaussians of one tensor per family, their colours as free as the gate lets them be."""
        color = raw["color"] if self._color_gate is None else self._start["color"].lerp(raw["color"], self._color_gate)
        return Gaussians(raw["position"], raw["rotation"], raw["scale"].exp(), raw["opacity"].sigmoid(), color)

    def snapshot(self) -> Gaussians:
        """A detached copy with unit quaternions."""
        with torch.no_grad():
            live = self.gaussians()
            return Gaussians(
                means=live.means.clone(),
                quats=torch.nn.functional.normalize(live.quats, dim=-1),
                scales=live.scales,
                opacities=live.opacities,
                colors=live.colors.clamp(0.0, 1.0),
            )

    def groups(self, config: RefineConfig, families: Sequence[str]) -> list[dict[str, object]]:
        """An optimiser's parameter groups for ``families``, each with the rate that the schedule multiplies."""
        found: list[dict[str, object]] = []
        for name in families:
            rate = float(getattr(config, f"{name}_rate"))
            found.append({"params": [self.tensors[name]], "lr": rate, "base": rate, "eps": config.adam_epsilon})
        return found
