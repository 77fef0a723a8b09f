# ruff: noqa: ANN001, ANN202 - numba infers the kernels' types.
"""The compiled steps of the CPU rasteriser: project, sort into tiles, blend, and the gradients of each.

The semantics are those of gsplat 1.5 (Ye et al., "gsplat: An open-source library for Gaussian splatting", 2024): EWA
projection, blur of ``eps2d``, alpha capped at 0.999, nothing below 1/255, and a pixel that stops before the splat that
would take its transmittance to 1e-4 or less.

Three choices carry the speed and the accuracy:

* The 2D conic is kept as its completed square. With d = pixel - mean and the blurred covariance (cxx, cxy, cyy),
  sigma = (A X^2 + K dy^2) / 2, where X = dx + r dy, A = cyy / det, r = -cxy / cyy, K = 1 / cyy. No term cancels for
  needles, and a row of pixels has constant r dy and K dy^2.
* alpha = exp(-8 y) with y = (sigma - ln opacity) / 8: a polynomial and three squarings. alpha >= 1/255 is y <= Y_LIMIT.
* A tile's pixels lie in groups of eight: transmittance, then one vector per channel. A finished pixel has a
  negated transmittance, so a sign test skips finished groups without further state.

Every kernel releases the interpreter lock and processes a range of Gaussians or tiles. No two ranges write to the same
place, so results do not depend on the number of threads.

The file is longer than 400 lines because numba caches a kernel by the time stamp of its own file, and because all
kernels share the inlined geometry. Kernels take arrays and numbers one by one, since numba compiles no dataclasses.
"""

from __future__ import annotations

import numpy as np

from spatialavatar.render._jit import inlined, kernel
from spatialavatar.render._simd import (
    all_negative,
    fma,
    horizontal_sum,
    lane_numbers,
    load,
    minimum,
    negative_abs,
    select,
    splat,
    store,
)

RECORD = 6
"""Floats per projected Gaussian: mean x, mean y, A / 16, r, K / 16, -ln(opacity) / 8."""

MOMENTS = 6
"""Floats per slot before the colours' gradients. With e = alpha dL/dalpha, summed over the pixels of the pair:
e, e X, e dy, e X^2, e X dy, e dy^2."""

ALPHA_MIN = 1.0 / 255.0
Y_LIMIT = np.float32(np.log(255.0) / 8.0)
ALPHA_MAX = np.float32(0.999)
T_STOP = np.float32(1e-4)

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_OUTSIDE = np.float32(-1.0)

# exp(-y) on [0, Y_LIMIT], minimax in relative error: 2e-9 before rounding.
_E0 = np.float32(0.9999999983541898)
_E1 = np.float32(-0.9999997651341024)
_E2 = np.float32(0.499994784661273)
_E3 = np.float32(-0.1666228676953524)
_E4 = np.float32(0.04148915870152844)
_E5 = np.float32(-0.007957043291433418)
_E6 = np.float32(0.0009786350096253464)


@inlined
def _rotation(quat):  # pragma: no cover - compiled
    """Rotation matrix, row by row, of a quaternion (w, x, y, z) of any nonzero length, and that length."""
    w, x, y, z = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    return (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
        norm,
    )


@inlined
def _clamped(value, limit_low, limit_high):  # pragma: no cover - compiled
    """``value`` clamped to the two limits, and whether it lay within them."""
    return min(max(value, limit_low), limit_high), limit_low <= value <= limit_high


@inlined
def _view(mean, viewmat):  # pragma: no cover - compiled
    """A world point in camera axes."""
    x, y, z = np.float64(mean[0]), np.float64(mean[1]), np.float64(mean[2])
    return (
        viewmat[0, 0] * x + viewmat[0, 1] * y + viewmat[0, 2] * z + viewmat[0, 3],
        viewmat[1, 0] * x + viewmat[1, 1] * y + viewmat[1, 2] * z + viewmat[1, 3],
        viewmat[2, 0] * x + viewmat[2, 1] * y + viewmat[2, 2] * z + viewmat[2, 3],
    )


