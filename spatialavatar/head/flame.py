"""A user's own FLAME file (2020, 2023 or 2023 Open) as a :class:`HeadModel`.

FLAME (Li et al. 2017, "Learning a model of facial shape and expression from 4D scans") has the form of
:class:`HeadModel`, so loading converts names and axes only. The result poses like ``smplx.FLAME`` up to rounding.
Neither smplx nor chumpy is needed, and no code in a pickle runs (:mod:`.restricted_pickle`).

Data that a FLAME file lacks come from other sources: UVs from its template mesh, parts and the ARKit-52 map from a
*reference* head such as the open one, landmarks by ``scripts/convert_flame.py``.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.model import HEAD_FORMAT, HEAD_VERSION, JOINTS, HeadModel
from spatialavatar.head.restricted_pickle import MAX_ELEMENTS, read_pickle
from spatialavatar.npy_header import read_npy_header
from spatialavatar.render.mesh import vertex_normals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPE_COUNT = 300
EXPRESSION_COUNT = 100

_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")
_FOLDER_NAMES = ("FLAME_NEUTRAL.pkl", "FLAME_NEUTRAL.npz", "generic_model.pkl", "flame2023.pkl")
_PARENTS = (-1, 0, 1, 1, 1)
_JAW, _EYE_LEFT, _EYE_RIGHT = 2, 3, 4
_LICENCE = (
    "The licence that the FLAME file came under (FLAME 2020 and 2023: non-commercial research; FLAME 2023 Open: "
    "CC-BY-4.0); see flame.is.tue.mpg.de."
)

# Without a reference head: radians at weight 1. The jaw opens about +x; eyes look up about -x, to the left about +y.
_JAW_OPEN, _JAW_SIDE = np.deg2rad(18.0), np.deg2rad(8.0)
_LOOK_UP, _LOOK_DOWN, _LOOK_SIDE = np.deg2rad(25.0), np.deg2rad(30.0), np.deg2rad(35.0)

_SKIN = ("face", "scalp", "ears", "neck", "lips", "mouth")
_ALIGNMENT_ROUNDS = 20
_ALIGNMENT_SHARE = 0.7  # of the vertices, the nearest: shoulders and skulls are cut differently
_NORMAL_METRES = 0.02  # distance of points that equals the distance of opposite normals
_MAX_VALUE = 1e3  # of any array of a head: metres, metres per unit, or weights
_MAX_MESH_BYTES = 1 << 28  # FLAME's template mesh has 1 MB
_UNIT_NOISE = 0.5e-3  # metres; error of a reference unit relative to coefficients of size 1


def load_flame(
    path: str | Path,
    *,
    uv: str | Path | None = None,
    reference: HeadModel | None = None,
    expressions: str | Path | None = None,
    shape_count: int | None = None,
) -> HeadModel:
    """Read a FLAME file.

    Args:
        path: ``.pkl`` or ``.npz`` as downloaded, or smplx's folder (with ``FLAME_NEUTRAL.pkl`` in it).
        uv: ``head_template.obj`` or ``FLAME_texture.npz``, the source of the UVs; without it the model can be tracked
            and posed, but carries no Gaussians.
        reference: a head whose parts and ARKit-52 map are transferred to the nearest points of the FLAME head; without
            it, all faces except the eyes are "face", and ARKit-52 drives only the jaw and the eyes.
        expressions: ``.npz`` with ``arkit_to_expression`` (52, E) and optionally ``arkit_to_pose`` (52, 9); it
            overrides the reference's map.
        shape_count: number of shape directions that are identity; the rest are expression (300, as in FLAME).

    Returns:
        The head, without landmarks; see ``scripts/convert_flame.py``, which adds them.

    Raises:
        InputError: a file does not exist or cannot be opened.
        FormatError: a file is damaged or no FLAME model, or the files do not match.
    """
    source = _find(Path(path))
    arrays = _checked(read_arrays(source, _KEYS), source)
    split = SHAPE_COUNT if shape_count is None else shape_count
    available = arrays["shapedirs"].shape[2]
    if not 0 < split < available:
        raise FormatError(
            f"{source} has {available} shape directions, so {split} for identity leave none for expression; FLAME has "
            f"{SHAPE_COUNT} + {EXPRESSION_COUNT}, so download the full file or pass shape_count."
        )
    template, faces = arrays["v_template"], arrays["f"]
    directions = arrays["shapedirs"].transpose(2, 0, 1)
    posedirs = arrays["posedirs"].transpose(2, 0, 1)
    expression = directions[split:]
    part_names, face_parts = _eye_parts(faces, arrays["weights"])
    to_expression, to_pose = np.zeros((52, len(expression))), _default_pose_map()
    if reference is not None:
        carried = _Reference(reference, template, faces, arrays["J_regressor"])
        part_names, face_parts = reference.parts, carried.parts(faces, arrays["weights"])
        to_expression, to_pose = carried.expression_map(expression, arrays["weights"]), _array(reference.arkit_to_pose)
    if expressions is not None:
        to_expression, to_pose = _read_expression_map(Path(expressions), to_expression, to_pose)
    tensors = {
        "template": template,
        "faces": faces,
        "face_parts": face_parts,
        "uv": np.full((len(faces), 3, 2), -1.0) if uv is None else read_uv(Path(uv), faces),
        "shape_basis": directions[:split],
        "expression_basis": expression,
        "pose_correctives": posedirs,
        "joint_regressor": arrays["J_regressor"],
        "skinning_weights": arrays["weights"],
        "parents": np.array(_PARENTS),
        "mirror_vertices": cKDTree(template).query(template * [-1.0, 1.0, 1.0])[1],
        "arkit_to_expression": to_expression,
        "arkit_to_pose": to_pose,
    }
    digest = hashlib.sha256()
    for name, array in tensors.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    info = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "id": f"flame-{digest.hexdigest()[:12]}",
        "joints": list(JOINTS),
        "parts": list(part_names),
        "expressions": [f"flame_{index:03d}" for index in range(len(expression))],
        "licence": _LICENCE,
        "provenance": f"Converted from {source.name}.",
    }
    return HeadModel({name: _tensor(array) for name, array in tensors.items()}, info)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read the named arrays of a FLAME ``.pkl`` or ``.npz``; no code in it runs, and missing names are left out.

    Raises:
        InputError: the file cannot be opened.
        FormatError: it is neither, or one of the named values is not an array of plain numbers, or is too large.
    """
    if path.suffix.lower() != ".npz":
        return read_pickle(path, names)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.getinfo(f"{name}.npy") for name in names if f"{name}.npy" in archive.namelist()}
            return {name: _member(archive, member) for name, member in members.items()}
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error}); check the path.") from error
    except Exception as error:  # zipfile and NumPy raise many types for a damaged archive
        raise FormatError(
            f"{path} is not an archive of plain arrays ({error}); use the .pkl or download it again."
        ) from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Read one array of an archive, after a check of its unpacked size."""
    if member.file_size > 8 * MAX_ELEMENTS:
        raise ValueError(f"{member.filename} has {member.file_size >> 20} MB")
    with archive.open(member) as file:
        shape, fortran, dtype = read_npy_header(file)
        if dtype.kind not in "biuf":
            raise ValueError(f"{member.filename} has the type {dtype}")
        if min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
            raise ValueError(f"{member.filename} has more than {MAX_ELEMENTS:,} numbers")
        size = math.prod(shape) * dtype.itemsize
        data = bytearray(file.read(size))
    if len(data) < size:
        raise ValueError(f"{member.filename} ends within its numbers")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_uv(path: Path, faces: Ints) -> Floats:
    """UV of each face corner (F, 3, 2), origin top left, v down, from an ``.obj`` or an ``.npz`` with vt and ft.

    Args:
        path: the template mesh, or the texture archive.
        faces: (F, 3) faces of the FLAME model.

    Raises:
        InputError: the file cannot be opened.
        FormatError: it has no UVs, or those of a different mesh.
    """
    if path.suffix.lower() == ".obj":
        corners, coordinates, indices = _read_obj(path)
        order = {tuple(sorted(corner)): row for row, corner in enumerate(corners.tolist())}
        rows = np.array([order.get(tuple(sorted(face)), -1) for face in faces.tolist()])
        if len(corners) == 0 or (rows < 0).any():
            raise FormatError(
                f"{path} has no UVs for {int((rows < 0).sum())} of the {len(faces)} faces of this FLAME model; use the "
                "head_template.obj that belongs to it."
            )
        match = (corners[rows][:, None, :] == faces[:, :, None]).argmax(2)
        chosen = np.take_along_axis(indices[rows], match, 1)
    else:
        arrays = read_arrays(path, ("vt", "ft"))
        if not {"vt", "ft"} <= arrays.keys():
            raise FormatError(f"{path} lacks vt and ft; give FLAME_texture.npz or head_template.obj.")
        with np.errstate(invalid="ignore"):
            coordinates, chosen = np.asarray(arrays["vt"], np.float64), np.asarray(arrays["ft"], np.int64)
        if coordinates.ndim != 2 or coordinates.shape[1] < 2:
            raise FormatError(f"The vt in {path} has shape {coordinates.shape}, not (any, 2); download the file again.")
        if chosen.shape != faces.shape:
            raise FormatError(
                f"The ft in {path} has shape {chosen.shape}, the FLAME model's faces have {faces.shape}; use the file "
                "that belongs to it."
            )
    if chosen.min() < 0 or chosen.max() >= len(coordinates) or not np.isfinite(coordinates).all():
        raise FormatError(f"The UVs in {path} are damaged; download the file again.")
    uv = coordinates[chosen][..., :2]
    return np.stack([uv[..., 0], 1.0 - uv[..., 1]], axis=-1)


def _read_obj(path: Path) -> tuple[Ints, Floats, Ints]:
    """Triangles (T, 3) of vertex indices, UVs (N, 2) with v up, and triangles (T, 3) of UV indices."""
    corners, coordinates, indices = [], [], []
    if path.is_file() and path.stat().st_size > _MAX_MESH_BYTES:
        raise FormatError(f"{path} has more than {_MAX_MESH_BYTES >> 20} MB, so it is not a head's template mesh.")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                kind, *values = line.split() or [""]
                if kind == "vt":
                    coordinates.append([float(values[0]), float(values[1])])
                elif kind == "f" and all(re.fullmatch(r"\d{1,9}/\d{1,9}(/\d*)?", value) for value in values):
                    pairs = [[int(number) - 1 for number in value.split("/")[:2]] for value in values]
                    for k in range(1, len(pairs) - 1):
                        corners.append([pairs[0][0], pairs[k][0], pairs[k + 1][0]])
                        indices.append([pairs[0][1], pairs[k][1], pairs[k + 1][1]])
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, IndexError) as error:
        raise FormatError(f"{path} is not a readable OBJ mesh ({error}); download it again.") from error
    empty = (0, 3)
    return (
        np.array(corners, np.int64).reshape(-1, 3) if corners else np.zeros(empty, np.int64),
        np.array(coordinates, np.float64).reshape(-1, 2),
        np.array(indices, np.int64).reshape(-1, 3) if indices else np.zeros(empty, np.int64),
    )


def _find(path: Path) -> Path:
    """The model file: ``path`` itself, or the one in the folder ``path``."""
    if path.is_dir():
        for name in _FOLDER_NAMES:
            if (path / name).is_file():
                return path / name
        raise InputError(f"The folder {path} holds none of {', '.join(_FOLDER_NAMES)}; point to the FLAME file itself.")
    if not path.is_file():
        raise InputError(f"There is no FLAME file at {path}; give the .pkl or .npz from flame.is.tue.mpg.de.")
    return path


def _checked(values: Mapping[str, Any], source: Path) -> dict[str, NDArray[Any]]:
    """Check the model's arrays and convert their types."""
    missing = [key for key in _KEYS if key not in values]
    if missing:
        raise FormatError(
            f"{source} lacks {', '.join(missing)}, so it is not a FLAME model; give the model file itself."
        )
    arrays: dict[str, NDArray[Any]] = {}
    for key in _KEYS:
        try:
            with np.errstate(invalid="ignore"):  # not-a-number as a vertex: the range of the faces is checked below
                arrays[key] = np.asarray(values[key], np.int64 if key in ("f", "kintree_table") else np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"The {key} in {source} is not an array of numbers; download the file again.") from error
        if arrays[key].dtype == np.float64 and not np.isfinite(arrays[key]).all():
            raise FormatError(f"The {key} in {source} holds values that are not finite; download the file again.")
        if arrays[key].dtype == np.float64 and np.abs(arrays[key]).max(initial=0.0) > _MAX_VALUE:
            raise FormatError(f"The {key} in {source} holds values above {_MAX_VALUE:g}; download the file again.")
    vertices, joints = len(arrays["v_template"]), len(_PARENTS)
    expected: dict[str, tuple[int | None, ...]] = {
        "v_template": (None, 3),
        "f": (None, 3),
        "shapedirs": (vertices, 3, None),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices),
        "kintree_table": (2, joints),
        "weights": (vertices, joints),
    }
    for key, shape in expected.items():
        actual = arrays[key].shape
        if len(actual) != len(shape) or any(want not in (None, got) for want, got in zip(shape, actual)):
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise FormatError(
                f"The {key} in {source} has shape {actual}, not ({wanted}): this is not a FLAME head model."
            )
    parents = arrays["kintree_table"][0].astype(np.uint32).astype(np.int32)  # the root's is -1 as uint32
    if tuple(parents[1:]) != _PARENTS[1:]:
        raise FormatError(f"The joints in {source} are not connected as in FLAME; give the file of a FLAME model.")
    if vertices < 4 or not len(arrays["f"]):
        raise FormatError(f"The mesh in {source} has no faces or fewer than four vertices; download the file again.")
    if not 0 <= arrays["f"].min() <= arrays["f"].max() < vertices:
        raise FormatError(f"The faces in {source} name vertices that do not exist; download the file again.")
    return arrays


