"""An avatar as one web page that poses and draws it without a server (docs/guide/web-avatar.md).

The page contains a binary: a header (magic, version, length, CRC-32, length of the description; little-endian), a JSON
description, and arrays at multiples of eight bytes. Bases are sparse rows of int16 with a scale each; a Gaussian's
numbers are float16, int16 and uint16, so that the error of the picture is below the rounding of the canvas. The
features of a residual are a byte each.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.driving import UNIT_LIMITS, DriveConfig, avatar_gains, portrait_view, retarget
from spatialavatar.errors import InputError
from spatialavatar.export.root_triangles import RootTriangles, on_root_triangles
from spatialavatar.export.web_speech import speech_arrays, speech_description
from spatialavatar.files import atomic_output
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.provenance import json_ld
from spatialavatar.records import Track
from spatialavatar.residual import ExpressionResidual
from spatialavatar.tracking.cues import OPEN, SHUT, resting_scores
from spatialavatar.tracking.landmark_sets import LOWER_LID_LEFT, LOWER_LID_RIGHT, UPPER_LID_LEFT, UPPER_LID_RIGHT
from spatialavatar.tracking.live import FILTERS, RADIANS, SETTLING, SETTLING_TIME

WEB_MAGIC = b"SAVW"
WEB_VERSION = 2
LIBRARY = "https://cdn.jsdelivr.net/npm/@mediapipe/tasks-vision@0.10.21"  # later versions send usage reports
MODEL = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"

LOCAL_STREAMS = "ws://127.0.0.1:* ws://localhost:*"
"""Where the motion of a page may come from: programs of the visitor's machine."""

_HEADER = struct.Struct("<4sIIII")
_ALIGNMENT = 8
_MOTION = ("expression", "rotation", "translation", "neck", "jaw", "eyes")
_ADDRESS = re.compile(r"[\w.~:/@%+-]+")  # what can stand in a Content-Security-Policy and in an attribute
_TRACKED_ORIGIN = (0.0, 0.026, 0.024)  # metres from the origin of the landmarker's face to the eyeballs
_UNSEEN = 1e-7  # metres; smaller offsets of a basis are left out

Stored = tuple[NDArray[Any], float]


def save_html(
    avatar: Avatar,
    path: str | Path,
    motion: Track | None = None,
    mediapipe: str | None = None,
    *,
    speech: bool = False,
) -> Path:
    """Write the page; the file appears whole or not at all.

    Args:
        avatar: the avatar.
        path: the file.
        motion: played by the page from the start, retargeted as in ``drive``.
        mediapipe: address of a folder with the face tracker for the visitor's camera: ``vision_bundle.mjs``
            and ``wasm/`` of the npm package @mediapipe/tasks-vision, and ``face_landmarker.task``. By default they
            are loaded from their publishers' servers, when the visitor first starts the camera.
        speech: embed the speech network (1.2 MB), so that the avatar speaks the sound of a microphone or a file.

    Raises:
        InputError: the Gaussians do not have three colour channels, the motion is of a different head, or
            ``mediapipe`` is not an address.
        OutputError: the file cannot be written.
        MissingAssetError: the network's weights are not on disk and cannot be fetched.
    """
    page = html_page(avatar, motion, mediapipe, speech=speech)
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def html_page(
    avatar: Avatar,
    motion: Track | None = None,
    mediapipe: str | None = None,
    streams: str = LOCAL_STREAMS,
    *,
    speech: bool = False,
) -> str:
    """The page's text; arguments and errors as for :func:`save_html`.

    Args:
        avatar: the avatar.
        motion: played by the page from the start.
        mediapipe: address of a folder with the face tracker.
        streams: sources of WebSockets in the page's Content-Security-Policy, from which ?motion=... may come.
        speech: embed the speech network.
    """
    library, model = (LIBRARY, MODEL) if mediapipe is None else _own_tracker(mediapipe)
    folder = files("spatialavatar.export") / "web"
    page = (folder / "page.html").read_text(encoding="utf-8")
    parts = {
        "provenance": json_ld(),
        "policy": _policy(library, model, streams),
        "library": library,
        "model": model,
        "data": base64.b64encode(web_binary(avatar, motion, speech=speech)).decode("ascii"),
        **{name.partition(".")[0]: (folder / name).read_text(encoding="utf-8") for name in _SOURCES},
    }
    for name, text in parts.items():
        page = page.replace(f"{{{{{name}}}}}", text)
    return page


