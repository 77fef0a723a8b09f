"""FLAME parameters over time, in the files of trackers and speech networks (docs/reference/motion.md).

* ``.npz`` of VHAP (``tracked_flame_params_N.npz``) and GaussianAvatars (``flame_param.npz``): the whole clip.
* a folder of one ``.npz`` a frame, as VHAP exports for GaussianAvatars and LAM (``flame_param/00000.npz``).
* ``.npy`` or ``.pt`` of ARTalk: (T, 106) motion codes, 100 expression, 3 global rotation, 3 jaw.

The coefficients are those of FLAME's basis and drive FLAME heads only. VHAP's world has our axes (y up, +z towards
the viewer, the subject's left at +x), but its camera is at (0, 0, 1) and ours at the origin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.motion.arrays import Budget, read_npy, read_npz, read_tensor
from spatialavatar.motion.record import resting_place
from spatialavatar.motion.schema import Field, check_rate, check_size
from spatialavatar.records import Camera, HeadMotion, HeadParams, Neutral, Track
from spatialavatar.tracking.neutral import neutral_of

CODE_SIZE = 106
"""Numbers in a frame of ARTalk's motion codes."""

_DEFAULT_FPS = 25.0  # of files without a rate; ARTalk's rate
_CODE_EXPRESSIONS = 100
_MAX_SIDE = 16_384  # pixels of VHAP's pictures
_COEFFICIENTS = "coefficients are multiples of a standard deviation"
_JOINT = "joint rotations are axis-angle vectors in radians, not in degrees"

# The schema: every field of VHAP's files that is read.
_EXPRESSION = Field("expr", None, 50.0, _COEFFICIENTS)
_SHAPE = Field("shape", None, 50.0, _COEFFICIENTS)
_PER_FRAME = (
    Field("rotation", 3, 2 * math.pi, _JOINT),
    Field("neck_pose", 3, math.pi, _JOINT),
    Field("jaw_pose", 3, math.pi, _JOINT),
    Field("eyes_pose", 6, math.pi, _JOINT),
    Field("translation", 3, 20.0, "translations are metres, not centimetres"),
)
_NEUTRAL = (
    Field("neutral_expr", None, 50.0, _COEFFICIENTS),
    Field("neutral_jaw_pose", 3, math.pi, _JOINT),
    Field("neutral_eyes_pose", 6, math.pi, _JOINT),
    Field("neutral_rotation", 3, 2 * math.pi, _JOINT),
)
_WIDTHS = {field.name: field.width for field in _PER_FRAME}
_NEEDED = ("expr", "rotation", "jaw_pose")
_KEYS = (
    *("expr", "shape", "fps", "focal_length", "image_size"),
    *(field.name for field in (*_PER_FRAME, *_NEUTRAL)),
)
_CODE_POSE = (_PER_FRAME[0], _PER_FRAME[2])  # ARTalk's rotation and jaw

_VHAP_CAMERA = torch.tensor([0.0, 0.0, 1.0])  # where VHAP's camera stands in its world, metres


