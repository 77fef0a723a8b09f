"""The CPU backend: compiled kernels on this package's threads, and one autograd function per picture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialavatar.errors import InputError
from spatialavatar.render import _kernels, _pool
from spatialavatar.render._scene import Scene, Settings

_GAUSSIANS_PER_TASK = 4096
_TASKS_PER_THREAD = 8
_TILE_OVERHEAD = 16
"""Cost of starting and writing a tile, in splats."""

Array = NDArray[Any]


@dataclass(frozen=True)
class _Projection:
    """Projected Gaussians; see :func:`_kernels.project_forward`."""

    records: Array
    boxes: Array
    radii: Array
    depths: Array
    conics: Array


@dataclass(frozen=True)
class _Tiles:
    """The splats of each tile, nearest first; see :func:`_kernels.fill_tiles`."""

    size: int
    columns: int
    offsets: Array
    splat_ids: Array
    splat_slots: Array
    slot_offsets: Array


def rasterize(scene: Scene, settings: Settings) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Rasterise as :func:`spatialavatar.render.rasterize`, without a background; tensors of any device."""
    batch, cameras, device = tuple(scene.means.shape[:-2]), scene.viewmats.shape[-3], scene.means.device
    tensors = [tensor.cpu() for tensor in scene]
    views = []
    for entry in itertools.product(*(range(length) for length in batch)):
        m, q, s, o, c, v, k = (t[entry] for t in tensors)
        views += [
            _Rasterize.apply(m, q, s, o, c[i] if scene.per_camera else c, v[i], k[i], settings) for i in range(cameras)
        ]
    if not views:
        none = torch.zeros(0, device=device)
        n, channels = scene.means.shape[-2], scene.colors.shape[-1]
        size = (settings.height, settings.width)
        shapes = ((*size, channels), (*size, 1), (n, 2), (n, 2), (n,), (n, 3))
        stacked = [none.reshape(*batch, cameras, *shape) for shape in shapes]
    else:
        stacked = [torch.stack(parts) if len(parts) > 1 else parts[0][None] for parts in zip(*views)]
        stacked = [t.reshape(*batch, cameras, *t.shape[1:]).to(device) for t in stacked]
    image, alpha, *info = stacked
    return image, alpha, dict(zip(("radii", "means2d", "depths", "conics"), info))


def warmup() -> None:
    """Compile every kernel, or load it from the cache."""
    means = torch.tensor([[0.0, 0.0, 1.0]], requires_grad=True)
    K = torch.tensor([[50.0, 0.0, 32.0], [0.0, 50.0, 24.0], [0.0, 0.0, 1.0]])
    ones = torch.ones(1, 4)
    view = (means, ones, 0.1 * ones[:, :3], 0.5 * ones[:, 0], ones[:, :3], torch.eye(4), K)
    _Rasterize.apply(*view, Settings(64, 48))[0].sum().backward()


