"""Motion: how a face moves, not whose face it is; its files are described in docs/motion.md."""

from spatialavatar.motion.arkit_files import MOTION_FORMAT, MOTION_VERSION
from spatialavatar.motion.files import (
    ARKIT_SUFFIXES,
    FLAME_SUFFIXES,
    MOTION_SUFFIXES,
    is_motion_file,
    load_motion,
    read_motion,
    write_motion,
)
from spatialavatar.motion.flame_files import FlameMotion, check_flame
from spatialavatar.motion.record import Motion

__all__ = [
    "ARKIT_SUFFIXES",
    "FLAME_SUFFIXES",
    "MOTION_FORMAT",
    "MOTION_SUFFIXES",
    "MOTION_VERSION",
    "FlameMotion",
    "Motion",
    "check_flame",
    "is_motion_file",
    "load_motion",
    "read_motion",
    "write_motion",
]