@dataclass(frozen=True)
class FlameMotion:
    """T frames of FLAME parameters, with the camera that saw them if the file has it.

    Attributes:
        shape: (S,) identity.
        expr: (T, E) expression.
        rotation: (T, 3) about the root joint, axis-angle, radians; 0 faces +z.
        neck: (T, 3); jaw: (T, 3); eyes: (T, 6) left, right; axis-angle, radians.
        translation: (T, 3) metres, in the world of the file.
        fps: frames per second.
        camera: VHAP's camera, if the file has it; ``translation`` is then in our world.
        neutral: (E + 9,) the person's neutral, if the file has it: expression, jaw, eyes.
        neutral_rotation: (3,) rotation that faces the viewer; None stands for the clip's mean.
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
        """The motion as a track of a FLAME head.

        Args:
            head: a FLAME head.
            name: the file's name, for messages.

        Raises:
            FormatError: ``head`` is not a FLAME head, or has fewer coefficients than the file uses.
        """
        if not head.is_flame:
            raise FormatError(needs_flame(name, head.id))
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
            neutral = neutral_of(params, confidence, head.unit_names)
        else:
            expression = _fitting(self.neutral[None, :-9], head.expression_count, "expression", name)[0]
            neutral = torch.cat([expression, self.neutral[-9:]])
        motion = HeadMotion(params, self.fps, head.id, confidence, Neutral(neutral, self.neutral_rotation))
        return Track(motion, self.camera or Camera.frontal()).to(head.device)

    def _placed(self, head: HeadModel) -> Tensor:
        """(T, 3) translation in our world; without a camera, the clip is put before a frontal one."""
        if self.camera is not None:
            return self.translation
        return self.translation - self.translation.median(0).values + resting_place(head)


def read_flame(path: Path, fps: float | None = None) -> FlameMotion:
    """Read FLAME parameters.

    Args:
        path: an ``.npz``, a folder of them, or motion codes (``.npy``, ``.pt``).
        fps: frames per second; it overrides the file's own rate. Files without one have 25.

    Raises:
        InputError: the file is missing, unreadable or too large, or a value is not plausible.
        FormatError: the file is something else, or contains a pickle.
    """
    name, budget = path.name, Budget(path.name)
    if path.is_dir():
        motion = _from_arrays(_read_folder(path, budget), name)
    elif not path.is_file():
        raise InputError(f"There is no motion file at {path}.")
    elif path.suffix.lower() == ".npz":
        motion = _from_arrays(read_npz(path, _KEYS, budget), name)
    else:
        read = read_npy if path.suffix.lower() == ".npy" else read_tensor
        motion = _from_codes(read(path, budget), name)
    return motion if fps is None else replace(motion, fps=check_rate(fps, name))


def flame_folder(path: Path) -> Path | None:
    """The folder of per-frame files that ``path`` is or holds (as ``flame_param``); None where it is no such folder."""
    for folder in (path, path / "flame_param"):
        if folder.is_dir() and any(folder.glob("*.npz")):
            return folder
    return None


def needs_flame(name: str, head_id: str) -> str:
    """The message about a file of FLAME coefficients for a head that is not a FLAME head."""
    return (
        f"{name} holds FLAME coefficients, which mean nothing on the head {head_id!r}; use an avatar that was made "
        "with your FLAME head (--head, docs/guide/flame.md), or give ARKit weights (.json, .csv): they drive any head."
    )


def check_flame(head_id: str, is_flame: bool, path: Path) -> None:
    """Check that the head is a FLAME head.

    Raises:
        FormatError: the head is not a FLAME head.
    """
    if not is_flame:
        raise FormatError(
            f"{path.name} would hold FLAME coefficients, but the head {head_id!r} has none; track with your FLAME head "
            "(--head, docs/guide/flame.md), or write ARKit weights (.json, .csv)."
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
    """VHAP's keys. Our additions (rate, neutral) are float64, which GaussianAvatars' reader ignores."""
    track = track.without_pictures().to("cpu")
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
    }
    if track.fps > 0:  # a photo has none
        arrays["fps"] = torch.tensor(track.fps, dtype=torch.float64)
    if track.neutral.expression is not None:
        expression, jaw, eyes = track.neutral.expression.double().split([params.expression.shape[1], 3, 6])
        arrays |= {"neutral_expr": expression, "neutral_jaw_pose": jaw, "neutral_eyes_pose": eyes}
    if track.neutral.rotation is not None:
        arrays["neutral_rotation"] = track.neutral.rotation.double()
    return {name: value.detach().numpy() for name, value in arrays.items()} | {
        "image_size": np.array([camera.height, camera.width]),
        "timestep_id": np.array([f"{index:05d}" for index in range(len(track))]),
        "n_processed_frames": np.array(len(track)),
    }


def _read_folder(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The per-frame files of a folder, in the order of their names, as the arrays of one clip."""
    folder = flame_folder(path)
    if folder is None:
        raise InputError(f"The folder {path.name} holds no .npz files; give the folder flame_param of one clip.")
    files = sorted(folder.glob("*.npz"))
    check_size(len(files), 0, path.name)
    frames = [read_npz(files[0], _KEYS, budget)]
    frames += [read_npz(file, ("expr", *_WIDTHS), budget) for file in files[1:]]
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


