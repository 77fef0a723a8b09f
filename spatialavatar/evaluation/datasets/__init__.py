"""Readers of the folder layouts in which test clips are published; docs/reference/evaluation.md describes each.

A reader opens names and small JSON files only. Faults of a clip (a gap in its numbering, a listed picture that is
missing) are noted with the clip, which is evaluated without the missing part. A clip that cannot be read at all has no
recordings, and a note with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets.clips import MAX_PHOTOS, Calibration, Clip, Recording, recording_of
from spatialavatar.evaluation.datasets.folders import natural_key, subfolders
from spatialavatar.evaluation.datasets.gaussian_avatars import gaussian_avatars
from spatialavatar.evaluation.datasets.insta import insta
from spatialavatar.evaluation.datasets.nersemble import nersemble_benchmark
from spatialavatar.evaluation.datasets.plain import photos, picture_folders, videos

__all__ = ["LAYOUTS", "MAX_PHOTOS", "Calibration", "Clip", "Recording", "read_clips", "recording_of"]

LAYOUTS: Final[dict[str, Callable[[Path], list[Clip]]]] = {
    "nersemble": nersemble_benchmark,
    "gaussian-avatars": gaussian_avatars,
    "insta": insta,
    "pictures": picture_folders,
    "videos": videos,
    "photos": photos,
}
"""Readers by name, in the order in which they are tried."""


def read_clips(folder: str | Path, layout: str | None = None) -> list[Clip]:
    """The clips in a folder, ordered by name.

    Args:
        folder: the data set, or the part of it that is to be measured.
        layout: a name in :data:`LAYOUTS`; None: the first that fits.

    Raises:
        InputError: there is no such folder or layout, or nothing in it is laid out in a known way.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give the folder of a data set.")
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"There is no layout {layout!r}; give one of {', '.join(LAYOUTS)}.")
    for name in [layout] if layout else LAYOUTS:
        clips = LAYOUTS[name](folder)
        if clips:
            return sorted(
                _named_apart([*clips, *_unrecognised_folders(folder, clips)]), key=lambda clip: natural_key(clip.name)
            )
    known = layout or ", ".join(LAYOUTS)
    raise InputError(f"The folder {folder} has no known layout ({known}); docs/reference/evaluation.md shows them all.")


def _named_apart(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, those of one name numbered."""
    seen: dict[str, int] = defaultdict(int)
    result = []
    for clip in clips:
        seen[clip.name] += 1
        count = seen[clip.name]
        result.append(clip if count == 1 else replace(clip, name=f"{clip.name}_{count}"))
    return result


def _unrecognised_folders(folder: Path, clips: Sequence[Clip]) -> list[Clip]:
    """Sibling folders of the clips that no reader recognised."""
    if any((folder / name).is_file() for name in ("transforms_train.json", "flame_params.json")):
        return []  # the folder is a clip itself
    used = {file.relative_to(folder).parts[0] for clip in clips for file in clip.files if file.is_relative_to(folder)}
    used |= {clip.name for clip in clips}
    return [
        Clip(child.name, (), notes=(f"The folder {child.name} is laid out in no known way.",))
        for child in subfolders(folder)
        if child.name not in used and any(child.iterdir())
    ]
