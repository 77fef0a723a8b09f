"""Readers of the folder layouts in which the field publishes its test clips; docs/evaluation.md describes each.

A reader looks only at names and at small JSON files. What is wrong with a clip (a gap in its numbering, a picture that
a list names and that is not there) is noted with the clip, which is measured without it; a clip of which nothing can be
read has no recordings, and a note that says why.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from spatialavatar.errors import FormatError, InputError
from spatialavatar.media import PictureSequence, VideoReader

_VIDEOS: Final = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp")
_MAX_SIDE: Final = 1920
INSTA_HELD_OUT: Final = 350
"""INSTA, SplattingAvatar and their followers test on so many last frames."""
MAX_PHOTOS: Final = 12
"""Of one person in a flat folder: more that share a beginning are taken for different people."""

# Constants of the NeRSemble benchmark's toolkit.
_NERSEMBLE_HELD_OUT: Final = {
    "nvs": ("222200046", "222200037", "222200039"),
    "mono_flame_avatar": ("222200046", "220700191", "222200039"),
}
_NERSEMBLE_FRONT: Final = "222200037"


@dataclass(frozen=True)
class Calibration:
    """A calibrated camera.

    Attributes:
        intrinsics: (3, 3) pixels of the whole picture, OpenCV's corner at 0.
        world_to_camera: (4, 4), OpenCV axes.
    """

    intrinsics: np.ndarray
    world_to_camera: np.ndarray


@dataclass(frozen=True)
class Recording:
    """What one camera took of one person.

    Attributes:
        frames: a video, or pictures in order.
        name: of the camera; "" where there is only one.
        fps: of pictures; a video knows its own.
        mattes: published mattes, a video or pictures, one per frame; None: our own are used.
        calibration: or None.
    """

    frames: Path | tuple[Path, ...]
    name: str = ""
    fps: float = 25.0
    mattes: Path | tuple[Path, ...] | None = None
    calibration: Calibration | None = None

    def open(self) -> VideoReader | PictureSequence:
        """Read the frames.

        Raises:
            InputError: nothing can be read.
        """
        return _open(self.frames, self.fps)

    def open_mattes(self) -> VideoReader | PictureSequence | None:
        """Read the published mattes, where there are any."""
        return None if self.mattes is None else _open(self.mattes, self.fps)


@dataclass(frozen=True)
class Clip:
    """One person, to be measured.

    Attributes:
        name: unique in its set; a file is called after it.
        recordings: of the person; the first is the one that protocols of one camera use. None where all is broken.
        held_out_from: first frame of the set's own test part, or None.
        held_out_cameras: names of the set's own test cameras.
        notes: sentences about what is wrong with it.
    """

    name: str
    recordings: tuple[Recording, ...]
    held_out_from: int | None = None
    held_out_cameras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """The name as that of a file."""
        return re.sub(r"[^\w.+-]", "_", self.name)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The pictures of the first recording; none where it is a video."""
        frames = self.recordings[0].frames if self.recordings else Path()
        return () if isinstance(frames, Path) else frames

    @property
    def files(self) -> list[Path]:
        """The first file of each recording."""
        return [r.frames if isinstance(r.frames, Path) else r.frames[0] for r in self.recordings]


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
            return sorted(_named_apart([*clips, *_strangers(folder, clips)]), key=lambda clip: _natural(clip.name))
    known = layout or ", ".join(LAYOUTS)
    raise InputError(f"The folder {folder} is laid out in no known way ({known}); docs/evaluation.md shows them all.")


