"""Stage 2: refines an avatar on a tracked video of the person (method section 3)."""

from spatialavatar.refinement.config import (
    AntiSpikeConfig,
    BasesConfig,
    ColorConfig,
    LossConfig,
    RateConfig,
    RefineConfig,
    TurnedViewsConfig,
)
from spatialavatar.refinement.loop import RefineStep, refine
from spatialavatar.refinement.photometric import (
    Alignment,
    PhotometricConfig,
    WarmUp,
    align,
    aligned_heads,
    aligned_heads_path,
    photometric_pass,
)
from spatialavatar.refinement.report import RefineReport, write_report

__all__ = [
    "Alignment",
    "AntiSpikeConfig",
    "BasesConfig",
    "ColorConfig",
    "LossConfig",
    "PhotometricConfig",
    "RateConfig",
    "RefineConfig",
    "RefineReport",
    "RefineStep",
    "TurnedViewsConfig",
    "WarmUp",
    "align",
    "aligned_heads",
    "aligned_heads_path",
    "photometric_pass",
    "refine",
    "write_report",
]
