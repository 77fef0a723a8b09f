"""An avatar as a 3D Gaussian Splatting PLY, the format that splat viewers and editors read.

The layout is that of the method's original implementation (Kerbl et al., 2023, "3D Gaussian Splatting for Real-Time
Radiance Field Rendering"): little-endian floats ``x y z``, ``f_dc_0..2``, for readers that insist on spherical
harmonics of degree 3 ``f_rest_0..44`` (all zero), ``opacity`` (logit), ``scale_0..2`` (logarithm), ``rot_0..3``
(w, x, y, z). Axes are OpenCV's: x right, y down, z away from the viewer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.export.frames import SH_CONSTANT, Y_DOWN, exported_gaussians
from spatialavatar.files import atomic_output
from spatialavatar.provenance import ply_comments
from spatialavatar.records import Gaussians, HeadParams

SH_DEGREES = (0, 3)

_MARGIN = 1e-6  # opacities this near to 0 and 1 have no finite logit worth having
# Gradio's Model3D starts its camera half a radian to the side and above, 5 units away, and cannot be told otherwise.
_VIEWER_ANGLES = 0.5
_VIEWER_RADIUS = 1.0


def ply_properties(sh_degree: int = 0) -> tuple[str, ...]:
    """The names of a PLY's columns, in order."""
    return (
        *("x", "y", "z"),
        *("f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{i}" for i in range(_rest_count(sh_degree))),
        "opacity",
        *("scale_0", "scale_1", "scale_2"),
        *("rot_0", "rot_1", "rot_2", "rot_3"),
    )


def save_ply(
    avatar: Avatar,
    path: str | Path,
    params: HeadParams | None = None,
    *,
    for_viewer: bool = False,
    sh_degree: int = 0,
) -> Path:
    """Write the avatar as a splat PLY; the file appears whole or not at all.

    Args:
        avatar: whose Gaussians.
        path: the file; viewers want the suffix ``.ply`` in small letters.
        params: pose and expression; by default at rest, looking straight ahead.
        for_viewer: scale the head to a radius of about 1 and turn it to the camera that gradio's Model3D starts with;
            otherwise units are metres.
        sh_degree: 3 adds the 45 coefficients that some readers insist on; an avatar's colours do not depend on the
            view, so they are zero.

    Raises:
        InputError: the Gaussians have other channels than three colours, or the degree is neither 0 nor 3.
        OutputError: the file cannot be written.
    """
    rows = ply_rows(avatar, params, for_viewer=for_viewer, sh_degree=sh_degree)
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_bytes(ply_bytes(rows, ply_properties(sh_degree)))
    return path


def ply_bytes(rows: np.ndarray, properties: tuple[str, ...]) -> bytes:
    """A PLY's bytes: its header, which says that the file is synthetic, and rows (N, columns) of ``<f4``."""
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in ply_comments())]
    header += [f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in properties]
    return ("\n".join([*header, "end_header"]) + "\n").encode("ascii") + rows.tobytes()


def ply_rows(
    avatar: Avatar, params: HeadParams | None = None, *, for_viewer: bool = False, sh_degree: int = 0
) -> np.ndarray:
    """(N, 14) or (N, 59) little-endian float32, the columns of :func:`ply_properties`; arguments as above."""
    rest = _rest_count(sh_degree)
    axes, radius = torch.tensor(Y_DOWN), None
    if for_viewer:
        axes, radius = _towards_viewer() @ axes, _VIEWER_RADIUS
    moved = exported_gaussians(avatar, params, axes, radius)
    harmonics = torch.cat([(moved.colors - 0.5) / SH_CONSTANT, torch.zeros(len(moved), rest)], 1)
    return splat_columns(moved.means, harmonics, moved)


def splat_columns(means: Tensor, harmonics: Tensor, gaussians: Gaussians) -> np.ndarray:
    """``<f4`` rows of a splat PLY: places (N, 3), colours (N, C), then the Gaussians' opacities, scales, rotations."""
    columns = [
        means,
        harmonics,
        torch.logit(gaussians.opacities.clamp(_MARGIN, 1.0 - _MARGIN))[:, None],
        gaussians.scales.clamp_min(1e-12).log(),
        gaussians.quats,
    ]
    return torch.cat(columns, 1).numpy().astype("<f4")


def _rest_count(sh_degree: int) -> int:
    """How many coefficients follow the constant ones."""
    if sh_degree not in SH_DEGREES:
        raise InputError(f"A PLY is written with spherical harmonics of degree 0 or 3, not {sh_degree}.")
    return 3 * ((sh_degree + 1) ** 2 - 1)


def _towards_viewer() -> Tensor:
    """(3, 3) the turn that makes what faces -z, y down, face the viewer's first camera instead, upright in it."""
    angle = torch.tensor(_VIEWER_ANGLES)
    sine, cosine = angle.sin(), angle.cos()
    nod = torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    turn = torch.tensor([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    return turn @ nod
