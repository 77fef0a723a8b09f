"""The Triton backend: Triton kernels, torch's sort and scan, and one autograd function for all views.

Triton is part of torch's CUDA builds and needs no nvcc. It is imported on first use.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialavatar.errors import InputError
from spatialavatar.render._scene import Scene, Settings

TILE = 8
"""Side of a tile in pixels. With 64 pixels a program is a single warp, which sums without shared memory or barriers.
Less of a tile lies outside a splat than with gsplat's 16, which saves more than the longer lists cost."""

_GAUSSIANS_PER_PROGRAM = 128


class Launch(NamedTuple):
    """Launch parameters of the blending kernels: channels per program, splats per chunk, warps per program."""

    channels: int
    chunk: int
    warps: int


def grid(settings: Settings) -> tuple[int, int]:
    """Return the tiles in a row and in a column of a picture."""
    return -(-settings.width // TILE), -(-settings.height // TILE)


@dataclass(frozen=True)
class _Projection:
    """Projected Gaussians, a row per view and Gaussian; see :func:`_triton_kernels.project_forward`."""

    records: Tensor
    tile_boxes: Tensor
    tile_counts: Tensor
    radii: Tensor
    means2d: Tensor
    depths: Tensor
    conics: Tensor


@dataclass(frozen=True)
class _Tiles:
    """The splats of each tile of each view, nearest first, and the first slot of each splat."""

    offsets: Tensor
    splat_ids: Tensor
    splat_slots: Tensor
    slot_starts: Tensor


def why_unusable() -> str | None:
    """Return why this backend cannot run in this process, as a clause, or None if it can.

    The first call compiles the kernels for three channels, or loads them from Triton's cache, and runs them.
    """
    if not torch.cuda.is_available():
        return "no CUDA device is there"
    # On ZeroGPU, a process without a device forks children that have one: cache the result per process.
    return _trial(os.getpid())


@functools.cache
def _trial(process: int) -> str | None:
    """Render and differentiate one Gaussian; return the reason of a failure, or None."""
    try:
        import triton
    except ImportError:
        return "the package triton is not installed"
    if triton.knobs.runtime.interpret:
        return "TRITON_INTERPRET is set, which runs its kernels in Python"
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        return "Triton needs a C compiler to launch its kernels, and neither gcc nor clang is there"
    try:
        warmup(torch.device("cuda"))
    except Exception as error:
        return f"its kernels do not run on this device ({type(error).__name__})"
    return None


def warmup(device: torch.device) -> None:
    """Compile the kernels for three channels, forward and backward, or load them from Triton's cache."""
    ones = torch.ones(1, 4, device=device)
    means = torch.tensor([[0.0, 0.0, 1.0]], device=device).requires_grad_()
    K = torch.tensor([[[50.0, 0.0, 32.0], [0.0, 50.0, 24.0], [0.0, 0.0, 1.0]]], device=device)
    viewmats = torch.eye(4, device=device)[None]
    scene = Scene(means, ones, 0.1 * ones[:, :3], 0.5 * ones[:, 0], ones[:, :3], viewmats, K)
    image, _, _ = rasterize(scene, Settings(64, 48))
    (gradient,) = torch.autograd.grad(image.sum(), means)
    gradient.sum().item()  # waits for the device, so that an error is raised here


def rasterize(scene: Scene, settings: Settings) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Rasterise as :func:`spatialavatar.render.rasterize`, without a background; CUDA tensors only."""
    batch, cameras = tuple(scene.means.shape[:-2]), scene.viewmats.shape[-3]
    entries, axes = math.prod(batch), len(batch)
    flat = (tensor.reshape(entries, *tensor.shape[axes:]) for tensor in scene)  # one batch axis
    image, alpha, *info = _Rasterize.apply(*flat, settings)
    image, alpha, *info = (t.reshape(*batch, cameras, *t.shape[1:]) for t in (image, alpha, *info))
    return image, alpha, dict(zip(("radii", "means2d", "depths", "conics"), info))


class _Rasterize(torch.autograd.Function):
    """All views at once: Gaussians (B, N, ...), cameras (B, C, ...), colours (B, N, D) or (B, C, N, D).

    Returns, for the V = B C views, colour (V, H, W, D), alpha (V, H, W, 1), radii (V, N, 2), means2d (V, N, 2), depths
    (V, N), conics (V, N, 3).
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        *tensors, settings = args
        tensors = [tensor.detach().contiguous() for tensor in tensors]
        with torch.cuda.device_of(tensors[0]):
            projection = _project(tensors, settings)
            tiles = _sort_into_tiles(projection, settings)
            color, transmittance = _blend(tensors, projection, tiles, settings)
        ctx.save_for_backward(*tensors, color, transmittance)
        ctx.projection, ctx.tiles, ctx.settings = projection, tiles, settings
        info = (projection.radii, projection.means2d, projection.depths, projection.conics)
        ctx.mark_non_differentiable(*info)
        return (color, 1.0 - transmittance[..., None], *info)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, color_grad: Tensor, alpha_grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, color, transmittance = ctx.saved_tensors
        with torch.cuda.device_of(color):
            blended, gradients = (color, transmittance), (color_grad, alpha_grad)
            slot_grads = _blend_backward(tensors, ctx.projection, ctx.tiles, blended, gradients, ctx.settings)
            grads = _project_backward(tensors, ctx.projection, ctx.tiles, slot_grads, ctx.settings)
        return (*grads, None, None)


def launch(channels: int) -> Launch:
    """Return the launch parameters for pictures of ``channels`` channels.

    Up to four channels are summed in registers. More are summed by matrix products, whose smallest side is 16. In both
    cases the compiled loops fit into the registers.
    """
    if channels <= 4:
        return Launch(1 << (max(channels, 1) - 1).bit_length(), 8, 1)
    return Launch(16 if channels <= 16 else 32, 16, 4)


def _project(tensors: list[Tensor], settings: Settings) -> _Projection:
    """Project every Gaussian into every view."""
    from spatialavatar.render import _triton_kernels as kernels

    means, quats, scales, opacities, _, viewmats, Ks = tensors
    (entries, cameras), n = viewmats.shape[:2], means.shape[1]
    views = entries * cameras

    def table(length: int, dtype: torch.dtype) -> Tensor:
        return means.new_zeros((views, n, length), dtype=dtype)

    projection = _Projection(
        records=table(kernels.RECORD, torch.float32),
        tile_boxes=table(2, torch.int32),
        tile_counts=table(1, torch.int32)[..., 0],
        radii=table(2, torch.int32),
        means2d=table(2, torch.float32),
        depths=table(1, torch.float32)[..., 0],
        conics=table(3, torch.float32),
    )
    kernels.project_forward[(-(-n // _GAUSSIANS_PER_PROGRAM), views)](
        means,
        quats,
        scales,
        opacities,
        viewmats,
        Ks,
        projection.records,
        projection.tile_boxes,
        projection.tile_counts,
        projection.radii,
        projection.means2d,
        projection.depths,
        projection.conics,
        n,
        cameras,
        settings.width,
        settings.height,
        *grid(settings),
        NEAR=settings.near_plane,
        FAR=settings.far_plane,
        EPS2D=settings.eps2d,
        RADIUS_CLIP=settings.radius_clip,
        TILE=TILE,
        BLOCK=_GAUSSIANS_PER_PROGRAM,
    )
    return projection


def _sort_into_tiles(projection: _Projection, settings: Settings) -> _Tiles:
    """List the splats of each tile of each view, nearest first, ties by index.

    Two stable sorts with short keys, by depth and then by tile, are cheaper than one sort with long keys.
    """
    from spatialavatar.render import _triton_kernels as kernels

    counts = projection.tile_counts.reshape(-1)
    order = torch.sort(projection.depths.reshape(-1), stable=True).indices
    slot_ends = torch.cumsum(counts[order], 0)
    slots = int(slot_ends[-1]) if len(slot_ends) else 0
    if slots > torch.iinfo(torch.int32).max:
        raise InputError(
            "The Gaussians are too large on the picture to be sorted into tiles; shrink them or the picture."
        )
    slot_starts = torch.empty_like(slot_ends)
    columns, rows = grid(settings)
    tiles = len(projection.depths) * rows * columns
    key = torch.int16 if tiles <= torch.iinfo(torch.int16).max else torch.int32  # half the key is half the sort
    slot_tiles, slot_splats = counts.new_empty(slots, dtype=key), counts.new_empty(slots)
    kernels.list_tiles[(-(-len(counts) // _GAUSSIANS_PER_PROGRAM),)](
        order,
        projection.tile_boxes,
        counts,
        slot_ends,
        slot_starts,
        slot_tiles,
        slot_splats,
        columns,
        len(counts),
        BLOCK=_GAUSSIANS_PER_PROGRAM,
    )
    sorted_tiles, splat_slots = torch.sort(slot_tiles, stable=True)
    offsets = torch.searchsorted(sorted_tiles, torch.arange(tiles + 1, dtype=key, device=counts.device))
    return _Tiles(offsets, slot_splats[splat_slots], splat_slots, slot_starts)


def _blending_arguments(tensors: list[Tensor], settings: Settings) -> tuple[list[int], dict[str, Any]]:
    """Return the arguments of both blending kernels that are not tensors."""
    means, _, _, _, colors, viewmats, _ = tensors
    channels = colors.shape[-1]
    how = launch(channels)
    sizes = [settings.width, settings.height, *grid(settings), viewmats.shape[1], means.shape[1]]
    constants = {
        "CHANNELS": channels,
        "BLOCK_D": how.channels,
        "SHARED_COLORS": colors.ndim == 3,
        "TILE": TILE,
        "CHUNK": how.chunk,
        "num_warps": how.warps,
    }
    return sizes, constants


def _blend(tensors: list[Tensor], projection: _Projection, tiles: _Tiles, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return colour (V, H, W, D) and final transmittance (V, H, W)."""
    from spatialavatar.render import _triton_kernels as kernels

    colors = tensors[4]
    views, channels = len(projection.depths), colors.shape[-1]
    color = colors.new_empty((views, settings.height, settings.width, channels))
    transmittance = colors.new_empty((views, settings.height, settings.width))
    sizes, constants = _blending_arguments(tensors, settings)
    # With no channels, one block still computes the transmittance.
    kernels.blend_forward[(len(tiles.offsets) - 1, max(1, -(-channels // constants["BLOCK_D"])))](
        tiles.offsets, tiles.splat_ids, projection.records, colors, color, transmittance, *sizes, **constants
    )
    return color, transmittance


def _blend_backward(
    tensors: list[Tensor],
    projection: _Projection,
    tiles: _Tiles,
    blended: tuple[Tensor, Tensor],
    gradients: tuple[Tensor, Tensor],
    settings: Settings,
) -> Tensor:
    """Return the gradients (slots, MOMENTS + D) of each pair of a Gaussian and a tile.

    ``blended`` is the result of :func:`_blend`, and ``gradients`` are those of colour (V, H, W, D) and of alpha
    (V, H, W, 1).
    """
    from spatialavatar.render import _triton_kernels as kernels

    colors = tensors[4]
    slot_grads = colors.new_zeros((len(tiles.splat_ids), kernels.MOMENTS + colors.shape[-1]))
    sizes, constants = _blending_arguments(tensors, settings)
    kernels.blend_backward[(len(tiles.offsets) - 1,)](
        tiles.offsets,
        tiles.splat_ids,
        tiles.splat_slots,
        projection.records,
        colors,
        *blended,
        *(gradient.contiguous() for gradient in gradients),
        slot_grads,
        *sizes,
        **constants,
    )
    return slot_grads


def _project_backward(
    tensors: list[Tensor], projection: _Projection, tiles: _Tiles, slot_grads: Tensor, settings: Settings
) -> tuple[Tensor, ...]:
    """Return the gradients of means, quats, scales, opacities, colours and view matrices."""
    from spatialavatar.render import _triton_kernels as kernels

    means, quats, scales, opacities, colors, viewmats, Ks = tensors
    (entries, cameras), n = viewmats.shape[:2], means.shape[1]
    splats, length = entries * cameras * n, slot_grads.shape[-1]
    sums = slot_grads.new_empty((entries, cameras, n, length))
    lanes, items = 32, min(32, 1 << (length - 1).bit_length())
    kernels.sum_slots[(-(-splats // lanes), -(-length // items))](
        tiles.slot_starts,
        projection.tile_counts,
        slot_grads,
        sums,
        splats,
        length,
        BLOCK=lanes,
        BLOCK_LENGTH=items,
    )
    grads = tuple(torch.empty_like(tensor) for tensor in (means, quats, scales, opacities))
    blocks = -(-n // _GAUSSIANS_PER_PROGRAM)
    camera_grads = means.new_zeros((entries, cameras, blocks, 12), dtype=torch.float64)
    kernels.project_backward[(blocks, entries)](
        means,
        quats,
        scales,
        opacities,
        viewmats,
        Ks,
        projection.tile_counts,
        sums,
        *grads,
        camera_grads,
        n,
        cameras,
        settings.width,
        settings.height,
        length,
        EPS2D=settings.eps2d,
        BLOCK=_GAUSSIANS_PER_PROGRAM,
    )
    colors_grad = sums[..., kernels.MOMENTS :]
    if colors.ndim == 3:
        colors_grad = colors_grad.sum(1)
    viewmats_grad = torch.zeros_like(viewmats)
    viewmats_grad[..., :3, :] = camera_grads.sum(2).reshape(entries, cameras, 3, 4)
    return (*grads, colors_grad, viewmats_grad)
