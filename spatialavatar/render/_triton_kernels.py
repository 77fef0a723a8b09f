# ruff: noqa: ANN001, ANN202 - Triton infers the types of the kernels.
"""The Triton kernels for steps without a torch operator: project, list tiles, blend, and the gradients of each.

The mathematics is that of the CPU kernels (:mod:`spatialavatar.render._kernels`), arranged for a GPU:

* All views (batch entry x camera) go through one launch. Gaussian n of view v is row v N + n.
* The projection and its gradient are computed in float64, as on the CPU: a few hundred operations per Gaussian
  cost little compared with the blending, and both backends cull the same Gaussians.
* A tile's pixels are the lanes of one program, which takes its splats in chunks, nearest first. A chunk is a matrix
  (CHUNK, pixels) whose columns belong to single threads, so that the transmittance is a running product without
  communication. A product of factors of at most 1 never grows: a pixel stops at the first splat whose product is
  T_STOP or less.
* Colours of more than four channels are summed by matrix products in plain float32: the compiled code is no longer
  than that of three TF32 products on tensor cores, and it is exact.
* Each pair of a Gaussian and a tile writes its gradients into a row of its own (its slot), and rows are added in fixed
  order: no atomics, the same bits in every run.

The file is longer than 400 lines because all kernels share the inlined geometry. Kernels take pointers and numbers one
by one, as Triton requires.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

RECORD = 8
"""Floats per projected Gaussian, one 32-byte sector: mean x, mean y, A', r, K', log2(opacity), two unused.

