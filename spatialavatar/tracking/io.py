"""Tracks as files: one safetensors file with the tensors, and everything else in its metadata."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.record_schemas import (
    CAMERA_SCHEMA,
    MAX_ANGLE,
    MAX_COEFFICIENT,
    MAX_COORDINATE,
    MAX_DISTANCE,
    camera_faults,
    is_size,
    params_schema,
)
from spatialavatar.records import (
    FRAME_STATES,
    SEGMENT_CLASSES,
    Camera,
    Evidence,
    FrameQuality,
    HeadMotion,
    HeadParams,
    Neutral,
    Pictures,
    Track,
)
from spatialavatar.strict_json import parse_json
from spatialavatar.tensor_files import TensorFile, TensorSpec, bounded, listed, write_safetensors

TRACK_FORMAT: Final = "spatialavatar.track"
TRACK_VERSION: Final = 1
MAX_FPS: Final = 1000.0

_PARAMS: Final = tuple(field.name for field in fields(HeadParams))
_NEUTRAL: Final = tuple(field.name for field in fields(Neutral))
_QUALITY: Final = tuple(field.name for field in fields(FrameQuality))
_PICTURE: Final = {"dtypes": ("U8",), "optional": True}
_SCHEMA: Final = {
    "params.shape": bounded(MAX_COEFFICIENT, "S"),
    **params_schema("params.", "T"),
    **CAMERA_SCHEMA,
    "confidence": TensorSpec(("T",), low=0.0, high=1.001),
    "images": TensorSpec(("T", "H", "W", 3), **_PICTURE),
    "mattes": TensorSpec(("T", "H", "W"), **_PICTURE),
    "segments": TensorSpec(("T", "H", "W"), high=len(SEGMENT_CLASSES) - 1, **_PICTURE),
    "landmarks": bounded(MAX_COORDINATE, "T", "L", 2, optional=True),
    "blendshapes": bounded(MAX_COEFFICIENT, "T", len(ARKIT_52), optional=True),
    "crop": bounded(MAX_COORDINATE, "T", 4, optional=True),
    "neutral_expression": bounded(MAX_COEFFICIENT, "neutral", optional=True),
    "neutral_rotation": bounded(MAX_ANGLE, 3, optional=True),
    "neutral_translation": bounded(MAX_DISTANCE, 3, optional=True),
}
_QUALITY_SCHEMA: Final = {
    "quality.state": TensorSpec(("T",), ("U8",), high=len(FRAME_STATES) - 1),
    # Not a number in frames in which nothing was fitted, or in clips that are too short.
    "quality.error": bounded(MAX_COORDINATE, "T", finite=False),
    "quality.yaw": bounded(MAX_COORDINATE, "T", finite=False),
    "quality.jitter": bounded(MAX_COORDINATE, 2, finite=False),
    "quality.presence": bounded(MAX_COORDINATE, "T"),
    "quality.luma": bounded(MAX_COORDINATE, "T"),
    "quality.shot": TensorSpec(("T",), ("I32", "I64"), low=0),
}


def save_track(track: Track, path: str | Path) -> None:
    """Write a track; the file appears whole or not at all.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    write_safetensors(path, *_parts(track))


def track_bytes(track: Track) -> bytes:
    """The content of the file that :func:`save_track` writes, for a file inside another."""
    return save(*_parts(track))


def _tensors(track: Track) -> dict[str, Tensor]:
    """The tensors of a track's file by their names in it."""
    tensors: dict[str, Tensor | None] = {f"params.{name}": getattr(track.params, name) for name in _PARAMS}
    tensors |= {
        "camera.intrinsics": track.camera.intrinsics,
        "camera.world_to_camera": track.camera.world_to_camera,
        "confidence": track.confidence,
        "crop": track.crop,
    }
    tensors |= {f"neutral_{name}": getattr(track.neutral, name) for name in _NEUTRAL}
    if track.pictures is not None:
        tensors |= vars(track.pictures)
    if track.evidence is not None:
        tensors |= {"landmarks": track.evidence.landmarks, "blendshapes": track.evidence.blendshapes}
    if track.quality is not None:
        tensors |= {f"quality.{name}": getattr(track.quality, name) for name in _QUALITY}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _parts(track: Track) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a track's file."""
    description = {
        "fps": track.fps,
        "head_id": track.head_id,
        "width": track.camera.width,
        "height": track.camera.height,
        "warnings": list(track.warnings),
    }
    metadata = {
        "format": TRACK_FORMAT,
        "version": str(TRACK_VERSION),
        "track": json.dumps(description, ensure_ascii=False),
    }
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(track).items()}
    return stored, metadata


