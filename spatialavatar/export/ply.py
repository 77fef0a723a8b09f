"""An avatar as a 3D Gaussian Splatting PLY, the format that splat viewers and editors read.

The layout is that of the method's original implementation (Kerbl et al., 2023, "3D Gaussian Splatting for Real-Time
Radiance Field Rendering"): little-endian float32 columns ``x y z``, ``f_dc_0..2``, ``opacity`` (logit), ``scale_0..2``
(natural logarithm), ``rot_0..3`` (w, x, y, z, normalised). Spherical harmonics of degree 3 give the full 62 columns of
that implementation, in its order: ``nx ny nz`` after the position and ``f_rest_0..44`` after ``f_dc``, all zero. Axes
are OpenCV's: x right, y down, z away from the viewer.
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

_MIN_OPACITY = 1e-6  # the logit of an opacity nearer to 0 or 1 diverges
# Gradio's Model3D starts its camera half a radian to the side and above, 5 units away; it has no setting for that.
_VIEWER_ANGLES = 0.5
_VIEWER_RADIUS = 1.0


def ply_properties(sh_degree: int = 0) -> tuple[str, ...]:
    """The names of a PLY's columns, in order: 14 for degree 0, 62 for degree 3.

    Raises:
        InputError: the degree is neither 0 nor 3.
    """
    rest = _rest_count(sh_degree)
    return (
        *("x", "y", "z"),
        *(("nx", "ny", "nz") if rest else ()),
        *("f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{i}" for i in range(rest)),
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
        avatar: the avatar.
        path: the file; viewers expect the suffix ``.ply`` in lower case.
        params: pose and expression of one frame; by default at rest, looking straight ahead.
        for_viewer: scale the head to a radius of about 1 and turn it towards the camera that gradio's Model3D starts
            with; otherwise units are metres.
        sh_degree: 3 writes all 62 columns of the original implementation, for readers that expect each of them at its
            place. An avatar's colours do not depend on the view, so the added columns are zero.

    Raises:
        InputError: the Gaussians have other channels than three colours, or the degree is neither 0 nor 3.
        OutputError: the file cannot be written.
    """
    rows = ply_rows(avatar, params, for_viewer=for_viewer, sh_degree=sh_degree)
    path = Path(path)
    with atomic_output(path) as temporary:
        temporary.write_bytes(ply_bytes(rows, ply_properties(sh_degree), comments_last=sh_degree == 3))
    return path


def ply_bytes(rows: np.ndarray, properties: tuple[str, ...], *, comments_last: bool = False) -> bytes:
    """A PLY's bytes: a header with the provenance comments, then the rows.

    Args:
        rows: (N, columns) ``<f4``.
        properties: the columns' names.
        comments_last: put the comments before ``end_header``, for readers that take the third line for the count.
    """
    comments = [f"comment {line}" for line in ply_comments()]
    described = [f"element vertex {len(rows)}", *(f"property float {name}" for name in properties)]
    lines = [*described, *comments] if comments_last else [*comments, *described]
    header = ["ply", "format binary_little_endian 1.0", *lines, "end_header"]
    return ("\n".join(header) + "\n").encode("ascii") + rows.tobytes()


def ply_rows(
    avatar: Avatar, params: HeadParams | None = None, *, for_viewer: bool = False, sh_degree: int = 0
) -> np.ndarray:
    """(N, 14) or (N, 62) little-endian float32, the columns of :func:`ply_properties`; arguments as for `save_ply`."""
    rest = _rest_count(sh_degree)
    axes, radius = torch.tensor(Y_DOWN), None
    if for_viewer:
        axes, radius = _towards_viewer() @ axes, _VIEWER_RADIUS
    moved = exported_gaussians(avatar, params, axes, radius)
    positions = torch.cat([moved.means, torch.zeros(len(moved), 3 if rest else 0)], 1)
    harmonics = torch.cat([(moved.colors - 0.5) / SH_CONSTANT, torch.zeros(len(moved), rest)], 1)
    return splat_columns(positions, harmonics, moved)


def splat_columns(positions: Tensor, harmonics: Tensor, gaussians: Gaussians) -> np.ndarray:
    """``<f4`` rows of a splat PLY.

    Args:
        positions: (N, 3), or (N, 6) with normals.
        harmonics: (N, C) coefficients, the constant ones first.
        gaussians: N of them, whose opacities, scales and rotations are written.
    """
    columns = [
        positions,
        harmonics,
        torch.logit(gaussians.opacities.clamp(_MIN_OPACITY, 1.0 - _MIN_OPACITY))[:, None],
        gaussians.scales.clamp_min(1e-12).log(),
        gaussians.quats,
    ]
    return torch.cat(columns, 1).numpy().astype("<f4")


def _rest_count(sh_degree: int) -> int:
    """How many coefficients follow the constant ones: 3 ((degree + 1)^2 - 1)."""
    if sh_degree not in SH_DEGREES:
        raise InputError(f"A PLY is written with spherical harmonics of degree 0 or 3, not {sh_degree}.")
    return 3 * ((sh_degree + 1) ** 2 - 1)


def _towards_viewer() -> Tensor:
    """(3, 3) rotation that turns a face along -z, y down, upright towards the viewer's first camera."""
    angle = torch.tensor(_VIEWER_ANGLES)
    sine, cosine = angle.sin(), angle.cos()
    nod = torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    turn = torch.tensor([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    return turn @ nod
