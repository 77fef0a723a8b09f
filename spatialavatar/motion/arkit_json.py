"""JSON files of ARKit-52 weights: our own, LAM's speech network's and Audio2Face's (docs/reference/motion.md).

All of them name their units, so they drive any head.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.motion.record import Motion
from spatialavatar.motion.schema import (
    NEUTRAL,
    NEUTRAL_ROTATION,
    ROTATION,
    TRANSLATION,
    WEIGHTS,
    Field,
    check_rate,
    check_size,
)
from spatialavatar.motion.text import parse_json
from spatialavatar.motion.units import unit_columns, unit_index

MOTION_FORMAT: Final = "spatialavatar.motion"
MOTION_VERSION: Final = 1

_LAM_NEUTRAL: Final = "_neutral"  # MediaPipe's first score, which some exports keep
_FAR: Final = 1.0  # metres; a head that is filmed from near rarely moves as far, and one in centimetres soon does
_MAX_TITLE: Final = 200  # characters


def read_json(text: str, name: str, stem: str, fps: float | None = None) -> Motion:
    """A motion from JSON text of any of the three formats, which are distinguished by their fields.

    Args:
        text: the file's content.
        name: the file's name, for messages.
        stem: the title where the file has none.
        fps: frames per second; it overrides the file's own rate.

    Raises:
        FormatError: the text is in none of the formats.
        InputError: a value is not plausible.
    """
    data = parse_json(text, name)
    if isinstance(data, dict) and "facsNames" in data:
        return _audio2face(data, name, stem, fps)
    if isinstance(data, dict) and "format" not in data and isinstance(data.get("frames"), list):
        return _lam(data, name, stem, fps)
    if not isinstance(data, dict) or data.get("format") != MOTION_FORMAT:
        raise FormatError(
            f'{name} is not a motion file: it lacks "format": "{MOTION_FORMAT}" (see docs/reference/motion.md).'
        )
    if data.get("version") != MOTION_VERSION:
        found = data.get("version")
        found = f"{found:g}" if isinstance(found, float) else "unknown"
        raise FormatError(f"{name} is a motion of version {found}; this release reads version {MOTION_VERSION}.")
    return _own(data, name, fps)


def _own(data: dict[str, Any], name: str, fps: float | None) -> Motion:
    """Our format."""
    columns = unit_columns(_names(data.get("names"), "names", name), name)
    weights = _weights(data.get("weights"), columns, name)
    count = len(weights)

    def optional(field: Field, rows: int) -> Tensor | None:
        value = data.get(field.name)
        if value is None:
            return None
        return torch.from_numpy(field.read([value] if rows == 1 and field in _PER_CLIP else value, name, rows))

    rotation, translation = optional(ROTATION, count), optional(TRANSLATION, count)
    neutral, facing = data.get("neutral"), optional(NEUTRAL_ROTATION, 1)
    farthest = 0.0 if translation is None else float(translation.abs().max())
    far = f"The translation of {name} reaches {farthest:.1f} m; divide it by 100 if it is in centimetres."
    return Motion(
        weights=weights,
        rotation=torch.zeros(count, 3) if rotation is None else rotation,
        translation=torch.zeros(count, 3) if translation is None else translation,
        fps=_rate(data.get("fps"), '"fps"', name, fps),
        title=_title(data.get("title", ""), name),
        neutral=None if neutral is None else _weights([neutral], columns, name, NEUTRAL)[0],
        neutral_rotation=None if facing is None else facing[0],
        warnings=(far,) * (farthest > _FAR),
    )


_PER_CLIP: Final = (NEUTRAL, NEUTRAL_ROTATION)


def _lam(data: dict[str, Any], name: str, stem: str, fps: float | None) -> Motion:
    """The export of LAM_Audio2Expression: ``names``, ``metadata.fps`` and one object with ``weights`` a frame."""
    metadata: Any = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    names = _names(data.get("names", metadata.get("blendshape_names")), "names", name)
    frames = data["frames"]
    if not frames or not all(isinstance(frame, dict) for frame in frames):
        raise FormatError(f'The "frames" of {name} are not one object with "weights" a frame; export the motion again.')
    rows = WEIGHTS.read([frame.get("weights") for frame in frames], name, width=len(names))
    kept = [column for column, unit in enumerate(names) if unit != _LAM_NEUTRAL]
    rotated = any(frame.get("rotation") for frame in frames)
    return _expression_only(
        rows[:, kept],
        unit_columns([names[column] for column in kept], name),
        _rate(metadata.get("fps"), '"metadata": {"fps": ...}', name, fps),
        stem,
        (f"The head rotation in {name} is not read: its axes are not documented.",) * rotated,
    )


def _audio2face(data: dict[str, Any], name: str, stem: str, fps: float | None) -> Motion:
    """The blendshape export of Audio2Face: ``facsNames``, ``weightMat`` and, in later releases, ``exportFps``.

    Its solve may have shapes beyond ARKit's, such as those of the tongue: they are left out.
    """
    names = _names(data["facsNames"], "facsNames", name)
    indices = [unit_index(shape) for shape in names]
    if unit_index("jawOpen") not in indices:
        raise FormatError(
            f'The "facsNames" of {name} are not those of ARKit (there is no "jawOpen"); export the blendshapes of an '
            "ARKit solve."
        )
    rows = Field("weightMat", None, WEIGHTS.limit, WEIGHTS.unit).read(data.get("weightMat"), name, width=len(names))
    kept = [column for column, index in enumerate(indices) if index is not None]
    warnings = []
    if left_out := [shape for shape, index in zip(names, indices) if index is None]:
        warnings.append(f"{name} has {len(left_out)} shapes that are not ARKit units; they are not read.")
    if data.get("rotations") or data.get("translations"):
        warnings.append(f"The joints in {name} are not read: the weights already move the jaw and the eyes.")
    return _expression_only(
        rows[:, kept],
        unit_columns([names[column] for column in kept], name),
        _rate(data.get("exportFps"), '"exportFps"', name, fps),
        stem,
        tuple(warnings),
    )


def _expression_only(rows: np.ndarray, columns: list[int], fps: float, title: str, warnings: tuple[str, ...]) -> Motion:
    """A motion without a head pose from (T, N) weights of the units ``columns``."""
    weights = np.zeros((len(rows), len(ARKIT_52)), np.float32)
    weights[:, columns] = rows
    still = torch.zeros(len(rows), 3)
    return Motion(torch.from_numpy(weights), still, still.clone(), fps, title, warnings=warnings)


def _weights(value: Any, columns: list[int], name: str, field: Field = WEIGHTS) -> Tensor:
    """(T, 52) weights from rows of the units ``columns``, of which a motion of the head alone has none."""
    if not columns and isinstance(value, list) and value and all(row == [] for row in value):
        check_size(len(value), 0, name)
        return torch.zeros(len(value), len(ARKIT_52))
    rows = field.read(value, name, None if field is WEIGHTS else 1, len(columns))
    weights = torch.zeros(len(rows), len(ARKIT_52))
    weights[:, columns] = torch.from_numpy(rows)
    return weights


def _names(value: Any, key: str, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(unit, str) for unit in value):
        raise FormatError(f'{name} lacks "{key}", the list of the ARKit units that its weights stand for.')
    return value


def _rate(value: Any, key: str, name: str, fps: float | None) -> float:
    if fps is not None:
        return check_rate(fps, name)
    if value is None:
        raise FormatError(f"{name} lacks {key}, its frames per second; add it, or give the rate with --fps.")
    return check_rate(value, name)


def _title(value: Any, name: str) -> str:
    if not isinstance(value, str) and value is not None:
        raise FormatError(f'The "title" of {name} is not text; correct it or leave it out.')
    return "".join(c for c in (value or "")[:_MAX_TITLE] if c.isprintable())


def format_json(motion: Motion) -> str:
    """Our JSON: one line a frame, four decimals (a tenth of a millimetre), units that are never used left out."""
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


def format_lam(motion: Motion) -> str:
    """The JSON of LAM_Audio2Expression with all 52 units, relative to the motion's neutral."""
    motion = motion.rested()
    names = list(ARKIT_52)
    frames = [
        {"weights": [round(value, 4) + 0.0 for value in row], "time": round(index / motion.fps, 6), "rotation": []}
        for index, row in enumerate(motion.weights.tolist())
    ]
    metadata = {"fps": motion.fps, "frame_count": len(motion), "blendshape_names": names}
    return json.dumps({"names": names, "metadata": metadata, "frames": frames}) + "\n"
