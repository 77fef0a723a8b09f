"""The layout of INSTA and its followers: numbered pictures of one camera, with masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spatialavatar.evaluation.datasets.clips import Clip, Recording, guarded
from spatialavatar.evaluation.datasets.folders import listed_frames, numbered_pictures, same_stem, subfolders

INSTA_HELD_OUT: Final = 350
"""Last frames that INSTA, SplattingAvatar and their followers test on."""


def insta(folder: Path) -> list[Clip]:
    """``SUBJECT[/CLIP]/{image,images,ori_imgs}/N.png`` beside flame_params.json or transforms_train.json, and masks."""
    roots = [folder, *subfolders(folder), *(deep for child in subfolders(folder) for deep in subfolders(child))]
    listed = ("flame_params.json", "transforms_train.json")
    subjects = [root for root in roots if any((root / name).is_file() for name in listed)]
    return [clip for subject in subjects for clip in guarded(_subject, subject)]


def _subject(root: Path) -> list[Clip]:
    folder = next((root / name for name in ("images", "image", "ori_imgs") if (root / name).is_dir()), None)
    pictures, notes = numbered_pictures(folder) if folder else ((), ())
    if not pictures:
        return []
    masks = next((root / name for name in ("mask", "masks", "matting") if (root / name).is_dir()), None)
    mattes = [same_stem(masks, picture) for picture in pictures] if masks else []
    found = tuple(matte for matte in mattes if matte is not None)
    held_out = _first_test_frame(root / "transforms_test.json", pictures)
    if held_out is None and len(pictures) > 2 * INSTA_HELD_OUT:
        held_out = len(pictures) - INSTA_HELD_OUT
    recording = Recording(pictures, mattes=found if len(found) == len(pictures) else None)
    return [Clip(root.name, (recording,), held_out_from=held_out, notes=notes)]


def _first_test_frame(path: Path, pictures: Sequence[Path]) -> int | None:
    """The index of the first picture that a list of test frames names."""
    stems = {Path(frame["file_path"]).stem for frame in listed_frames(path)}
    return next((index for index, picture in enumerate(pictures) if picture.stem in stems), None)