_SOURCES = ("style.css", "engine.js", "speech.js", "webcam.js", "player.js", "motion.js", "speaker.js", "page.js")


def _own_tracker(folder: str) -> tuple[str, str]:
    """Addresses of the library and the model in a folder of one's own."""
    address = urlsplit(folder)
    if not folder or address.scheme not in ("", "http", "https") or not _ADDRESS.fullmatch(folder):
        raise InputError(f"{folder!r} is not a web address; give one like https://example.org/mediapipe, or a folder.")
    return folder.rstrip("/"), f"{folder.rstrip('/')}/{MODEL.rpartition('/')[2]}"


def _policy(library: str, model: str, streams: str) -> str:
    """The page's Content-Security-Policy: it allows the face tracker's two addresses, and streams of motion.

    No script can therefore send camera pictures to another machine.
    """
    library, model = (address if urlsplit(address).scheme else "'self'" for address in (f"{library}/", model))
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob: mediastream:; "
        f"worker-src blob:; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob: {library}; "
        f"connect-src blob: data: {library} {model} {streams}"
    )


def web_binary(avatar: Avatar, motion: Track | None = None, *, speech: bool = False) -> bytes:
    """The page's data; arguments and errors as for :func:`save_html`."""
    if avatar.gaussians.colors.shape[1] != 3:
        raise InputError(f"A page shows three colours, not {avatar.gaussians.colors.shape[1]} channels.")
    with torch.inference_mode():
        avatar = avatar.to("cpu")
        torso = None if avatar.bust is None else on_root_triangles(avatar.bust.gaussians, avatar.bust.neck_weight)
        stored = _head_arrays(avatar, torso) | _gaussian_arrays(avatar, torso)
        if avatar.residual is not None:
            stored |= _residual_arrays(avatar.residual, 0 if torso is None else len(torso.local))
        description = _description(avatar)
        if motion is not None:
            params, _ = retarget(motion, avatar, DriveConfig(), avatar_gains(avatar, motion))
            stored |= {f"motion_{name}": (_floats(getattr(params, name)), 0.0) for name in _MOTION}
            description["motion"] = {"frames": len(params), "fps": float(motion.fps)}
        if speech:
            stored |= {name: (array, 0.0) for name, array in speech_arrays().items()}
            description["speech"] = speech_description()
    return _packed(description, stored)


def _description(avatar: Avatar) -> dict[str, Any]:
    """The JSON description: sizes, names, and the camera and pose at the start of ``drive``."""
    head = avatar.head
    camera, translation = portrait_view(avatar)
    first = avatar.with_torso(head.neutral().replace(translation=translation[None]))
    low, high = skull_box(avatar)
    pivot = 0.5 * (low + high) + translation
    k = camera.intrinsics
    return {
        "head": head.id,
        "gaussians": len(avatar.gaussians) + (0 if avatar.bust is None else len(avatar.bust.gaussians)),
        "expressions": head.expression_count,
        "units": list(ARKIT_52),
        "parents": list(head.parents),
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])],
            "view": camera.world_to_camera.flatten().tolist(),
        },
        "reference": {name: getattr(first, name)[0].tolist() for name in ("rotation", "translation", "neck")},
        "home": translation.tolist(),
        "pivot": pivot.tolist(),
        "driving": _driving(avatar),
    }


