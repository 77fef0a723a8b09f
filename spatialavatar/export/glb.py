"""An avatar as a GLB (glTF 2.0): the parts of its head as textured meshes with a skeleton and morph targets.

The texture holds each Gaussian's colour at its texel, spread over the atlas' empty texels so that no seam shows. Faces
without a place in the atlas carry no Gaussians and are left out. Axes are glTF's, which are those of head space (y up,
the face looks along +z); units are metres, the middle of the skull is the origin. The material is unlit: the photos'
light is in the colours.

The skeleton is the head model's: ``root``, ``neck``, ``jaw``, ``eye_left``, ``eye_right``. Morph targets are the 52
ARKit units and the 15 Oculus visemes, so that engines which support only morphs need no bone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.errors import InputError
from spatialavatar.export.bust_mesh import BustMesh, bust_mesh
from spatialavatar.export.frames import units_alone
from spatialavatar.export.gltf import INDICES, VERTICES, Glb
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.model import JOINTS
from spatialavatar.speech.coarticulation import REACH, arkit_weights, articulate
from spatialavatar.speech.visemes import VISEMES

MESHES: Mapping[str, str] = {
    "eyeball_left": "eye_left",
    "eyeball_right": "eye_right",
    "teeth_upper": "teeth_upper",
    "teeth_lower": "teeth_lower",
    "tongue": "tongue",
}
"""The meshes beside ``head`` and the part of the head model in each; no mesh has the name of a bone."""

MORPHS: tuple[str, ...] = (*ARKIT_52, *(f"viseme_{name}" for name in VISEMES))
"""The morph targets of the mesh ``head``; another mesh has those that move it."""

_UNSEEN = 0.1  # opacity below which the colour of a Gaussian is unreliable
_MIN_MOTION = 1e-6  # metres; a morph that moves a mesh by less is left out of it
_BONES = 4  # that may move one vertex, by the format


@dataclass(frozen=True)
class _Surface:
    """The whole resting head.

    Attributes:
        points: (V, 3) float32 vertices, metres, about the skull's middle.
        joints: (J, 3) float32 joints, likewise.
        morphs: (M, V, 3) float32 offsets of the vertices, in the order of ``MORPHS``.
        middle: (3,) float32 the skull's middle in head space.
    """

    points: np.ndarray
    joints: np.ndarray
    morphs: np.ndarray
    middle: np.ndarray


@dataclass(frozen=True)
class _Corners:
    """Vertices of one mesh, split where the atlas has seams.

    Attributes:
        vertices: (P,) int64 vertex of the head.
        uv: (P, 2) float32.
        faces: (G, 3) uint32 triangles of them.
    """

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray


def save_glb(avatar: Avatar, path: str | Path) -> Path:
    """Write the avatar's head as a GLB; the file appears whole or not at all.

    Raises:
        InputError: the Gaussians have other channels than three colours.
        OutputError: the file cannot be written.
    """
    with torch.inference_mode():
        avatar = avatar.to("cpu")
        texture = io.BytesIO()
        Image.fromarray(lifted_texture(avatar)).save(texture, format="PNG")
        surface = _surface(avatar)
        bust = None if avatar.bust is None else bust_mesh(avatar.bust)
    data = _packed(avatar.head, surface, bust, texture.getvalue())
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_bytes(data)
    return path


def lifted_texture(avatar: Avatar) -> np.ndarray:
    """(U, U, 3) uint8 sRGB: the Gaussians' colours at their texels, elsewhere that of the nearest one; at rest."""
    if avatar.gaussians.colors.shape[1] != 3:
        raise InputError(f"A texture holds three colours, not {avatar.gaussians.colors.shape[1]} channels.")
    gaussians, layout = avatar.local(avatar.head.neutral()), avatar.layout
    colors = layout.to_image(gaussians.colors).cpu().numpy()
    seen = gaussians.opacities > _UNSEEN
    known = layout.to_image((seen if bool(seen.any()) else ~seen)[:, None].float())[..., 0].cpu().numpy() > 0
    row, column = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.rint(colors[row, column].clip(0.0, 1.0) * 255.0).astype(np.uint8)


