"""Contents of a data set: clips of one person, each with recordings of one camera."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from spatialavatar.errors import FormatError, InputError
from spatialavatar.evaluation.datasets.folders import numbered_pictures
from spatialavatar.media import PictureSequence, VideoReader

MAX_PHOTOS: Final = 12
"""Photos of one person in a flat folder: more that share a beginning are taken for different people."""

_MAX_SIDE: Final = 1920  # pixels; larger pictures are scaled down when they are read


@dataclass(frozen=True)
class Calibration:
    """A calibrated camera.

    Attributes:
        intrinsics: (3, 3) pixels of the whole picture, OpenCV's corner at 0.
        world_to_camera: (4, 4), OpenCV axes.

    Raises:
        ValueError: a shape is wrong, or a number is not finite.
    """

    intrinsics: np.ndarray
    world_to_camera: np.ndarray

    def __post_init__(self) -> None:
        for matrix, shape in ((self.intrinsics, (3, 3)), (self.world_to_camera, (4, 4))):
            if matrix.shape != shape or not np.isfinite(matrix).all():
                raise ValueError(f"a camera needs a finite {shape} matrix")


@dataclass(frozen=True)
class Recording:
    """The frames of one camera of one person.

    Attributes:
        frames: a video, or pictures in order.
        name: of the camera; "" where there is only one.
        fps: of pictures; a video has its own.
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

    def require_calibration(self) -> Calibration:
        """The camera's calibration.

        Raises:
            InputError: the recording has none.
        """
        if self.calibration is None:
            raise InputError(f"The camera {self.name or 'of this recording'} is not calibrated; use a calibrated rig.")
        return self.calibration

    def open_mattes(self) -> VideoReader | PictureSequence | None:
        """Read the published mattes, if there are any."""
        return None if self.mattes is None else _open(self.mattes, self.fps)


@dataclass(frozen=True)
class Clip:
    """One person to evaluate.

    Attributes:
        name: unique in its set; its result file has this name.
        recordings: of the person; protocols of one camera use the first. Empty if none can be read.
        held_out_from: first frame of the set's own test part, or None.
        held_out_cameras: names of the set's own test cameras.
        notes: sentences about its faults.
    """

    name: str
    recordings: tuple[Recording, ...]
    held_out_from: int | None = None
    held_out_cameras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """The name with characters that file systems refuse replaced."""
        return re.sub(r"[^\w.+-]", "_", self.name)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The pictures of the first recording; none if it is a video."""
        frames = self.recordings[0].frames if self.recordings else Path()
        return () if isinstance(frames, Path) else frames

    @property
    def files(self) -> list[Path]:
        """The first file of each recording."""
        return [r.frames if isinstance(r.frames, Path) else r.frames[0] for r in self.recordings]


def guarded(read: Callable[[Path], list[Clip]], root: Path) -> list[Clip]:
    """The clips of one person's folder; if its files are damaged, a clip without recordings and a note."""
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
        pictures, _ = numbered_pictures(path)
        if not pictures:
            raise InputError(f"The folder {path} holds no pictures; give one that does, or a video.")
        return Recording(pictures, fps=fps)
    if not path.is_file():
        raise InputError(f"There is nothing at {path}; give a video or a folder of pictures.")
    return Recording(path, fps=fps)


def _open(frames: Path | tuple[Path, ...], fps: float) -> VideoReader | PictureSequence:
    if isinstance(frames, Path):
        return VideoReader(frames, max_side=_MAX_SIDE)
    return PictureSequence(frames, fps, max_side=_MAX_SIDE)
