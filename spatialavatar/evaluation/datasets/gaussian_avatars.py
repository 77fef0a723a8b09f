"""The layout of GaussianAvatars: pictures of a calibrated rig, listed in ``transforms_*.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.evaluation.datasets.clips import Calibration, Clip, Recording, guarded
from spatialavatar.evaluation.datasets.folders import listed_frames, subfolders


def gaussian_avatars(folder: Path) -> list[Clip]:
    """``SUBJECT/transforms_{train,val,test}.json``, each frame with timestep_index and camera_index."""
    subjects = [path for path in (folder, *subfolders(folder)) if (path / "transforms_train.json").is_file()]
    return [clip for subject in subjects for clip in guarded(_subject, subject)]


def _subject(subject: Path) -> list[Clip]:
    parts = {part: listed_frames(subject / f"transforms_{part}.json") for part in ("train", "val", "test")}
    if not parts["train"] or "camera_index" not in parts["train"][0]:
        return []
    indices = ("camera_index", "timestep_index")
    if not all(type(frame.get(name)) is int for frames in parts.values() for frame in frames for name in indices):
        raise FormatError(f"The lists of frames in {subject} lack camera or time indices; download them again.")
    notes: list[str] = []
    by_camera: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for frame in [frame for frames in parts.values() for frame in frames]:
        if (subject / frame["file_path"]).is_file():
            by_camera[frame["camera_index"]][frame["timestep_index"]] = frame
        else:
            notes.append(f"The picture {frame['file_path']} is listed but is not there.")
    if not by_camera:
        return [Clip(subject.name, (), notes=("None of the listed pictures is there.",))]
    trained = {frame["camera_index"] for frame in parts["train"]}
    last_trained = max(frame["timestep_index"] for frame in parts["train"])
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
        fx, fy, cx, cy = (float(first[name]) for name in ("fl_x", "fl_y", "cx", "cy"))
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
    """The camera whose direction is nearest to the mean of all: rigs surround the face."""
    looks = [r.calibration.world_to_camera[2, :3] for r in recordings if r.calibration is not None]
    if len(looks) < len(recordings):
        return recordings[0].name
    mean = np.mean(looks, axis=0)
    return recordings[int(np.argmax([look @ mean for look in looks]))].name
