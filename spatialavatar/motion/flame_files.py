"""FLAME parameters over time, as other people's trackers and speech networks write them (docs/motion.md).

* ``.npz`` of VHAP (``tracked_flame_params_N.npz``) and GaussianAvatars (``flame_param.npz``): the whole clip.
* a folder of one ``.npz`` a frame, as VHAP exports for GaussianAvatars and LAM (``flame_param/00000.npz``).
* ``.npy`` or ``.pt`` of ARTalk: (T, 106) motion codes, 100 expression, 3 global rotation, 3 jaw.

The coefficients mean something on a FLAME head only. VHAP's world has our axes (y up, +z towards the viewer, the
subject's left at +x) but its camera stands at (0, 0, 1), ours at the origin. No pickle is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.motion.record import resting_place
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.tracking.neutral import neutral_of

CODE_SIZE = 106
"""Numbers in a frame of ARTalk's motion codes."""

_DEFAULT_FPS = 25.0  # of the files, that do not say; ARTalk's own rate
_CODE_EXPRESSIONS = 100
_WIDTHS = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
_NEEDED = ("expr", "rotation", "jaw_pose")
_NEUTRAL = {"neutral_expr": None, "neutral_jaw_pose": 3, "neutral_eyes_pose": 6}
_VHAP_CAMERA = torch.tensor([0.0, 0.0, 1.0])  # where VHAP's camera stands in its world, metres


@dataclass(frozen=True)
class FlameMotion:
    """T frames of FLAME parameters and what is known about their camera.

    Attributes:
        shape: (S,) identity.
        expr: (T, E) expression.
        rotation: (T, 3) about the root joint, axis-angle, radians; 0 faces +z.
        neck: (T, 3); jaw: (T, 3); eyes: (T, 6) left, right; axis-angle, radians.
        translation: (T, 3) metres, in the world of the file.
        fps: frames per second.
        camera: VHAP's, where the file has it; its world is then ours.
        neutral: (E + 9,) the person's own neutral, where the file has it: expression, jaw, eyes.
        neutral_rotation: (3,) rotation that counts as facing the viewer; None: the clip's mean.
    """

    shape: Tensor
    expr: Tensor
    rotation: Tensor
    neck: Tensor
    jaw: Tensor
    eyes: Tensor
    translation: Tensor
    fps: float = _DEFAULT_FPS
    camera: Camera | None = None
    neutral: Tensor | None = None
    neutral_rotation: Tensor | None = None

    def to_track(self, head: HeadModel, name: str = "the file") -> Track:
        """As a track of a FLAME head.

        Args:
            head: a FLAME head.
            name: what to call the file in messages.

        Raises:
            FormatError: ``head`` is no FLAME head, or has fewer coefficients than the file uses.
        """
        if not head.is_flame:
            raise FormatError(
                f"{name} holds FLAME coefficients, which mean nothing on the head {head.id!r}; use an avatar that was "
                "made with your FLAME head (--head, docs/heads.md), or give ARKit weights (.json, .csv): they drive "
                "any head."
            )
        params = HeadParams(
            shape=_fitting(self.shape[None], head.shape_count, "shape", name)[0],
            expression=_fitting(self.expr, head.expression_count, "expression", name),
            rotation=self.rotation,
            translation=self._placed(head.to("cpu")),
            neck=self.neck,
            jaw=self.jaw,
            eyes=self.eyes,
        )
        confidence = torch.ones(len(params))
        if self.neutral is None:
            neutral = neutral_of(params, confidence, head.has_named_units)
        else:
            expression = _fitting(self.neutral[None, :-9], head.expression_count, "expression", name)[0]
            neutral = torch.cat([expression, self.neutral[-9:]])
        return Track(
            params=params,
            camera=self.camera or Camera.frontal(),
            fps=self.fps,
            head_id=head.id,
            confidence=confidence,
            neutral_expression=neutral,
            neutral_rotation=self.neutral_rotation,
        ).to(head.device)

    def _placed(self, head: HeadModel) -> Tensor:
        """(T, 3) translation in our world; without a camera, the clip is put before a frontal one."""
        if self.camera is not None:
            return self.translation
        return self.translation - self.translation.median(0).values + resting_place(head)


