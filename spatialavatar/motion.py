"""Motion files: ARKit-52 weights and head pose over time, as JSON or as the CSV of face-capture apps.

The formats are described in docs/motion.md. A motion belongs to nobody's head: :meth:`Motion.to_track` turns it into
the parameters of one head model, and :meth:`Motion.from_track` reads it off a tracked video.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.records import Camera, Track
from spatialavatar.tracking.cues import believed_scores

MOTION_FORMAT = "spatialavatar.motion"
MOTION_VERSION = 1
MOTION_SUFFIXES = (".json", ".csv")

_CSV_DEFAULT_FPS = 60.0
_HELD_FPS = 25.0  # of a single frame, where any rate would do
_LARGEST_WEIGHT = 2.0  # exaggerated captures go a little over 1; percent and degrees go far over
_HEAD_HEIGHT_IN_VIEW = 0.62  # share of the picture's height that the resting head takes
_CSV_ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll")
_CSV_EYES = tuple(f"{side}Eye{axis}" for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll"))


@dataclass(frozen=True)
class Motion:
    """T frames of face and head motion, independent of any head.

    Attributes:
        weights: (T, 52) float32 ARKit weights in the order of ``ARKIT_52``; 0 is neutral, 1 the full unit.
        rotation: (T, 3) float32 head rotation, axis-angle, radians, head space; 0 faces the camera.
        translation: (T, 3) float32 displacement from the resting place, metres, head space.
        fps: frames per second.
        title: what the motion shows, for people.
        valid: (T,) bool, False where the capture lost the face and the frame before is held; None if all are good.
    """

    weights: Tensor
    rotation: Tensor
    translation: Tensor
    fps: float
    title: str = ""
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            InputError: shapes disagree, a value is not finite or far out of range, or the motion has no frame.
        """
        count = len(self.weights)
        if count == 0:
            raise InputError("The motion has no frames.")
        for name, width in (("weights", len(ARKIT_52)), ("rotation", 3), ("translation", 3)):
            tensor = getattr(self, name)
            if tuple(tensor.shape) != (count, width):
                raise InputError(f"The motion's {name} have shape {tuple(tensor.shape)}, not ({count}, {width}).")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"The motion's {name} hold values that are not finite; export the motion again.")
        if not (math.isfinite(self.fps) and 0.0 < self.fps <= 1000.0):
            raise InputError(f"The motion plays at {self.fps} frames per second; it needs a rate from 1 to 1000.")
        largest = float(self.weights.abs().max())
        if largest > _LARGEST_WEIGHT:
            raise InputError(f"The motion has a weight of {largest:g}; ARKit weights go from 0 to 1, not to 100.")

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    def to_track(self, head: HeadModel) -> Track:
        """The motion as parameters of ``head`` with its mean shape, seen by a frontal 512-pixel camera.

        The whole head rotation goes to the global joint, as the tracker has it. The neutral of the track is the
        neutral of ``head``: weights are relative to a resting face, and rotations to the camera, by definition.
        """
        weights = self.weights.to(head.device)
        expression, jaw, eyes = head.from_arkit(weights)
        params = head.neutral(len(self)).replace(
            expression=expression,
            jaw=jaw,
            eyes=eyes,
            rotation=self.rotation.to(head.device),
            translation=self.translation.to(head.device) + _resting_place(head),
        )
        confidence = torch.ones(len(self)) if self.valid is None else self.valid.float()
        return Track(
            params=params,
            camera=Camera.frontal().to(head.device),
            fps=self.fps,
            head_id=head.id,
            confidence=confidence,
            blendshapes=self.weights,
            neutral_expression=torch.zeros(head.expression_count + 9, device=head.device),
            neutral_rotation=torch.zeros(3, device=head.device),
        )

    @staticmethod
    def cat(parts: Sequence[Motion], title: str = "") -> Motion:
        """Play motions of one frame rate one after the other."""
        if len({part.fps for part in parts}) != 1:
            raise InputError("Only motions of one frame rate can be joined.")
        valid = [torch.ones(len(part), dtype=torch.bool) if part.valid is None else part.valid for part in parts]
        return Motion(
            weights=torch.cat([part.weights for part in parts]),
            rotation=torch.cat([part.rotation for part in parts]),
            translation=torch.cat([part.translation for part in parts]),
            fps=parts[0].fps,
            title=title,
            valid=torch.cat(valid),
        )

    @classmethod
    def held(
        cls, units: Mapping[str, float], yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, title: str = ""
    ) -> Motion:
        """One frame: ARKit units by name, the others at rest, and the head's pose.

        Args:
            units: weights, 0 to 1.
            yaw: degrees about the head's y axis; positive turns to the subject's left.
            pitch: degrees about x; positive looks down.
            roll: degrees about z, applied first; positive leans to the subject's right.
            title: what it shows, for people.

        Raises:
            InputError: there is no unit of a name, or a value is not finite or far out of range.
        """
        if unknown := sorted(set(units) - set(ARKIT_52)):
            raise InputError(f"{unknown[0]!r} is no ARKit unit; docs/motion.md lists all 52.")
        angles = torch.tensor([[yaw, pitch, roll]], dtype=torch.float64).deg2rad()
        return cls(
            weights=torch.tensor([[float(units.get(name, 0.0)) for name in ARKIT_52]]),
            rotation=_yaw_pitch_roll_to_axis_angle(angles).float(),
            translation=torch.zeros(1, 3),
            fps=_HELD_FPS,
            title=title,
        )

    @classmethod
    def from_track(cls, track: Track, title: str = "") -> Motion:
        """The motion of a tracked video: its blendshape scores, its rotation, its translation about the median.

        Raises:
            InputError: the track holds no blendshape scores, or is a photo.
        """
        if track.blendshapes is None:
            raise InputError("The track holds no blendshape scores; track the video again with this release.")
        if track.fps <= 0:
            raise InputError("A photo has no motion; track a video.")
        translation = track.params.translation.detach().cpu().float()
        weights = track.blendshapes.detach().cpu().float()
        if track.landmarks is not None:  # scores of the network, which do not rest at zero; not a capture's weights
            weights = believed_scores(weights)
        return cls(
            weights=weights,
            rotation=track.params.rotation.detach().cpu().float(),
            translation=translation - translation.median(0).values,
            fps=float(track.fps),
            title=title,
            valid=(track.confidence > 0).cpu(),
        )


