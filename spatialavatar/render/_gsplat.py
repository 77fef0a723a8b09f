"""The gsplat backend: calls gsplat's ``rasterization``.

gsplat is imported on first use, because the import takes seconds. The import also succeeds if the compiled extension is
missing, so :func:`why_unusable` loads the extension itself.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from spatialavatar.render._scene import Scene, Settings


@functools.cache
def why_unusable() -> str | None:
    """Return why gsplat cannot run in this process, as a clause, or None if it can."""
    if not torch.cuda.is_available():
        return "no CUDA device is there"
    try:
        from gsplat.cuda._backend import _C
    except ImportError:
        return "the package gsplat is not installed"
    except Exception as error:
        return f"its CUDA extension does not load ({type(error).__name__})"
    return None if _C is not None else "its CUDA extension is not built"


def rasterize(scene: Scene, settings: Settings) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Rasterise as :func:`spatialavatar.render.rasterize`, without a background; CUDA tensors only."""
    from gsplat import rasterization

    image, alpha, meta = rasterization(
        *scene,
        settings.width,
        settings.height,
        near_plane=settings.near_plane,
        far_plane=settings.far_plane,
        eps2d=settings.eps2d,
        radius_clip=settings.radius_clip,
        packed=False,
    )
    return image, alpha, {name: meta[name].detach() for name in ("radii", "means2d", "depths", "conics")}