def _named_apart(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, those of one name numbered."""
    seen: dict[str, int] = defaultdict(int)
    result = []
    for clip in clips:
        seen[clip.name] += 1
        count = seen[clip.name]
        result.append(clip if count == 1 else replace(clip, name=f"{clip.name}_{count}"))
    return result


def _strangers(folder: Path, clips: Sequence[Clip]) -> list[Clip]:
    """Folders beside those of the clips in which nothing was found."""
    if any((folder / name).is_file() for name in ("transforms_train.json", "flame_params.json")):
        return []  # the folder is a clip itself
    used = {file.relative_to(folder).parts[0] for clip in clips for file in clip.files if file.is_relative_to(folder)}
    used |= {clip.name for clip in clips}
    return [
        Clip(child.name, (), notes=(f"The folder {child.name} is laid out in no known way.",))
        for child in _folders(folder)
        if child.name not in used and any(child.iterdir())
    ]


def _guarded(read: Callable[[Path], list[Clip]], root: Path) -> list[Clip]:
    """The clips of one person's folder; where its files are damaged, a clip that says so."""
    try:
        return read(root)
    except FormatError as error:
        return [Clip(root.name, (), notes=(str(error),))]


def recording_of(path: str | Path, fps: float = 25.0) -> Recording:
    """One video, or one folder of pictures.

    Raises:
        InputError: it is neither.
    """
    path = Path(path)
    if path.is_dir():
        pictures, _ = _numbered(path)
        if not pictures:
            raise InputError(f"The folder {path} holds no pictures; give one that does, or a video.")
        return Recording(pictures, fps=fps)
    if not path.is_file():
        raise InputError(f"There is nothing at {path}; give a video or a folder of pictures.")
    return Recording(path, fps=fps)


# -- layouts ----------------------------------------------------------------------------------------------------------


def _nersemble_benchmark(folder: Path) -> list[Clip]:
    """``[TASK/]PERSON/calibration/camera_params.json`` and ``PERSON/sequences/SEQUENCE/images/cam_SERIAL.mp4``."""
    people = sorted(path.parents[1] for path in folder.glob("**/calibration/camera_params.json"))
    return [clip for person in people for clip in _guarded(_nersemble_person, person)]


def _nersemble_person(person: Path) -> list[Clip]:
    held_out = _NERSEMBLE_HELD_OUT.get(person.parent.name, _NERSEMBLE_HELD_OUT["nvs"])
    path = person / "calibration" / "camera_params.json"
    cameras = _read_json(path)
    clips = []
    for sequence in _folders(person / "sequences"):
        recordings = []
        for video in sorted((sequence / "images").glob("cam_*.mp4")):
            serial = video.stem.removeprefix("cam_")
            mattes = sequence / "alpha_maps" / video.name
            recordings.append(
                Recording(
                    frames=video,
                    name=serial,
                    mattes=mattes if mattes.is_file() else None,
                    calibration=_nersemble_camera(cameras, serial, path),
                )
            )
        recordings.sort(key=lambda recording: recording.name != _NERSEMBLE_FRONT)
        if recordings:
            clips.append(Clip(f"{person.name}_{sequence.name}", tuple(recordings), held_out_cameras=held_out))
    return clips


def _nersemble_camera(cameras: Any, serial: str, path: Path) -> Calibration:
    try:
        intrinsics = cameras["intrinsics"]
        if isinstance(intrinsics, dict):  # one of all cameras in the benchmark's first release, one each since
            intrinsics = intrinsics[serial]
        pose = np.array(cameras["world_2_cam"][serial], dtype=np.float64)
        if pose.shape != (4, 4):
            raise ValueError
        return Calibration(np.array(intrinsics, dtype=np.float64).reshape(3, 3), pose)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} holds no camera {serial}; download the calibration again.") from error


def _gaussian_avatars(folder: Path) -> list[Clip]:
    """``SUBJECT/transforms_{train,val,test}.json``, each frame with timestep_index and camera_index."""
    subjects = [path for path in (folder, *_folders(folder)) if (path / "transforms_train.json").is_file()]
    return [clip for subject in subjects for clip in _guarded(_gaussian_avatars_subject, subject)]