With d = pixel - mean and X = dx + r dy, alpha = 2^(log2(opacity) - A' X^2 - K' dy^2): the completed square of the CPU
kernels, the halves and the change of base folded in.
"""

MOMENTS = 6
"""Floats per slot before the colours' gradients. With e = alpha dL/dalpha, summed over the tile's pixels:
e, e X, e dy, e X^2, e X dy, e dy^2."""

_RECORD = tl.constexpr(RECORD)
_MOMENTS = tl.constexpr(MOMENTS)
_ALPHA_MIN = tl.constexpr(1.0 / 255.0)
_EXPONENT_MIN = tl.constexpr(-math.log2(255.0))
_ALPHA_MAX = tl.constexpr(0.999)
_T_STOP = tl.constexpr(1e-4)
_HALF_LOG2_E = tl.constexpr(0.5 * math.log2(math.e))
_LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def _three(rows, index, valid):
    """Row ``index`` of a (rows, 3) float32 table, as float64."""
    return (
        tl.load(rows + 3 * index, mask=valid, other=0.0).to(tl.float64),
        tl.load(rows + 3 * index + 1, mask=valid, other=0.0).to(tl.float64),
        tl.load(rows + 3 * index + 2, mask=valid, other=0.0).to(tl.float64),
    )


@triton.jit
def _four(rows, index, valid):
    """Row ``index`` of a (rows, 4) float32 table, as float64."""
    return (
        tl.load(rows + 4 * index, mask=valid, other=0.0).to(tl.float64),
        tl.load(rows + 4 * index + 1, mask=valid, other=0.0).to(tl.float64),
        tl.load(rows + 4 * index + 2, mask=valid, other=0.0).to(tl.float64),
        tl.load(rows + 4 * index + 3, mask=valid, other=0.0).to(tl.float64),
    )


@triton.jit
def _camera(viewmats, Ks, view):
    """Rotation (nine, row by row), translation and (fx, fy, cx, cy) of a view, as float64."""
    w = viewmats + 16 * view
    k = Ks + 9 * view
    rotation = (
        tl.load(w).to(tl.float64),
        tl.load(w + 1).to(tl.float64),
        tl.load(w + 2).to(tl.float64),
        tl.load(w + 4).to(tl.float64),
        tl.load(w + 5).to(tl.float64),
        tl.load(w + 6).to(tl.float64),
        tl.load(w + 8).to(tl.float64),
        tl.load(w + 9).to(tl.float64),
        tl.load(w + 10).to(tl.float64),
    )
    translation = (
        tl.load(w + 3).to(tl.float64),
        tl.load(w + 7).to(tl.float64),
        tl.load(w + 11).to(tl.float64),
    )
    intrinsics = (
        tl.load(k).to(tl.float64),
        tl.load(k + 4).to(tl.float64),
        tl.load(k + 2).to(tl.float64),
        tl.load(k + 5).to(tl.float64),
    )
    return rotation, translation, intrinsics


@triton.jit
def _rotation(unit):
    """Rotation matrix, nine values row by row, of a unit quaternion (w, x, y, z)."""
    w, x, y, z = unit
    return (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y - w * z),
        2.0 * (x * z + w * y),
        2.0 * (x * y + w * z),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z - w * x),
        2.0 * (x * z - w * y),
        2.0 * (y * z + w * x),
        1.0 - 2.0 * (x * x + y * y),
    )


@triton.jit
def _view(mean, rotation, translation):
    """A world point in camera axes."""
    x, y, z = mean
    return (
        rotation[0] * x + rotation[1] * y + rotation[2] * z + translation[0],
        rotation[3] * x + rotation[4] * y + rotation[5] * z + translation[1],
        rotation[6] * x + rotation[7] * y + rotation[8] * z + translation[2],
    )


@triton.jit
def _jacobian(point, intrinsics, width, height):
    """Projection's Jacobian (J00, J02, J11, J12) at a camera point, and whether x and y were inside the clamp.

    As in gsplat, the point is held within 1.3 times the field of view, where the linearisation is fair.
    """
    x, y, z = point
    fx, fy, cx, cy = intrinsics
    width = width.to(tl.float64)
    height = height.to(tl.float64)
    margin_x = 0.15 * width / fx
    margin_y = 0.15 * height / fy
    low_x = -(cx / fx + margin_x)
    low_y = -(cy / fy + margin_y)
    high_x = (width - cx) / fx + margin_x
    high_y = (height - cy) / fy + margin_y
    slope_x = x / z
    slope_y = y / z
    free_x = (slope_x >= low_x) & (slope_x <= high_x)
    free_y = (slope_y >= low_y) & (slope_y <= high_y)
    slope_x = tl.minimum(tl.maximum(slope_x, low_x), high_x)
    slope_y = tl.minimum(tl.maximum(slope_y, low_y), high_y)
    return (fx / z, -fx * slope_x / z, fy / z, -fy * slope_y / z), free_x, free_y


@triton.jit
def _splat_axes(r, w, jacobian):
    """The Gaussian's unit axes in camera axes, M = W R (nine, row by row), and on the picture, P = J M (rows p, q)."""
    j00, j02, j11, j12 = jacobian
    m00 = w[0] * r[0] + w[1] * r[3] + w[2] * r[6]
    m01 = w[0] * r[1] + w[1] * r[4] + w[2] * r[7]
    m02 = w[0] * r[2] + w[1] * r[5] + w[2] * r[8]
    m10 = w[3] * r[0] + w[4] * r[3] + w[5] * r[6]
    m11 = w[3] * r[1] + w[4] * r[4] + w[5] * r[7]
    m12 = w[3] * r[2] + w[4] * r[5] + w[5] * r[8]
    m20 = w[6] * r[0] + w[7] * r[3] + w[8] * r[6]
    m21 = w[6] * r[1] + w[7] * r[4] + w[8] * r[7]
    m22 = w[6] * r[2] + w[7] * r[5] + w[8] * r[8]
    m = (m00, m01, m02, m10, m11, m12, m20, m21, m22)
    p = (j00 * m00 + j02 * m20, j00 * m01 + j02 * m21, j00 * m02 + j02 * m22)
    q = (j11 * m10 + j12 * m20, j11 * m11 + j12 * m21, j11 * m12 + j12 * m22)
    return m, p, q


@triton.jit
def _covariance(p, q, scale, EPS2D: tl.constexpr):
    """Blurred covariance on the picture (cxx, cxy, cyy), pixels squared."""
    s0 = scale[0] * scale[0]
    s1 = scale[1] * scale[1]
    s2 = scale[2] * scale[2]
    return (
        s0 * p[0] * p[0] + s1 * p[1] * p[1] + s2 * p[2] * p[2] + EPS2D,
        s0 * p[0] * q[0] + s1 * p[1] * q[1] + s2 * p[2] * q[2],
        s0 * q[0] * q[0] + s1 * q[1] * q[1] + s2 * q[2] * q[2] + EPS2D,
    )


@triton.jit
def _normalised(quat):
    """A quaternion at length 1, and its length."""
    w, x, y, z = quat
    norm = tl.sqrt(w * w + x * x + y * y + z * z)
    return (w / norm, x / norm, y / norm, z / norm), norm