def is_motion_file(path: str | Path) -> bool:
    """Whether the file's name says that it is a motion file rather than a video."""
    return Path(path).suffix.lower() in MOTION_SUFFIXES


def read_motion(path: str | Path, head: HeadModel) -> Track:
    """Read a motion file (.json or .csv) as a track of ``head`` without images.

    Raises:
        InputError: the file is missing, unreadable or holds impossible values.
        FormatError: the file is JSON or CSV, but not a motion in one of the two formats.
    """
    return load_motion(path).to_track(head)


def load_motion(path: str | Path) -> Motion:
    """Read a motion file (.json or .csv); raises what :func:`read_motion` raises."""
    path = Path(path)
    if not is_motion_file(path):
        raise InputError(f"{path.name} is no motion file: give a .json or .csv file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no motion file at {path}.") from None
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path.name} cannot be read as text; give a .json or .csv motion file.") from None
    return _parse_csv(text, path) if path.suffix.lower() == ".csv" else _parse_json(text, path)


def write_motion(motion: Motion | Track, path: str | Path) -> None:
    """Write ``motion`` as JSON or CSV, by the suffix of ``path``.

    Raises:
        InputError: the suffix is neither .json nor .csv, or the track holds no motion.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if not is_motion_file(path):
        raise InputError(f"{path.name} names no motion format: use .json or .csv.")
    motion = Motion.from_track(motion) if isinstance(motion, Track) else motion
    text = _format_csv(motion) if path.suffix.lower() == ".csv" else _format_json(motion)
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _resting_place(head: HeadModel) -> Tensor:
    """(3,) world translation that centres the mean skull in the frontal camera's picture, metres."""
    parts = [part for part in ("face", "scalp", "ears") if part in head.parts]
    skull = head.template[head.part_vertices(*parts)] if parts else head.template
    low, high = skull.amin(0), skull.amax(0)
    camera = Camera.frontal()
    distance = float(high[1] - low[1]) * float(camera.intrinsics[1, 1]) / (_HEAD_HEIGHT_IN_VIEW * camera.height)
    away = torch.tensor([0.0, 0.0, -distance], device=head.device)
    return away - (low + high) / 2


