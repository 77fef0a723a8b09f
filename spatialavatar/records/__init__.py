"""The records that the parts of the package exchange.

Frames of reference, used everywhere:

* *head space*: metres, right-handed, y up, the face looks along +z, +x is the subject's left.
* *world*: the space of posed heads, metres; right-handed like head space.
* *camera*: OpenCV axes, x right, y down, z forward. Pixel (column i, row j) covers [i, i+1) x [j, j+1), so its centre
  is at (i + 0.5, j + 0.5).

Angles are axis-angle vectors in radians. Colours are sRGB-encoded in [0, 1]; no record contains premultiplied colour.
"""

from __future__ import annotations

from spatialavatar.records.base import FrameIndex, Record
from spatialavatar.records.images import as_float_image, as_uint8_image
from spatialavatar.records.parts import Bust, Camera, Gaussians, HeadParams
from spatialavatar.records.track import (
    BODY_SKIN,
    CLOTHES,
    FRAME_STATES,
    HAIR,
    SEGMENT_CLASSES,
    Evidence,
    FrameQuality,
    HeadMotion,
    Neutral,
    Pictures,
    Surroundings,
    Track,
)

__all__ = [
    "BODY_SKIN",
    "CLOTHES",
    "FRAME_STATES",
    "HAIR",
    "SEGMENT_CLASSES",
    "Bust",
    "Camera",
    "Evidence",
    "FrameIndex",
    "FrameQuality",
    "Gaussians",
    "HeadMotion",
    "HeadParams",
    "Neutral",
    "Pictures",
    "Record",
    "Surroundings",
    "Track",
    "as_float_image",
    "as_uint8_image",
]