def _eye_parts(faces: Ints, weights: Floats) -> tuple[tuple[str, ...], Ints]:
    """Part names and the part of each face (F,), by the skinning weights of the eye joints."""
    bound = weights[faces].mean(1)
    return ("face", "eye_left", "eye_right"), np.select([bound[:, _EYE_LEFT] > 0.5, bound[:, _EYE_RIGHT] > 0.5], [1, 2])


def _default_pose_map() -> Floats:
    """(52, 9): the units that turn the jaw and the eyes."""
    pose = np.zeros((52, 9))
    pose[ARKIT_INDEX["jawOpen"], 0] = _JAW_OPEN
    pose[ARKIT_INDEX["jawLeft"], 1], pose[ARKIT_INDEX["jawRight"], 1] = _JAW_SIDE, -_JAW_SIDE
    for side, first, outwards in (("Left", 3, 1.0), ("Right", 6, -1.0)):
        pose[ARKIT_INDEX[f"eyeLookUp{side}"], first] = -_LOOK_UP
        pose[ARKIT_INDEX[f"eyeLookDown{side}"], first] = _LOOK_DOWN
        pose[ARKIT_INDEX[f"eyeLookOut{side}"], first + 1] = outwards * _LOOK_SIDE
        pose[ARKIT_INDEX[f"eyeLookIn{side}"], first + 1] = -outwards * _LOOK_SIDE
    return pose


