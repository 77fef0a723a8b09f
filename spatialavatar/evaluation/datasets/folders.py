"""File names of data-set folders, and the small JSON files next to pictures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Final

from spatialavatar.errors import FormatError
from spatialavatar.strict_json import parse_json

VIDEOS: Final = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp")
_MAX_BYTES: Final = 256 << 20  # of a JSON file; GaussianAvatars lists 16 cameras by thousands of frames in 30 MB
_MAX_NAME_BYTES: Final = 240  # of a file; file systems end at 255, and suffixes are exchanged


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a path is a visible file with one of the suffixes."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name; none where it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sorting key by which frame 10 follows frame 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def numbered_pictures(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The pictures of a folder in order, and a sentence if their numbers have gaps."""
    pictures = sorted((p for p in folder.iterdir() if has_suffix(p, PICTURES)), key=lambda path: natural_key(path.name))
    numbers = [int(path.stem) for path in pictures if path.stem.isdecimal()]
    if len(numbers) < 3 or len(numbers) < len(pictures):
        return tuple(pictures), ()
    steps = [after - before for before, after in pairwise(numbers)]
    counts = Counter(steps)
    usual = max(sorted(counts), key=counts.__getitem__)
    gaps = [number + usual for number, step in zip(numbers, steps) if step > usual]
    if not gaps:
        return tuple(pictures), ()
    shown = ", ".join(str(gap) for gap in gaps[:5]) + (", ..." if len(gaps) > 5 else "")
    missing = sum(step // usual - 1 for step in steps if step > usual) if usual else len(gaps)
    return tuple(pictures), (f"Of the frames in {folder.name} {missing} are missing (from {shown}).",)


def same_stem(folder: Path, picture: Path) -> Path | None:
    """The picture in ``folder`` with the same stem as ``picture``, of any format."""
    return next((p for suffix in PICTURES if (p := folder / (picture.stem + suffix)).is_file()), None)


def listed_frames(path: Path) -> list[dict[str, Any]]:
    """The frames of a ``transforms_*.json``; none if the file does not exist.

    Raises:
        FormatError: it is not JSON, or lists no frames with a ``file_path`` each.
    """
    if not path.is_file():
        return []
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    names = ("file_path", "fg_mask_path")
    if not isinstance(frames, list) or not all(
        isinstance(frame, dict) and "file_path" in frame and all(_is_name(frame.get(name, "-")) for name in names)
        for frame in frames
    ):
        raise FormatError(f"{path} lists no frames; download it again.")
    return frames


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FormatError: it cannot be read, is too large, or is not JSON that :func:`parse_json` accepts.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        return parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise FormatError(f"{path} is not a readable JSON file; download it again.") from error


def _is_name(value: Any) -> bool:
    """Whether a value can be the name of a file."""
    if not isinstance(value, str) or not 0 < len(value) < 1024 or "\0" in value:
        return False
    try:
        return all(len(part.encode()) <= _MAX_NAME_BYTES for part in PurePosixPath(value).parts)
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
