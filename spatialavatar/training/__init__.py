"""Stage 1's training: losses, what is sampled, how the optimiser is set. The readers of data are not written yet."""

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
