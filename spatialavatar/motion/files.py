"""Which file is read and written how: by its suffix; a folder is one of FLAME frames."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.motion.arkit_files import format_csv, format_json, format_lam, parse_csv, parse_json
from spatialavatar.motion.flame_files import check_flame, flame_folder, read_flame, write_flame
from spatialavatar.motion.record import Motion
from spatialavatar.records import Track

ARKIT_SUFFIXES: Final = (".json", ".csv")
"""Files of ARKit weights: they drive any head."""
FLAME_SUFFIXES: Final = (".npz", ".npy", ".pt")
"""Files of FLAME coefficients: they drive FLAME heads."""
MOTION_SUFFIXES: Final = ARKIT_SUFFIXES + FLAME_SUFFIXES

_LAM_NAME: Final = "bsdata.json"  # the name under which LAM's speech network writes, and its renderer looks


def is_motion_file(path: str | Path) -> bool:
    """Whether the name says that it is a motion file, or it is a folder of FLAME frames, rather than a video."""
    path = Path(path)
    return path.suffix.lower() in MOTION_SUFFIXES or flame_folder(path) is not None


def read_motion(path: str | Path, head: HeadModel, fps: float | None = None) -> Track:
    """Read a motion file as a track of ``head`` without images.

    Args:
        path: ARKit weights (.json, .csv) or FLAME parameters (.npz, .npy, .pt, or a folder of .npz).
        head: whose parameters to make of it.
        fps: frames per second of FLAME parameters, whose files do not say it; by default 25.

    Raises:
        InputError: the file is missing, unreadable or holds impossible values.
        FormatError: it is no motion in one of the formats, or holds FLAME parameters and ``head`` is no FLAME head.
    """
    path = Path(path)
    if _is_flame(path):
        return read_flame(path, fps).to_track(head, path.name)
    return load_motion(path).to_track(head)


def load_motion(path: str | Path) -> Motion:
    """Read a file of ARKit weights (.json or .csv), which belong to no head.

    Raises:
        InputError: the file is missing, unreadable, holds impossible values, or FLAME parameters.
        FormatError: it is JSON or CSV, but not a motion.
    """
    path = Path(path)
    if _is_flame(path):
        raise InputError(f"{path.name} holds FLAME parameters, which belong to a FLAME head: use read_motion with it.")
    if path.suffix.lower() not in ARKIT_SUFFIXES:
        raise InputError(f"{path.name} is no motion file: give {_listed(MOTION_SUFFIXES)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no motion file at {path}.") from None
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path.name} cannot be read as text; give a .json or .csv motion file.") from None
    return parse_csv(text, path) if path.suffix.lower() == ".csv" else parse_json(text, path)


def write_motion(motion: Motion | Track, path: str | Path, head: HeadModel | None = None) -> None:
    """Write a motion; the name says how.

    ``.json`` is ours, ``bsData.json`` LAM's, ``.csv`` that of capture apps. ``.npz`` (VHAP), ``.npy`` (ARTalk) and
    a name without a suffix (a folder with one ``.npz`` a frame) hold FLAME parameters.

    Args:
        motion: what to write.
        path: where.
        head: the head of the track; only needed for FLAME parameters.

    Raises:
        InputError: the name says no format, or the track holds no motion.
        FormatError: FLAME parameters are asked for and the track is not of a FLAME head.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
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


def _listed(suffixes: tuple[str, ...]) -> str:
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