def _parse_json(text: str, path: Path) -> Motion:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"{path.name} is not valid JSON; export the motion again.") from None
    if not isinstance(data, dict) or data.get("format") != MOTION_FORMAT:
        raise FormatError(
            f'{path.name} is not a motion file: it lacks "format": "{MOTION_FORMAT}" (see docs/motion.md).'
        )
    if data.get("version") != MOTION_VERSION:
        raise FormatError(
            f"{path.name} is a version {data.get('version')!r} motion; this release reads version {MOTION_VERSION}."
        )
    names = data.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f'{path.name} lacks "names", the list of the ARKit units that its weights stand for.')
    columns = _columns(names, path)
    rows = _matrix(data.get("weights"), len(names), "weights", path)
    weights = np.zeros((len(rows), len(ARKIT_52)), np.float32)
    weights[:, columns] = rows
    head = [
        _matrix(data[name], 3, name, path, len(rows)) if data.get(name) is not None else np.zeros((len(rows), 3))
        for name in ("rotation", "translation")
    ]
    fps = data.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)):
        raise FormatError(f'{path.name} lacks "fps", its frames per second.')
    return Motion(
        weights=torch.from_numpy(weights),
        rotation=torch.from_numpy(head[0]).float(),
        translation=torch.from_numpy(head[1]).float(),
        fps=float(fps),
        title=str(data.get("title", "")),
    )


def _columns(names: Sequence[str], path: Path) -> list[int]:
    """Indices into ``ARKIT_52`` of ``names``."""
    unknown = [name for name in names if name not in ARKIT_INDEX]
    if unknown:
        raise FormatError(f"{path.name} names {unknown[0]!r}, which is no ARKit unit; docs/motion.md lists all 52.")
    if len(set(names)) != len(names):
        raise FormatError(f"{path.name} names a unit twice.")
    return [ARKIT_INDEX[name] for name in names]


def _matrix(value: Any, width: int, name: str, path: Path, length: int | None = None) -> np.ndarray:
    """A JSON list of lists as a (T, width) float64 array."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.shape[1:] != (width,) or (length is not None and len(array) != length):
        frames = "one row a frame" if length is None else f"{length} rows"
        raise FormatError(f'The "{name}" of {path.name} are not {frames} of {width} numbers.')
    return array


def _format_json(motion: Motion) -> str:
    """One line a frame, four decimals (a hundredth of a percent, a tenth of a millimetre), unused units left out."""
    used = [name for name, column in zip(ARKIT_52, motion.weights.T) if bool((column.abs() >= 5e-5).any())]
    columns = [ARKIT_INDEX[name] for name in used]

    def rows(tensor: Tensor) -> str:
        lines = (json.dumps([round(value, 4) + 0.0 for value in row]) for row in tensor.tolist())
        return "[\n" + ",\n".join(lines) + "\n]"

    head = {"format": MOTION_FORMAT, "version": MOTION_VERSION, "title": motion.title, "fps": motion.fps, "names": used}
    fields = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    fields.append(f'"weights": {rows(motion.weights[:, columns])}')
    fields.append(f'"rotation": {rows(motion.rotation)}')
    fields.append(f'"translation": {rows(motion.translation)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _parse_csv(text: str, path: Path) -> Motion:
    table = [row for row in csv.reader(text.splitlines()) if row]
    if not table:
        raise FormatError(f"{path.name} is empty.")
    # Capture apps write EyeBlinkLeft where ARKit's own name is eyeBlinkLeft.
    header = {name.strip(): index for index, name in enumerate(table[0])}
    units = {name: header[key] for name in ARKIT_52 for key in (name, name[:1].upper() + name[1:]) if key in header}
    if "jawOpen" not in units:
        raise FormatError(f"{path.name} is no face-capture CSV: its first line does not name the 52 ARKit units.")
    needed = max(units.values())
    angle_columns = [header[name] for name in _CSV_ANGLES] if all(name in header for name in _CSV_ANGLES) else []
    count = len(table) - 1
    weights = np.zeros((count, len(ARKIT_52)), np.float32)
    angles = np.zeros((count, 3), np.float64)
    valid = np.zeros(count, bool)
    for index, row in enumerate(table[1:]):
        # A row in which the app saw no face ends after the count: hold the frame before it.
        if len(row) <= needed:
            weights[index], angles[index] = weights[index - 1] * (index > 0), angles[index - 1] * (index > 0)
            continue
        try:
            weights[index, [ARKIT_INDEX[name] for name in units]] = [float(row[column]) for column in units.values()]
            if angle_columns and len(row) > max(angle_columns):
                angles[index] = [float(row[column]) for column in angle_columns]
        except ValueError:
            raise FormatError(f"Line {index + 2} of {path.name} holds something that is no number.") from None
        valid[index] = True
    if count and not valid.any():
        raise FormatError(f"{path.name} holds no frame in which a face was captured.")
    stamps = [row[header["Timecode"]] for row in table[1:]] if "Timecode" in header else []
    return Motion(
        weights=torch.from_numpy(weights),
        rotation=_yaw_pitch_roll_to_axis_angle(torch.from_numpy(angles)).float(),
        translation=torch.zeros(count, 3),
        fps=_timecode_fps(stamps),
        title=path.stem,
        valid=None if valid.all() else torch.from_numpy(valid),
    )


def _timecode_fps(stamps: Sequence[str]) -> float:
    """Frames per second from the whole seconds of HH:MM:SS:FF stamps; the app's 60 where they cannot tell."""
    seconds = []
    for stamp in stamps:
        match = re.match(r"\s*(\d+):(\d+):(\d+)[:;.]", stamp)
        if match is None:
            return _CSV_DEFAULT_FPS
        hours, minutes, rest = (int(part) for part in match.groups())
        seconds.append(3600 * hours + 60 * minutes + rest)
    # The first and the last second are cut off somewhere; only those between them are whole.
    ticks = [index for index in range(1, len(seconds)) if seconds[index] != seconds[index - 1]]
    if len(ticks) < 2:
        return _CSV_DEFAULT_FPS
    elapsed = (seconds[ticks[-1]] - seconds[ticks[0]]) % 86400
    return float(round((ticks[-1] - ticks[0]) / elapsed)) if elapsed else _CSV_DEFAULT_FPS


