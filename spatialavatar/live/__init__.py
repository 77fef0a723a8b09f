"""Live driving: an avatar that follows a stream of motion, and the outputs of its pictures."""

from __future__ import annotations

from spatialavatar.live.drive import StreamReport, drive_stream
from spatialavatar.live.follower import CameraMotion
from spatialavatar.live.outputs import VirtualCamera
from spatialavatar.live.poses import StreamPoses

__all__ = ["CameraMotion", "StreamPoses", "StreamReport", "VirtualCamera", "drive_stream"]
