"""Closed contours among the 478 landmarks (the numbering of MediaPipe's face mesh)."""

from __future__ import annotations

from typing import Final

RIGHT_EYE: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
"""Rim of the subject's right eye opening."""

LEFT_EYE: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""Rim of the subject's left eye opening."""

INNER_LIPS: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
"""Rim of the mouth opening."""