def _gaussian_avatars_subject(subject: Path) -> list[Clip]:
    parts = {part: _transforms(subject / f"transforms_{part}.json") for part in ("train", "val", "test")}
    if not parts["train"] or "camera_index" not in parts["train"][0]:
        return []
    notes: list[str] = []
    by_camera: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for frame in [frame for frames in parts.values() for frame in frames]:
        if (subject / frame["file_path"]).is_file():
            by_camera[int(frame["camera_index"])][int(frame["timestep_index"])] = frame
        else:
            notes.append(f"The picture {frame['file_path']} is listed but is not there.")
    if not by_camera:
        return [Clip(subject.name, (), notes=("None of the listed pictures is there.",))]
    trained = {int(frame["camera_index"]) for frame in parts["train"]}
    last_trained = max(int(frame["timestep_index"]) for frame in parts["train"])
    recordings = [_transforms_recording(subject, name, frames) for name, frames in sorted(by_camera.items())]
    front = _most_frontal(recordings)
    recordings.sort(key=lambda recording: recording.name != front)
    later = [index for index, step in enumerate(sorted(by_camera[int(front)])) if step > last_trained]
    return [
        Clip(
            name=subject.name,
            recordings=tuple(recordings),
            held_out_from=later[0] if later else None,
            held_out_cameras=tuple(str(camera) for camera in sorted(by_camera) if camera not in trained),
            notes=tuple(dict.fromkeys(notes)),
        )
    ]


def _transforms_recording(subject: Path, camera: int, frames: dict[int, dict[str, Any]]) -> Recording:
    ordered = [frames[step] for step in sorted(frames)]
    mattes = tuple(subject / frame["fg_mask_path"] for frame in ordered if "fg_mask_path" in frame)
    whole = len(mattes) == len(ordered) and all(matte.is_file() for matte in mattes)
    first = ordered[0]
    try:
        size = (first["fl_x"], first["fl_y"], first["cx"], first["cy"])
        fx, fy, cx, cy = map(float, size)
        camera_to_world = np.array(first["transform_matrix"], dtype=np.float64) @ np.diag([1.0, -1.0, -1.0, 1.0])
        calibration = Calibration(
            np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), np.linalg.inv(camera_to_world)
        )
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError):
        calibration = None
    return Recording(
        frames=tuple(subject / frame["file_path"] for frame in ordered),
        name=str(camera),
        mattes=mattes if whole else None,
        calibration=calibration,
    )


def _most_frontal(recordings: Sequence[Recording]) -> str:
    """The camera that looks most like the mean of all: rigs stand around the face."""
    looks = [r.calibration.world_to_camera[2, :3] for r in recordings if r.calibration is not None]
    if len(looks) < len(recordings):
        return recordings[0].name
    mean = np.mean(looks, axis=0)
    return recordings[int(np.argmax([look @ mean for look in looks]))].name


def _insta(folder: Path) -> list[Clip]:
    """``SUBJECT[/CLIP]/{image,images,ori_imgs}/N.png`` beside flame_params.json or transforms_train.json, and masks."""
    roots = [folder, *_folders(folder), *(deep for child in _folders(folder) for deep in _folders(child))]
    listed = ("flame_params.json", "transforms_train.json")
    subjects = [root for root in roots if any((root / name).is_file() for name in listed)]
    return [clip for subject in subjects for clip in _guarded(_insta_subject, subject)]


def _insta_subject(root: Path) -> list[Clip]:
    folder = next((root / name for name in ("images", "image", "ori_imgs") if (root / name).is_dir()), None)
    pictures, notes = _numbered(folder) if folder else ((), ())
    if not pictures:
        return []
    masks = next((root / name for name in ("mask", "masks", "matting") if (root / name).is_dir()), None)
    mattes = [_same_stem(masks, picture) for picture in pictures] if masks else []
    found = tuple(matte for matte in mattes if matte is not None)
    held_out = _first_test_frame(root / "transforms_test.json", pictures)
    if held_out is None and len(pictures) > 2 * INSTA_HELD_OUT:
        held_out = len(pictures) - INSTA_HELD_OUT
    recording = Recording(pictures, mattes=found if len(found) == len(pictures) else None)
    return [Clip(root.name, (recording,), held_out_from=held_out, notes=notes)]