def _driving(avatar: Avatar) -> dict[str, Any]:
    """The constants, equal to those of tracking and driving, that map face scores to the avatar's parameters."""
    head, config = avatar.head, DriveConfig()
    filters = {name: [f.min_cutoff, f.beta, f.derivative_cutoff] for name, f in FILTERS.items()}
    lids = {
        "eyeBlinkLeft": (UPPER_LID_LEFT, LOWER_LID_LEFT),
        "eyeBlinkRight": (UPPER_LID_RIGHT, LOWER_LID_RIGHT),
    }
    return {
        "resting": resting_scores(),
        "filters": filters,
        "settling": {"rates": SETTLING, "time": SETTLING_TIME, "radians": RADIANS},
        "limits": list(UNIT_LIMITS) if head.has_named_units else None,
        "neckShare": config.neck_share,
        "torso": _torso(avatar),
        "maxShift": config.max_shift,
        "lids": {
            name: {"corners": [upper[0], upper[-1]], "pairs": list(zip(upper, lower))[3:6]}
            for name, (upper, lower) in lids.items()
        },
        "shut": SHUT,
        "open": OPEN,
        "root": _root_before_camera(avatar),
    }


def _torso(avatar: Avatar) -> dict[str, list[float]] | None:
    """What :func:`spatialavatar.head.turned_at_neck` needs of the reference view; None without a bust."""
    if avatar.bust is None:
        return None
    root, neck = (axis_angle_to_matrix(angles[0]) for angles in (avatar.reference.rotation, avatar.reference.neck))
    joints = avatar.identity().joints
    return {
        "root": root.flatten().tolist(),
        "skull": (root @ neck).flatten().tolist(),
        "arm": (joints[1] - joints[0]).tolist(),
    }


def _root_before_camera(avatar: Avatar) -> list[float]:
    """The root joint seen from the origin of the face that the landmarker poses, metres, head axes."""
    joints = avatar.identity().joints
    return (joints[0] - joints[3:5].mean(0) + torch.tensor(_TRACKED_ORIGIN)).tolist()


def _head_arrays(avatar: Avatar, torso: RootTriangles | None) -> dict[str, Stored]:
    """The head model with the person's shape applied, and after it the torso's triangles."""
    head, identity = avatar.head, avatar.identity()
    floats = {
        "rest": identity.vertices,
        "joints": identity.joints,
        "expression_joints": torch.einsum("jv,evk->ejk", head.joint_regressor, head.expression_basis),
        "weights": head.skinning_weights,
        "unit_expression": head.arkit_to_expression,
        "unit_pose": head.arkit_to_pose,
    }
    faces = head.faces
    if torso is not None:
        corners = len(torso.vertices)
        held = torch.zeros(corners, head.skinning_weights.shape[1])
        held[:, 0], held[:, 1] = 1.0 - torso.neck_weight, torso.neck_weight
        floats["rest"] = torch.cat([identity.vertices, torso.vertices])
        floats["weights"] = torch.cat([head.skinning_weights, held])
        faces = torch.cat([faces, len(head.template) + torch.arange(corners).reshape(-1, 3)])
    stored: dict[str, Stored] = {name: (_floats(tensor), 0.0) for name, tensor in floats.items()}
    stored["faces"] = (faces.numpy().astype("<u4"), 0.0)
    stored |= _sparse_rows("expression", head.expression_basis)
    return stored | _sparse_rows("corrective", head.pose_correctives)


