"""Stage 2: a tracked video turns an approximate head into the person (method section 3)."""

from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.loop import RefineStep, refine
from spatialavatar.refinement.photometric import (
    Alignment,
    PhotometricConfig,
    align,
    aligned_heads,
    heads_beside,
    photometric_pass,
)
from spatialavatar.refinement.report import RefineReport, write_report

__all__ = [
    "Alignment",
    "PhotometricConfig",
    "RefineConfig",
    "RefineReport",
    "RefineStep",
    "align",
    "aligned_heads",
    "heads_beside",
    "photometric_pass",
    "refine",
    "write_report",
]
