"""Tracks as files: one safetensors file with the tensors, and everything else in its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output
from spatialavatar.records import Camera, FrameQuality, HeadParams, Track

TRACK_FORMAT: Final = "spatialavatar.track"
TRACK_VERSION: Final = 1

_PARAMS: Final = tuple(field.name for field in fields(HeadParams))
_OPTIONAL: Final = (
    "images",
    "mattes",
    "segments",
    "landmarks",
    "blendshapes",
    "crop",
    "neutral_expression",
    "neutral_rotation",
    "neutral_translation",
)
_PER_CLIP: Final = ("neutral_expression", "neutral_rotation", "neutral_translation")
_QUALITY: Final = tuple(field.name for field in fields(FrameQuality))
_MAY_BE_NAN: Final = ("quality.error", "quality.yaw")  # of frames in which nothing was fitted


def save_track(track: Track, path: str | Path) -> None:
    """Write a track; the file appears whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    stored, metadata = _parts(track)
    with atomic_output(path) as temporary:
        save_file(stored, temporary, metadata=metadata)


def track_bytes(track: Track) -> bytes:
    """What :func:`save_track` writes, for a file inside another."""
    return save(*_parts(track))


def _parts(track: Track) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a track's file."""
    tensors = {f"params.{name}": getattr(track.params, name) for name in _PARAMS}
    tensors["camera.intrinsics"] = track.camera.intrinsics
    tensors["camera.world_to_camera"] = track.camera.world_to_camera
    tensors["confidence"] = track.confidence
    for name in _OPTIONAL:
        value = getattr(track, name)
        if value is not None:
            tensors[name] = value
    if track.quality is not None:
        tensors |= {f"quality.{name}": getattr(track.quality, name) for name in _QUALITY}
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
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return stored, metadata


def load_track(path: str | Path) -> Track:
    """Read what :func:`save_track` wrote.

    Raises:
        InputError: there is no such file.
        FormatError: the file is no track, of another version, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no track at {path}; check the path.")
    with _explained(path.name):
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            _check_version(metadata, path.name)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        track = _assembled(tensors, json.loads(metadata["track"]))
    _check(track, path.name)
    return track


def track_from_bytes(data: bytes, name: str) -> Track:
    """Read what :func:`track_bytes` made.

    Args:
        data: the file's content.
        name: what to call it in messages.

    Raises:
        FormatError: it is no track, of another version, or damaged.
    """
    with _explained(name):
        length = int.from_bytes(data[:8], "little")  # of the JSON header; safetensors.torch.load drops its metadata
        metadata: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        _check_version(metadata, name)
        track = _assembled(load(data), json.loads(metadata["track"]))
    _check(track, name)
    return track


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what reading a damaged file raises into a :class:`FormatError`."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"The track {name} is damaged ({error}); track the input again.") from error


def _check_version(metadata: dict[str, str], name: str) -> None:
    """Raise :class:`FormatError` where a file is no track of this version."""
    if metadata.get("format") != TRACK_FORMAT:
        raise FormatError(f"{name} is not a saved track; make one with the track command.")
    if metadata.get("version") != str(TRACK_VERSION):
        raise FormatError(
            f"{name} is a track of version {metadata.get('version')}; this release reads version {TRACK_VERSION}: "
            "track the input again."
        )


def _assembled(tensors: dict[str, Tensor], description: dict[str, Any]) -> Track:
    params = HeadParams(**{name: tensors[f"params.{name}"] for name in _PARAMS})
    camera = Camera(
        tensors["camera.intrinsics"],
        tensors["camera.world_to_camera"],
        int(description["width"]),
        int(description["height"]),
    )
    return Track(
        params=params,
        camera=camera,
        fps=float(description["fps"]),
        head_id=str(description["head_id"]),
        confidence=tensors["confidence"],
        warnings=tuple(str(warning) for warning in description["warnings"]),
        quality=_quality(tensors),
        **{name: tensors.get(name) for name in _OPTIONAL},
    )


def _quality(tensors: dict[str, Tensor]) -> FrameQuality | None:
    """The quality record; None in tracks without one."""
    if "quality.state" not in tensors:
        return None
    return FrameQuality(**{name: tensors[f"quality.{name}"] for name in _QUALITY})


def _check(track: Track, name: str) -> None:
    """Raise :class:`FormatError` where the tensors disagree about the number of frames."""
    count = len(track)
    per_frame = {name: getattr(track.params, name) for name in _PARAMS if name != "shape"}
    per_frame["confidence"] = track.confidence
    per_frame.update({name: getattr(track, name) for name in _OPTIONAL if name not in _PER_CLIP})
    if track.quality is not None:
        per_frame.update({f"quality.{name}": getattr(track.quality, name) for name in _QUALITY if name != "jitter"})
    for field, value in per_frame.items():
        if value is not None and len(value) != count:
            raise FormatError(f"The track {name} holds {len(value)} {field} for {count} frames; track the input again.")
        if value is None or field in _MAY_BE_NAN or not value.is_floating_point():
            continue
        if not bool(torch.isfinite(value).all()):
            raise FormatError(f"The track {name} holds {field} that are not finite; track the input again.")
