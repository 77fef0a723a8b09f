"""The head model: a linear shape and expression space, pose correctives and linear blend skinning (FLAME's form).

One class covers the open head of the package and users' FLAME files; sizes are read from the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.files import make_folder, write_text
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import HeadParams
from spatialavatar.strict_json import parse_json
from spatialavatar.tensor_files import FLOATS, TensorFile, TensorSpec, bounded, write_safetensors

HEAD_FORMAT = "spatialavatar.head"
HEAD_VERSION = 1
JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")

_REQUIRED = (
    "template",
    "faces",
    "face_parts",
    "uv",
    "shape_basis",
    "expression_basis",
    "pose_correctives",
    "joint_regressor",
    "skinning_weights",
    "parents",
    "mirror_vertices",
    "arkit_to_expression",
    "arkit_to_pose",
)
BEHIND_LIPS = ("mouth", "tongue", "teeth_upper", "teeth_lower")
"""Parts that are visible through an open mouth only; a head may lack some."""

_MAX_DESCRIPTION_BYTES = 1 << 20
_MAX_NAMES = 4096  # of parts, or of expressions
_LARGEST = 1e3  # metres, metres per unit, or weights

_QUANTISED = ("shape_basis", "expression_basis", "pose_correctives")
_INDEX = ("I32", "I64", "U8")
_SCHEMA = {
    "template": bounded(_LARGEST, "V", 3),
    "faces": TensorSpec(("F", 3), _INDEX, low=0),
    "face_parts": TensorSpec(("F",), _INDEX, low=0),
    "uv": bounded(_LARGEST, "F", 3, 2),
    "shape_basis": bounded(_LARGEST, "S", "V", 3, dtypes=(*FLOATS, "I8")),
    "shape_basis_scale": bounded(_LARGEST, "S", optional=True),
    "expression_basis": bounded(_LARGEST, "E", "V", 3, dtypes=(*FLOATS, "I8")),
    "expression_basis_scale": bounded(_LARGEST, "E", optional=True),
    "pose_correctives": bounded(_LARGEST, 9 * (len(JOINTS) - 1), "V", 3, dtypes=(*FLOATS, "I8")),
    "pose_correctives_scale": bounded(_LARGEST, 9 * (len(JOINTS) - 1), optional=True),
    "joint_regressor": bounded(_LARGEST, "J", "V"),
    "skinning_weights": bounded(_LARGEST, "V", "J"),
    "parents": TensorSpec(("J",), ("I32", "I64"), low=-1, high=len(JOINTS) - 1),
    "mirror_vertices": TensorSpec(("V",), _INDEX, low=0),
    "arkit_to_expression": bounded(_LARGEST, "A", "E"),
    "arkit_to_pose": bounded(_LARGEST, "A", 9),
}
_LANDMARKS = {
    name: spec
    for count in (478, 68)
    for name, spec in {
        f"lmk{count}_faces": TensorSpec((count,), _INDEX, low=0),
        f"lmk{count}_bary": bounded(_LARGEST, count, 3),
    }.items()
}
_INTEGERS = ("faces", "face_parts", "parents", "mirror_vertices", "lmk478_faces", "lmk68_faces")


@dataclass(frozen=True)
class Identity:
    """A person's rest head, which is constant over all frames.

    Attributes:
        vertices: (V, 3) rest vertices with shape (and avatar offsets) applied, metres, head space.
        joints: (J, 3) rest joints, metres, head space; avatar offsets do not move them.
    """

    vertices: Tensor
    joints: Tensor


class HeadModel:
    """A FLAME-style head: ``vertices = LBS(template + shape + expression + pose correctives)``.

    Attributes:
        id: of the file's content; stored in tracks and avatars.
        template: (V, 3) mean rest vertices, metres, head space.
        faces: (F, 3) int64, counter-clockwise from outside.
        face_parts: (F,) int64 index into ``parts``.
        uv: (F, 3, 2) per face corner, origin top left; -1 for faces without UVs.
        shape_basis: (S, V, 3), metres per unit of a N(0, 1) coefficient.
        expression_basis: (E, V, 3), metres at weight 1.
        expressions: E names.
        arkit_to_expression: (52, E); arkit_to_pose: (52, 9) jaw, left eye, right eye, radians at weight 1.
    """

    def __init__(self, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        """Check and adopt the tensors of the head-file format (docs/reference/formats.md).

        Raises:
            FormatError: a tensor is missing, of the wrong shape, or not finite.
        """
        tensors = _dequantised(tensors)
        missing = [name for name in _REQUIRED if name not in tensors]
        if missing:
            raise FormatError(f"The head file lacks {', '.join(missing)}; build or download it again.")
        self.info = info
        self.id = str(info["id"])
        self.parts: tuple[str, ...] = tuple(info["parts"])
        self.expressions: tuple[str, ...] = tuple(info["expressions"])
        self.template = tensors["template"]
        self.faces = tensors["faces"]
        self.face_parts = tensors["face_parts"]
        self.uv = tensors["uv"]
        self.shape_basis = tensors["shape_basis"]
        self.expression_basis = tensors["expression_basis"]
        self.pose_correctives = tensors["pose_correctives"]
        self.joint_regressor = tensors["joint_regressor"]
        self.skinning_weights = tensors["skinning_weights"]
        self.parents: tuple[int, ...] = tuple(int(p) for p in tensors["parents"])
        self.mirror_vertices = tensors["mirror_vertices"]
        self.arkit_to_expression = tensors["arkit_to_expression"]
        self.arkit_to_pose = tensors["arkit_to_pose"]
        self.landmark_embeddings: dict[int, tuple[Tensor, Tensor]] = {
            count: (tensors[f"lmk{count}_faces"], tensors[f"lmk{count}_bary"])
            for count in (478, 68)
            if f"lmk{count}_faces" in tensors
        }
        self._check()

    def _check(self) -> None:
        v, f, j = len(self.template), len(self.faces), len(self.parents)
        s, e = len(self.shape_basis), len(self.expression_basis)
        expected = {
            "template": (v, 3),
            "faces": (f, 3),
            "face_parts": (f,),
            "uv": (f, 3, 2),
            "shape_basis": (s, v, 3),
            "expression_basis": (e, v, 3),
            "pose_correctives": ((j - 1) * 9, v, 3),
            "joint_regressor": (j, v),
            "skinning_weights": (v, j),
            "mirror_vertices": (v,),
            "arkit_to_expression": (52, e),
            "arkit_to_pose": (52, 9),
        }
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape:
                raise FormatError(f"The head file's {name} has shape {tuple(tensor.shape)}, not {shape}.")
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise FormatError(f"The head file's {name} holds values that are not finite; the file is damaged.")
        if j != len(JOINTS):
            raise FormatError(f"The head file has {j} joints, not the {len(JOINTS)} of {', '.join(JOINTS)}.")
        if len(self.expressions) != e:
            raise FormatError(f"The head file names {len(self.expressions)} expressions but holds {e}.")
        embedded = [faces for faces, _ in self.landmark_embeddings.values()]
        for what, of, indices, count in [
            ("faces", "vertices", self.faces, v),
            ("face parts", "names", self.face_parts, len(self.parts)),
            ("mirrored vertices", "vertices", self.mirror_vertices, v),
            *(("landmarks", "faces", faces, f) for faces in embedded),
        ]:
            if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < count:
                raise FormatError(f"The head file's {what} name {of} that do not exist; the file is damaged.")
        if self.parents[0] != -1 or any(not 0 <= parent < child for child, parent in enumerate(self.parents) if child):
            raise FormatError("The head file's joints do not form a tree; the file is damaged.")

    @classmethod
    def load(cls, folder: str | Path) -> HeadModel:
        """Read ``head.safetensors`` and ``head.json`` from ``folder``.

        Raises:
            MissingAssetError: one of the two files does not exist.
            FormatError: they cannot be read or do not match.
        """
        folder = Path(folder)
        weights, description = folder / "head.safetensors", folder / "head.json"
        for path in (weights, description):
            if not path.is_file():
                raise MissingAssetError(f"There is no head model at {path}: point to a folder that holds {path.name}.")
        damaged = f"The head model in {folder} cannot be read; build or download it again."
        info = _read_description(description, damaged)
        file = TensorFile(weights, damaged, f"The head model in {folder}")
        schema = {**_SCHEMA, **{name: _LANDMARKS[name] for name in _LANDMARKS if name in file.entries}}
        tensors = file.read(schema, {"J": len(JOINTS), "A": len(ARKIT_52)}, "build or download it again")
        unscaled = [name for name in _QUANTISED if tensors[name].dtype == torch.int8 and f"{name}_scale" not in tensors]
        if unscaled:
            raise FormatError(f"The head model in {folder} lacks the scale of {unscaled[0]}; build it again.")
        return cls(tensors, info)

    def save(self, folder: str | Path) -> None:
        """Write the model as a head-file folder, in half precision where the format allows it.

        Each of the two files appears whole or not at all.

        Raises:
            OutputError: the folder cannot be made or written.
        """
        folder = make_folder(folder)
        write_safetensors(folder / "head.safetensors", self.tensors(), {})
        write_text(folder / "head.json", json.dumps(self.info, indent=1) + "\n")

    def tensors(self) -> dict[str, Tensor]:
        """The tensors as the file format stores them."""
        half = {"shape_basis", "expression_basis", "pose_correctives"}
        stored = {name: getattr(self, name) for name in _REQUIRED if name != "parents"}
        stored["parents"] = torch.tensor(self.parents)
        for count, (faces, bary) in self.landmark_embeddings.items():
            stored[f"lmk{count}_faces"], stored[f"lmk{count}_bary"] = faces, bary
        result = {}
        for name, tensor in stored.items():
            dtype = torch.float16 if name in half else torch.int32 if name in _INTEGERS else torch.float32
            result[name] = tensor.to("cpu", torch.uint8 if name == "face_parts" else dtype).contiguous()
        return result

    @property
    def shape_count(self) -> int:
        """S, the number of identity coefficients."""
        return int(self.shape_basis.shape[0])

    @property
    def expression_count(self) -> int:
        """E, the number of expression coefficients."""
        return int(self.expression_basis.shape[0])

    @property
    def unit_names(self) -> tuple[str, ...] | None:
        """Names of the expressions if they are named units; None if they are statistical coefficients."""
        return self.expressions if self.has_named_units else None

    @property
    def has_named_units(self) -> bool:
        """Whether every expression is an ARKit unit, which rests at 0 and goes to 1, and not a statistical one."""
        return set(self.expressions) <= set(ARKIT_52)

    @property
    def is_flame(self) -> bool:
        """Whether the expressions are FLAME's own, in FLAME's order."""
        return all(name == f"flame_{index:03d}" for index, name in enumerate(self.expressions))

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.template.device

    def to(self, device: torch.device | str) -> HeadModel:
        """Return the model on ``device``: itself if it is there already, else a copy."""
        if torch.device(device) == self.device:
            return self
        moved = {name: getattr(self, name).to(device) for name in _REQUIRED if name != "parents"}
        moved["parents"] = torch.tensor(self.parents)
        for count, (faces, bary) in self.landmark_embeddings.items():
            moved[f"lmk{count}_faces"], moved[f"lmk{count}_bary"] = faces.to(device), bary.to(device)
        return HeadModel(moved, self.info)

    def neutral(self, frames: int = 1) -> HeadParams:
        """The mean head at rest at the world's origin."""
        return HeadParams.neutral(self.shape_count, self.expression_count, frames).to(self.device)

    def available_parts(self, *parts: str) -> tuple[str, ...]:
        """Return those of the named parts that this head has."""
        return tuple(part for part in parts if part in self.parts)

    def part_faces(self, *parts: str) -> Tensor:
        """(F,) bool: the faces that belong to any of the named parts."""
        unknown = set(parts) - set(self.parts)
        if unknown:
            raise InputError(f"The head {self.id} has no part called {', '.join(sorted(unknown))}.")
        indices = torch.tensor([self.parts.index(p) for p in parts], device=self.device)
        return torch.isin(self.face_parts, indices)

    def part_vertices(self, *parts: str) -> Tensor:
        """(V,) bool: the vertices that any face of the named parts uses."""
        mask = torch.zeros(len(self.template), dtype=torch.bool, device=self.device)
        mask[self.faces[self.part_faces(*parts)].reshape(-1)] = True
        return mask

    def identity(self, shape: Tensor, offsets: Tensor | None = None) -> Identity:
        """The rest head of shape (S,), with ``offsets`` (V, 3) in metres added to its vertices."""
        if shape.shape != (self.shape_count,):
            raise InputError(
                f"The shape has {tuple(shape.shape)} coefficients, the head {self.id} needs ({self.shape_count},); "
                "use the head model that the file was made with."
            )
        vertices = self.template + torch.tensordot(shape, self.shape_basis, 1)
        joints = self.joint_regressor @ vertices
        return Identity(vertices if offsets is None else vertices + offsets, joints)

    @cached_property
    def _expression_joints(self) -> Tensor:
        """(E, J, 3): offsets of the joints per unit of expression."""
        return torch.einsum("jv,evk->ejk", self.joint_regressor, self.expression_basis)

    @cached_property
    def _sparse_correctives(self) -> tuple[Tensor, Tensor]:
        """Rows of the pose correctives that are not zero, and their (P, V, 3) values."""
        rows = self.pose_correctives.abs().amax((1, 2)) > 0
        return rows, self.pose_correctives[rows]

    def pose(self, identity: Identity, params: HeadParams) -> Tensor:
        """Posed vertices (T, V, 3), metres, world.

        Joint rotations are relative to the parent; the global rotation is about the root joint, as in FLAME.
        """
        count = len(params)
        rest = identity.vertices + torch.tensordot(params.expression, self.expression_basis, 1)
        joints = identity.joints + torch.tensordot(params.expression, self._expression_joints, 1)
        angles = torch.stack([params.rotation, params.neck, params.jaw, params.eyes[:, :3], params.eyes[:, 3:]], 1)
        rotations = axis_angle_to_matrix(angles)
        feature = (rotations[:, 1:] - torch.eye(3, dtype=rest.dtype, device=rest.device)).reshape(count, -1)
        rows, correctives = self._sparse_correctives
        rest = rest + torch.tensordot(feature[:, rows], correctives, 1)
        linear, offset = self._joint_transforms(rotations, joints)
        blended_linear = torch.einsum("vj,tjab->tvab", self.skinning_weights, linear)
        blended_offset = torch.einsum("vj,tja->tva", self.skinning_weights, offset)
        posed = (blended_linear @ rest[..., None]).squeeze(-1) + blended_offset
        return posed + params.translation[:, None]

    def _joint_transforms(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """World transforms of each joint relative to rest: linear (T, J, 3, 3) and offset (T, J, 3)."""
        linear: list[Tensor] = []
        positions: list[Tensor] = []
        for j, parent in enumerate(self.parents):
            if parent < 0:
                linear.append(rotations[:, j])
                positions.append(joints[:, j])
                continue
            step = (linear[parent] @ (joints[:, j] - joints[:, parent])[..., None]).squeeze(-1)
            linear.append(linear[parent] @ rotations[:, j])
            positions.append(positions[parent] + step)
        stacked = torch.stack(linear, 1)
        offset = torch.stack(positions, 1) - (stacked @ joints[..., None]).squeeze(-1)
        return stacked, offset

    def vertices(self, params: HeadParams, offsets: Tensor | None = None) -> Tensor:
        """Posed vertices (T, V, 3), metres, world; ``offsets`` (V, 3) are added to the rest head."""
        return self.pose(self.identity(params.shape, offsets), params)

    def landmarks(self, vertices: Tensor, count: int = 478) -> Tensor:
        """Landmarks (..., count, 3) on vertices (..., V, 3); ``count`` is 478 (dense) or 68 (iBUG)."""
        if count not in self.landmark_embeddings:
            raise InputError(f"The head {self.id} has no {count}-point landmarks; use a head file that contains them.")
        faces, bary = self.landmark_embeddings[count]
        return (vertices[..., self.faces[faces], :] * bary[..., None]).sum(-2)

    def from_arkit(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ARKit-52 coefficients (T, 52) to expression (T, E), jaw (T, 3) and eyes (T, 6)."""
        pose = coefficients @ self.arkit_to_pose
        return coefficients @ self.arkit_to_expression, pose[:, :3], pose[:, 3:]


def _read_description(path: Path, damaged: str) -> dict[str, Any]:
    """The content of ``head.json``.

    Raises:
        FormatError: the file does not describe a head model, or has an unsupported version.
    """
    try:
        if path.stat().st_size > _MAX_DESCRIPTION_BYTES:
            raise ValueError("it is too large")
        info = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(damaged) from error
    if not isinstance(info, dict):
        raise FormatError(damaged)
    if info.get("format") != HEAD_FORMAT or info.get("version") != HEAD_VERSION:
        raise FormatError(
            f"{path} is of the format {str(info.get('format'))[:40]!r} version {str(info.get('version'))[:40]}; "
            f"this release reads {HEAD_FORMAT!r} version {HEAD_VERSION}."
        )
    for key in ("parts", "expressions"):
        names = info.get(key)
        few = isinstance(names, list) and 1 <= len(names) <= _MAX_NAMES
        if not few or not all(isinstance(name, str) and name for name in names or ()):
            raise FormatError(f"{path} has no list of names under {key}; build or download the head model again.")
    if not isinstance(info.get("id"), str) or not info["id"]:
        raise FormatError(f"{path} has no id; build or download the head model again.")
    return info


def _dequantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored tensors as float32 and int64, with int8 bases multiplied by their scales."""
    result = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale"):
            continue
        if name in _INTEGERS:
            result[name] = tensor.long()
        elif tensor.dtype == torch.int8:
            scale = tensors[f"{name}_scale"].float()
            result[name] = tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))
        else:
            result[name] = tensor.float()
    return result


@lru_cache(maxsize=4)
def load_head(folder: str | Path) -> HeadModel:
    """Read a head model once per process and folder."""
    return HeadModel.load(folder)
