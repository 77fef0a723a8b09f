"""An avatar as one web page that poses and draws it without a server (docs/web-avatar.md).

The page carries a binary: a header (magic, version, length, CRC-32, length of the description; little-endian), a JSON
description, and arrays at multiples of eight bytes. Bases are sparse rows of int16 with a scale each; a Gaussian's
numbers are float16, int16 and uint16, so that its picture differs from ours by less than the canvas rounds.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.driving import DriveConfig, portrait_view, retarget
from spatialavatar.errors import InputError
from spatialavatar.files import atomic_output
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.provenance import json_ld
from spatialavatar.records import Track

WEB_MAGIC = b"SAVW"
WEB_VERSION = 1

_HEADER = struct.Struct("<4sIIII")
_ALIGNMENT = 8
_MOTION = ("expression", "rotation", "translation", "neck", "jaw", "eyes")
_UNSEEN = 1e-7  # metres; what a basis moves less is left out

Stored = tuple[NDArray[Any], float]


def save_html(avatar: Avatar, path: str | Path, motion: Track | None = None) -> Path:
    """Write the page; the file appears whole or not at all.

    Args:
        avatar: whom it shows.
        path: the file.
        motion: what it plays from the start, carried over to the avatar as ``drive`` does.

    Raises:
        InputError: the Gaussians have other channels than three colours, or the motion is of another head.
        OutputError: the file cannot be written.
    """
    folder = files("spatialavatar.export") / "web"
    page = (folder / "page.html").read_text(encoding="utf-8")
    parts = {
        "provenance": json_ld(),
        "data": base64.b64encode(web_binary(avatar, motion)).decode("ascii"),
        **{name.partition(".")[0]: (folder / name).read_text(encoding="utf-8") for name in _SOURCES},
    }
    for name, text in parts.items():
        page = page.replace(f"{{{{{name}}}}}", text)
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


_SOURCES = ("style.css", "engine.js", "viewer.js")


def web_binary(avatar: Avatar, motion: Track | None = None) -> bytes:
    """The page's data; arguments and errors as for :func:`save_html`."""
    if avatar.gaussians.colors.shape[1] != 3:
        raise InputError(f"A page shows three colours, not {avatar.gaussians.colors.shape[1]} channels.")
    with torch.inference_mode():
        avatar = avatar.to("cpu")
        stored = _head_arrays(avatar) | _gaussian_arrays(avatar)
        description = _description(avatar)
        if motion is not None:
            params, _ = retarget(motion, avatar, DriveConfig())
            stored |= {f"motion_{name}": (_floats(getattr(params, name)), 0.0) for name in _MOTION}
            description["motion"] = {"frames": len(params), "fps": float(motion.fps)}
    return _packed(description, stored)


def _description(avatar: Avatar) -> dict[str, Any]:
    """What the arrays do not say: sizes, names, and the camera and pose that ``drive`` begins with."""
    head = avatar.head
    camera, translation = portrait_view(avatar)
    low, high = skull_box(avatar)
    pivot = 0.5 * (low + high) + translation
    k = camera.intrinsics
    return {
        "head": head.id,
        "gaussians": len(avatar.gaussians),
        "expressions": head.expression_count,
        "units": list(ARKIT_52),
        "parents": list(head.parents),
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])],
            "view": camera.world_to_camera.flatten().tolist(),
        },
        "reference": {"rotation": [0.0] * 3, "translation": translation.tolist(), "neck": [0.0] * 3},
        "pivot": pivot.tolist(),
    }


def _head_arrays(avatar: Avatar) -> dict[str, Stored]:
    """The head model with the person's shape in it."""
    head, identity = avatar.head, avatar.identity()
    floats = {
        "rest": identity.vertices,
        "joints": identity.joints,
        "expression_joints": torch.einsum("jv,evk->ejk", head.joint_regressor, head.expression_basis),
        "weights": head.skinning_weights,
        "unit_expression": head.arkit_to_expression,
        "unit_pose": head.arkit_to_pose,
    }
    stored: dict[str, Stored] = {name: (_floats(tensor), 0.0) for name, tensor in floats.items()}
    stored["faces"] = (head.faces.numpy().astype("<u4"), 0.0)
    stored |= _sparse_rows("expression", head.expression_basis)
    return stored | _sparse_rows("corrective", head.pose_correctives)


def _gaussian_arrays(avatar: Avatar) -> dict[str, Stored]:
    g, layout = avatar.gaussians, avatar.layout
    quats = torch.nn.functional.normalize(g.quats, dim=-1)
    return {
        "face": (layout.faces.numpy().astype("<u4"), 0.0),
        "bary": _steps(layout.bary[:, :2].clamp(0.0, 1.0), "<u2", 65535),
        "means": (g.means.numpy().astype("<f2"), 0.0),
        "quats": _steps(quats, "<i2", 32767),
        "scales": (g.scales.numpy().astype("<f2"), 0.0),
        "opacities": _steps(g.opacities.clamp(0.0, 1.0), "<u2", 65535),
        "colors": (g.colors.numpy().astype("<f2"), 0.0),
    }


def _sparse_rows(name: str, basis: Tensor) -> dict[str, Stored]:
    """A basis (R, V, 3) as the vertices that each row moves: starts (R + 1,), indices, values, scales (R,)."""
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
