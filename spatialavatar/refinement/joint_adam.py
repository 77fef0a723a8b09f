"""Adam with one step length for all axes of a Gaussian (VectorAdam: Ling, Sharp and Jacobson, NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class JointAdam(torch.optim.Optimizer):
    """Adam whose second moment is that of each row's length, not of each of its coordinates.

    Adam divides every coordinate by its own usual gradient, so that the depth of a Gaussian, of which a frontal clip
    says almost nothing, moves as fast as its place in the picture, which every frame tells: mere noise, that tears the
    surface open when the head is turned. With one divisor for all axes, an axis moves as far as its share of the
    gradient, and no choice of axes is special.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        """Groups of tensors (N, C), each with its ``lr`` and, where they are not Adam's, ``eps`` and ``betas``."""
        super().__init__(groups, {"lr": 1e-3, "eps": 1e-8, "betas": (0.9, 0.999)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients at hand; tensors without one keep still."""
        assert closure is None, "gradients come from outside"
        for group in self.param_groups:
            first, second = group["betas"]
            for value in group["params"]:
                if value.grad is None:
                    continue
                state = self.state[value]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(value)
                    state["exp_avg_sq"] = torch.zeros_like(value[..., :1])
                state["step"] += 1
                made = float(state["step"])
                state["exp_avg"].lerp_(value.grad, 1.0 - first)
                length = torch.linalg.vector_norm(value.grad, dim=-1, keepdim=True)
                state["exp_avg_sq"].mul_(second).addcmul_(length, length, value=1.0 - second)
                usual = (state["exp_avg_sq"] / (1.0 - second**made)).sqrt_().add_(group["eps"])
                value.addcdiv_(state["exp_avg"], usual, value=-group["lr"] / (1.0 - first**made))
