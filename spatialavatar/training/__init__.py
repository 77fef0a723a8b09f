"""Stage 1's training: shards of tracked people, what a step draws and its losses, the run (docs/guide/train.md)."""

from spatialavatar.training.losses import LossWeights, training_terms, weighted_sum
from spatialavatar.training.optimisation import Anchor, Phase, parameter_groups
from spatialavatar.training.sampling import SourceSampler, draw_views, temperature

__all__ = [
    "Anchor",
    "LossWeights",
    "Phase",
    "SourceSampler",
    "draw_views",
    "parameter_groups",
    "temperature",
    "training_terms",
    "weighted_sum",
]
