"""Text files of ARKit-52 weights: our JSON, the CSV of face-capture apps, the JSON of LAM's speech network.

All of them name their units, so they drive any head. The formats are described in docs/motion.md.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.motion.record import Motion, axis_angle_to_yaw_pitch_roll, yaw_pitch_roll_to_axis_angle

MOTION_FORMAT = "spatialavatar.motion"
MOTION_VERSION = 1

_CSV_DEFAULT_FPS = 60.0
_CSV_ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll")
_CSV_EYES = tuple(f"{side}Eye{axis}" for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll"))
_LAM_NEUTRAL = "_neutral"  # MediaPipe's first score, which some exports keep


def parse_json(text: str, path: Path) -> Motion:
    """Our JSON, or the JSON of LAM's speech network, told apart by their fields.

    Raises:
        FormatError: the text is neither.
        InputError: a value is impossible.
    """
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"{path.name} is not valid JSON; export the motion again.") from None
    if isinstance(data, dict) and "format" not in data and isinstance(data.get("frames"), list):
        return _lam_motion(data, path)
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
    rest = {
        name: None if data.get(name) is None else torch.from_numpy(_matrix([data[name]], width, name, path)[0]).float()
        for name, width in (("neutral", len(names)), ("neutral_rotation", 3))
    }
    neutral = None
    if rest["neutral"] is not None:
        neutral = torch.zeros(len(ARKIT_52))
        neutral[columns] = rest["neutral"]
    fps = data.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)):
        raise FormatError(f'{path.name} lacks "fps", its frames per second.')
    return Motion(
        weights=torch.from_numpy(weights),
        rotation=torch.from_numpy(head[0]).float(),
        translation=torch.from_numpy(head[1]).float(),
        fps=float(fps),
        title=str(data.get("title", "")),
        neutral=neutral,
        neutral_rotation=rest["neutral_rotation"],
    )


def _lam_motion(data: dict[str, Any], path: Path) -> Motion:
    """What LAM_Audio2Expression exports: ``names``, ``metadata.fps`` and one object with ``weights`` a frame."""
    metadata: Any = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    names = data.get("names", metadata.get("blendshape_names"))
    frames = data["frames"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f'{path.name} has frames but no "names" of its weights; export the motion again.')
    if not frames or not all(isinstance(frame, dict) for frame in frames):
        raise FormatError(f'The "frames" of {path.name} are not one object with "weights" a frame.')
    rows = _matrix([frame.get("weights") for frame in frames], len(names), "weights", path)
    kept = [column for column, name in enumerate(names) if name != _LAM_NEUTRAL]
    weights = np.zeros((len(rows), len(ARKIT_52)), np.float32)
    weights[:, _columns([names[column] for column in kept], path)] = rows[:, kept]
    fps = metadata.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)):
        raise FormatError(f'{path.name} lacks "metadata": {{"fps": ...}}, its frames per second.')
    turned = any(frame.get("rotation") for frame in frames)
    return Motion(
        weights=torch.from_numpy(weights),
        rotation=torch.zeros(len(rows), 3),
        translation=torch.zeros(len(rows), 3),
        fps=float(fps),
        title=path.stem,
        warnings=(f"The head rotation in {path.name} is not read: nobody has said what its axes are.",) * turned,
    )


def format_lam(motion: Motion) -> str:
    """The JSON of LAM_Audio2Expression, all 52 units, its neutral taken off."""
    motion = motion.rested()
    names = list(ARKIT_52)
    frames = [
        {"weights": [round(value, 4) + 0.0 for value in row], "time": round(index / motion.fps, 6), "rotation": []}
        for index, row in enumerate(motion.weights.tolist())
    ]
    metadata = {"fps": motion.fps, "frame_count": len(motion), "blendshape_names": names}
    return json.dumps({"names": names, "metadata": metadata, "frames": frames}) + "\n"


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


def format_json(motion: Motion) -> str:
    """One line a frame, four decimals (a hundredth of a percent, a tenth of a millimetre), unused units left out."""
    neutral = motion.weights.new_zeros(len(ARKIT_52)) if motion.neutral is None else motion.neutral
    size = torch.maximum(motion.weights.abs().amax(0), neutral.abs())
    used = [name for name, largest in zip(ARKIT_52, size.tolist()) if largest >= 5e-5]
    columns = [ARKIT_INDEX[name] for name in used]

    def row(tensor: Tensor) -> str:
        return json.dumps([round(value, 4) + 0.0 for value in tensor.tolist()])

    def rows(tensor: Tensor) -> str:
        return "[\n" + ",\n".join(map(row, tensor)) + "\n]"

    head = {"format": MOTION_FORMAT, "version": MOTION_VERSION, "title": motion.title, "fps": motion.fps, "names": used}
    fields = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    if motion.neutral is not None:
        fields.append(f'"neutral": {row(neutral[columns])}')
    if motion.neutral_rotation is not None:
        fields.append(f'"neutral_rotation": {row(motion.neutral_rotation)}')
    fields.append(f'"weights": {rows(motion.weights[:, columns])}')
    fields.append(f'"rotation": {rows(motion.rotation)}')
    fields.append(f'"translation": {rows(motion.translation)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def parse_csv(text: str, path: Path) -> Motion:
    """The CSV of a face-capture app.

    Raises:
        FormatError: the text is none.
        InputError: a value is impossible.
    """
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
        rotation=yaw_pitch_roll_to_axis_angle(torch.from_numpy(angles)).float(),
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


def format_csv(motion: Motion) -> str:
    """The CSV of a face-capture app, its neutral taken off: the format has no place for it."""
    motion = motion.rested()
    header = [
        "Timecode",
        "BlendShapeCount",
        *(name[:1].upper() + name[1:] for name in ARKIT_52),
        *_CSV_ANGLES,
        *_CSV_EYES,
    ]
    angles = axis_angle_to_yaw_pitch_roll(motion.rotation.double())
    lines = [",".join(header)]
    for index, (weights, head) in enumerate(zip(motion.weights.tolist(), angles.tolist())):
        seconds, frame = divmod(index, max(round(motion.fps), 1))
        stamp = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}.000"
        # Gaze is in the eyeLook units; the eye angles repeat it in the apps, and stay 0 here.
        values = [*weights, *head, *([0.0] * len(_CSV_EYES))]
        lines.append(f"{stamp},{len(ARKIT_52) + 9}," + ",".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"
