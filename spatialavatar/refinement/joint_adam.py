"""Adam with one step length for all axes of a vector (VectorAdam: Ling, Sharp and Jacobson, NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class JointAdam(torch.optim.Optimizer):
    """Adam whose second moment is that of the length of each row, not of each coordinate.

    Adam divides every coordinate by the root mean square of its own gradient. The depth of a Gaussian, which a frontal
    clip hardly constrains, then moves as fast as its position in the picture. That is noise, and it opens the surface
    in turned views. With one divisor for all axes, the step along an axis is proportional to the gradient along it, and
    the result does not depend on the choice of axes.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        """Make the optimiser.

        Args:
            groups: of tensors (N, C), each with its ``lr`` and, where they differ from Adam's, ``eps`` and ``betas``.
        """
        super().__init__(groups, {"lr": 1e-3, "eps": 1e-8, "betas": (0.9, 0.999)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the stored gradients; tensors without a gradient do not move.

        Raises:
            NotImplementedError: a closure is given.
        """
        if closure is not None:
            raise NotImplementedError("JointAdam takes no closure; compute the gradients before the step.")
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
                count = float(state["step"])
                state["exp_avg"].lerp_(value.grad, 1.0 - first)
                length = torch.linalg.vector_norm(value.grad, dim=-1, keepdim=True)
                state["exp_avg_sq"].mul_(second).addcmul_(length, length, value=1.0 - second)
                divisor = (state["exp_avg_sq"] / (1.0 - second**count)).sqrt_().add_(group["eps"])
                value.addcdiv_(state["exp_avg"], divisor, value=-group["lr"] / (1.0 - first**count))
