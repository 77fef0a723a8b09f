"""An avatar as the ZIP that LAM's web renderers read (npm gaussian-splat-renderer-for-lam 0.0.8, aigc3d/LAM_WebRender).

The archive holds one folder with four files. The renderer uses them as follows:

* ``skin.glb``: one skinned mesh, a vertex for each Gaussian, with morph targets named after ARKit's units and two bones
  that the renderer looks up by name, ``hip`` and ``head``. It is not drawn, and only ``head`` moves anything.
* ``offset.ply``: the Gaussians in the order of the vertices. Places count from the vertex, and colours are plain sRGB
  in [0, 1] where a splat PLY has harmonics.
* ``animation.glb``: clips that move ``head``, taken in order for the states hello (2), idle (1), speak (6), think (3).
* ``vertex_order.json``: the vertices from the farthest to the nearest, seen from the front.

The renderer adds offsets, vertices and weighted morph targets, moves the sum with ``head``, and keeps each Gaussian's
rotation and size as they are. A bust, which does not move with ``head``, is left out. Its camera stands at (0, 1.8, 1)
m and looks down by 10 degrees, at (0, 1.62, 0).
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.errors import InputError
from spatialavatar.export.frames import units_alone
from spatialavatar.export.gltf import INDICES, VERTICES, Glb
from spatialavatar.export.ply import ply_bytes, ply_properties, splat_columns
from spatialavatar.files import atomic_output
from spatialavatar.head import UVLayout
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.threads import one_torch_thread

CLIPS = 2 + 1 + 6 + 3
"""Clips for the renderer's states; with fewer it stops at the state that has none."""

_LOOKED_AT = (0.0, 1.62, 0.0)  # metres
_MAX_VECTORS = 4096 * 2048  # texels of the renderer's table of vertices and morph targets
_STEP = 2.0**-20  # metres: morph targets are whole micrometres, so that the archive packs their zeros
_CLIP_SECONDS = 4.0  # the renderer blends clips over half a second
_NECK = 1


def save_lam_zip(avatar: Avatar, path: str | Path) -> Path:
    """Write the avatar as a LAM archive; the file appears whole or not at all.

    Args:
        avatar: the avatar, at rest until the renderer receives weights.
        path: the file; the renderer refuses an address without ``.zip``.

    Raises:
        InputError: the Gaussians do not have three colour channels, or there are more of them than the renderer
            supports, or the name does not end in ``.zip``.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise InputError(f"LAM's renderers only open names that end in .zip; call {path.name} {path.stem}.zip.")
    if len(avatar.gaussians) * (len(ARKIT_52) + 1) > _MAX_VECTORS:
        most = _MAX_VECTORS // (len(ARKIT_52) + 1)
        raise InputError(
            f"LAM's renderers hold {most} Gaussians, this avatar has {len(avatar.gaussians)}; generate a smaller one."
        )
    if avatar.gaussians.colors.shape[1] != 3:
        raise InputError(f"A LAM archive holds three colours, not {avatar.gaussians.colors.shape[1]} channels.")
    folder = path.stem.encode("utf-8", "replace").decode().replace("?", "_")  # a ZIP's names are UTF-8
    parts = _parts(avatar)
    with atomic_output(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{folder}/"), b"")  # the renderer needs the folder's own entry
        for name, data in parts.items():
            archive.writestr(f"{folder}/{name}", data)
    return path


def _parts(avatar: Avatar) -> dict[str, bytes]:
    """The four files by name."""
    with torch.inference_mode(), one_torch_thread():
        avatar = avatar.without_bust().to("cpu")
        identity = avatar.identity()
        low, high = skull_box(avatar)
        to_view = torch.tensor(_LOOKED_AT) - 0.5 * (low + high)
        rest, units = avatar.pose(avatar.head.neutral(), identity), units_alone(avatar)
        morphs = torch.stack([avatar.pose(units[i], identity).means - rest.means for i in range(len(units))])
        posed = avatar.head.pose(identity, avatar.head.neutral())[0]
        skin = avatar.layout.surface(avatar.head, posed) + to_view
        offsets = rest.means + to_view - skin
        neck = identity.joints[_NECK] + to_view
        order = torch.argsort(skin[:, 2], stable=True).tolist()
        columns = splat_columns(offsets, rest.colors, rest)
    return {
        "skin.glb": _skin(_floats(skin), _floats((morphs / _STEP).round() * _STEP), avatar.layout, _floats(neck)),
        "offset.ply": ply_bytes(columns, ply_properties()),
        "animation.glb": _animation(_floats(neck)),
        "vertex_order.json": json.dumps(order, separators=(",", ":")).encode(),
    }


def _skin(points: np.ndarray, morphs: np.ndarray, layout: UVLayout, neck: np.ndarray) -> bytes:
    """``skin.glb``: points (N, 3), morphs (52, N, 3) and the neck's joint (3,), metres."""
    glb = Glb()
    inverse = np.tile(np.eye(4, dtype="<f4"), (2, 1, 1))
    inverse[1, 3, :3] = -neck  # column by column: the translation is the last row
    joints, weights = np.zeros((2, len(points), 4), "<f4")
    joints[:, 0] = weights[:, 0] = 1.0  # all of it is head
    primitive = {
        "attributes": {
            "POSITION": glb.accessor(points, VERTICES, box=True),
            "JOINTS_0": glb.accessor(joints.astype("u1"), VERTICES),
            "WEIGHTS_0": glb.accessor(weights, VERTICES),
        },
        "indices": glb.accessor(_texel_faces(layout).reshape(-1), INDICES),
        "targets": glb.morphs(morphs),
    }
    mesh = {"name": "head", "primitives": [primitive], "extras": {"targetNames": list(ARKIT_52)}}
    skin = {"joints": [0, 1], "inverseBindMatrices": glb.accessor(inverse)}
    nodes = [*_bones(neck), {"name": "avatar", "mesh": 0, "skin": 0}]
    return glb.packed({"scenes": [{"nodes": [0, 2]}], "nodes": nodes, "meshes": [mesh], "skins": [skin]})


def _animation(neck: np.ndarray) -> bytes:
    """``animation.glb``: no clip moves the head, so that only the page's weights move it."""
    glb = Glb()
    times = glb.accessor(np.array([0.0, _CLIP_SECONDS], "<f4"), box=True)
    still = glb.accessor(np.array([[0.0, 0.0, 0.0, 1.0]] * 2, "<f4"))
    clip = {
        "samplers": [{"input": times, "output": still, "interpolation": "LINEAR"}],
        "channels": [{"sampler": 0, "target": {"node": 1, "path": "rotation"}}],
    }
    clips = [{"name": f"still_{i}", **clip} for i in range(CLIPS)]
    return glb.packed({"scenes": [{"nodes": [0]}], "nodes": _bones(neck), "animations": clips})


def _bones(neck: np.ndarray) -> list[dict[str, Any]]:
    return [{"name": "hip", "children": [1]}, {"name": "head", "translation": neck.tolist()}]


def _texel_faces(layout: UVLayout) -> np.ndarray:
    """(G, 3) triangles between Gaussians whose texels touch, counter-clockwise from outside."""
    side = layout.resolution
    index = np.full((side, side), -1)
    index.reshape(-1)[layout.texels.numpy()] = np.arange(len(layout))
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack(three, -1).reshape(-1, 3) for three in ((a, c, b), (b, c, d))])
    return faces[(faces >= 0).all(1)].astype("<u4")


def _floats(tensor: Tensor) -> np.ndarray:
    return tensor.numpy().astype("<f4")
