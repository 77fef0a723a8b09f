"""Size and time limits of photos and videos.

A file's header is checked against them before memory of that size is allocated.
"""

from __future__ import annotations

from typing import Final

MIN_SIDE: Final = 64
"""Pictures with a shorter side than this are refused."""
MAX_SIDE: Final = 4096
"""Photos with a longer side than this are scaled down when read."""
MAX_PIXELS: Final = 100_000_000
"""Pixels of a decoded photo: at full size, or for a JPEG at the fraction that is needed."""
MAX_COPIED_PIXELS: Final = 40_000_000
"""Pixels of a WebP, AVIF or JPEG 2000 picture, whose decoders take several copies of it."""
MAX_JPEG_PIXELS: Final = 1_600_000_000
"""Pixels of a baseline JPEG at its full size, which is decoded at an eighth of it."""
MAX_VIDEO_PIXELS: Final = 7680 * 4320
"""Pixels of a video frame: 8K UHD."""
PROBE_SECONDS: Final = 20.0
"""Time in which a video's header, its packets or its first frame are read."""
FRAME_SECONDS: Final = 60.0
"""Time in which the next frame of a video is decoded or encoded."""