def viseme_weights() -> Tensor:
    """(15, 52) float32: the ARKit weights of each of ``VISEMES`` when it is held in speech of middling loudness."""
    held = np.repeat(np.eye(len(VISEMES), dtype=np.float32)[:, None], 2 * REACH + 1, axis=1)
    weights = arkit_weights(articulate(held, np.full(held.shape[:2], 0.5, np.float32)))
    return torch.from_numpy(weights[:, 0].astype(np.float32))


def _surface(avatar: Avatar) -> _Surface:
    """The resting head and what each morph adds to it at weight 1."""
    head, identity = avatar.head, avatar.identity()
    rest = head.pose(identity, head.neutral())[0]
    units = head.pose(identity, units_alone(avatar)) - rest
    expression, jaw, eyes = head.from_arkit(viseme_weights())
    visemes = head.pose(identity, head.neutral(len(expression)).replace(expression=expression, jaw=jaw, eyes=eyes))
    low, high = skull_box(avatar)
    middle = 0.5 * (low + high)
    return _Surface(
        points=_floats(rest - middle),
        joints=_floats(identity.joints - middle),
        morphs=_floats(torch.cat([units, visemes - rest])),
        middle=_floats(middle),
    )


def mesh_parts(head: HeadModel) -> dict[str, tuple[str, ...]]:
    """The meshes of a head's GLB and the parts of the head model in each; ``head`` is the rest."""
    rest = tuple(part for part in head.parts if part not in MESHES.values())
    return {"head": rest} | {mesh: (part,) for mesh, part in MESHES.items() if part in head.parts}


def _corners(head: HeadModel, parts: tuple[str, ...]) -> _Corners:
    """The corners of the parts' faces that have a place in the atlas."""
    placed = head.part_faces(*parts) & (head.uv >= 0.0).all(-1).all(-1)
    keys = torch.cat([head.faces[placed][..., None].double(), head.uv[placed].double()], -1).reshape(-1, 3).numpy()
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    return _Corners(
        vertices=unique[:, 0].astype(np.int64),
        uv=unique[:, 1:].astype("<f4"),
        faces=inverse.reshape(-1, 3).astype("<u4"),
    )


