"""Live motion over UDP: VMC (OSC), Live Link Face and iFacialMocap, as drivers and as targets of our tracker."""

from __future__ import annotations

from spatialavatar.streams.addresses import SCHEMES, StreamAddress, is_stream
from spatialavatar.streams.frames import MotionFrame, file_frames
from spatialavatar.streams.receiver import MotionReceiver, StreamCounts
from spatialavatar.streams.sender import MotionSender

__all__ = [
    "SCHEMES",
    "MotionFrame",
    "MotionReceiver",
    "MotionSender",
    "StreamAddress",
    "StreamCounts",
    "file_frames",
    "is_stream",
]
