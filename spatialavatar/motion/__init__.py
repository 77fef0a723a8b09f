"""Motion of a face and a head, independent of the person; docs/reference/motion.md describes its files."""

from spatialavatar.motion.arkit_json import MOTION_FORMAT, MOTION_VERSION
from spatialavatar.motion.files import (
    ARKIT_SUFFIXES,
    FLAME_SUFFIXES,
    MOTION_SUFFIXES,
    check_motion_format,
    is_motion_file,
    load_motion,
    read_motion,
    write_motion,
)
from spatialavatar.motion.flame_files import FlameMotion, check_flame
from spatialavatar.motion.record import Motion
from spatialavatar.motion.schema import check_size

__all__ = [
    "ARKIT_SUFFIXES",
    "FLAME_SUFFIXES",
    "MOTION_FORMAT",
    "MOTION_SUFFIXES",
    "MOTION_VERSION",
    "FlameMotion",
    "Motion",
    "check_flame",
    "check_motion_format",
    "check_size",
    "is_motion_file",
    "load_motion",
    "read_motion",
    "write_motion",
]
