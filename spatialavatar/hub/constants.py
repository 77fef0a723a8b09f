"""Names and identifiers that the modules of this package share; it imports nothing, which prevents circular imports."""

from __future__ import annotations

from typing import Final

LIBRARY: Final = "spatialavatar"
"""The library's name on the Hub."""
PAPER_ID: Final = "2606.15659"
"""arXiv id of the paper that this package implements: SpatialAvatar-0."""

DEFAULT_MODEL_ID: Final = "SpatialAvatar/SpatialAvatar-0"
DEFAULT_REVISION: Final = "v0.1.0"

MODEL_FORMAT: Final = "spatialavatar.generator"
"""Value of ``format`` in the configuration of a model."""

CARD_FILE: Final = "README.md"
CONFIG_FILE: Final = "config.json"
PREVIEW_FILE: Final = "preview.png"
