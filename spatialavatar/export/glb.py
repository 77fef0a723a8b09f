"""An avatar as a GLB (glTF 2.0): its resting head as a textured mesh with the 52 ARKit units as morph targets.

The texture holds each Gaussian's colour at its texel, spread over the atlas' empty texels so that no seam shows. Faces
without a place in the atlas carry no Gaussians and are left out. Axes are glTF's, which are those of head space (y up,
the face looks along +z); units are metres, the middle of the skull is the origin. The material is unlit: the photos'
light is in the colours.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.errors import InputError
from spatialavatar.export.frames import units_alone
from spatialavatar.export.gltf import INDICES, VERTICES, Glb
from spatialavatar.files import atomic_output
from spatialavatar.head.arkit import ARKIT_52

_UNSEEN = 0.1  # opacity below which the colour of a Gaussian is unreliable


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
        corners, uv, faces = _corners(avatar)
        rest, morphs = _shapes(avatar)
    data = _packed(rest[corners], uv, faces, morphs[:, corners], texture.getvalue())
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


def _corners(avatar: Avatar) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices split where the atlas has seams: head vertex (P,), UV (P, 2) and triangles (G, 3) of them."""
    head = avatar.head
    placed = (head.uv >= 0.0).all(-1).all(-1)
    keys = torch.cat([head.faces[placed][..., None].double(), head.uv[placed].double()], -1).reshape(-1, 3).numpy()
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    return unique[:, 0].astype(np.int64), unique[:, 1:].astype("<f4"), inverse.reshape(-1, 3).astype("<u4")


def _shapes(avatar: Avatar) -> tuple[np.ndarray, np.ndarray]:
    """The resting vertices (V, 3) about the skull's middle, and the units' offsets at weight 1 (52, V, 3), metres."""
    head, identity = avatar.head, avatar.identity()
    rest = head.pose(identity, head.neutral())[0]
    morphs = head.pose(identity, units_alone(avatar)) - rest
    low, high = skull_box(avatar)
    return (rest - 0.5 * (low + high)).numpy().astype("<f4"), morphs.numpy().astype("<f4")


def _packed(points: np.ndarray, uv: np.ndarray, faces: np.ndarray, morphs: np.ndarray, texture: bytes) -> bytes:
    """The file's bytes."""
    glb = Glb()
    primitive = {
        "attributes": {
            "POSITION": glb.accessor(points, VERTICES, box=True),
            "TEXCOORD_0": glb.accessor(uv, VERTICES),
        },
        "indices": glb.accessor(faces.reshape(-1), INDICES),
        "material": 0,
        "targets": glb.morphs(morphs),
    }
    weights = [0.0] * len(morphs)
    material = {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {"KHR_materials_unlit": {}},
        "doubleSided": True,
    }
    return glb.packed(
        {
            "extensionsUsed": ["KHR_materials_unlit"],
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0, "name": "head"}],
            "meshes": [
                {
                    "name": "head",
                    "primitives": [primitive],
                    "weights": weights,
                    "extras": {"targetNames": list(ARKIT_52)},
                }
            ],
            "materials": [material],
            "textures": [{"source": 0, "sampler": 0}],
            "samplers": [{"magFilter": 9729, "minFilter": 9729, "wrapS": 33071, "wrapT": 33071}],  # linear, clamped
            "images": [{"bufferView": glb.view(texture), "mimeType": "image/png"}],
        }
    )