@triton.jit(do_not_specialize=["count", "cameras", "width", "height", "columns", "rows"])
def project_forward(
    means,
    quats,
    scales,
    opacities,
    viewmats,
    Ks,
    records,
    tile_boxes,
    tile_counts,
    radii,
    means2d,
    depths,
    conics,
    count,
    cameras,
    width,
    height,
    columns,
    rows,
    NEAR: tl.constexpr,
    FAR: tl.constexpr,
    EPS2D: tl.constexpr,
    RADIUS_CLIP: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Project BLOCK Gaussians into one view; the grid is (blocks, views).

    Writes, per view and Gaussian, ``records`` (RECORD floats), ``tile_boxes`` (the first tile, counted over all views,
    and the columns), ``tile_counts`` (0 for culled Gaussians) and gsplat's ``radii``, ``means2d``, ``depths`` and
    ``conics``. Gaussians with a value that is not finite are culled: every test fails for NaN.
    """
    view = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = n < count
    source = view // cameras * count + n
    target = view * count + n

    w, translation, intrinsics = _camera(viewmats, Ks, view)
    x, y, z = _view(_three(means, source, valid), w, translation)
    opacity = tl.load(opacities + source, mask=valid, other=0.0).to(tl.float64)
    unit, _ = _normalised(_four(quats, source, valid))
    jacobian, _, _ = _jacobian((x, y, z), intrinsics, width, height)
    _, p, q = _splat_axes(_rotation(unit), w, jacobian)
    cxx, cxy, cyy = _covariance(p, q, _three(scales, source, valid), EPS2D)
    det = cxx * cyy - cxy * cxy
    mean_x = jacobian[0] * x + intrinsics[2]
    mean_y = jacobian[2] * y + intrinsics[3]
    extent = tl.sqrt(2.0 * tl.log(opacity / _ALPHA_MIN))
    half_x = extent * tl.sqrt(cxx)
    half_y = extent * tl.sqrt(cyy)
    radius_x = tl.ceil(half_x)
    radius_y = tl.ceil(half_y)

    # A comparison would take a bare Python number as float32.
    near = tl.full([BLOCK], NEAR, tl.float64)
    far = tl.full([BLOCK], FAR, tl.float64)
    opacity_min = tl.full([BLOCK], _ALPHA_MIN, tl.float64)
    seen = valid & (z >= near) & (z <= far) & (z != 0.0) & (opacity >= opacity_min) & (opacity < float("inf"))
    seen = seen & (det > 0.0) & (cxx < 1e30) & (cyy < 1e30) & (tl.abs(mean_x) < 1e15) & (tl.abs(mean_y) < 1e15)
    seen = seen & ((radius_x > RADIUS_CLIP) | (radius_y > RADIUS_CLIP))
    seen = seen & (mean_x + radius_x > 0.0) & (mean_x - radius_x < width)
    seen = seen & (mean_y + radius_y > 0.0) & (mean_y - radius_y < height)

    # Pixels in which alpha can reach 1/255, and a hundredth of a pixel more, because the blending kernel computes in
    # float32.
    first_x = tl.maximum(tl.where(seen, tl.ceil(mean_x - half_x - 0.51), 0.0), 0.0)
    first_y = tl.maximum(tl.where(seen, tl.ceil(mean_y - half_y - 0.51), 0.0), 0.0)
    last_x = tl.minimum(tl.where(seen, tl.floor(mean_x + half_x - 0.49), -1.0), width - 1.0)
    last_y = tl.minimum(tl.where(seen, tl.floor(mean_y + half_y - 0.49), -1.0), height - 1.0)
    boxed = (first_x <= last_x) & (first_y <= last_y)
    first_column = tl.where(boxed, first_x, 0.0).to(tl.int32) // TILE
    first_row = tl.where(boxed, first_y, 0.0).to(tl.int32) // TILE
    box_columns = tl.where(boxed, last_x, 0.0).to(tl.int32) // TILE - first_column + 1
    box_rows = tl.where(boxed, last_y, 0.0).to(tl.int32) // TILE - first_row + 1
    tl.store(tile_boxes + 2 * target, (view * rows + first_row) * columns + first_column, mask=valid)
    tl.store(tile_boxes + 2 * target + 1, box_columns, mask=valid)
    tl.store(tile_counts + target, tl.where(boxed, box_columns * box_rows, 0), mask=valid)

    record = records + _RECORD * target
    tl.store(record, mean_x.to(tl.float32), mask=seen)
    tl.store(record + 1, mean_y.to(tl.float32), mask=seen)
    tl.store(record + 2, (cyy / det * _HALF_LOG2_E).to(tl.float32), mask=seen)
    tl.store(record + 3, (-cxy / cyy).to(tl.float32), mask=seen)
    tl.store(record + 4, (1.0 / cyy * _HALF_LOG2_E).to(tl.float32), mask=seen)
    tl.store(record + 5, (tl.log(opacity) * _LOG2_E).to(tl.float32), mask=seen)
    tl.store(radii + 2 * target, tl.minimum(radius_x, 2e9).to(tl.int32), mask=seen)
    tl.store(radii + 2 * target + 1, tl.minimum(radius_y, 2e9).to(tl.int32), mask=seen)
    tl.store(means2d + 2 * target, mean_x.to(tl.float32), mask=seen)
    tl.store(means2d + 2 * target + 1, mean_y.to(tl.float32), mask=seen)
    tl.store(depths + target, z.to(tl.float32), mask=seen)
    tl.store(conics + 3 * target, (cyy / det).to(tl.float32), mask=seen)
    tl.store(conics + 3 * target + 1, (-cxy / det).to(tl.float32), mask=seen)
    tl.store(conics + 3 * target + 2, (cxx / det).to(tl.float32), mask=seen)


@triton.jit(do_not_specialize=["columns", "count"])
def list_tiles(
    order, tile_boxes, tile_counts, slot_ends, slot_starts, slot_tiles, slot_splats, columns, count, BLOCK: tl.constexpr
):
    """For BLOCK splats in the given ``order``, write each one's tiles, consecutive slots that end at ``slot_ends``.

    Writes ``slot_starts`` per splat, and ``slot_tiles`` and ``slot_splats`` per slot.
    """
    rank = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = rank < count
    splat = tl.load(order + rank, mask=valid, other=0)
    tiles = tl.where(valid, tl.load(tile_counts + splat), 0)
    first = tl.load(tile_boxes + 2 * splat)
    box_columns = tl.load(tile_boxes + 2 * splat + 1)
    start = tl.load(slot_ends + rank, mask=valid, other=0) - tiles
    tl.store(slot_starts + splat, start, mask=valid)
    for i in range(tl.max(tiles, 0)):
        tile = first + i // box_columns * columns + i % box_columns
        tl.store(slot_tiles + start + i, tile, mask=i < tiles)
        tl.store(slot_splats + start + i, splat.to(tl.int32), mask=i < tiles)


@triton.jit
def _pixels(tile, width, height, columns, rows, TILE: tl.constexpr):
    """A tile's view, and the place of each of its pixels: column, row, index in the stack of views, in the picture."""
    view = tile // (columns * rows)
    lane = tl.arange(0, TILE * TILE)
    column = tile % columns * TILE + lane % TILE
    row = tile // columns % rows * TILE + lane // TILE
    inside = (column < width) & (row < height)
    return view, column, row, (view.to(tl.int64) * height + row) * width + column, inside


@triton.jit
def _alphas(records, splats, valid, column, row):
    """Alpha of a chunk of splats at each pixel (CHUNK, pixels) before the cap, within its ellipse, and X, dy."""
    record = records + _RECORD * splats
    mean_x = tl.load(record, mask=valid, other=0.0)
    mean_y = tl.load(record + 1, mask=valid, other=0.0)
    a = tl.load(record + 2, mask=valid, other=0.0)
    r = tl.load(record + 3, mask=valid, other=0.0)
    k = tl.load(record + 4, mask=valid, other=0.0)
    log_opacity = tl.load(record + 5, mask=valid, other=-1e30)
    dy = row.to(tl.float32)[None, :] + 0.5 - mean_y[:, None]
    sheared = column.to(tl.float32)[None, :] + 0.5 - mean_x[:, None] + r[:, None] * dy
    exponent = log_opacity[:, None] - a[:, None] * sheared * sheared - k[:, None] * dy * dy
    return tl.exp2(exponent), exponent >= _EXPONENT_MIN, sheared, dy


@triton.jit
def _weights(uncapped, within, transmittance):
    """Apply a chunk to a tile's pixels, whose ``transmittance`` is negative for finished pixels.

    Returns the splats' weights (CHUNK, pixels), alpha / (1 - alpha), whether a splat is reached, and the transmittance
    after the chunk.
    """
    alpha = tl.where(within, tl.minimum(uncapped, _ALPHA_MAX), 0.0)
    passed = 1.0 - alpha
    ratio = alpha / passed
    after = transmittance[None, :] * tl.cumprod(passed, axis=0)
    reached = after > _T_STOP
    weight = tl.where(reached, after * ratio, 0.0)
    last = tl.min(tl.where(reached, after, tl.abs(transmittance)[None, :]), axis=0)
    transmittance = tl.where(tl.min(after, axis=0) > _T_STOP, last, -last)
    return weight, ratio, reached, transmittance


@triton.jit(do_not_specialize=["width", "height", "columns", "rows", "cameras", "count"])
def blend_forward(
    tile_offsets,
    splat_ids,
    records,
    colors,
    color_out,
    transmittance_out,
    width,
    height,
    columns,
    rows,
    cameras,
    count,
    CHANNELS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SHARED_COLORS: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Blend BLOCK_D channels of one tile; the grid is (tiles of all views, blocks of channels).

    Writes ``color_out`` (views, H, W, CHANNELS) and ``transmittance_out`` (views, H, W). SHARED_COLORS: ``colors`` has
    a row per Gaussian of a batch entry, for all of its cameras, and not one per view and Gaussian.
    """
    tile = tl.program_id(0)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    view, column, row, pixel, inside = _pixels(tile, width, height, columns, rows, TILE)
    if SHARED_COLORS:
        colors -= (view - view // cameras).to(tl.int64) * count * CHANNELS
    transmittance = tl.where(inside, 1.0, -1.0)
    color = tl.zeros([BLOCK_D, TILE * TILE], tl.float32)
    place = tl.load(tile_offsets + tile)
    end = tl.load(tile_offsets + tile + 1)
    while (place < end) & (tl.max(transmittance, 0) > 0.0):
        places = place + tl.arange(0, CHUNK)
        valid = places < end
        splats = tl.load(splat_ids + places, mask=valid, other=0).to(tl.int64)
        uncapped, within, _, _ = _alphas(records, splats, valid, column, row)
        weight, _, _, transmittance = _weights(uncapped, within, transmittance)
        known = (channel < CHANNELS)[:, None] & valid[None, :]
        shades = tl.load(colors + splats[None, :] * CHANNELS + channel[:, None], mask=known, other=0.0)
        if BLOCK_D >= 16:
            color = tl.dot(shades, weight, color, input_precision="ieee")
        else:
            color += tl.sum(shades[:, :, None] * weight[None, :, :], axis=1)
        place += CHUNK
    stored = (channel < CHANNELS)[:, None] & inside[None, :]
    tl.store(color_out + pixel[None, :] * CHANNELS + channel[:, None], color, mask=stored)
    if tl.program_id(1) == 0:
        tl.store(transmittance_out + pixel, tl.abs(transmittance), mask=inside)


@triton.jit(do_not_specialize=["width", "height", "columns", "rows", "cameras", "count"])
def blend_backward(
    tile_offsets,
    splat_ids,
    splat_slots,
    records,
    colors,
    color,
    transmittance_out,
    color_grad,
    alpha_grad,
    slot_grads,
    width,
    height,
    columns,
    rows,
    cameras,
    count,
    CHANNELS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SHARED_COLORS: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Gradients of one tile into ``slot_grads`` (slots, MOMENTS + CHANNELS), all zeros before.

    Blends again from front to back. Besides the transmittance T, each pixel carries the gradient that is still to come,
    R = sum over the splats behind of weight (color . g) + T_final dL/dT_final; then
    dL/dalpha = T (color . g) - R / (1 - alpha). Nothing is divided out of T and no list of contributors is kept.
    """
    tile = tl.program_id(0)
    channels = tl.arange(0, BLOCK_D)
    view, column, row, pixel, inside = _pixels(tile, width, height, columns, rows, TILE)
    if SHARED_COLORS:
        colors -= (view - view // cameras).to(tl.int64) * count * CHANNELS
    transmittance = tl.load(transmittance_out + pixel, mask=inside, other=0.0)
    remaining = -transmittance * tl.load(alpha_grad + pixel, mask=inside, other=0.0)
    for first in tl.static_range(0, CHANNELS, BLOCK_D):
        channel = first + channels
        known = (channel < CHANNELS)[:, None] & inside[None, :]
        grad = tl.load(color_grad + pixel[None, :] * CHANNELS + channel[:, None], mask=known, other=0.0)
        shown = tl.load(color + pixel[None, :] * CHANNELS + channel[:, None], mask=known, other=0.0)
        remaining += tl.sum(grad * shown, axis=0)

    transmittance = tl.where(inside, 1.0, -1.0)
    place = tl.load(tile_offsets + tile)
    end = tl.load(tile_offsets + tile + 1)
    while (place < end) & (tl.max(transmittance, 0) > 0.0):
        places = place + tl.arange(0, CHUNK)
        valid = places < end
        splats = tl.load(splat_ids + places, mask=valid, other=0).to(tl.int64)
        slot = slot_grads + tl.load(splat_slots + places, mask=valid, other=0) * (_MOMENTS + CHANNELS)
        uncapped, within, sheared, dy = _alphas(records, splats, valid, column, row)
        weight, ratio, reached, transmittance = _weights(uncapped, within, transmittance)

        along = tl.zeros([CHUNK, TILE * TILE], tl.float32)
        for first in tl.static_range(0, CHANNELS, BLOCK_D):
            channel = first + channels
            known = (channel < CHANNELS)[:, None] & inside[None, :]
            if CHANNELS > BLOCK_D:  # else it is loaded above
                grad = tl.load(color_grad + pixel[None, :] * CHANNELS + channel[:, None], mask=known, other=0.0)
            shade = colors + splats[:, None] * CHANNELS + channel[None, :]
            shades = tl.load(shade, mask=valid[:, None] & (channel < CHANNELS)[None, :], other=0.0)
            row_out = slot[:, None] + _MOMENTS + channel[None, :]
            if BLOCK_D >= 16:
                along = tl.dot(shades, grad, along, input_precision="ieee")
                shades_grad = tl.dot(weight, tl.trans(grad), input_precision="ieee")
            else:
                along += tl.sum(shades[:, :, None] * grad[None, :, :], axis=1)
                shades_grad = tl.sum(weight[:, None, :] * grad[None, :, :], axis=2)
            tl.store(row_out, shades_grad, mask=valid[:, None] & (channel < CHANNELS)[None, :])

        gain = weight * along
        e = gain - (remaining[None, :] - tl.cumsum(gain, axis=0)) * ratio
        e = tl.where(reached & (uncapped <= _ALPHA_MAX), e, 0.0)
        remaining -= tl.sum(gain, axis=0)
        ex = e * sheared
        ey = e * dy
        tl.store(slot, tl.sum(e, axis=1), mask=valid)
        tl.store(slot + 1, tl.sum(ex, axis=1), mask=valid)
        tl.store(slot + 2, tl.sum(ey, axis=1), mask=valid)
        tl.store(slot + 3, tl.sum(ex * sheared, axis=1), mask=valid)
        tl.store(slot + 4, tl.sum(ex * dy, axis=1), mask=valid)
        tl.store(slot + 5, tl.sum(ey * dy, axis=1), mask=valid)
        place += CHUNK


@triton.jit(do_not_specialize=["count", "length"])
def sum_slots(
    slot_starts, tile_counts, slot_grads, sums, count, length, BLOCK: tl.constexpr, BLOCK_LENGTH: tl.constexpr
):
    """Add up the rows (``length`` floats) of BLOCK splats' slots into ``sums``; grid (blocks, blocks of the length)."""
    splat = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    item = tl.program_id(1) * BLOCK_LENGTH + tl.arange(0, BLOCK_LENGTH)
    valid = splat < count
    tiles = tl.load(tile_counts + splat, mask=valid, other=0)
    start = tl.load(slot_starts + splat, mask=valid, other=0)
    total = tl.zeros([BLOCK, BLOCK_LENGTH], tl.float32)
    for i in range(tl.max(tiles, 0)):
        there = (i < tiles)[:, None] & (item < length)[None, :]
        total += tl.load(slot_grads + (start + i)[:, None] * length + item[None, :], mask=there, other=0.0)
    tl.store(sums + splat[:, None] * length + item[None, :], total, mask=valid[:, None] & (item < length)[None, :])


@triton.jit
def _store_three(rows, index, valid, value):
    """Write row ``index`` of a (rows, 3) float32 table."""
    tl.store(rows + 3 * index, value[0].to(tl.float32), mask=valid)
    tl.store(rows + 3 * index + 1, value[1].to(tl.float32), mask=valid)
    tl.store(rows + 3 * index + 2, value[2].to(tl.float32), mask=valid)


@triton.jit
def _rotation_vjp(unit, norm, v):
    """Gradient of the quaternion from the nine gradients ``v`` of its rotation matrix, row by row."""
    w, x, y, z = unit
    grad_w = 2.0 * (z * (v[3] - v[1]) + y * (v[2] - v[6]) + x * (v[7] - v[5]))
    grad_x = 2.0 * (y * (v[1] + v[3]) + z * (v[2] + v[6]) + w * (v[7] - v[5]) - 2.0 * x * (v[4] + v[8]))
    grad_y = 2.0 * (x * (v[1] + v[3]) + z * (v[5] + v[7]) + w * (v[2] - v[6]) - 2.0 * y * (v[0] + v[8]))
    grad_z = 2.0 * (x * (v[2] + v[6]) + y * (v[5] + v[7]) + w * (v[3] - v[1]) - 2.0 * z * (v[0] + v[4]))
    along = grad_w * w + grad_x * x + grad_y * y + grad_z * z
    return (
        (grad_w - along * w) / norm,
        (grad_x - along * x) / norm,
        (grad_y - along * y) / norm,
        (grad_z - along * z) / norm,
    )


@triton.jit(do_not_specialize=["count", "cameras", "width", "height", "length"])
def project_backward(
    means,
    quats,
    scales,
    opacities,
    viewmats,
    Ks,
    tile_counts,
    sums,
    means_grad,
    quats_grad,
    scales_grad,
    opacities_grad,
    viewmats_grad,
    count,
    cameras,
    width,
    height,
    length,
    EPS2D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of BLOCK Gaussians from the moments at the head of their ``sums``; the grid is (blocks, batch entries).

    Adds up the cameras of the batch entry. ``viewmats_grad`` (views, blocks, 12) float64 receives the rows 0 .. 2 of
    the view matrices' gradients, this block's share. Everything of the forward projection is computed again.
    """
    entry = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = n < count
    source = entry * count + n
    mean = _three(means, source, valid)
    scale = _three(scales, source, valid)
    opacity = tl.load(opacities + source, mask=valid, other=1.0).to(tl.float64)
    unit, norm = _normalised(_four(quats, source, valid))
    r = _rotation(unit)
    s0, s1, s2 = scale

    zero = tl.zeros([BLOCK], tl.float64)
    grad_opacity = zero
    grad_mean_x, grad_mean_y, grad_mean_z = zero, zero, zero
    grad_s0, grad_s1, grad_s2 = zero, zero, zero
    grad_w, grad_x, grad_y, grad_z = zero, zero, zero, zero
    for camera in range(cameras):
        view = entry * cameras + camera
        target = (view * count + n).to(tl.int64)
        seen = valid & (tl.load(tile_counts + target, mask=valid, other=0) > 0)
        moment = sums + target * length
        sum_e = tl.load(moment, mask=seen, other=0.0).to(tl.float64)
        sum_ex = tl.load(moment + 1, mask=seen, other=0.0).to(tl.float64)
        sum_ey = tl.load(moment + 2, mask=seen, other=0.0).to(tl.float64)
        sum_exx = tl.load(moment + 3, mask=seen, other=0.0).to(tl.float64)
        sum_exy = tl.load(moment + 4, mask=seen, other=0.0).to(tl.float64)
        sum_eyy = tl.load(moment + 5, mask=seen, other=0.0).to(tl.float64)

        w, translation, intrinsics = _camera(viewmats, Ks, view)
        x, y, z = _view(mean, w, translation)
        jacobian, free_x, free_y = _jacobian((x, y, z), intrinsics, width, height)
        j00, j02, j11, j12 = jacobian
        m, p, q = _splat_axes(r, w, jacobian)
        cxx, cxy, cyy = _covariance(p, q, scale, EPS2D)
        a = cyy / (cxx * cyy - cxy * cxy)
        shear = -cxy / cyy
        k = 1.0 / cyy

        mean_x = a * sum_ex
        mean_y = a * shear * sum_ex + k * sum_ey
        grad_a = -0.5 * sum_exx
        grad_r = -a * sum_exy
        grad_k = -0.5 * sum_eyy
        grad_xx = -a * a * grad_a
        grad_xy = -2.0 * a * a * shear * grad_a - k * grad_r
        grad_yy = -a * a * shear * shear * grad_a - shear * k * grad_r - k * k * grad_k
        d0 = 2.0 * grad_xx * p[0] + grad_xy * q[0]
        d1 = 2.0 * grad_xx * p[1] + grad_xy * q[1]
        d2 = 2.0 * grad_xx * p[2] + grad_xy * q[2]
        e0 = 2.0 * grad_yy * q[0] + grad_xy * p[0]
        e1 = 2.0 * grad_yy * q[1] + grad_xy * p[1]
        e2 = 2.0 * grad_yy * q[2] + grad_xy * p[2]
        p0, p1, p2 = s0 * s0 * d0, s1 * s1 * d1, s2 * s2 * d2
        q0, q1, q2 = s0 * s0 * e0, s1 * s1 * e1, s2 * s2 * e2

        # Camera axes: the mean on the picture, then the Jacobian's dependence on the point.
        grad_j00 = p0 * m[0] + p1 * m[1] + p2 * m[2]
        grad_j02 = p0 * m[6] + p1 * m[7] + p2 * m[8]
        grad_j11 = q0 * m[3] + q1 * m[4] + q2 * m[5]
        grad_j12 = q0 * m[6] + q1 * m[7] + q2 * m[8]
        view_x = j00 * mean_x - tl.where(free_x, grad_j02 * j00 / z, 0.0)
        view_y = j11 * mean_y - tl.where(free_y, grad_j12 * j11 / z, 0.0)
        view_z = -(j00 * mean_x * x + j11 * mean_y * y + grad_j00 * j00 + grad_j11 * j11) / z
        view_z -= tl.where(free_x, 2.0, 1.0) * grad_j02 * j02 / z + tl.where(free_y, 2.0, 1.0) * grad_j12 * j12 / z
        view_x = tl.where(seen, view_x, 0.0)
        view_y = tl.where(seen, view_y, 0.0)
        view_z = tl.where(seen, view_z, 0.0)

        g00 = tl.where(seen, j00 * p0, 0.0)
        g01 = tl.where(seen, j00 * p1, 0.0)
        g02 = tl.where(seen, j00 * p2, 0.0)
        g10 = tl.where(seen, j11 * q0, 0.0)
        g11 = tl.where(seen, j11 * q1, 0.0)
        g12 = tl.where(seen, j11 * q2, 0.0)
        g20 = tl.where(seen, j02 * p0 + j12 * q0, 0.0)
        g21 = tl.where(seen, j02 * p1 + j12 * q1, 0.0)
        g22 = tl.where(seen, j02 * p2 + j12 * q2, 0.0)

        grad_opacity += sum_e
        grad_s0 += tl.where(seen, s0 * (d0 * p[0] + e0 * q[0]), 0.0)
        grad_s1 += tl.where(seen, s1 * (d1 * p[1] + e1 * q[1]), 0.0)
        grad_s2 += tl.where(seen, s2 * (d2 * p[2] + e2 * q[2]), 0.0)
        grad_mean_x += w[0] * view_x + w[3] * view_y + w[6] * view_z
        grad_mean_y += w[1] * view_x + w[4] * view_y + w[7] * view_z
        grad_mean_z += w[2] * view_x + w[5] * view_y + w[8] * view_z
        grad_rotation = (
            w[0] * g00 + w[3] * g10 + w[6] * g20,
            w[0] * g01 + w[3] * g11 + w[6] * g21,
            w[0] * g02 + w[3] * g12 + w[6] * g22,
            w[1] * g00 + w[4] * g10 + w[7] * g20,
            w[1] * g01 + w[4] * g11 + w[7] * g21,
            w[1] * g02 + w[4] * g12 + w[7] * g22,
            w[2] * g00 + w[5] * g10 + w[8] * g20,
            w[2] * g01 + w[5] * g11 + w[8] * g21,
            w[2] * g02 + w[5] * g12 + w[8] * g22,
        )
        quat_w, quat_x, quat_y, quat_z = _rotation_vjp(unit, norm, grad_rotation)
        grad_w += tl.where(seen, quat_w, 0.0)
        grad_x += tl.where(seen, quat_x, 0.0)
        grad_y += tl.where(seen, quat_y, 0.0)
        grad_z += tl.where(seen, quat_z, 0.0)

        out = viewmats_grad + (view * tl.num_programs(0) + tl.program_id(0)) * 12
        _store_camera_row(out, seen, view_x, mean, (g00, g01, g02), r)
        _store_camera_row(out + 4, seen, view_y, mean, (g10, g11, g12), r)
        _store_camera_row(out + 8, seen, view_z, mean, (g20, g21, g22), r)

    _store_three(means_grad, source, valid, (grad_mean_x, grad_mean_y, grad_mean_z))
    _store_three(scales_grad, source, valid, (grad_s0, grad_s1, grad_s2))
    tl.store(quats_grad + 4 * source, grad_w.to(tl.float32), mask=valid)
    tl.store(quats_grad + 4 * source + 1, grad_x.to(tl.float32), mask=valid)
    tl.store(quats_grad + 4 * source + 2, grad_y.to(tl.float32), mask=valid)
    tl.store(quats_grad + 4 * source + 3, grad_z.to(tl.float32), mask=valid)
    # The moment of a culled Gaussian is zero; the quotient must be zero too where the opacity is zero or NaN.
    grad_opacity = tl.where(grad_opacity == 0.0, 0.0, grad_opacity / opacity)
    tl.store(opacities_grad + source, grad_opacity.to(tl.float32), mask=valid)


@triton.jit
def _store_camera_row(out, seen, view, mean, g, r):
    """One row of a view matrix's gradient, summed over the Gaussians: three for the rotation, one for the shift."""
    tl.store(out, _sum_seen(seen, view * mean[0] + g[0] * r[0] + g[1] * r[1] + g[2] * r[2]))
    tl.store(out + 1, _sum_seen(seen, view * mean[1] + g[0] * r[3] + g[1] * r[4] + g[2] * r[5]))
    tl.store(out + 2, _sum_seen(seen, view * mean[2] + g[0] * r[6] + g[1] * r[7] + g[2] * r[8]))
    tl.store(out + 3, tl.sum(view, axis=0))


@triton.jit
def _sum_seen(seen, value):
    return tl.sum(tl.where(seen, value, 0.0), axis=0)
