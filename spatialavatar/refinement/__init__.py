"""Stage 2: a tracked video turns an approximate head into the person (method section 3)."""

from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.loop import RefineStep, refine

__all__ = ["RefineConfig", "RefineStep", "refine"]
