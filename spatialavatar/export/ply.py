"""An avatar at rest as a 3D Gaussian Splatting PLY, the format that splat viewers and editors read.

The layout is that of the method's original implementation (Kerbl et al., 2023, "3D Gaussian Splatting for Real-Time
Radiance Field Rendering"), with spherical harmonics of degree 0: little-endian floats ``x y z``, ``f_dc_0..2``,
``opacity`` (logit), ``scale_0..2`` (logarithm), ``rot_0..3`` (w, x, y, z). Axes are OpenCV's: x right, y down, z away
from the viewer, so that a viewer's camera looks the avatar in the face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.errors import InputError
from spatialavatar.files import atomic_output
from spatialavatar.head.rotations import matrix_to_quat, quat_multiply
from spatialavatar.provenance import ply_comments
from spatialavatar.records import Gaussians, HeadParams

PROPERTIES = (
    *("x", "y", "z"),
    *("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity",
    *("scale_0", "scale_1", "scale_2"),
    *("rot_0", "rot_1", "rot_2", "rot_3"),
)

_SH0 = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi))
_MARGIN = 1e-6  # opacities this near to 0 and 1 have no finite logit worth having
_OPENCV = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
# Gradio's Model3D starts its camera half a radian to the side and above, 5 units away, and cannot be told otherwise.
_VIEWER_ANGLES = 0.5
_VIEWER_RADIUS = 1.0


def save_ply(avatar: Avatar, path: str | Path, params: HeadParams | None = None, *, for_viewer: bool = False) -> Path:
    """Write the avatar as a splat PLY; the file appears whole or not at all.

    Args:
        avatar: whose Gaussians.
        path: the file; viewers want the suffix ``.ply`` in small letters.
        params: pose and expression; by default at rest, looking straight ahead.
        for_viewer: scale the head to a radius of about 1 and turn it to the camera that gradio's Model3D starts with;
            otherwise units are metres.

    Raises:
        InputError: the Gaussians have other channels than three colours.
        OutputError: the file cannot be written.
    """
    rows = ply_rows(avatar, params, for_viewer=for_viewer)
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in ply_comments())]
    header += [f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in PROPERTIES]
    path = Path(path)
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode("ascii"))
        file.write(rows.tobytes())
    return path


def ply_rows(avatar: Avatar, params: HeadParams | None = None, *, for_viewer: bool = False) -> np.ndarray:
    """(N, 14) little-endian float32, the columns in the order of ``PROPERTIES``; arguments as for :func:`save_ply`."""
    if avatar.gaussians.colors.shape[1] != 3:
        raise InputError(f"A PLY holds three colours, not {avatar.gaussians.colors.shape[1]} channels.")
    with torch.inference_mode():
        avatar = avatar.to("cpu")
        world = avatar.pose(params if params is not None else avatar.head.neutral())
        low, high = skull_box(avatar)
        rotation, scale = torch.tensor(_OPENCV), 1.0
        if for_viewer:
            rotation = _towards_viewer() @ rotation
            scale = _VIEWER_RADIUS / (0.5 * float((high - low).norm()))
        moved = _transformed(world, rotation, scale, 0.5 * (low + high))
        opacities = moved.opacities.clamp(_MARGIN, 1.0 - _MARGIN)
        columns = [
            moved.means,
            (moved.colors - 0.5) / _SH0,
            torch.logit(opacities)[:, None],
            moved.scales.clamp_min(1e-12).log(),
            moved.quats,
        ]
        return torch.cat(columns, 1).numpy().astype("<f4")


def _transformed(world: Gaussians, rotation: Tensor, scale: float, centre: Tensor) -> Gaussians:
    """The Gaussians about ``centre`` (3,), turned by ``rotation`` (3, 3), times ``scale``."""
    turn = matrix_to_quat(rotation[None])
    quats = quat_multiply(turn.expand(len(world), 4), world.quats)
    return world.replace(
        means=scale * (world.means - centre) @ rotation.T,
        scales=scale * world.scales,
        quats=torch.nn.functional.normalize(quats, dim=-1),
    )


def _towards_viewer() -> Tensor:
    """(3, 3) the turn that makes what faces -z, y down, face the viewer's first camera instead, upright in it."""
    angle = torch.tensor(_VIEWER_ANGLES)
    sine, cosine = angle.sin(), angle.cos()
    nod = torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    turn = torch.tensor([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    return turn @ nod
