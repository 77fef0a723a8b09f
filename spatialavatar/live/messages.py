"""Messages of motion to web pages: 60 little-endian float32 numbers a frame (docs/reference/streams.md).

The page's side is ``readMessage`` in spatialavatar/export/web/motion.js.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from spatialavatar.streams import MotionFrame

VERSION: Final = 1


def encode_message(frame: MotionFrame) -> bytes:
    """Version, whether there is a face, rotation (3), translation (3), weights (52)."""
    values = [[VERSION, float(frame.seen)], frame.rotation, frame.translation, frame.weights]
    return np.concatenate(values).astype("<f4").tobytes()
