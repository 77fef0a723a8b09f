"""The NeRSemble benchmark: calibrated videos of 16 cameras a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.evaluation.datasets.clips import Calibration, Clip, Recording, guarded
from spatialavatar.evaluation.datasets.folders import read_json, subfolders

# Constants of the benchmark's toolkit.
_HELD_OUT: Final = {
    "nvs": ("222200046", "222200037", "222200039"),
    "mono_flame_avatar": ("222200046", "220700191", "222200039"),
}
_FRONT: Final = "222200037"


def nersemble_benchmark(folder: Path) -> list[Clip]:
    """``[TASK/]PERSON/calibration/camera_params.json`` and ``PERSON/sequences/SEQUENCE/images/cam_SERIAL.mp4``."""
    people = sorted(path.parents[1] for path in folder.glob("**/calibration/camera_params.json"))
    return [clip for person in people for clip in guarded(_person, person)]


def _person(person: Path) -> list[Clip]:
    held_out = _HELD_OUT.get(person.parent.name, _HELD_OUT["nvs"])
    path = person / "calibration" / "camera_params.json"
    cameras = read_json(path)
    clips = []
    for sequence in subfolders(person / "sequences"):
        recordings = []
        for video in sorted((sequence / "images").glob("cam_*.mp4")):
            serial = video.stem.removeprefix("cam_")
            mattes = sequence / "alpha_maps" / video.name
            recordings.append(
                Recording(
                    frames=video,
                    name=serial,
                    mattes=mattes if mattes.is_file() else None,
                    calibration=_camera(cameras, serial, path),
                )
            )
        recordings.sort(key=lambda recording: recording.name != _FRONT)
        if recordings:
            clips.append(Clip(f"{person.name}_{sequence.name}", tuple(recordings), held_out_cameras=held_out))
    return clips


def _camera(cameras: Any, serial: str, path: Path) -> Calibration:
    try:
        intrinsics = cameras["intrinsics"]
        if isinstance(intrinsics, dict):  # one of all cameras in the benchmark's first release, one each since
            intrinsics = intrinsics[serial]
        pose = np.array(cameras["world_2_cam"][serial], dtype=np.float64)
        return Calibration(np.array(intrinsics, dtype=np.float64).reshape(3, 3), pose)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} holds no camera {serial}; download the calibration again.") from error