def read_flame(path: Path, fps: float | None = None) -> FlameMotion:
    """Read FLAME parameters.

    Args:
        path: an ``.npz``, a folder of them, or motion codes (``.npy``, ``.pt``).
        fps: frames per second, which the files do not say; by default 25.

    Raises:
        InputError: the file is missing, unreadable, or holds values that are not finite.
        FormatError: it is something else, or holds a pickle.
    """
    if path.is_dir():
        motion = _from_arrays(_read_folder(path), path.name)
    elif not path.is_file():
        raise InputError(f"There is no motion file at {path}.")
    elif path.suffix.lower() == ".npz":
        motion = _from_arrays(_read_npz(path), path.name)
    else:
        motion = _from_codes(_read_codes(path), path.name)
    for field in fields(FlameMotion):
        value = getattr(motion, field.name)
        if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
            raise InputError(f"The {field.name} in {path.name} holds values that are not finite; track it again.")
    if fps is not None:
        motion = FlameMotion(**{**vars(motion), "fps": fps})
    if not 0.0 < motion.fps <= 1000.0:
        raise InputError(f"{path.name} plays at {motion.fps} frames per second; it needs a rate from 1 to 1000.")
    return motion


def flame_folder(path: Path) -> Path | None:
    """The folder of per-frame files that ``path`` is or holds (as ``flame_param``); None where it is no such folder."""
    for folder in (path, path / "flame_param"):
        if folder.is_dir() and any(folder.glob("*.npz")):
            return folder
    return None


def check_flame(head_id: str, is_flame: bool, path: Path) -> None:
    """Refuse to write FLAME parameters of another head.

    Raises:
        FormatError: the head is no FLAME head.
    """
    if not is_flame:
        raise FormatError(
            f"{path.name} would hold FLAME coefficients, but the head {head_id!r} has none; track with your FLAME head "
            "(--head, docs/heads.md), or write ARKit weights (.json, .csv)."
        )


