"""Motion files: the suffix gives the format; a folder holds FLAME parameters, one file a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.motion.arkit_json import format_json, format_lam, read_json
from spatialavatar.motion.capture_csv import format_csv, read_csv
from spatialavatar.motion.flame_files import check_flame, flame_folder, needs_flame, read_flame, write_flame
from spatialavatar.motion.record import Motion
from spatialavatar.motion.schema import check_size
from spatialavatar.motion.text import read_text
from spatialavatar.records import Track

ARKIT_SUFFIXES: Final = (".json", ".csv")
"""Files of ARKit weights: they drive any head."""
FLAME_SUFFIXES: Final = (".npz", ".npy", ".pt")
"""Files of FLAME coefficients: they drive FLAME heads."""
MOTION_SUFFIXES: Final = ARKIT_SUFFIXES + FLAME_SUFFIXES

_LAM_NAME: Final = "bsdata.json"  # the name under which LAM's speech network writes, and its renderer looks


def is_motion_file(path: str | Path) -> bool:
    """Whether ``path`` has the suffix of a motion file, or is a folder of FLAME frames."""
    path = Path(path)
    return path.suffix.lower() in MOTION_SUFFIXES or flame_folder(path) is not None


def check_motion_format(path: str | Path, head_id: str, is_flame: bool) -> None:
    """Refuse a motion file whose format cannot drive a head, by its name and before it is opened.

    Args:
        path: a motion file; other files pass.
        head_id: the id of the head model.
        is_flame: whether it is a FLAME head.

    Raises:
        FormatError: the file holds FLAME parameters, and the head is not a FLAME head.
    """
    path = Path(path)
    if not is_flame and _is_flame(path):
        raise FormatError(needs_flame(path.name, head_id))


def read_motion(path: str | Path, head: HeadModel, fps: float | None = None) -> Track:
    """Read a motion file as a track of ``head`` without pictures.

    Args:
        path: ARKit weights (.json, .csv) or FLAME parameters (.npz, .npy, .pt, or a folder of .npz).
        head: the head model of the track.
        fps: frames per second; every row of the file is then one frame, whatever rate or times the file states.

    Raises:
        InputError: the file is missing, unreadable or too large, or a value is not plausible.
        FormatError: it is not a motion in one of the formats, or holds FLAME parameters and ``head`` is not a FLAME
            head.
    """
    path = Path(path)
    if _is_flame(path):
        if path.exists():
            check_motion_format(path, head.id, head.is_flame)
        return read_flame(path, fps).to_track(head, path.name)
    return load_motion(path, fps).to_track(head)


def load_motion(path: str | Path, fps: float | None = None) -> Motion:
    """Read a file of ARKit weights (.json or .csv), which are independent of the head model.

    Args:
        path: the file.
        fps: frames per second; every row of the file is then one frame, whatever rate or times the file states.

    Raises:
        InputError: the file is missing, unreadable or too large, holds FLAME parameters, or a value is not plausible.
        FormatError: it is JSON or CSV, but not a motion.
    """
    path = Path(path)
    if _is_flame(path):
        raise InputError(f"{path.name} holds FLAME parameters, which belong to a FLAME head: use read_motion with it.")
    if path.suffix.lower() not in ARKIT_SUFFIXES:
        raise InputError(
            f"{path.name} is not a motion file: give {', '.join(MOTION_SUFFIXES[:-1])} or {MOTION_SUFFIXES[-1]}."
        )
    read = read_csv if path.suffix.lower() == ".csv" else read_json
    return read(read_text(path), path.name, path.stem, fps)


def write_motion(motion: Motion | Track, path: str | Path, head: HeadModel | None = None) -> None:
    """Write a motion in the format of the file's suffix.

    ``.json`` is our format, ``bsData.json`` LAM's, ``.csv`` that of capture apps. ``.npz`` (VHAP), ``.npy`` (ARTalk)
    and a name without a suffix (a folder with one ``.npz`` a frame) hold FLAME parameters.

    Args:
        motion: the motion.
        path: the file.
        head: the head model of the track; needed for FLAME parameters.

    Raises:
        InputError: the suffix is not supported, the track holds no motion, or the motion is too long for a file.
        FormatError: the format holds FLAME parameters and the track is not of a FLAME head.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_size(len(motion), 0, "The motion")
    if suffix in (".npz", ".npy", ""):
        if not isinstance(motion, Track):
            raise FormatError(f"A motion of ARKit weights has no FLAME parameters for {path.name}; use .json or .csv.")
        check_flame(motion.head_id, head is not None and head.is_flame and head.id == motion.head_id, path)
        write_flame(motion, path)
        return
    if suffix not in ARKIT_SUFFIXES:
        raise InputError(f"{path.name} names no motion format: use .json, .csv, .npz or .npy.")
    motion = Motion.from_track(motion) if isinstance(motion, Track) else motion
    if path.name.lower() == _LAM_NAME:
        text = format_lam(motion)
    else:
        text = format_csv(motion) if suffix == ".csv" else format_json(motion)
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _is_flame(path: Path) -> bool:
    return path.suffix.lower() in FLAME_SUFFIXES or path.is_dir()