def _read_expression_map(path: Path, to_expression: Floats, to_pose: Floats) -> tuple[Floats, Floats]:
    """Read the user's ARKit-52 map; a matrix that the file lacks does not change."""
    arrays = read_arrays(path, ("arkit_to_expression", "arkit_to_pose"))
    result = []
    for name, present in (("arkit_to_expression", to_expression), ("arkit_to_pose", to_pose)):
        value = np.asarray(arrays.get(name, present), np.float64)
        if value.shape != present.shape:
            raise FormatError(f"The {name} in {path} has shape {value.shape}, not {present.shape}.")
        result.append(value)
    if "arkit_to_expression" not in arrays:
        raise FormatError(f"{path} lacks arkit_to_expression, a matrix of {to_expression.shape} numbers.")
    return result[0], result[1]


class _Reference:
    """A head aligned with the FLAME template, whose attributes are transferred by nearest points."""

    def __init__(self, head: HeadModel, template: Floats, faces: Ints, regressor: Floats) -> None:
        self._head = head
        points, joints = _array(head.template), _array(head.joint_regressor @ head.template)
        eyes, own_eyes = (regressor @ template)[[_EYE_LEFT, _EYE_RIGHT]], joints[[_EYE_LEFT, _EYE_RIGHT]]
        scale, offset = 1.0, eyes.mean(0) - own_eyes.mean(0)
        for _ in range(_ALIGNMENT_ROUNDS):  # nearest points, scale and shift only: both heads face the same way
            distance, nearest = cKDTree(points * scale + offset).query(template)
            kept = distance <= np.quantile(distance, _ALIGNMENT_SHARE)
            own, goal = points[nearest[kept]], template[kept]
            own_mean, goal_mean = own.mean(0), goal.mean(0)
            scale = float(((own - own_mean) * (goal - goal_mean)).sum() / ((own - own_mean) ** 2).sum())
            offset = goal_mean - scale * own_mean
        self._scale = scale
        self._points = points * scale + offset
        self._template = template
        self._normals = vertex_normals(template, faces).astype(np.float64)
        own_faces = _array(head.faces)
        self._skin = np.flatnonzero(np.isin(np.array(head.parts)[_array(head.face_parts)], _SKIN))
        self._corners = own_faces[self._skin]
        self._own_normals = vertex_normals(points, own_faces).astype(np.float64)

    def parts(self, faces: Ints, weights: Floats) -> Ints:
        """(F,) index into the reference's parts: the nearest skin face's, or an eye's."""
        normals = _unit(self._own_normals[self._corners].mean(1))
        tree = cKDTree(np.concatenate([self._points[self._corners].mean(1), _NORMAL_METRES / 2 * normals], axis=1))
        middles = self._template[faces].mean(1)
        query = np.concatenate([middles, _NORMAL_METRES / 2 * _unit(self._normals[faces].mean(1))], axis=1)
        parts = _array(self._head.face_parts)[self._skin][tree.query(query)[1]]
        _, eye = _eye_parts(faces, weights)
        names = self._head.parts
        return np.select([eye == 1, eye == 2], [names.index("eye_left"), names.index("eye_right")], parts)

    def expression_map(self, basis: Floats, weights: Floats) -> Floats:
        """(52, E): each unit of the reference as a FLAME expression, by regularised least squares on the skin."""
        head = self._head
        used = np.unique(self._corners)
        tree = cKDTree(np.concatenate([self._points[used], _NORMAL_METRES / 2 * self._own_normals[used]], axis=1))
        skin = weights[:, _EYE_LEFT] + weights[:, _EYE_RIGHT] < 0.5
        query = np.concatenate([self._template, _NORMAL_METRES / 2 * self._normals], axis=1)[skin]
        nearest = used[tree.query(query)[1]]
        units = torch.tensordot(head.arkit_to_expression, head.expression_basis[:, torch.from_numpy(nearest)], 1)
        goal = _array(units).reshape(52, -1) * self._scale
        design = basis[:, skin].reshape(len(basis), -1)
        normal = design @ design.T + _UNIT_NOISE**2 * np.eye(len(basis))
        return np.linalg.solve(normal, design @ goal.T).T


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array = tensor.detach().cpu().numpy()
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    whole = np.issubdtype(array.dtype, np.integer)
    return torch.from_numpy(np.ascontiguousarray(array, np.int64 if whole else np.float32))