@inlined
def _jacobian(x, y, z, K, width, height):  # pragma: no cover - compiled
    """Projection's Jacobian (J00, J02, J11, J12) at a camera point, and whether x and y were inside the clamp.

    As in gsplat, the point is clamped to 1.3 times the field of view, where the linearisation is accurate enough.
    """
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    slope_x, free_x = _clamped(x / z, -(cx / fx + margin_x), (width - cx) / fx + margin_x)
    slope_y, free_y = _clamped(y / z, -(cy / fy + margin_y), (height - cy) / fy + margin_y)
    return fx / z, -fx * slope_x / z, fy / z, -fy * slope_y / z, free_x, free_y


@inlined
def _splat_axes(rotation, viewmat, j00, j02, j11, j12):  # pragma: no cover - compiled
    """The Gaussian's unit axes in camera axes, M = W R (nine, row by row), and on the picture, P = J M (rows p, q)."""
    r00, r01, r02, r10, r11, r12, r20, r21, r22, _ = rotation
    m00 = viewmat[0, 0] * r00 + viewmat[0, 1] * r10 + viewmat[0, 2] * r20
    m01 = viewmat[0, 0] * r01 + viewmat[0, 1] * r11 + viewmat[0, 2] * r21
    m02 = viewmat[0, 0] * r02 + viewmat[0, 1] * r12 + viewmat[0, 2] * r22
    m10 = viewmat[1, 0] * r00 + viewmat[1, 1] * r10 + viewmat[1, 2] * r20
    m11 = viewmat[1, 0] * r01 + viewmat[1, 1] * r11 + viewmat[1, 2] * r21
    m12 = viewmat[1, 0] * r02 + viewmat[1, 1] * r12 + viewmat[1, 2] * r22
    m20 = viewmat[2, 0] * r00 + viewmat[2, 1] * r10 + viewmat[2, 2] * r20
    m21 = viewmat[2, 0] * r01 + viewmat[2, 1] * r11 + viewmat[2, 2] * r21
    m22 = viewmat[2, 0] * r02 + viewmat[2, 1] * r12 + viewmat[2, 2] * r22
    return (
        (m00, m01, m02, m10, m11, m12, m20, m21, m22),
        (j00 * m00 + j02 * m20, j00 * m01 + j02 * m21, j00 * m02 + j02 * m22),
        (j11 * m10 + j12 * m20, j11 * m11 + j12 * m21, j11 * m12 + j12 * m22),
    )


@inlined
def _covariance(p, q, scale, eps2d):  # pragma: no cover - compiled
    """Blurred covariance on the picture (cxx, cxy, cyy), pixels squared."""
    s0, s1, s2 = np.float64(scale[0]) ** 2, np.float64(scale[1]) ** 2, np.float64(scale[2]) ** 2
    return (
        s0 * p[0] * p[0] + s1 * p[1] * p[1] + s2 * p[2] * p[2] + eps2d,
        s0 * p[0] * q[0] + s1 * p[1] * q[1] + s2 * p[2] * q[2],
        s0 * q[0] * q[0] + s1 * q[1] * q[1] + s2 * q[2] * q[2] + eps2d,
    )


