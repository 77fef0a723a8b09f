"""The Gaussian rasteriser and its backends, and the mesh z-buffer (``render.mesh``).

``rasterize`` has gsplat's signature and semantics on every backend. ``rasterize_view`` takes one record of Gaussians
and one camera. ``render`` returns the picture over a background.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.records import Camera, Gaussians
from spatialavatar.render._scene import Scene, Settings

Renderer = Literal["cpu", "gsplat", "triton"]
Backend = Literal["auto", Renderer]

__all__ = [
    "Backend",
    "Renderer",
    "best_device",
    "choose_backend",
    "rasterize",
    "rasterize_view",
    "render",
    "warmup",
    "why_unusable",
]


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
    backgrounds: Tensor | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    radius_clip: float = 0.0,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Rasterise 3D Gaussians into C pictures with gsplat's semantics; differentiable in every tensor except ``Ks``.

    ``...`` below stands for any number of batch axes, the same for all tensors. Each batch entry is a set of Gaussians
    with its own cameras.

    Args:
        means: (..., N, 3) centres, world frame, metres.
        quats: (..., N, 4) rotations, wxyz, of any nonzero length.
        scales: (..., N, 3) standard deviations, metres.
        opacities: (..., N) in [0, 1].
        colors: (..., N, D), or (..., C, N, D) for colours per camera; any D, any range.
        viewmats: (..., C, 4, 4) world to camera, OpenCV axes.
        Ks: (..., C, 3, 3) intrinsics, pixels; no skew.
        width: pixels.
        height: pixels.
        backgrounds: (..., C, D) background colours, or None for zero.
        near_plane: Gaussians with a nearer centre are culled, metres.
        far_plane: Gaussians with a farther centre are culled, metres.
        eps2d: blur added to the projected variance, pixels squared.
        radius_clip: Gaussians with a projected radius of at most this many pixels are culled.
        backend: "cpu" (any machine; returns the result on the tensors' device), "gsplat" or "triton" (CUDA; gsplat
            needs its compiled extension), or "auto" (see :func:`choose_backend`).

    Returns:
        colors (..., C, H, W, D) float32, alphas (..., C, H, W, 1) float32, and a dictionary. Without ``backgrounds``
        the colours are premultiplied by alpha. The dictionary holds, without gradient, ``radii`` (..., C, N, 2) int32
        in pixels (0 for culled Gaussians), ``means2d`` (..., C, N, 2), ``depths`` (..., C, N), ``conics`` (..., C, N,
        3), ``width``, ``height`` and ``backend``, the backend that ran. Gaussians with a value that is not finite are
        culled.

    Raises:
        InputError: shapes disagree, or the backend cannot run in this process.
    """
    scene = Scene(means, quats, scales, opacities, colors, viewmats, Ks)
    scene.check(backgrounds)
    if width < 1 or height < 1:
        raise InputError(f"A picture of {width} x {height} pixels cannot be rendered; give a size of at least 1 x 1.")
    chosen = choose_backend(means.device, backend)
    module = importlib.import_module(f"spatialavatar.render._{chosen}")
    settings = Settings(int(width), int(height), float(near_plane), float(far_plane), float(eps2d), float(radius_clip))
    image, alpha, info = module.rasterize(scene.float(), settings)
    if backgrounds is not None:
        image = image + (1.0 - alpha) * backgrounds.to(image)[..., None, None, :]
    return image, alpha, {**info, "width": width, "height": height, "backend": chosen}


def rasterize_view(
    gaussians: Gaussians,
    camera: Camera,
    *,
    background: Tensor | None = None,
    eps2d: float = 0.3,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """:func:`rasterize` for one set of world Gaussians (N, C channels) and one camera.

    Args:
        gaussians: in world space.
        camera: moved to the Gaussians' device.
        background: (C,), or None for zero.
        eps2d: as for :func:`rasterize`.
        backend: as for :func:`rasterize`.

    Returns:
        image (H, W, C), alpha (H, W, 1) and the dictionary of :func:`rasterize`, with its camera axis of length 1.

    Raises:
        InputError: the Gaussians are local, shapes disagree, or the backend cannot run in this process.
    """
    if gaussians.space != "world":
        raise InputError("Gaussians that are local to their triangles cannot be rendered; pose the avatar first.")
    device = gaussians.means.device
    image, alpha, info = rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        camera.world_to_camera.to(device)[None],
        camera.intrinsics.to(device)[None],
        camera.width,
        camera.height,
        backgrounds=None if background is None else background[None],
        eps2d=eps2d,
        backend=backend,
    )
    return image[0], alpha[0], info


def render(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor | Sequence[float] | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Render one picture of one set of Gaussians.

    Args:
        gaussians: in world space; N Gaussians with C channels.
        camera: moved to the Gaussians' device.
        background: (C,) colour behind the head, or None for zero.
        backend: as for :func:`rasterize`.

    Returns:
        image (H, W, C) float32, premultiplied by alpha if ``background`` is None, and alpha (H, W) float32.

    Raises:
        InputError: the Gaussians are local, shapes disagree, or the backend cannot run in this process.
    """
    if background is not None:
        background = torch.as_tensor(background, dtype=torch.float32, device=gaussians.means.device)
    image, alpha, _ = rasterize_view(gaussians, camera, background=background, backend=backend)
    return image, alpha[..., 0]


def choose_backend(device: torch.device | str, backend: Backend = "auto") -> Renderer:
    """Choose the backend for tensors on ``device``.

    "auto" selects "cpu" for CPU tensors. For CUDA tensors it selects gsplat if available, else Triton, else the CPU
    with a warning.

    Raises:
        InputError: the requested backend cannot run in this process; the message contains the reason.
    """
    if backend not in ("auto", *get_args(Renderer)):
        raise InputError(f'"{backend}" is not a rasteriser backend; choose "auto", "cpu", "gsplat" or "triton".')
    on_gpu = torch.device(device).type == "cuda"
    if backend == "cpu" or (backend == "auto" and not on_gpu):
        return "cpu"
    if backend == "auto":
        reasons = []
        for renderer in ("gsplat", "triton"):
            reason = why_unusable(renderer)
            if reason is None:
                return renderer
            reasons.append(f"{renderer}: {reason}")
        warnings.warn(f"Pictures are rendered on the CPU, which is slow ({'; '.join(reasons)}).", stacklevel=3)
        return "cpu"
    reason = why_unusable(backend)
    if reason is None and not on_gpu:
        reason = "it renders CUDA tensors and these are not"
    if reason is not None:
        raise InputError(
            f'The {backend} backend cannot be used: {reason}; move the tensors to the CPU or pass backend="cpu".'
        )
    return backend


def best_device() -> torch.device:
    """Return the fastest device for rendering: CUDA if a renderer runs on it, else the CPU."""
    if torch.cuda.is_available() and any(why_unusable(renderer) is None for renderer in ("gsplat", "triton")):
        return torch.device("cuda")
    return torch.device("cpu")


def why_unusable(renderer: Renderer) -> str | None:
    """Return why a backend cannot run in this process, as a clause, or None if it can.

    The first call for a GPU backend imports it; for Triton it also compiles the kernels, which takes seconds.
    """
    if renderer == "cpu":
        return None
    return importlib.import_module(f"spatialavatar.render._{renderer}").why_unusable()


def warmup() -> None:
    """Compile every CPU kernel, or load it from the cache, so that the first picture is fast."""
    from spatialavatar.render import _cpu

    _cpu.warmup()