def write_flame(track: Track, path: Path) -> None:
    """Write a track of a FLAME head: ``.npz`` as VHAP does, ``.npy`` codes as ARTalk does, else a folder of frames.

    Raises:
        OutputError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        params = track.params
        # No neck in the codes: it and the global rotation are one, as the tracker has them.
        expression = _padded(params.expression.detach().cpu(), _CODE_EXPRESSIONS)
        codes = torch.cat([expression, params.rotation.cpu(), params.jaw.cpu()], 1).float()
        with atomic_output(path) as temporary:
            np.save(temporary, codes.numpy())
        return
    arrays = _to_arrays(track)
    if suffix == ".npz":
        with atomic_output(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        return
    path.mkdir(parents=True, exist_ok=True)
    per_frame = ("expr", *_WIDTHS)
    for index in range(len(track)):
        frame = {name: array[[index]] if name in per_frame else array for name, array in arrays.items()}
        del frame["timestep_id"], frame["n_processed_frames"]
        with atomic_output(path / f"{index:05d}.npz") as temporary:
            np.savez(temporary, **frame)  # type: ignore[arg-type]


def _to_arrays(track: Track) -> dict[str, np.ndarray]:
    """VHAP's keys; what is ours (rate, neutral) is float64, which GaussianAvatars' reader leaves out."""
    track = track.replace(images=None, mattes=None, segments=None).to("cpu")
    params, camera = track.params, track.camera
    arrays = {
        "shape": params.shape.float(),
        "expr": params.expression.float(),
        "rotation": params.rotation.float(),
        "neck_pose": params.neck.float(),
        "jaw_pose": params.jaw.float(),
        "eyes_pose": params.eyes.float(),
        "translation": params.translation.float() + _VHAP_CAMERA,
        "focal_length": (camera.intrinsics[0, 0] / max(camera.width, camera.height)).float()[None],
        "fps": torch.tensor(track.fps, dtype=torch.float64),
    }
    if track.neutral_expression is not None:
        expression, jaw, eyes = track.neutral_expression.double().split([params.expression.shape[1], 3, 6])
        arrays |= {"neutral_expr": expression, "neutral_jaw_pose": jaw, "neutral_eyes_pose": eyes}
    if track.neutral_rotation is not None:
        arrays["neutral_rotation"] = track.neutral_rotation.double()
    return {name: value.detach().numpy() for name, value in arrays.items()} | {
        "image_size": np.array([camera.height, camera.width]),
        "timestep_id": np.array([f"{index:05d}" for index in range(len(track))]),
        "n_processed_frames": np.array(len(track)),
    }


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of plain numbers or texts in an archive."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error}); check the file.") from error
    except Exception as error:  # zip and array errors of a damaged archive are many
        raise FormatError(_no_plain_arrays(path)) from error


def _read_folder(path: Path) -> dict[str, np.ndarray]:
    """The per-frame files of a folder, in the order of their names, as the arrays of one clip."""
    folder = flame_folder(path)
    if folder is None:
        raise InputError(f"The folder {path.name} holds no .npz files; give the folder flame_param of one clip.")
    frames = [_read_npz(file) for file in sorted(folder.glob("*.npz"))]
    clip = dict(frames[0])
    for name in ("expr", *_WIDTHS):
        if name in clip:
            try:
                clip[name] = np.concatenate([frame[name] for frame in frames])
            except (KeyError, ValueError) as error:
                raise FormatError(
                    f"Not every frame in {path.name} has the same {name}; export the clip again."
                ) from error
    return clip


def _read_codes(path: Path) -> Any:
    """The array of an ``.npy``, the tensor of a ``.pt`` read by torch's reader that runs no code."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error}); check the file.") from error
    except Exception as error:  # a damaged archive or pickle can fail in any way at all
        raise FormatError(_no_plain_arrays(path)) from error


def _no_plain_arrays(path: Path) -> str:
    return (
        f"{path.name} holds no plain arrays: it is damaged, or has Python objects in it (a pickle), which are "
        "never run; export the motion again."
    )


def _from_arrays(arrays: Mapping[str, np.ndarray], name: str) -> FlameMotion:
    missing = [key for key in _NEEDED if key not in arrays]
    if missing:
        raise FormatError(f"{name} lacks {', '.join(missing)}, so it holds no FLAME parameters of a clip.")
    expr = _numbers(arrays["expr"], "expr", name)
    if expr.ndim != 2 or len(expr) == 0:
        raise FormatError(f"The expr in {name} has shape {tuple(expr.shape)}, not (frames, coefficients).")
    values = {}
    for key, width in _WIDTHS.items():
        value = _numbers(arrays[key], key, name) if key in arrays else torch.zeros(len(expr), width)
        if tuple(value.shape) != (len(expr), width):
            raise FormatError(f"The {key} in {name} has shape {tuple(value.shape)}, not ({len(expr)}, {width}).")
        values[key] = value
    shape = _numbers(arrays["shape"], "shape", name).reshape(-1) if "shape" in arrays else torch.zeros(0)
    camera = _vhap_camera(arrays, name)
    if camera is not None:
        values["translation"] = values["translation"] - _VHAP_CAMERA
    neutral = None
    if all(key in arrays for key in _NEUTRAL):
        neutral = torch.cat([_numbers(arrays[key], key, name).reshape(-1) for key in _NEUTRAL])
        if len(neutral) != expr.shape[1] + 9:
            raise FormatError(f"The neutral in {name} has {len(neutral)} numbers, not {expr.shape[1] + 9}.")
    facing = None
    if "neutral_rotation" in arrays:
        facing = _numbers(arrays["neutral_rotation"], "neutral_rotation", name).reshape(-1)
        if len(facing) != 3:
            raise FormatError(f"The neutral_rotation in {name} has {len(facing)} numbers, not 3.")
    fps = _numbers(arrays["fps"], "fps", name).reshape(-1) if "fps" in arrays else torch.tensor([_DEFAULT_FPS])
    return FlameMotion(
        shape=shape,
        expr=expr,
        rotation=values["rotation"],
        neck=values["neck_pose"],
        jaw=values["jaw_pose"],
        eyes=values["eyes_pose"],
        translation=values["translation"],
        fps=float(fps[0]) if len(fps) == 1 else 0.0,
        camera=camera,
        neutral=neutral,
        neutral_rotation=facing,
    )