class _Rasterize(torch.autograd.Function):
    """One picture: colour (H, W, D), alpha (H, W, 1), radii (N, 2), means2d (N, 2), depths (N,), conics (N, 3)."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        *tensors, settings = args
        means, quats, scales, opacities, colors, viewmat, K = tensors
        gaussians = tuple(_as_numpy(t) for t in (means, quats, scales, opacities))
        projection = _project(gaussians, _as_camera(viewmat), _as_camera(K), settings)
        tiles = _sort_into_tiles(projection, tile_size(colors.shape[-1]), settings)
        color, transmittance = (torch.from_numpy(a) for a in _blend(projection, tiles, _as_numpy(colors), settings))
        ctx.save_for_backward(*tensors, color, transmittance)
        ctx.projection, ctx.tiles, ctx.settings = projection, tiles, settings
        arrays = (projection.radii, projection.records[:, :2].copy(), projection.depths, projection.conics)
        info = tuple(torch.from_numpy(array) for array in arrays)
        ctx.mark_non_differentiable(*info)
        return (color, 1.0 - transmittance[..., None], *info)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, color_grad: Tensor, alpha_grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, color, transmittance = ctx.saved_tensors
        means, quats, scales, opacities, colors, viewmat, K = tensors
        blended = _as_numpy(color), _as_numpy(transmittance)
        gradients = _as_numpy(color_grad), _as_numpy(alpha_grad[..., 0])
        slot_grads = _blend_backward(ctx.projection, ctx.tiles, _as_numpy(colors), blended, gradients)
        gaussians = tuple(_as_numpy(t) for t in (means, quats, scales, opacities))
        grads = _project_backward(
            gaussians, _as_camera(viewmat), _as_camera(K), ctx.settings, ctx.tiles.slot_offsets, slot_grads
        )
        return (*(torch.from_numpy(grad) for grad in grads), None, None)


def tile_size(channels: int) -> int:
    """Return the side of a tile in pixels; the state of a tile must fit the first-level cache."""
    return 32 if channels < 16 else 16


def _as_numpy(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


def _as_camera(matrix: Tensor) -> Array:
    return matrix.detach().double().contiguous().numpy()


def _project(gaussians: tuple[Array, ...], viewmat: Array, K: Array, settings: Settings) -> _Projection:
    """Project all Gaussians (means, quats, scales, opacities)."""
    count = len(gaussians[0])
    projection = _Projection(
        records=np.zeros((count, _kernels.RECORD), np.float32),
        boxes=np.zeros((count, 4), np.int32),
        radii=np.zeros((count, 2), np.int32),
        depths=np.zeros(count, np.float32),
        conics=np.zeros((count, 3), np.float32),
    )

    def task(index: int) -> None:
        begin = index * _GAUSSIANS_PER_TASK
        _kernels.project_forward(
            begin,
            min(begin + _GAUSSIANS_PER_TASK, count),
            *gaussians,
            viewmat,
            K,
            settings.width,
            settings.height,
            settings.near_plane,
            settings.far_plane,
            settings.eps2d,
            settings.radius_clip,
            projection.records,
            projection.boxes,
            projection.radii,
            projection.depths,
            projection.conics,
        )

    _pool.run(task, -(-count // _GAUSSIANS_PER_TASK))
    return projection


def _sort_into_tiles(projection: _Projection, size: int, settings: Settings) -> _Tiles:
    """Sort the visible Gaussians by depth and list those that overlap each tile."""
    shift = size.bit_length() - 1  # tile sizes are powers of two
    columns, rows = -(-settings.width // size), -(-settings.height // size)
    order = _kernels.sort_by_depth(projection.depths, projection.boxes)
    offsets, slot_offsets = _kernels.count_tiles(projection.boxes, shift, columns, rows)
    if offsets[-1] > np.iinfo(np.int32).max:
        raise InputError(
            "The Gaussians are too large on the picture to be sorted into tiles; shrink them or the picture."
        )
    splat_ids, splat_slots = _kernels.fill_tiles(order, projection.boxes, shift, columns, offsets, slot_offsets)
    return _Tiles(size, columns, offsets, splat_ids, splat_slots, slot_offsets)


def _tile_ranges(tiles: _Tiles) -> Array:
    """Return the boundaries of runs of tiles of about equal work, a few per thread."""
    work = tiles.offsets + _TILE_OVERHEAD * np.arange(len(tiles.offsets))
    shares = np.linspace(0, work[-1], _TASKS_PER_THREAD * _pool.thread_count() + 1)
    return np.unique(np.searchsorted(work, shares))


def _blend(projection: _Projection, tiles: _Tiles, colors: Array, settings: Settings) -> tuple[Array, Array]:
    """Return colour (H, W, D) and final transmittance (H, W)."""
    color = np.empty((settings.height, settings.width, colors.shape[1]), np.float32)
    transmittance = np.empty((settings.height, settings.width), np.float32)
    ranges = _tile_ranges(tiles)

    def task(index: int) -> None:
        _kernels.raster_forward(
            ranges[index],
            ranges[index + 1],
            tiles.size,
            tiles.columns,
            tiles.offsets,
            tiles.splat_ids,
            projection.records,
            projection.boxes,
            colors,
            color,
            transmittance,
        )

    _pool.run(task, len(ranges) - 1)
    return color, transmittance


def _blend_backward(
    projection: _Projection,
    tiles: _Tiles,
    colors: Array,
    blended: tuple[Array, Array],
    gradients: tuple[Array, Array],
) -> Array:
    """Return the gradients (slots, MOMENTS + D) of each pair of a Gaussian and a tile.

    ``blended`` is the result of :func:`_blend`, and ``gradients`` are those of colour (H, W, D) and of alpha (H, W).
    """
    slot_grads = np.zeros((len(tiles.splat_ids), _kernels.MOMENTS + colors.shape[1]), np.float32)
    ranges = _tile_ranges(tiles)

    def task(index: int) -> None:
        _kernels.raster_backward(
            ranges[index],
            ranges[index + 1],
            tiles.size,
            tiles.columns,
            tiles.offsets,
            tiles.splat_ids,
            tiles.splat_slots,
            projection.records,
            projection.boxes,
            colors,
            *blended,
            *gradients,
            slot_grads,
        )

    _pool.run(task, len(ranges) - 1)
    return slot_grads


def _project_backward(
    gaussians: tuple[Array, ...],
    viewmat: Array,
    K: Array,
    settings: Settings,
    slot_offsets: Array,
    slot_grads: Array,
) -> tuple[Array, ...]:
    """Return the gradients of means, quats, scales, opacities, colours and the view matrix, float32."""
    count = len(gaussians[0])
    tasks = -(-count // _GAUSSIANS_PER_TASK)
    grads = tuple(np.zeros_like(array) for array in gaussians)
    colors_grad = np.zeros((count, slot_grads.shape[1] - _kernels.MOMENTS), np.float32)
    viewmat_grads = np.zeros((tasks, 4, 4))

    def task(index: int) -> None:
        begin = index * _GAUSSIANS_PER_TASK
        _kernels.project_backward(
            begin,
            min(begin + _GAUSSIANS_PER_TASK, count),
            *gaussians,
            viewmat,
            K,
            settings.width,
            settings.height,
            settings.eps2d,
            slot_offsets,
            slot_grads,
            *grads,
            colors_grad,
            viewmat_grads[index],
        )

    _pool.run(task, tasks)
    return (*grads, colors_grad, viewmat_grads.sum(axis=0).astype(np.float32))