@kernel
def project_forward(
    begin,
    end,
    means,
    quats,
    scales,
    opacities,
    viewmat,
    K,
    width,
    height,
    near,
    far,
    eps2d,
    radius_clip,
    records,
    boxes,
    radii,
    depths,
    conics,
):  # pragma: no cover - compiled
    """Project Gaussians ``begin`` .. ``end``.

    Writes ``records`` (N, RECORD), ``boxes`` (N, 4) int32 with the half-open pixel ranges x0, x1, y0, y1 in which alpha
    can reach 1/255 (empty for culled Gaussians), and gsplat's ``radii`` (N, 2), ``depths`` (N,), ``conics``
    (N, 3). The outputs must be zeros. Gaussians with a value that is not finite are culled: every test below fails for
    NaN.
    """
    for n in range(begin, end):
        x, y, z = _view(means[n], viewmat)
        opacity = np.float64(opacities[n])
        if not (near <= z <= far and z != 0.0 and ALPHA_MIN <= opacity < np.inf):
            continue
        j00, j02, j11, j12, _, _ = _jacobian(x, y, z, K, width, height)
        _, p, q = _splat_axes(_rotation(quats[n]), viewmat, j00, j02, j11, j12)
        cxx, cxy, cyy = _covariance(p, q, scales[n], eps2d)
        det = cxx * cyy - cxy * cxy
        mean_x, mean_y = j00 * x + K[0, 2], j11 * y + K[1, 2]
        if not (det > 0.0 and cxx < 1e30 and cyy < 1e30 and abs(mean_x) < 1e15 and abs(mean_y) < 1e15):
            continue
        extent = np.sqrt(2.0 * np.log(opacity / ALPHA_MIN))
        half_x, half_y = extent * np.sqrt(cxx), extent * np.sqrt(cyy)
        radius_x, radius_y = np.ceil(half_x), np.ceil(half_y)
        if radius_x <= radius_clip and radius_y <= radius_clip:
            continue
        if mean_x + radius_x <= 0.0 or mean_x - radius_x >= width:
            continue
        if mean_y + radius_y <= 0.0 or mean_y - radius_y >= height:
            continue
        # A hundredth of a pixel more than the ellipse, because the blending kernel computes in float32.
        boxes[n, 0] = int(min(max(np.ceil(mean_x - half_x - 0.51), 0.0), width))
        boxes[n, 1] = int(min(max(np.floor(mean_x + half_x + 0.51), 0.0), width))
        boxes[n, 2] = int(min(max(np.ceil(mean_y - half_y - 0.51), 0.0), height))
        boxes[n, 3] = int(min(max(np.floor(mean_y + half_y + 0.51), 0.0), height))
        a, r, k = cyy / det, -cxy / cyy, 1.0 / cyy
        records[n, 0] = mean_x
        records[n, 1] = mean_y
        records[n, 2] = a / 16.0
        records[n, 3] = r
        records[n, 4] = k / 16.0
        records[n, 5] = -np.log(opacity) / 8.0
        radii[n, 0] = int(min(radius_x, 2e9))
        radii[n, 1] = int(min(radius_y, 2e9))
        depths[n] = z
        conics[n, 0] = a
        conics[n, 1] = a * r
        conics[n, 2] = cxx / det


@kernel
def sort_by_depth(depths, boxes):  # pragma: no cover - compiled
    """Indices (M,) int32 of the Gaussians with a box, nearest first, ties by index: a stable radix sort."""
    count = 0
    for n in range(boxes.shape[0]):
        count += boxes[n, 0] < boxes[n, 1] and boxes[n, 2] < boxes[n, 3]
    order, order_next = np.empty(count, np.int32), np.empty(count, np.int32)
    keys, keys_next = np.empty(count, np.uint32), np.empty(count, np.uint32)
    bits = depths.view(np.uint32)
    histogram = np.zeros((3, 2048), np.int64)
    count = 0
    for n in range(boxes.shape[0]):
        if boxes[n, 0] < boxes[n, 1] and boxes[n, 2] < boxes[n, 3]:
            key = np.uint32(bits[n])
            # Floats sort as unsigned integers after the sign bit of positive and every bit of negative ones is flipped.
            key ^= np.uint32(0xFFFFFFFF) if key >> 31 else np.uint32(0x80000000)
            keys[count] = key
            order[count] = n
            count += 1
            for step in range(3):
                histogram[step, (key >> np.uint32(11 * step)) & np.uint32(2047)] += 1
    for step in range(3):
        total = 0
        for digit in range(2048):
            here = histogram[step, digit]
            histogram[step, digit] = total
            total += here
        for i in range(count):
            digit = (keys[i] >> np.uint32(11 * step)) & np.uint32(2047)
            place = histogram[step, digit]
            histogram[step, digit] = place + 1
            keys_next[place] = keys[i]
            order_next[place] = order[i]
        keys, keys_next = keys_next, keys
        order, order_next = order_next, order
    return order