def _first_test_frame(path: Path, pictures: Sequence[Path]) -> int | None:
    """The index of the first picture that a list of test frames names."""
    stems = {Path(frame["file_path"]).stem for frame in _transforms(path)}
    return next((index for index, picture in enumerate(pictures) if picture.stem in stems), None)


def _picture_folders(folder: Path) -> list[Clip]:
    """``[GT/Interval1_512x512_LANCZOS4/]CLIP/NNNNNNNN.png`` (VFHQ's test set), or a folder of photos a person."""
    clips = []
    for root in (folder, folder / "GT" / "Interval1_512x512_LANCZOS4", folder / "Interval1_512x512_LANCZOS4"):
        for child in _folders(root):
            pictures, notes = _numbered(child)
            if pictures:
                clips.append(Clip(child.name, (Recording(pictures),), notes=notes))
    return clips


def _videos(folder: Path) -> list[Clip]:
    """Videos, in the folder or one below (HDTF's test clips, recordings of one's own)."""
    paths = [path for root in (folder, *_folders(folder)) for path in root.iterdir() if _is(path, _VIDEOS)]
    stems = [path.stem for path in paths]
    return [
        Clip(path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}_{path.stem}", (Recording(path),))
        for path in paths
    ]


def _photos(folder: Path) -> list[Clip]:
    """Photos whose names share all but what follows the last underscore: PERSON_WHAT.jpg."""
    people: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir(), key=lambda path: _natural(path.name)):
        if _is(path, _PICTURES) and "_" in path.stem:
            people[path.stem.rpartition("_")[0]].append(path)
    return [
        Clip(name, (Recording(tuple(photos)),)) for name, photos in people.items() if 2 <= len(photos) <= MAX_PHOTOS
    ]


LAYOUTS: Final[dict[str, Callable[[Path], list[Clip]]]] = {
    "nersemble": _nersemble_benchmark,
    "gaussian-avatars": _gaussian_avatars,
    "insta": _insta,
    "pictures": _picture_folders,
    "videos": _videos,
    "photos": _photos,
}
"""By name, in the order in which they are tried."""


# -- helpers ----------------------------------------------------------------------------------------------------------


def _open(frames: Path | tuple[Path, ...], fps: float) -> VideoReader | PictureSequence:
    if isinstance(frames, Path):
        return VideoReader(frames, max_side=_MAX_SIDE)
    return PictureSequence(frames, fps, max_side=_MAX_SIDE)


def _is(path: Path, suffixes: Sequence[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which frame 10 follows frame 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _numbered(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The pictures of a folder in order, and a sentence where their numbers have gaps."""
    pictures = sorted((p for p in folder.iterdir() if _is(p, _PICTURES)), key=lambda path: _natural(path.name))
    numbers = [int(path.stem) for path in pictures if path.stem.isdigit()]
    if len(numbers) < 3 or len(numbers) < len(pictures):
        return tuple(pictures), ()
    steps = np.diff(numbers)
    usual = int(np.bincount(steps).argmax())
    gaps = [numbers[i] + usual for i in np.nonzero(steps > usual)[0]]
    if not gaps:
        return tuple(pictures), ()
    shown = ", ".join(str(gap) for gap in gaps[:5]) + (", ..." if len(gaps) > 5 else "")
    missing = int((steps[steps > usual] // usual - 1).sum())
    return tuple(pictures), (f"Of the frames in {folder.name} {missing} are missing (from {shown}).",)


def _same_stem(folder: Path, picture: Path) -> Path | None:
    """The picture in ``folder`` that is called like ``picture``, whatever its format."""
    return next((p for suffix in _PICTURES if (p := folder / (picture.stem + suffix)).is_file()), None)


def _transforms(path: Path) -> list[dict[str, Any]]:
    """The frames of a transforms file; none where there is no file."""
    if not path.is_file():
        return []
    content = _read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not all(isinstance(f, dict) and "file_path" in f for f in frames):
        raise FormatError(f"{path} lists no frames; download it again.")
    return frames


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise FormatError(f"{path} is not a readable JSON file; download it again.") from error
