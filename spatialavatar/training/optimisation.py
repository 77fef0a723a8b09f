"""The two phases of training as configurations, their schedules, and the L2-SP penalty of phase 2."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spatialavatar.generator.network import CorrectionNetwork
from spatialavatar.training.losses import LossWeights


@dataclass(frozen=True)
class Phase:
    """One phase of training (method section 2); :meth:`monocular` and :meth:`multi_view` are the paper's.

    Attributes:
        iterations: optimiser steps.
        batch: targets per step.
        optimiser: "adam" or "adamw".
        rate: learning rate.
        schedule: "linear" (1 to ``floor`` over the first 80 %, then flat) or "cosine" (after ``warm_up`` steps).
        floor: of the linear schedule, as a share of ``rate``.
        warm_up: steps.
        precision: "fp32" or "bf16".
        clip: largest norm of the gradient.
        encoder_decay: factor of the learning rate per encoder layer, from the last layer to the first; 1 is none.
        anchor: lambda_sp of L2-SP; 0 is none.
        cross_camera: share of batches with all cameras at one instant; None for single-camera clips.
        regularised: random share of examples for which the terms without a picture (the two smoothness terms and the
            view-invariance penalty) are computed; their weight is divided by it. These terms take a fifth of a step
            on a CPU. The paper uses 1.
        weights: of the losses.
    """

    iterations: int
    batch: int
    optimiser: str
    rate: float
    schedule: str
    floor: float = 0.1
    warm_up: int = 0
    precision: str = "fp32"
    clip: float = 5.0
    encoder_decay: float = 1.0
    anchor: float = 0.0
    cross_camera: float | None = None
    regularised: float = 1.0
    weights: LossWeights = field(default_factory=LossWeights)

    @classmethod
    def monocular(cls) -> Phase:
        """Phase 1: one person's clip, one camera."""
        return cls(iterations=200_000, batch=48, optimiser="adam", rate=2.5e-4, schedule="linear")

    @classmethod
    def multi_view(cls) -> Phase:
        """Phase 2: synchronised cameras. The paper gives neither iterations nor warm-up; both values are ours."""
        return cls(
            iterations=20_000,
            batch=12,
            optimiser="adamw",
            rate=1e-4,
            schedule="cosine",
            warm_up=500,
            precision="bf16",
            encoder_decay=0.65,
            anchor=1e-3,
            cross_camera=0.75,
            weights=LossWeights(residual=1e-2),
        )

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0."""
        if self.schedule == "linear":
            return 1.0 - (1.0 - self.floor) * min(step / (0.8 * self.iterations), 1.0)
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = min((step - self.warm_up) / max(self.iterations - self.warm_up, 1), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * done))


def parameter_groups(network: CorrectionNetwork, rate: float, encoder_decay: float = 1.0) -> list[dict[str, Any]]:
    """Return parameter groups of an optimiser: the decoders at ``rate``, the encoder's layers at lower rates.

    Of L layers, layer i, counted from 0, has the rate ``rate * encoder_decay ** (L - i)``. Frozen parameters are in no
    group.
    """
    layers = network.encoder.layers()
    groups = [
        {"params": list(layer.parameters()), "lr": rate * encoder_decay ** (len(layers) - index)}
        for index, layer in enumerate(layers)
    ]
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    groups.append({"params": [p for p in network.parameters() if id(p) not in encoder], "lr": rate})
    trained = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    return [group for group in trained if group["params"]]


class Anchor:
    """L2-SP (Li et al., "Explicit inductive bias for transfer learning", 2018): a penalty on the change of weights."""

    def __init__(self, network: nn.Module) -> None:
        """Store the current weights that are not frozen."""
        self._start = [(p, p.detach().clone()) for p in network.parameters() if p.requires_grad]

    def penalty(self) -> Tensor:
        """Return 1/2 |w - w0|^2, to be multiplied by lambda_sp."""
        return 0.5 * torch.stack([(p - start).square().sum() for p, start in self._start]).sum()
