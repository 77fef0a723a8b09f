"""Stage 2: a tracked video turns an approximate head into the person (method section 3)."""

from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.loop import RefineStep, refine
from spatialavatar.refinement.report import RefineReport, write_report

__all__ = ["RefineConfig", "RefineReport", "RefineStep", "refine", "write_report"]