@kernel
def count_tiles(boxes, tile_shift, tiles_x, tiles_y):  # pragma: no cover - compiled
    """Prefix sums of the splats in each tile (tiles + 1,) and of the tiles of each Gaussian (N + 1,), int64.

    A tile's side is ``1 << tile_shift`` pixels.
    """
    tile_offsets = np.zeros(tiles_x * tiles_y + 1, np.int64)
    slot_offsets = np.zeros(boxes.shape[0] + 1, np.int64)
    for n in range(boxes.shape[0]):
        tiles = 0
        if boxes[n, 0] < boxes[n, 1] and boxes[n, 2] < boxes[n, 3]:
            for row in range(boxes[n, 2] >> tile_shift, ((boxes[n, 3] - 1) >> tile_shift) + 1):
                for column in range(boxes[n, 0] >> tile_shift, ((boxes[n, 1] - 1) >> tile_shift) + 1):
                    tile_offsets[row * tiles_x + column + 1] += 1
                    tiles += 1
        slot_offsets[n + 1] = slot_offsets[n] + tiles
    for tile in range(tiles_x * tiles_y):
        tile_offsets[tile + 1] += tile_offsets[tile]
    return tile_offsets, slot_offsets


@kernel
def fill_tiles(order, boxes, tile_shift, tiles_x, tile_offsets, slot_offsets):  # pragma: no cover - compiled
    """The splats of each tile, nearest first: Gaussian index and slot.

    A slot is a number of its own for each pair of a Gaussian and a tile; a Gaussian's slots are consecutive.
    """
    splat_ids = np.empty(tile_offsets[-1], np.int32)
    splat_slots = np.empty(tile_offsets[-1], np.int32)
    heads = tile_offsets[:-1].copy()
    for i in range(order.shape[0]):
        n = order[i]
        slot = slot_offsets[n]
        for row in range(boxes[n, 2] >> tile_shift, ((boxes[n, 3] - 1) >> tile_shift) + 1):
            for column in range(boxes[n, 0] >> tile_shift, ((boxes[n, 1] - 1) >> tile_shift) + 1):
                tile = row * tiles_x + column
                place = heads[tile]
                heads[tile] = place + 1
                splat_ids[place] = n
                splat_slots[place] = slot
                slot += 1
    return splat_ids, splat_slots


@inlined
def _exp_minus_8(y):  # pragma: no cover - compiled
    """exp(-8 y) on eight lanes; relative error below 1e-6 for y in [0, Y_LIMIT], at least 1 for y < 0."""
    e = fma(splat(_E6), y, splat(_E5))
    e = fma(e, y, splat(_E4))
    e = fma(e, y, splat(_E3))
    e = fma(e, y, splat(_E2))
    e = fma(e, y, splat(_E1))
    e = fma(e, y, splat(_E0))
    e = e * e
    e = e * e
    return e * e


