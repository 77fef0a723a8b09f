"""What a head looks like: the Gaussian rasteriser and its backends, and the mesh z-buffer (``render.mesh``).

``rasterize`` has gsplat's arguments and meaning on every backend; ``rasterize_view`` is the same for one record and
camera, and ``render`` what most callers want of it: the picture over a background.
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
    """Splat 3D Gaussians onto C pictures, with gsplat's semantics; differentiable in every tensor but ``Ks``.

    ``...`` below is any number of batch axes, the same for all tensors: each batch entry is a set of Gaussians with its
    own cameras.

    Args:
        means: (..., N, 3) centres, world, metres.
        quats: (..., N, 4) rotations, wxyz, of any length but 0.
        scales: (..., N, 3) standard deviations, metres.
        opacities: (..., N) in [0, 1].
        colors: (..., N, D), or (..., C, N, D) for colours that depend on the camera; any D, any range.
        viewmats: (..., C, 4, 4) world to camera, OpenCV axes.
        Ks: (..., C, 3, 3) intrinsics, pixels; no skew.
        width: pixels.
        height: pixels.
        backgrounds: (..., C, D) what shows through, or None for zero.
        near_plane: Gaussians whose centre is nearer are left out, metres.
        far_plane: and those farther.
        eps2d: blur added to the variance on the picture, pixels squared.
        radius_clip: Gaussians whose radius on the picture is at most this many pixels are left out.
        backend: "cpu" (any machine; the result comes back on the tensors' device), "gsplat" or "triton" (CUDA; only
            the former needs an extension that was built), or "auto", as :func:`choose_backend` says.

    Returns:
        colors (..., C, H, W, D) float32 and alphas (..., C, H, W, 1) float32, in which the colour is premultiplied by
        alpha where there is no background, and a dictionary with, without gradient, ``radii`` (..., C, N, 2) int32 in
        pixels, 0 where a Gaussian is not seen, ``means2d`` (..., C, N, 2), ``depths`` (..., C, N), ``conics``
        (..., C, N, 3), ``width``, ``height`` and the ``backend`` that ran. A Gaussian with a value that is not finite
        is not seen.

    Raises:
        InputError: shapes disagree, or the backend cannot be used here.
    """
    _check(means, quats, scales, opacities, colors, viewmats, Ks, backgrounds, width, height)
    chosen = choose_backend(means.device, backend)
    module = importlib.import_module(f"spatialavatar.render._{chosen}")
    image, alpha, info = module.rasterize(
        *(t.float() for t in (means, quats, scales, opacities, colors, viewmats, Ks)),
        int(width),
        int(height),
        near_plane=float(near_plane),
        far_plane=float(far_plane),
        eps2d=float(eps2d),
        radius_clip=float(radius_clip),
    )
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
        camera: its pose is moved to the Gaussians' device.
        background: (C,), or None for zero.
        eps2d: as for :func:`rasterize`.
        backend: likewise.

    Returns:
        image (H, W, C), alpha (H, W, 1) and the rasteriser's facts, whose own axis of one camera stays.

    Raises:
        InputError: the Gaussians are still local, shapes disagree, or the backend cannot be used here.
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
    """One picture of one set of Gaussians.

    Args:
        gaussians: in world space; N Gaussians with C channels.
        camera: its pose is moved to the Gaussians' device.
        background: (C,) colour behind the head, or None for zero.
        backend: as for :func:`rasterize`.

    Returns:
        image (H, W, C) float32, premultiplied by alpha where there is no background, and alpha (H, W) float32.

    Raises:
        InputError: the Gaussians are still local, shapes disagree, or the backend cannot be used here.
    """
    if background is not None:
        background = torch.as_tensor(background, dtype=torch.float32, device=gaussians.means.device)
    image, alpha, _ = rasterize_view(gaussians, camera, background=background, backend=backend)
    return image, alpha[..., 0]


def choose_backend(device: torch.device | str, backend: Backend = "auto") -> Renderer:
    """The backend that runs for tensors on ``device``.

    "auto" is "cpu", except for CUDA tensors: for these it is gsplat where that can be used, else Triton, and else the
    CPU with a warning.

    Raises:
        InputError: the one asked for cannot be used here; the sentence says why.
    """
    if backend not in ("auto", *get_args(Renderer)):
        raise InputError(f'"{backend}" is no rasteriser backend; choose "auto", "cpu", "gsplat" or "triton".')
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
            f'The {backend} backend cannot be used: {reason}; move the tensors to the CPU or ask for backend="cpu".'
        )
    return backend


def best_device() -> torch.device:
    """Where rendering is fastest: a CUDA device on which a renderer works, else the CPU."""
    if torch.cuda.is_available() and any(why_unusable(renderer) is None for renderer in ("gsplat", "triton")):
        return torch.device("cuda")
    return torch.device("cpu")


def why_unusable(renderer: Renderer) -> str | None:
    """Why a backend cannot run in this process, as the middle of a sentence; None where it can.

    The first call for a GPU backend loads it, and Triton's compiles its kernels: seconds.
    """
    if renderer == "cpu":
        return None
    return importlib.import_module(f"spatialavatar.render._{renderer}").why_unusable()


def warmup() -> None:
    """Compile (or load from the cache) every CPU kernel, so that the first picture is not the slow one."""
    from spatialavatar.render import _cpu

    _cpu.warmup()


def _check(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
) -> None:
    """Raise :class:`InputError` where two shapes disagree."""
    if means.ndim < 2 or viewmats.ndim != means.ndim + 1:
        shapes = f"{tuple(means.shape)} and {tuple(viewmats.shape)}"
        raise InputError(f"means must be (..., N, 3) and viewmats (..., C, 4, 4), not {shapes}.")
    batch, n, cameras, channels = tuple(means.shape[:-2]), means.shape[-2], viewmats.shape[-3], colors.shape[-1]
    per_camera = colors.ndim == means.ndim + 1
    wanted = {
        "means": (means, (*batch, n, 3)),
        "quats": (quats, (*batch, n, 4)),
        "scales": (scales, (*batch, n, 3)),
        "opacities": (opacities, (*batch, n)),
        "colors": (colors, (*batch, cameras, n, channels) if per_camera else (*batch, n, channels)),
        "viewmats": (viewmats, (*batch, cameras, 4, 4)),
        "Ks": (Ks, (*batch, cameras, 3, 3)),
    }
    if backgrounds is not None:
        wanted["backgrounds"] = (backgrounds, (*batch, cameras, channels))
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}, not {shape}.")
    if width < 1 or height < 1:
        raise InputError(f"A picture of {width} x {height} pixels cannot be rendered; give a size of at least 1 x 1.")
