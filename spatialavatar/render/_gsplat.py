"""The GPU backend where gsplat is built: a thin call of its ``rasterization``.

gsplat is imported when it is first asked for and never before: the import alone takes seconds, and it succeeds where
the extension that does the work is missing.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


@functools.cache
def why_unusable() -> str | None:
    """Why gsplat cannot run in this process, as the middle of a sentence; None where it can."""
    if not torch.cuda.is_available():
        return "no CUDA device is there"
    try:
        from gsplat.cuda._backend import _C
    except ImportError:
        return "the package gsplat is not installed"
    except Exception as error:
        return f"its CUDA extension does not load ({type(error).__name__})"
    return None if _C is not None else "its CUDA extension is not built"


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    radius_clip: float,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """As :func:`spatialavatar.render.rasterize`, without a background; CUDA tensors only."""
    from gsplat import rasterization

    image, alpha, meta = rasterization(
        means,
        quats,
        scales,
        opacities,
        colors,
        viewmats,
        Ks,
        width,
        height,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        radius_clip=radius_clip,
        packed=False,
    )
    return image, alpha, {name: meta[name].detach() for name in ("radii", "means2d", "depths", "conics")}