def _bone_weights(head: HeadModel, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bones (P, 4) uint8 that move each vertex most, and their weights (P, 4) float32, which add up to 1."""
    weights = head.skinning_weights.numpy()[vertices]
    bones = np.argsort(-weights, axis=1, kind="stable")[:, :_BONES]
    kept = np.take_along_axis(weights, bones, 1)
    kept = kept / kept.sum(1, keepdims=True)
    return np.where(kept > 0.0, bones, 0).astype("u1"), kept.astype("<f4")


def _bone_nodes(head: HeadModel, joints: np.ndarray) -> list[dict[str, Any]]:
    """A node for each joint, placed relative to its parent; the joints are the first nodes of the file."""
    nodes: list[dict[str, Any]] = []
    for joint, parent in enumerate(head.parents):
        place = joints[joint] - joints[parent] if parent >= 0 else joints[joint]
        children = [child for child, above in enumerate(head.parents) if above == joint]
        nodes.append(
            {"name": JOINTS[joint], "translation": place.tolist()} | ({"children": children} if children else {})
        )
    return nodes


def _mesh(glb: Glb, head: HeadModel, surface: _Surface, name: str) -> dict[str, Any] | None:
    """One mesh, or None where the head has no face of it in the atlas."""
    corners = _corners(head, mesh_parts(head)[name])
    if not len(corners.faces):
        return None
    morphs = surface.morphs[:, corners.vertices]
    kept = [i for i in range(len(MORPHS)) if name == "head" or np.abs(morphs[i]).max() > _MIN_MOTION]
    bones, weights = _bone_weights(head, corners.vertices)
    primitive = {
        "attributes": {
            "POSITION": glb.accessor(surface.points[corners.vertices], VERTICES, box=True),
            "TEXCOORD_0": glb.accessor(corners.uv, VERTICES),
            "JOINTS_0": glb.accessor(bones, VERTICES),
            "WEIGHTS_0": glb.accessor(weights, VERTICES),
        },
        "indices": glb.accessor(corners.faces.reshape(-1), INDICES),
        "material": 0,
    }
    mesh: dict[str, Any] = {"name": name, "primitives": [primitive]}
    if kept:
        primitive["targets"] = glb.morphs(morphs[kept])
        mesh |= {"weights": [0.0] * len(kept), "extras": {"targetNames": [MORPHS[i] for i in kept]}}
    return mesh


def _bust(glb: Glb, surface: _Surface, bust: BustMesh) -> dict[str, Any]:
    """The mesh of the torso, which root and neck bone move; it has colours instead of a texture."""
    weights = np.zeros((len(bust.points), _BONES), "<f4")
    weights[:, 0], weights[:, 1] = 1.0 - bust.neck_weight, bust.neck_weight
    bones = np.zeros(weights.shape, "u1")
    bones[:, 1] = bust.neck_weight > 0.0
    attributes = {
        "POSITION": glb.accessor(bust.points - surface.middle, VERTICES, box=True),
        "COLOR_0": glb.accessor(bust.colors, VERTICES),
        "JOINTS_0": glb.accessor(bones, VERTICES),
        "WEIGHTS_0": glb.accessor(weights, VERTICES),
    }
    primitive = {"attributes": attributes, "indices": glb.accessor(bust.faces.reshape(-1), INDICES), "material": 1}
    return {"name": "bust", "primitives": [primitive]}


def _packed(head: HeadModel, surface: _Surface, bust: BustMesh | None, texture: bytes) -> bytes:
    """The file's bytes."""
    glb = Glb()
    meshes = [mesh for name in mesh_parts(head) if (mesh := _mesh(glb, head, surface, name)) is not None]
    if bust is not None:
        meshes.append(_bust(glb, surface, bust))
    bones = _bone_nodes(head, surface.joints)
    inverse = np.tile(np.eye(4, dtype="<f4"), (len(bones), 1, 1))
    inverse[:, 3, :3] = -surface.joints  # column by column: the translation is the last row
    # A skinned mesh's own node must be a root of the scene: bones alone place it.
    skinned = [{"name": mesh["name"], "mesh": i, "skin": 0} for i, mesh in enumerate(meshes)]
    roots = [i for i, parent in enumerate(head.parents) if parent < 0]
    material = {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {"KHR_materials_unlit": {}},
        "doubleSided": True,
    }
    return glb.packed(
        {
            "extensionsUsed": ["KHR_materials_unlit"],
            "scenes": [{"nodes": [*roots, *range(len(bones), len(bones) + len(skinned))]}],
            "nodes": [*bones, *skinned],
            "skins": [
                {
                    "name": "skeleton",
                    "joints": list(range(len(bones))),
                    "skeleton": roots[0],
                    "inverseBindMatrices": glb.accessor(inverse),
                }
            ],
            "meshes": meshes,
            "materials": [material, *([_plain(material)] if bust is not None else [])],
            "textures": [{"source": 0, "sampler": 0}],
            "samplers": [{"magFilter": 9729, "minFilter": 9729, "wrapS": 33071, "wrapT": 33071}],  # linear, clamped
            "images": [{"bufferView": glb.view(texture), "mimeType": "image/png"}],
        }
    )


def _plain(material: dict[str, Any]) -> dict[str, Any]:
    """The material without its texture: the colours are the vertices'."""
    surface = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    return {**material, "pbrMetallicRoughness": surface}


def _floats(tensor: Tensor) -> np.ndarray:
    return tensor.numpy().astype("<f4")