def _vhap_camera(arrays: Mapping[str, np.ndarray], name: str) -> Camera | None:
    """VHAP's one camera, seen in a square picture about the same centre; None where the file does not hold it.

    Its focal length is in units of the picture's longer side; our driving renders squares.
    """
    if "focal_length" not in arrays or "image_size" not in arrays:
        return None
    focal, size = (_numbers(arrays[key], key, name).reshape(-1) for key in ("focal_length", "image_size"))
    if len(focal) != 1 or len(size) != 2 or not (float(focal[0]) > 0 and float(size.min()) >= 1):
        raise FormatError(f"The focal_length and image_size in {name} are no camera; track it again.")
    side = int(size.max())
    frontal = Camera.frontal(side)
    intrinsics = frontal.intrinsics.clone()
    intrinsics[[0, 1], [0, 1]] = float(focal[0]) * side
    return frontal.replace(intrinsics=intrinsics)


def _from_codes(codes: Any, name: str) -> FlameMotion:
    value = torch.as_tensor(codes) if isinstance(codes, (np.ndarray, Tensor)) and _is_numeric(codes) else None
    if value is not None and value.ndim == 3 and len(value) == 1:
        value = value[0]
    if value is None or value.ndim != 2 or value.shape[1] != CODE_SIZE or len(value) == 0:
        found = type(codes).__name__ if value is None else f"shape {tuple(value.shape)}"
        raise FormatError(
            f"{name} holds {found}, not (frames, {CODE_SIZE}) motion codes: 100 expression, 3 rotation, 3 jaw."
        )
    expr, rotation, jaw = value.float().split([_CODE_EXPRESSIONS, 3, 3], 1)
    count = len(value)
    # Codes are relative to FLAME's mean face and to the camera: nobody's own neutral is in them.
    return FlameMotion(
        shape=torch.zeros(0),
        expr=expr,
        rotation=rotation,
        neck=torch.zeros(count, 3),
        jaw=jaw,
        eyes=torch.zeros(count, 6),
        translation=torch.zeros(count, 3),
        neutral=torch.zeros(_CODE_EXPRESSIONS + 9),
        neutral_rotation=torch.zeros(3),
    )


def _is_numeric(value: np.ndarray | Tensor) -> bool:
    return isinstance(value, Tensor) or value.dtype.kind in "fiu"


def _numbers(value: np.ndarray, key: str, name: str) -> Tensor:
    if value.dtype.kind not in "fiu":
        raise FormatError(f"The {key} in {name} is no array of numbers; export the motion again.")
    return torch.from_numpy(np.asarray(value, np.float32))


def _fitting(values: Tensor, count: int, kind: str, name: str) -> Tensor:
    """Coefficients (T, N) as (T, count): the head's further ones are 0; more than it has must not be used."""
    if values.shape[1] > count and bool(values[:, count:].any()):
        raise FormatError(
            f"{name} uses {values.shape[1]} {kind} coefficients and the head has {count}; convert the full FLAME file."
        )
    return _padded(values, count)


def _padded(values: Tensor, count: int) -> Tensor:
    kept = values[:, :count]
    return torch.cat([kept, kept.new_zeros(len(kept), count - kept.shape[1])], 1)
