"""The head model, its UV layout, and the binding of Gaussians to its triangles."""

from spatialavatar.head.binding import TriangleFrames, to_local, to_world, triangle_frames
from spatialavatar.head.carrying import carried
from spatialavatar.head.layout import UVLayout, build_layout
from spatialavatar.head.model import BEHIND_LIPS, HeadModel, Identity, load_head
from spatialavatar.head.torso import moved_with_torso, root_motion, turned_at_neck

__all__ = [
    "BEHIND_LIPS",
    "HeadModel",
    "Identity",
    "TriangleFrames",
    "UVLayout",
    "build_layout",
    "carried",
    "load_head",
    "moved_with_torso",
    "root_motion",
    "to_local",
    "to_world",
    "triangle_frames",
    "turned_at_neck",
]
