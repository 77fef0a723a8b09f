"""Size limits of photos and videos."""

from __future__ import annotations

from typing import Final

MIN_SIDE: Final = 64
"""Pictures with a shorter side than this are refused."""
MAX_SIDE: Final = 4096
"""Photos with a longer side than this are scaled down when read."""
MAX_PIXELS: Final = 100_000_000
"""The largest photo that is decoded at full size: 300 MB."""
MAX_JPEG_PIXELS: Final = 1_600_000_000
"""The largest JPEG: it is decoded at an eighth of its size."""
