"""The families of tensors that a refinement optimises, as one list.

The loop, the schedule and the checkpoints go over this list and depend on no family by name. To optimise something new,
append one :class:`Family` in :func:`families_of`, and use its tensors where a frame is posed or compared
(``objective.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.refinement.attributes import ATTRIBUTE_FAMILIES, VECTOR_FAMILIES, Attributes
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.expression_bases import ExpressionBases
from spatialavatar.refinement.joint_adam import JointAdam
from spatialavatar.residual import ExpressionResidual


@dataclass(frozen=True, eq=False)
class Family:
    """Tensors with a common learning rate.

    Attributes:
        name: unique in a run; the prefix of the family's entries in a checkpoint.
        tensors: leaf tensors by name.
        rate: learning rate before the schedule.
        optimiser: over ``tensors``, one parameter group each, in their order.
        frozen_until: first iteration that moves the tensors.
    """

    name: str
    tensors: Mapping[str, Tensor]
    rate: float
    optimiser: torch.optim.Optimizer
    frozen_until: int = 0

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def step(self, iteration: int, factor: float) -> None:
        """Move the tensors along their gradients.

        Args:
            iteration: of the run; before ``frozen_until`` the tensors and their moments stay unchanged.
            factor: of the learning rate, from the schedule.
        """
        if iteration < self.frozen_until:
            return
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.optimiser.step()

    def state(self) -> dict[str, Tensor]:
        """Tensors and optimiser state by name, for a checkpoint."""
        found: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            found[f"{self.name}.{name}.value"] = tensor
            for key, value in self.optimiser.state.get(tensor, {}).items():
                found[f"{self.name}.{name}.{key}"] = torch.as_tensor(value)
        return found

    def expected_state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Meta tensors with the dtypes and shapes that :meth:`state` has: those of the values, and of the moments.

        A tensor that has not moved yet has no moments.
        """
        values, moments = {}, {}
        for name, tensor in self.tensors.items():
            like = torch.empty_like(tensor, device="meta")
            values[f"{self.name}.{name}.value"] = like
            second = like[..., :1] if isinstance(self.optimiser, JointAdam) else like
            one = {"step": torch.empty((), device="meta"), "exp_avg": like, "exp_avg_sq": second}
            moments |= {f"{self.name}.{name}.{key}": value for key, value in one.items()}
        return values, moments

    @torch.no_grad()
    def load_state(self, stored: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` returned; ``stored`` has the names, dtypes and shapes of it."""
        for name, tensor in self.tensors.items():
            start = f"{self.name}.{name}."
            state = {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
            tensor.copy_(state.pop("value"))
            on_cpu = not self.optimiser.defaults.get("fused")  # a fused optimiser counts its steps on the device
            for key, value in state.items():
                device = torch.device("cpu") if key == "step" and on_cpu else tensor.device
                self.optimiser.state[tensor][key] = value.clone().to(device)


def families_of(
    attributes: Attributes,
    residual: ExpressionResidual | None,
    config: RefineConfig,
    bases: ExpressionBases | None = None,
) -> tuple[Family, ...]:
    """All families of a run, in the order of its checkpoints.

    Args:
        attributes: of the Gaussians.
        residual: the avatar's own copy with weights that take gradients; None where the avatar has none.
        config: learning rates, and the families that are switched off by a rate of 0.
        bases: changes by expression that are to be learned; None for none.
    """
    families = [_attribute_family(name, attributes, config) for name in ATTRIBUTE_FAMILIES]
    if residual is not None and config.rates.residual > 0.0:
        weights, rate = residual.weights(), config.rates.residual
        optimiser = torch.optim.Adam([{"params": [tensor]} for tensor in weights.values()], rate)
        families.append(Family("residual", weights, rate, optimiser))
    if bases is not None:
        for name, tensor in bases.tensors.items():
            rate = float(getattr(config.bases, name))
            group = {"params": [tensor], "lr": rate, "eps": config.rates.adam_epsilon}
            families.append(Family("bases", {name: tensor}, rate, torch.optim.Adam([group], fused=True)))
    return tuple(families)


def _attribute_family(name: str, attributes: Attributes, config: RefineConfig) -> Family:
    """The family of one attribute of the Gaussians; scales are frozen at first (method section 3)."""
    rates, tensor = config.rates, attributes.tensors[name]
    rate = float(getattr(rates, name))
    group = {"params": [tensor], "lr": rate, "eps": rates.adam_epsilon}
    joint = rates.joint_steps and name in VECTOR_FAMILIES
    optimiser = JointAdam([group]) if joint else torch.optim.Adam([group], fused=True)
    frozen_until = config.scaled_start(config.anti_spike.scale_freeze) if name == "scale" else 0
    return Family(name, {name: tensor}, rate, optimiser, frozen_until)
