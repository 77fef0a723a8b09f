"""The GPU backend that needs no nvcc: Triton kernels, torch's sort and scan, and one autograd function for all views.

Triton comes with torch's CUDA builds and compiles through the driver; it is imported when it is first asked for.
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

TILE = 8
"""Side of a tile in pixels. With 64 pixels a program is a single warp, which sums without shared memory or barriers,
and less of a tile lies outside a splat than with gsplat's 16: the longer lists cost less than that saves."""

_GAUSSIANS_PER_PROGRAM = 128


class Launch(NamedTuple):
    """How the blending kernels run: channels per program, splats per chunk, warps per program."""

    channels: int
    chunk: int
    warps: int


@dataclass(frozen=True)
class _Settings:
    """What a picture depends on beside tensors; names as in :func:`spatialavatar.render.rasterize`."""

    width: int
    height: int
    near_plane: float
    far_plane: float
    eps2d: float
    radius_clip: float

    @property
    def columns(self) -> int:
        """Tiles in a row of a picture."""
        return -(-self.width // TILE)

    @property
    def rows(self) -> int:
        """Tiles in a column of a picture."""
        return -(-self.height // TILE)


@dataclass(frozen=True)
class _Projection:
    """Gaussians on the pictures, a row per view and Gaussian; see :func:`_triton_kernels.project_forward`."""

    records: Tensor
    tile_boxes: Tensor
    tile_counts: Tensor
    radii: Tensor
    means2d: Tensor
    depths: Tensor
    conics: Tensor


@dataclass(frozen=True)
class _Tiles:
    """The splats of each tile of each view, nearest first, and where a splat's slots begin."""

    offsets: Tensor
    splat_ids: Tensor
    splat_slots: Tensor
    slot_starts: Tensor


def why_unusable() -> str | None:
    """Why this backend cannot run in this process, as the middle of a sentence; None where it can.

    The first call compiles the kernels for three channels, or loads them from Triton's cache, and runs them.
    """
    if not torch.cuda.is_available():
        return "no CUDA device is there"
    # A process that is forked from one without a device (as on ZeroGPU) may have one.
    return _trial(os.getpid())


@functools.cache
def _trial(process: int) -> str | None:
    """Render and differentiate one Gaussian; why that failed, or None."""
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
    planes = {"near_plane": 0.01, "far_plane": 1e10, "eps2d": 0.3, "radius_clip": 0.0}
    image, _, _ = rasterize(
        means, ones, 0.1 * ones[:, :3], 0.5 * ones[:, 0], ones[:, :3], viewmats, K, 64, 48, **planes
    )
    image.sum().backward()
    assert means.grad is not None
    means.grad.sum().item()  # waits for the device, so that an error is raised here


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
    settings = _Settings(width, height, near_plane, far_plane, eps2d, radius_clip)
    batch, cameras, n = tuple(means.shape[:-2]), viewmats.shape[-3], means.shape[-2]
    entries = math.prod(batch)
    colors_shape = (cameras, *colors.shape[-2:]) if colors.ndim == means.ndim + 1 else colors.shape[-2:]
    image, alpha, *info = _Rasterize.apply(
        means.reshape(entries, n, 3),
        quats.reshape(entries, n, 4),
        scales.reshape(entries, n, 3),
        opacities.reshape(entries, n),
        colors.reshape(entries, *colors_shape),
        viewmats.reshape(entries, cameras, 4, 4),
        Ks.reshape(entries, cameras, 3, 3),
        settings,
    )
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
            slot_grads = _blend_backward(
                tensors, ctx.projection, ctx.tiles, color, transmittance, color_grad, alpha_grad, ctx.settings
            )
            grads = _project_backward(tensors, ctx.projection, ctx.tiles, slot_grads, ctx.settings)
        return (*grads, None, None)


def launch(channels: int) -> Launch:
    """How to blend pictures of ``channels`` channels.

    Up to four are summed in registers; more by matrix products, whose smallest side is 16. In both, the compiled loops
    fit into the registers.
    """
    if channels <= 4:
        return Launch(1 << (max(channels, 1) - 1).bit_length(), 8, 1)
    return Launch(16 if channels <= 16 else 32, 16, 4)


def _project(tensors: list[Tensor], settings: _Settings) -> _Projection:
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
        settings.columns,
        settings.rows,
        NEAR=settings.near_plane,
        FAR=settings.far_plane,
        EPS2D=settings.eps2d,
        RADIUS_CLIP=settings.radius_clip,
        TILE=TILE,
        BLOCK=_GAUSSIANS_PER_PROGRAM,
    )
    return projection


def _sort_into_tiles(projection: _Projection, settings: _Settings) -> _Tiles:
    """List the splats of each tile of each view, nearest first, ties by index.

    Two stable sorts with short keys, by depth and then by tile, are cheaper than one of the long list with long keys.
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
    tiles = len(projection.depths) * settings.rows * settings.columns
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
        settings.columns,
        len(counts),
        BLOCK=_GAUSSIANS_PER_PROGRAM,
    )
    sorted_tiles, splat_slots = torch.sort(slot_tiles, stable=True)
    offsets = torch.searchsorted(sorted_tiles, torch.arange(tiles + 1, dtype=key, device=counts.device))
    return _Tiles(offsets, slot_splats[splat_slots], splat_slots, slot_starts)


def _blending_arguments(tensors: list[Tensor], settings: _Settings) -> tuple[list[int], dict[str, Any]]:
    """What both blending kernels take beside tensors."""
    means, _, _, _, colors, viewmats, _ = tensors
    channels = colors.shape[-1]
    how = launch(channels)
    sizes = [settings.width, settings.height, settings.columns, settings.rows, viewmats.shape[1], means.shape[1]]
    constants = {
        "CHANNELS": channels,
        "BLOCK_D": how.channels,
        "SHARED_COLORS": colors.ndim == 3,
        "TILE": TILE,
        "CHUNK": how.chunk,
        "num_warps": how.warps,
    }
    return sizes, constants


def _blend(tensors: list[Tensor], projection: _Projection, tiles: _Tiles, settings: _Settings) -> tuple[Tensor, Tensor]:
    """Colour (V, H, W, D) and final transmittance (V, H, W)."""
    from spatialavatar.render import _triton_kernels as kernels

    colors = tensors[4]
    views, channels = len(projection.depths), colors.shape[-1]
    color = colors.new_empty((views, settings.height, settings.width, channels))
    transmittance = colors.new_empty((views, settings.height, settings.width))
    sizes, constants = _blending_arguments(tensors, settings)
    # Without a channel there is still the transmittance.
    kernels.blend_forward[(len(tiles.offsets) - 1, max(1, -(-channels // constants["BLOCK_D"])))](
        tiles.offsets, tiles.splat_ids, projection.records, colors, color, transmittance, *sizes, **constants
    )
    return color, transmittance


def _blend_backward(
    tensors: list[Tensor],
    projection: _Projection,
    tiles: _Tiles,
    color: Tensor,
    transmittance: Tensor,
    color_grad: Tensor,
    alpha_grad: Tensor,
    settings: _Settings,
) -> Tensor:
    """Gradients (slots, MOMENTS + D) of each pair of a Gaussian and a tile."""
    from spatialavatar.render import _triton_kernels as kernels

    colors = tensors[4]
    slot_grads = color.new_zeros((len(tiles.splat_ids), kernels.MOMENTS + colors.shape[-1]))
    sizes, constants = _blending_arguments(tensors, settings)
    kernels.blend_backward[(len(tiles.offsets) - 1,)](
        tiles.offsets,
        tiles.splat_ids,
        tiles.splat_slots,
        projection.records,
        colors,
        color,
        transmittance,
        color_grad.contiguous(),
        alpha_grad.contiguous(),
        slot_grads,
        *sizes,
        **constants,
    )
    return slot_grads


def _project_backward(
    tensors: list[Tensor], projection: _Projection, tiles: _Tiles, slot_grads: Tensor, settings: _Settings
) -> tuple[Tensor, ...]:
    """Gradients of means, quats, scales, opacities, colours and view matrices."""
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
