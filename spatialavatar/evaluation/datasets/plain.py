"""Layouts without lists: folders of pictures, videos, and photos."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from spatialavatar.evaluation.datasets.clips import MAX_PHOTOS, Clip, Recording
from spatialavatar.evaluation.datasets.folders import (
    PICTURES,
    VIDEOS,
    has_suffix,
    natural_key,
    numbered_pictures,
    subfolders,
)


def picture_folders(folder: Path) -> list[Clip]:
    """``[GT/Interval1_512x512_LANCZOS4/]CLIP/NNNNNNNN.png`` (VFHQ's test set), or a folder of photos a person."""
    clips = []
    for root in (folder, folder / "GT" / "Interval1_512x512_LANCZOS4", folder / "Interval1_512x512_LANCZOS4"):
        for child in subfolders(root):
            pictures, notes = numbered_pictures(child)
            if pictures:
                clips.append(Clip(child.name, (Recording(pictures),), notes=notes))
    return clips


def videos(folder: Path) -> list[Clip]:
    """Videos, in the folder or one below (HDTF's test clips, recordings of one's own)."""
    paths = [path for root in (folder, *subfolders(folder)) for path in root.iterdir() if has_suffix(path, VIDEOS)]
    stems = [path.stem for path in paths]
    return [
        Clip(path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}_{path.stem}", (Recording(path),))
        for path in paths
    ]


def photos(folder: Path) -> list[Clip]:
    """Photos whose names share all but what follows the last underscore: PERSON_WHAT.jpg."""
    people: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if has_suffix(path, PICTURES) and "_" in path.stem:
            people[path.stem.rpartition("_")[0]].append(path)
    return [
        Clip(name, (Recording(tuple(photos)),)) for name, photos in people.items() if 2 <= len(photos) <= MAX_PHOTOS
    ]