def _gaussian_arrays(avatar: Avatar, torso: RootTriangles | None) -> dict[str, Stored]:
    """The head's Gaussians, then those of the torso, on their triangles."""
    g, face, bary = avatar.gaussians, avatar.layout.faces, avatar.layout.bary
    if avatar.bust is not None and torso is not None:
        g = avatar.bust.beside(g).joined(torso.local)
        face = torch.cat([face, len(avatar.head.faces) + torso.face])
        bary = torch.cat([bary, torch.tensor([[1.0, 0.0, 0.0]]).expand(len(torso.local), 3)])
    quats = torch.nn.functional.normalize(g.quats, dim=-1)
    return {
        "face": (face.numpy().astype("<u4"), 0.0),
        "bary": _steps(bary[:, :2].clamp(0.0, 1.0), "<u2", 65535),
        "means": (g.means.numpy().astype("<f2"), 0.0),
        "quats": _steps(quats, "<i2", 32767),
        "scales": (g.scales.numpy().astype("<f2"), 0.0),
        "opacities": _steps(g.opacities.clamp(0.0, 1.0), "<u2", 65535),
        "colors": (g.colors.numpy().astype("<f2"), 0.0),
    }


def _residual_arrays(residual: ExpressionResidual, fixed: int) -> dict[str, Stored]:
    """The residual; each of the C features has its own range, divided into 256 steps.

    It has no effect on the ``fixed`` last Gaussians.
    """
    low, high = residual.features.aminmax(dim=0)
    step = ((high - low) / 255).clamp_min(1e-30)
    features = ((residual.features - low) / step).round().numpy().astype("<u1")
    floats = {name: (_floats(tensor), 0.0) for name, tensor in {**residual.weights(), "low": low, "step": step}.items()}
    features = np.pad(features, ((0, fixed), (0, 0)))
    freedom = torch.nn.functional.pad(residual.freedom, (0, fixed))
    of_texels = {"features": (features, 0.0), "freedom": _steps(freedom, "<u1", 255)}
    return {f"residual_{name}": array for name, array in {**of_texels, **floats}.items()}


def _sparse_rows(name: str, basis: Tensor) -> dict[str, Stored]:
    """A basis (R, V, 3) in sparse rows: starts (R + 1,), vertex indices, values, scales (R,)."""
    rows = basis.numpy()
    moved = np.abs(rows).max(2) > _UNSEEN
    row, vertex = np.nonzero(moved)
    scales = np.abs(rows).max((1, 2), initial=0.0) / 32767
    values = np.rint(rows[row, vertex] / np.maximum(scales[row, None], 1e-30))
    return {
        f"{name}_starts": (np.concatenate([[0], np.cumsum(moved.sum(1))]).astype("<u4"), 0.0),
        f"{name}_indices": (vertex.astype("<u4"), 0.0),
        f"{name}_values": (values.astype("<i2"), 0.0),
        f"{name}_scales": (scales.astype("<f4"), 0.0),
    }


def _floats(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.numpy().astype("<f4")


def _steps(tensor: Tensor, dtype: str, steps: int) -> Stored:
    """Numbers of at most 1 as whole multiples of 1 / steps."""
    return (tensor * steps).round().numpy().astype(dtype), 1.0 / steps


def _packed(description: dict[str, Any], stored: dict[str, Stored]) -> bytes:
    """Header, description and arrays.

    Offsets count from the start of the file, so the description's length is fixed before they are known: it is padded
    with spaces, which JSON ignores.
    """
    sizes = [len(array.tobytes()) for array, _ in stored.values()]
    draft = json.dumps({**description, "arrays": _table(stored, [10**9] * len(sizes))})
    begin = _aligned(_HEADER.size + len(draft.encode()))
    offsets, end = [], begin
    for size in sizes:
        offsets.append(end)
        end = _aligned(end + size)
    text = json.dumps({**description, "arrays": _table(stored, offsets)}).encode().ljust(begin - _HEADER.size)
    body = text + b"".join(_padded(array.tobytes()) for array, _ in stored.values())
    return _HEADER.pack(WEB_MAGIC, WEB_VERSION, _HEADER.size + len(body), zlib.crc32(body), len(text)) + body


def _table(stored: dict[str, Stored], offsets: list[int]) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": array.dtype.name, "offset": offset, "count": array.size, "scale": scale}
        for (name, (array, scale)), offset in zip(stored.items(), offsets)
    ]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