def _from_arrays(arrays: Mapping[str, np.ndarray], name: str) -> FlameMotion:
    """VHAP's keys, checked."""
    missing = [key for key in _NEEDED if key not in arrays]
    if missing:
        raise FormatError(f"{name} lacks {', '.join(missing)}, so it holds no FLAME parameters of a clip.")
    expr = torch.from_numpy(_EXPRESSION.read(arrays["expr"], name))
    values = {
        field.name: torch.from_numpy(field.read(arrays[field.name], name, len(expr)))
        if field.name in arrays
        else torch.zeros(len(expr), field.width or 0)
        for field in _PER_FRAME
    }
    shape = torch.from_numpy(_SHAPE.read(arrays["shape"].reshape(1, -1), name)[0]) if "shape" in arrays else None
    camera = _vhap_camera(arrays, name)
    if camera is not None:
        values["translation"] = values["translation"] - _VHAP_CAMERA
    own = {
        field.name: torch.from_numpy(field.read(arrays[field.name].reshape(1, -1), name, 1, width)[0])
        for field, width in zip(_NEUTRAL, (expr.shape[1], None, None, None))
        if field.name in arrays
    }
    parts = [own[field.name] for field in _NEUTRAL[:3] if field.name in own]
    return FlameMotion(
        shape=torch.zeros(0) if shape is None else shape,
        expr=expr,
        rotation=values["rotation"],
        neck=values["neck_pose"],
        jaw=values["jaw_pose"],
        eyes=values["eyes_pose"],
        translation=values["translation"],
        fps=check_rate(_scalar(arrays["fps"]), name) if "fps" in arrays else _DEFAULT_FPS,
        camera=camera,
        neutral=torch.cat(parts) if len(parts) == 3 else None,
        neutral_rotation=own.get("neutral_rotation"),
    )


def _vhap_camera(arrays: Mapping[str, np.ndarray], name: str) -> Camera | None:
    """VHAP's one camera, seen in a square picture about the same centre; None where the file does not hold it.

    Its focal length is in units of the picture's longer side; our driving renders squares.
    """
    if "focal_length" not in arrays or "image_size" not in arrays:
        return None
    focal, size = _scalar(arrays["focal_length"]), arrays["image_size"].reshape(-1)
    plausible = len(size) == 2 and bool(((size >= 1) & (size <= _MAX_SIDE)).all())  # false for NaN
    if not plausible or focal is None or not 0.05 <= focal <= 100.0:
        raise FormatError(f"The focal_length and image_size in {name} are not those of a camera; track the clip again.")
    side = int(size.max())
    frontal = Camera.frontal(side)
    intrinsics = frontal.intrinsics.clone()
    intrinsics[[0, 1], [0, 1]] = focal * side
    return frontal.replace(intrinsics=intrinsics)


def _from_codes(codes: np.ndarray, name: str) -> FlameMotion:
    """ARTalk's motion codes, (T, 106) or (1, T, 106), checked."""
    if codes.ndim == 3 and len(codes) == 1:
        codes = codes[0]
    if codes.ndim != 2 or codes.shape[1] != CODE_SIZE or len(codes) == 0:
        raise FormatError(
            f"{name} has shape {tuple(codes.shape)}, not (frames, {CODE_SIZE}) motion codes: 100 expression, "
            "3 rotation, 3 jaw."
        )
    expr, rotation, jaw = (
        torch.from_numpy(field.read(part, name))
        for field, part in zip(
            (_EXPRESSION, *_CODE_POSE), np.split(codes, (_CODE_EXPRESSIONS, _CODE_EXPRESSIONS + 3), axis=1)
        )
    )
    count = len(expr)
    # Codes are relative to FLAME's mean face and to the camera: they have no neutral of a person.
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


def _scalar(value: np.ndarray) -> float | None:
    """The one number of an array; None where it has more or none."""
    return float(value.reshape(-1)[0]) if value.size == 1 else None


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
