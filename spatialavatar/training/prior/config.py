"""A training run of the prior as a TOML file; ``configs/prior.toml`` is the recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from spatialavatar.errors import InputError
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.training.config import changed, read_toml, require_keys, step_facts
from spatialavatar.training.prior.losses import PriorLossWeights

_STEP_INVARIANT: Final = ("out", "log_every", "save_every", "eval_every")


@dataclass(frozen=True)
class PriorTrainingConfig:
    """One run. Paths are relative to the working directory.

    Attributes:
        out: folder of the run: checkpoint, log and weights.
        samples: folder of samples, of ``spatialavatar prior-samples``.
        start: weights file of an earlier run; "" starts from random weights.
        iterations: optimiser steps.
        batch: samples per step.
        rate: learning rate, cosine to 0 after ``warm_up`` steps.
        warm_up: steps.
        decay: weight decay of AdamW.
        clip: greatest norm of the gradient.
        ema: decay of the averaged weights, which are evaluated and saved.
        photos: share of samples that are photos of real people.
        without_outline: share of samples whose measured outline is left out.
        precision: "fp32", or "bf16" for processors and GPUs that compute in it.
        seed: of all random draws.
        held_out: every such synthetic head is evaluated and not trained on.
        log_every: steps between log lines.
        save_every: steps between checkpoints.
        eval_every: steps between evaluations; 0 is only at the end.
        network: sizes.
        weights: of the losses.
    """

    out: str
    samples: str
    start: str = ""
    iterations: int = 4000
    batch: int = 6
    rate: float = 1e-3
    warm_up: int = 50
    decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.995
    photos: float = 0.25
    without_outline: float = 0.15
    precision: str = "fp32"
    seed: int = 0
    held_out: int = 10
    log_every: int = 50
    save_every: int = 100
    eval_every: int = 500
    network: PriorConfig = field(default_factory=PriorConfig)
    weights: PriorLossWeights = field(default_factory=PriorLossWeights)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: one is out of range.
        """
        for name, least in (("iterations", 1), ("batch", 1), ("held_out", 2), ("log_every", 1), ("save_every", 1)):
            if not least <= getattr(self, name) < 1 << 40:
                raise InputError(f"The {name} of a prior's training is {getattr(self, name)}; give at least {least}.")
        for name in ("photos", "without_outline", "ema"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"The {name} of a prior's training is {getattr(self, name)}; give 0 to less than 1.")
        if not 0.0 < self.rate < 1.0 or min(self.warm_up, self.eval_every, self.seed) < 0:
            raise InputError("The rate of a prior's training must lie between 0 and 1; counts must not be negative.")
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"The precision of a prior's training is {self.precision!r}; give fp32 or bf16.")

    def facts(self) -> str:
        """The values that determine every step, as JSON."""
        return step_facts(self, _STEP_INVARIANT)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(self.warm_up, 1))
        return self.rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / self.iterations))


def read_prior_config(path: str | Path) -> PriorTrainingConfig:
    """Read a configuration.

    Raises:
        InputError: the file does not exist, or a value is out of range.
        FormatError: the file is not TOML, or has an unknown key or a value of the wrong type.
    """
    values = read_toml(path)
    require_keys(values, ("out", "samples"), path)
    return changed(PriorTrainingConfig(out="run", samples="samples"), values, str(path))
