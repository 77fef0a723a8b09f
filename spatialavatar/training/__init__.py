"""Training of stage 1: shards of tracked people, sampling, losses and the training run (docs/guide/train.md)."""

from spatialavatar.training.losses import LossInputs, LossWeights, training_terms, weighted_sum
from spatialavatar.training.optimisation import Anchor, Phase, parameter_groups
from spatialavatar.training.sampling import SourceSampler, draw_views, temperature

__all__ = [
    "Anchor",
    "LossInputs",
    "LossWeights",
    "Phase",
    "SourceSampler",
    "draw_views",
    "parameter_groups",
    "temperature",
    "training_terms",
    "weighted_sum",
]