@inlined
def _start_transmittance(pixels, tile_size, stride, columns, rows):  # pragma: no cover - compiled
    """1 for the tile's pixels inside the picture, -1 (finished) for the others."""
    groups = tile_size // 8
    for row in range(tile_size):
        for column in range(tile_size):
            inside = row < rows and column < columns
            pixels[(row * groups + column // 8) * stride + column % 8] = _ONE if inside else _OUTSIDE


@kernel
def raster_forward(
    first_tile,
    last_tile,
    tile_size,
    tiles_x,
    tile_offsets,
    splat_ids,
    records,
    boxes,
    colors,
    color_out,
    transmittance_out,
):  # pragma: no cover - compiled
    """Blend tiles ``first_tile`` .. ``last_tile`` into ``color_out`` (H, W, D), ``transmittance_out`` (H, W)."""
    height, width, channels = color_out.shape
    groups = tile_size // 8
    stride = 8 * (1 + channels)
    pixels = np.empty(tile_size * groups * stride, np.float32)
    for tile in range(first_tile, last_tile):
        left, top = tile % tiles_x * tile_size, tile // tiles_x * tile_size
        right, bottom = min(left + tile_size, width), min(top + tile_size, height)
        pixels[:] = _ZERO
        _start_transmittance(pixels, tile_size, stride, right - left, bottom - top)
        first_live = 0
        for place in range(tile_offsets[tile], tile_offsets[tile + 1]):
            while first_live < tile_size * groups and all_negative(load(pixels, first_live * stride)):
                first_live += 1
            if first_live == tile_size * groups:
                break
            n = splat_ids[place]
            mean_x, mean_y = records[n, 0], records[n, 1]
            a, r, k, log_term = records[n, 2], records[n, 3], records[n, 4], records[n, 5]
            first_group = (max(boxes[n, 0], left) - left) // 8
            last_group = (min(boxes[n, 1], right) - left - 1) // 8
            if channels == 3:
                red, green, blue = splat(colors[n, 0]), splat(colors[n, 1]), splat(colors[n, 2])
            else:
                red = green = blue = splat(_ZERO)
            for row in range(max(boxes[n, 2], top), min(boxes[n, 3], bottom)):
                dy = np.float32(row) + _HALF - mean_y
                row_term = splat(k * dy * dy + log_term)
                offset = r * dy + (_HALF - mean_x)
                for group in range(first_group, last_group + 1):
                    base = ((row - top) * groups + group) * stride
                    transmittance = load(pixels, base)
                    if all_negative(transmittance):
                        continue
                    sheared = splat(np.float32(left + 8 * group) + offset) + lane_numbers()
                    y = fma(splat(a) * sheared, sheared, row_term)
                    alpha = minimum(_exp_minus_8(y), splat(ALPHA_MAX))
                    alpha = select(y <= splat(Y_LIMIT), alpha, splat(_ZERO))
                    weight = alpha * transmittance
                    after = transmittance - weight
                    stops = after <= splat(T_STOP)
                    weight = select(stops, splat(_ZERO), weight)
                    store(pixels, base, select(stops, negative_abs(transmittance), after))
                    if channels == 3:
                        store(pixels, base + 8, fma(weight, red, load(pixels, base + 8)))
                        store(pixels, base + 16, fma(weight, green, load(pixels, base + 16)))
                        store(pixels, base + 24, fma(weight, blue, load(pixels, base + 24)))
                    else:
                        for channel in range(channels):
                            at = base + 8 + 8 * channel
                            store(pixels, at, fma(weight, splat(colors[n, channel]), load(pixels, at)))
        for row in range(top, bottom):
            for column in range(left, right):
                base = ((row - top) * groups + (column - left) // 8) * stride + (column - left) % 8
                transmittance_out[row, column] = abs(pixels[base])
                for channel in range(channels):
                    color_out[row, column, channel] = pixels[base + 8 + 8 * channel]


@kernel
def raster_backward(
    first_tile,
    last_tile,
    tile_size,
    tiles_x,
    tile_offsets,
    splat_ids,
    splat_slots,
    records,
    boxes,
    colors,
    color,
    transmittance,
    color_grad,
    alpha_grad,
    slot_grads,
):  # pragma: no cover - compiled
    """Gradients of tiles ``first_tile`` .. ``last_tile`` into ``slot_grads`` (slots, MOMENTS + D), all zeros before.

    Blends again from front to back, with the forward kernel's arithmetic and so its decisions. Besides the
    transmittance T, each pixel stores the gradient of the remaining splats, R = sum over the splats behind of
    weight (color . g) + T_final dL/dT_final; then dL/dalpha = T (color . g) - R / (1 - alpha). T is never
    divided, and no list of contributors is stored.
    """
    height, width, channels = color.shape
    groups = tile_size // 8
    stride = 8 * (2 + channels)
    pixels = np.empty(tile_size * groups * stride, np.float32)
    color_sums = np.empty(8 * channels, np.float32)
    zero = splat(_ZERO)
    for tile in range(first_tile, last_tile):
        left, top = tile % tiles_x * tile_size, tile // tiles_x * tile_size
        right, bottom = min(left + tile_size, width), min(top + tile_size, height)
        pixels[:] = _ZERO
        _start_transmittance(pixels, tile_size, stride, right - left, bottom - top)
        for row in range(top, bottom):
            for column in range(left, right):
                base = ((row - top) * groups + (column - left) // 8) * stride + (column - left) % 8
                remaining = -alpha_grad[row, column] * transmittance[row, column]
                for channel in range(channels):
                    grad = color_grad[row, column, channel]
                    remaining += grad * color[row, column, channel]
                    pixels[base + 16 + 8 * channel] = grad
                pixels[base + 8] = remaining
        first_live = 0
        for place in range(tile_offsets[tile], tile_offsets[tile + 1]):
            while first_live < tile_size * groups and all_negative(load(pixels, first_live * stride)):
                first_live += 1
            if first_live == tile_size * groups:
                break
            n = splat_ids[place]
            mean_x, mean_y = records[n, 0], records[n, 1]
            a, r, k, log_term = records[n, 2], records[n, 3], records[n, 4], records[n, 5]
            first_group = (max(boxes[n, 0], left) - left) // 8
            last_group = (min(boxes[n, 1], right) - left - 1) // 8
            if channels == 3:
                red, green, blue = splat(colors[n, 0]), splat(colors[n, 1]), splat(colors[n, 2])
            else:
                red = green = blue = zero
                color_sums[:] = _ZERO
            red_sum = green_sum = blue_sum = zero
            sum_e = sum_ex = sum_ey = sum_exx = sum_exy = sum_eyy = zero
            for row in range(max(boxes[n, 2], top), min(boxes[n, 3], bottom)):
                dy = np.float32(row) + _HALF - mean_y
                row_term = splat(k * dy * dy + log_term)
                offset = r * dy + (_HALF - mean_x)
                row_e = row_ex = zero
                for group in range(first_group, last_group + 1):
                    base = ((row - top) * groups + group) * stride
                    before = load(pixels, base)
                    if all_negative(before):
                        continue
                    sheared = splat(np.float32(left + 8 * group) + offset) + lane_numbers()
                    y = fma(splat(a) * sheared, sheared, row_term)
                    uncapped = _exp_minus_8(y)
                    alpha = minimum(uncapped, splat(ALPHA_MAX))
                    alpha = select(y <= splat(Y_LIMIT), alpha, zero)
                    weight = alpha * before
                    after = before - weight
                    stops = after <= splat(T_STOP)
                    weight = select(stops, zero, weight)
                    store(pixels, base, select(stops, negative_abs(before), after))
                    if channels == 3:
                        grad_red, grad_green = load(pixels, base + 16), load(pixels, base + 24)
                        grad_blue = load(pixels, base + 32)
                        along = fma(grad_blue, blue, fma(grad_green, green, grad_red * red))
                        red_sum = fma(weight, grad_red, red_sum)
                        green_sum = fma(weight, grad_green, green_sum)
                        blue_sum = fma(weight, grad_blue, blue_sum)
                    else:
                        along = zero
                        for channel in range(channels):
                            grad = load(pixels, base + 16 + 8 * channel)
                            along = fma(grad, splat(colors[n, channel]), along)
                            store(color_sums, 8 * channel, fma(weight, grad, load(color_sums, 8 * channel)))
                    gain = weight * along
                    remaining = load(pixels, base + 8) - gain
                    store(pixels, base + 8, remaining)
                    e = gain - remaining * (alpha / (splat(_ONE) - alpha))
                    e = select(stops, zero, select(uncapped <= splat(ALPHA_MAX), e, zero))
                    ex = e * sheared
                    row_e = row_e + e
                    row_ex = row_ex + ex
                    sum_exx = fma(ex, sheared, sum_exx)
                sum_e = sum_e + row_e
                sum_ex = sum_ex + row_ex
                sum_ey = fma(row_e, splat(dy), sum_ey)
                sum_exy = fma(row_ex, splat(dy), sum_exy)
                sum_eyy = fma(row_e, splat(dy * dy), sum_eyy)
            slot = splat_slots[place]
            slot_grads[slot, 0] = horizontal_sum(sum_e)
            slot_grads[slot, 1] = horizontal_sum(sum_ex)
            slot_grads[slot, 2] = horizontal_sum(sum_ey)
            slot_grads[slot, 3] = horizontal_sum(sum_exx)
            slot_grads[slot, 4] = horizontal_sum(sum_exy)
            slot_grads[slot, 5] = horizontal_sum(sum_eyy)
            if channels == 3:
                slot_grads[slot, MOMENTS] = horizontal_sum(red_sum)
                slot_grads[slot, MOMENTS + 1] = horizontal_sum(green_sum)
                slot_grads[slot, MOMENTS + 2] = horizontal_sum(blue_sum)
            else:
                for channel in range(channels):
                    slot_grads[slot, MOMENTS + channel] = horizontal_sum(load(color_sums, 8 * channel))


@inlined
def _rotation_vjp(quat, norm, v, out):  # pragma: no cover - compiled
    """Gradient of the quaternion (into ``out``) from the nine gradients ``v`` of its rotation matrix, row by row."""
    w, x, y, z = quat[0] / norm, quat[1] / norm, quat[2] / norm, quat[3] / norm
    v00, v01, v02, v10, v11, v12, v20, v21, v22 = v
    grad_w = 2 * (z * (v10 - v01) + y * (v02 - v20) + x * (v21 - v12))
    grad_x = 2 * (y * (v01 + v10) + z * (v02 + v20) + w * (v21 - v12) - 2 * x * (v11 + v22))
    grad_y = 2 * (x * (v01 + v10) + z * (v12 + v21) + w * (v02 - v20) - 2 * y * (v00 + v22))
    grad_z = 2 * (x * (v02 + v20) + y * (v12 + v21) + w * (v10 - v01) - 2 * z * (v00 + v11))
    along = grad_w * w + grad_x * x + grad_y * y + grad_z * z
    out[0] = (grad_w - along * w) / norm
    out[1] = (grad_x - along * x) / norm
    out[2] = (grad_y - along * y) / norm
    out[3] = (grad_z - along * z) / norm


@kernel
def project_backward(
    begin,
    end,
    means,
    quats,
    scales,
    opacities,
    viewmat,
    K,
    width,
    height,
    eps2d,
    slot_offsets,
    slot_grads,
    means_grad,
    quats_grad,
    scales_grad,
    opacities_grad,
    colors_grad,
    viewmat_grad,
):  # pragma: no cover - compiled
    """Gradients of Gaussians ``begin`` .. ``end`` from those of their slots; adds to ``viewmat_grad`` (4, 4).

    The outputs must be zeros, and stay zero for culled Gaussians. The forward projection is recomputed.
    """
    channels = colors_grad.shape[1]
    sums = np.empty(MOMENTS)
    for n in range(begin, end):
        if slot_offsets[n] == slot_offsets[n + 1]:
            continue
        sums[:] = 0.0
        reached = False
        for slot in range(slot_offsets[n], slot_offsets[n + 1]):
            for i in range(MOMENTS):
                sums[i] += slot_grads[slot, i]
                reached |= slot_grads[slot, i] != 0.0
            for channel in range(channels):
                colors_grad[n, channel] += slot_grads[slot, MOMENTS + channel]
        if not reached:  # occluded, as half of a closed surface is
            continue

        x, y, z = _view(means[n], viewmat)
        j00, j02, j11, j12, free_x, free_y = _jacobian(x, y, z, K, width, height)
        rotation = _rotation(quats[n])
        m, p, q = _splat_axes(rotation, viewmat, j00, j02, j11, j12)
        cxx, cxy, cyy = _covariance(p, q, scales[n], eps2d)
        a, r, k = cyy / (cxx * cyy - cxy * cxy), -cxy / cyy, 1.0 / cyy

        opacities_grad[n] = sums[0] / np.float64(opacities[n])
        mean_x, mean_y = a * sums[1], a * r * sums[1] + k * sums[2]
        grad_a, grad_r, grad_k = -0.5 * sums[3], -a * sums[4], -0.5 * sums[5]
        grad_xx = -a * a * grad_a
        grad_xy = -2.0 * a * a * r * grad_a - k * grad_r
        grad_yy = -a * a * r * r * grad_a - r * k * grad_r - k * k * grad_k

        s0, s1, s2 = np.float64(scales[n, 0]), np.float64(scales[n, 1]), np.float64(scales[n, 2])
        grad_p = (
            s0 * s0 * (2.0 * grad_xx * p[0] + grad_xy * q[0]),
            s1 * s1 * (2.0 * grad_xx * p[1] + grad_xy * q[1]),
            s2 * s2 * (2.0 * grad_xx * p[2] + grad_xy * q[2]),
        )
        grad_q = (
            s0 * s0 * (2.0 * grad_yy * q[0] + grad_xy * p[0]),
            s1 * s1 * (2.0 * grad_yy * q[1] + grad_xy * p[1]),
            s2 * s2 * (2.0 * grad_yy * q[2] + grad_xy * p[2]),
        )
        scales_grad[n, 0] = 2.0 * s0 * (grad_xx * p[0] * p[0] + grad_xy * p[0] * q[0] + grad_yy * q[0] * q[0])
        scales_grad[n, 1] = 2.0 * s1 * (grad_xx * p[1] * p[1] + grad_xy * p[1] * q[1] + grad_yy * q[1] * q[1])
        scales_grad[n, 2] = 2.0 * s2 * (grad_xx * p[2] * p[2] + grad_xy * p[2] * q[2] + grad_yy * q[2] * q[2])

        # Camera axes: the mean on the picture, then the Jacobian's dependence on the point.
        grad_j00 = grad_p[0] * m[0] + grad_p[1] * m[1] + grad_p[2] * m[2]
        grad_j02 = grad_p[0] * m[6] + grad_p[1] * m[7] + grad_p[2] * m[8]
        grad_j11 = grad_q[0] * m[3] + grad_q[1] * m[4] + grad_q[2] * m[5]
        grad_j12 = grad_q[0] * m[6] + grad_q[1] * m[7] + grad_q[2] * m[8]
        view_x, view_y = j00 * mean_x, j11 * mean_y
        view_z = -(view_x * x + view_y * y + grad_j00 * j00 + grad_j11 * j11) / z
        if free_x:
            view_x -= grad_j02 * j00 / z
            view_z -= 2.0 * grad_j02 * j02 / z
        else:
            view_z -= grad_j02 * j02 / z
        if free_y:
            view_y -= grad_j12 * j11 / z
            view_z -= 2.0 * grad_j12 * j12 / z
        else:
            view_z -= grad_j12 * j12 / z

        g00, g01, g02 = j00 * grad_p[0], j00 * grad_p[1], j00 * grad_p[2]
        g10, g11, g12 = j11 * grad_q[0], j11 * grad_q[1], j11 * grad_q[2]
        g20 = j02 * grad_p[0] + j12 * grad_q[0]
        g21 = j02 * grad_p[1] + j12 * grad_q[1]
        g22 = j02 * grad_p[2] + j12 * grad_q[2]
        grad_rotation = (
            viewmat[0, 0] * g00 + viewmat[1, 0] * g10 + viewmat[2, 0] * g20,
            viewmat[0, 0] * g01 + viewmat[1, 0] * g11 + viewmat[2, 0] * g21,
            viewmat[0, 0] * g02 + viewmat[1, 0] * g12 + viewmat[2, 0] * g22,
            viewmat[0, 1] * g00 + viewmat[1, 1] * g10 + viewmat[2, 1] * g20,
            viewmat[0, 1] * g01 + viewmat[1, 1] * g11 + viewmat[2, 1] * g21,
            viewmat[0, 1] * g02 + viewmat[1, 1] * g12 + viewmat[2, 1] * g22,
            viewmat[0, 2] * g00 + viewmat[1, 2] * g10 + viewmat[2, 2] * g20,
            viewmat[0, 2] * g01 + viewmat[1, 2] * g11 + viewmat[2, 2] * g21,
            viewmat[0, 2] * g02 + viewmat[1, 2] * g12 + viewmat[2, 2] * g22,
        )
        _rotation_vjp(quats[n], rotation[9], grad_rotation, quats_grad[n])
        for axis in range(3):
            means_grad[n, axis] = viewmat[0, axis] * view_x + viewmat[1, axis] * view_y + viewmat[2, axis] * view_z
            position = means[n, axis]
            r0, r1, r2 = rotation[3 * axis], rotation[3 * axis + 1], rotation[3 * axis + 2]
            viewmat_grad[0, axis] += view_x * position + g00 * r0 + g01 * r1 + g02 * r2
            viewmat_grad[1, axis] += view_y * position + g10 * r0 + g11 * r1 + g12 * r2
            viewmat_grad[2, axis] += view_z * position + g20 * r0 + g21 * r1 + g22 * r2
        viewmat_grad[0, 3] += view_x
        viewmat_grad[1, 3] += view_y
        viewmat_grad[2, 3] += view_z