def _format_csv(motion: Motion) -> str:
    header = [
        "Timecode",
        "BlendShapeCount",
        *(name[:1].upper() + name[1:] for name in ARKIT_52),
        *_CSV_ANGLES,
        *_CSV_EYES,
    ]
    angles = _axis_angle_to_yaw_pitch_roll(motion.rotation.double())
    lines = [",".join(header)]
    for index, (weights, head) in enumerate(zip(motion.weights.tolist(), angles.tolist())):
        seconds, frame = divmod(index, max(round(motion.fps), 1))
        stamp = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}.000"
        # Gaze is in the eyeLook units; the eye angles repeat it in the apps, and stay 0 here.
        values = [*weights, *head, *([0.0] * len(_CSV_EYES))]
        lines.append(f"{stamp},{len(ARKIT_52) + 9}," + ",".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"


def _yaw_pitch_roll_to_axis_angle(angles: Tensor) -> Tensor:
    """(T, 3) yaw about y, pitch about x, roll about z, radians, applied roll first, to axis-angle (T, 3)."""
    yaw, pitch, roll = angles.unbind(-1)
    zero = torch.zeros_like(yaw)
    turn, nod, tilt = (
        axis_angle_to_matrix(torch.stack(axis, -1))
        for axis in ((zero, yaw, zero), (pitch, zero, zero), (zero, zero, roll))
    )
    return matrix_to_axis_angle(turn @ nod @ tilt)


def _axis_angle_to_yaw_pitch_roll(rotation: Tensor) -> Tensor:
    """Inverse of :func:`_yaw_pitch_roll_to_axis_angle` for pitches under 90 degrees."""
    matrix = axis_angle_to_matrix(rotation)
    yaw = torch.atan2(matrix[:, 0, 2], matrix[:, 2, 2])
    pitch = torch.asin((-matrix[:, 1, 2]).clamp(-1.0, 1.0))
    roll = torch.atan2(matrix[:, 1, 0], matrix[:, 1, 1])
    return torch.stack([yaw, pitch, roll], -1)