def load_track(path: str | Path) -> Track:
    """Read a file that :func:`save_track` wrote.

    Raises:
        InputError: there is no such file. FormatError: the file is not a track, of an unsupported version, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no track at {path}; check the path.")
    return _read(path, path.name)


def track_from_bytes(data: bytes, name: str) -> Track:
    """Read what :func:`track_bytes` made.

    Args:
        data: the file's content.
        name: the file's name in messages.

    Raises:
        FormatError: it is not a track, of an unsupported version, or damaged.
    """
    return _read(data, name)


def _read(source: Path | bytes, name: str) -> Track:
    """The track in a file or in its content."""
    damaged = f"The track {name} is damaged or is not a track; track the input again."
    file = TensorFile(source, damaged, f"The track {name}")
    if file.metadata.get("format") != TRACK_FORMAT:
        raise FormatError(f"{name} is not a saved track; make one with the track command.")
    if file.metadata.get("version") != str(TRACK_VERSION):
        raise FormatError(
            f"{name} is a track of version {file.metadata.get('version', '')[:20]}; this release reads version "
            f"{TRACK_VERSION}: track the input again."
        )
    try:
        description = parse_json(file.metadata.get("track", ""))
    except ValueError as error:
        raise FormatError(damaged) from error
    if not _is_description(description):
        raise FormatError(damaged)
    sizes = {
        "neutral": file.size("params.expression", -1) + 9,
        "H": description["height"],
        "W": description["width"],
    }
    schema = _SCHEMA | _QUALITY_SCHEMA if "quality.state" in file.entries else _SCHEMA
    tensors = file.read(schema, sizes, "track the input again")
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    faults = camera_faults(tensors)
    if faults:
        raise FormatError(f"The track {name} {listed(faults)}; track the input again.")
    try:
        return _assembled(tensors, description)
    except KeyError as error:  # one of two tensors that only occur together
        raise FormatError(damaged) from error


def _is_description(value: Any) -> bool:
    """Whether it is the JSON object that a track's metadata contain."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("fps"), (int, float))
        and 0 <= value["fps"] <= MAX_FPS
        and isinstance(value.get("head_id"), str)
        and is_size(value.get("width"))
        and is_size(value.get("height"))
        and isinstance(value.get("warnings"), list)
        and all(isinstance(warning, str) for warning in value["warnings"])
    )


def _assembled(tensors: dict[str, Tensor], description: dict[str, Any]) -> Track:
    """The track of these tensors.

    Raises:
        KeyError: landmarks without scores, or images without mattes.
    """
    motion = HeadMotion(
        params=HeadParams(**{name: tensors[f"params.{name}"] for name in _PARAMS}),
        fps=float(description["fps"]),
        head_id=description["head_id"],
        confidence=tensors["confidence"],
        neutral=Neutral(**{name: tensors.get(f"neutral_{name}") for name in _NEUTRAL}),
    )
    camera = Camera(
        tensors["camera.intrinsics"],
        tensors["camera.world_to_camera"],
        description["width"],
        description["height"],
    )
    return Track(
        motion=motion,
        camera=camera,
        crop=tensors.get("crop"),
        evidence=_evidence(tensors),
        pictures=_pictures(tensors),
        warnings=tuple(description["warnings"]),
    )


def _evidence(tensors: dict[str, Tensor]) -> Evidence | None:
    """Landmarks, scores and quality; None in a file without them."""
    if "landmarks" not in tensors and "blendshapes" not in tensors:
        return None
    quality = None
    if "quality.state" in tensors:
        quality = FrameQuality(**{name: tensors[f"quality.{name}"] for name in _QUALITY})
    return Evidence(tensors.get("landmarks"), tensors["blendshapes"], quality)


def _pictures(tensors: dict[str, Tensor]) -> Pictures | None:
    """The pixels; None in a file without them."""
    if "images" not in tensors and "mattes" not in tensors:
        return None
    return Pictures(tensors["images"], tensors["mattes"], tensors.get("segments"))
