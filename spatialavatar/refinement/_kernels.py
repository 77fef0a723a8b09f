# ruff: noqa: ANN001, ANN202 - numba infers the kernels' types.
"""Compiled passes of a refinement step on a CPU: one pass over memory where PyTorch has many small tensors.

Each has an equivalent in PyTorch, which other devices use and tests compare with: ``losses.py`` for the pictures,
``deformation.py`` for the transformation to the world, ``anti_spike.py`` for the aspect. Every kernel releases the
interpreter lock, works on a range of rows or Gaussians, and writes to memory of its own range only.

Pictures are stored as planes (planes, H, S), where S is the width rounded up to a multiple of eight. The windows are
then summed plane by plane, and eight neighbours are one vector.
"""

from __future__ import annotations

import numpy as np

from spatialavatar.render.kernels import (
    horizontal_sum,
    kernel,
    lane_numbers,
    load,
    quat_rotation,
    quat_rotation_vjp,
    select,
    splat,
    splat_axes,
    store,
    to_view,
)

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)


@kernel
def composite_planes(
    first, last, color, alpha, image, matte, weight, background, planes, row_differences
):  # pragma: no cover - compiled
    """Composite rows of render x and frame y over one colour, as planes x (3), y (3), x^2 + y^2 (3), x y (3).

    ``color`` (H, W, 3) is premultiplied by ``alpha`` (H, W), ``image`` (H, W, 3) is not by ``matte`` (H, W); where
    ``weight`` (H, W) is 0 the frame is the render. ``row_differences`` (H,) are the sums of |x - y|.
    """
    for row in range(first, last):
        planes[:, row, alpha.shape[1] :] = _ZERO
        total = 0.0
        for column in range(alpha.shape[1]):
            through, cover, share = _ONE - alpha[row, column], matte[row, column], weight[row, column]
            for c in range(3):
                x = color[row, column, c] + through * background[c]
                y = image[row, column, c] * cover + (_ONE - cover) * background[c]
                y = x + share * (y - x)
                total += abs(x - y)
                planes[c, row, column] = x
                planes[3 + c, row, column] = y
                planes[6 + c, row, column] = x * x + y * y
                planes[9 + c, row, column] = x * y
        row_differences[row] = total


@kernel
def similarity(first, last, width, windows, c1, c2, partials, row_sums):  # pragma: no cover - compiled
    """SSIM of rows from their windowed planes (12, H, S) as of :func:`composite_planes`.

    ``row_sums`` (H,) are its sums, ``partials`` (9, H, S) its derivatives to the windowed x, x^2 and x y.
    """
    _, height, stride = windows.shape
    one, two, zero = splat(_ONE), splat(_TWO), splat(_ZERO)
    plane = 3 * height * stride
    for row in range(first, last):
        total = 0.0
        for c in range(3):
            row_total = zero
            for group in range(stride // 8):
                at = (c * height + row) * stride + 8 * group
                inside = lane_numbers() < splat(np.float32(width - 8 * group))
                mean_x, mean_y = load(windows, at), load(windows, at + plane)
                product = mean_x * mean_y
                squares = mean_x * mean_x + mean_y * mean_y
                both = two * product + splat(c1)
                spread = two * (load(windows, at + 3 * plane) - product) + splat(c2)
                energy = squares + splat(c1)
                variance = load(windows, at + 2 * plane) - squares + splat(c2)
                scale = one / (energy * variance)
                value = both * spread * scale
                by_square = zero - value / variance
                by_product = two * both * scale
                by_mean = two * (mean_y * spread * scale - mean_x * value / energy)
                by_mean = by_mean - two * mean_x * by_square - mean_y * by_product
                row_total = row_total + select(inside, value, zero)
                store(partials, at, select(inside, by_mean, zero))
                store(partials, at + plane, select(inside, by_square, zero))
                store(partials, at + 2 * plane, select(inside, by_product, zero))
            total += horizontal_sum(row_total)
        row_sums[row] = total


@kernel
def picture_gradients(
    first, last, planes, partials, weight, background, by_difference, by_similarity, color_grad, alpha_grad
):  # pragma: no cover - compiled
    """Gradients of rows to colour (H, W, 3) and alpha (H, W).

    ``planes`` as of :func:`composite_planes`, ``partials`` (9, H, S) those of :func:`similarity` after the window.
    ``by_difference`` and ``by_similarity`` are the loss's derivatives to each |x - y| and each pixel's SSIM.
    """
    for row in range(first, last):
        for column in range(weight.shape[1]):
            by_alpha = _ZERO
            for c in range(3):
                x, y = planes[c, row, column], planes[3 + c, row, column]
                grad = partials[c, row, column] + _TWO * x * partials[3 + c, row, column]
                grad = by_similarity * (grad + y * partials[6 + c, row, column])
                if x > y:
                    grad += by_difference
                elif x < y:
                    grad -= by_difference
                grad *= weight[row, column]
                color_grad[row, column, c] = grad
                by_alpha -= grad * background[c]
            alpha_grad[row, column] = by_alpha


@kernel
def to_world_gradients(
    first, last, triangle, rotation, quat, scale, means_grad, quats_grad, scales_grad, to_means, to_quats, to_scales
):  # pragma: no cover - compiled
    """Gradients of world Gaussians to those of local ones: the transpose of :func:`to_world`."""
    for n in range(first, last):
        t = triangle[n]
        s = scale[t]
        for i in range(3):
            turned = rotation[t, i] * means_grad[n, 0] + rotation[t, 3 + i] * means_grad[n, 1]
            to_means[n, i] = s * (turned + rotation[t, 6 + i] * means_grad[n, 2])
            to_scales[n, i] = s * scales_grad[n, i]
        w1, x1, y1, z1 = quat[t, 0], -quat[t, 1], -quat[t, 2], -quat[t, 3]
        w2, x2, y2, z2 = quats_grad[n, 0], quats_grad[n, 1], quats_grad[n, 2], quats_grad[n, 3]
        to_quats[n, 0] = w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2
        to_quats[n, 1] = w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2
        to_quats[n, 2] = w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2
        to_quats[n, 3] = w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2


@kernel
def aspects(
    first, last, chosen, means, quats, scales, viewmat, fx, fy, limit, excess, quats_grad, scales_grad
):  # pragma: no cover - compiled
    """Excess of the log aspect on screen over ``limit`` of the ``chosen`` Gaussians, and its gradients.

    See :func:`spatialavatar.refinement.anti_spike.log_aspect`; double precision replaces its cross product.
    """
    for i in range(first, last):
        n = chosen[i]
        x, y, z = to_view(means[n], viewmat)
        rotation = quat_rotation(quats[n])
        j00, j02, j11, j12 = fx / z, -fx * x / (z * z), fy / z, -fy * y / (z * z)
        _, p, q = splat_axes(rotation, viewmat, j00, j02, j11, j12)
        s0, s1, s2 = np.float64(scales[n, 0]) ** 2, np.float64(scales[n, 1]) ** 2, np.float64(scales[n, 2]) ** 2
        xx = s0 * p[0] * p[0] + s1 * p[1] * p[1] + s2 * p[2] * p[2]
        xy = s0 * p[0] * q[0] + s1 * p[1] * q[1] + s2 * p[2] * q[2]
        yy = s0 * q[0] * q[0] + s1 * q[1] * q[1] + s2 * q[2] * q[2]
        half_sum, half_difference = 0.5 * (xx + yy), 0.5 * (xx - yy)
        radius = np.sqrt(half_difference * half_difference + xy * xy)
        largest, determinant = half_sum + radius, max(xx * yy - xy * xy, 1e-12)
        excess[i] = max(0.5 * np.log(max(largest * largest / determinant, 1.0)) - limit, 0.0)
        if not (excess[i] > 0.0 and radius > 0.0):
            continue
        grad_xx = (0.5 + 0.5 * half_difference / radius) / largest - 0.5 * yy / determinant
        grad_xy = xy / (radius * largest) + xy / determinant
        grad_yy = (0.5 - 0.5 * half_difference / radius) / largest - 0.5 * xx / determinant
        gp0, gq0 = s0 * (2.0 * grad_xx * p[0] + grad_xy * q[0]), s0 * (2.0 * grad_yy * q[0] + grad_xy * p[0])
        gp1, gq1 = s1 * (2.0 * grad_xx * p[1] + grad_xy * q[1]), s1 * (2.0 * grad_yy * q[1] + grad_xy * p[1])
        gp2, gq2 = s2 * (2.0 * grad_xx * p[2] + grad_xy * q[2]), s2 * (2.0 * grad_yy * q[2] + grad_xy * p[2])
        scales_grad[n, 0] = (gp0 * p[0] + gq0 * q[0]) / scales[n, 0]
        scales_grad[n, 1] = (gp1 * p[1] + gq1 * q[1]) / scales[n, 1]
        scales_grad[n, 2] = (gp2 * p[2] + gq2 * q[2]) / scales[n, 2]
        a0, a1, a2 = j00 * viewmat[0, 0] + j02 * viewmat[2, 0], j00 * viewmat[0, 1] + j02 * viewmat[2, 1], 0.0
        a2 = j00 * viewmat[0, 2] + j02 * viewmat[2, 2]
        b0, b1 = j11 * viewmat[1, 0] + j12 * viewmat[2, 0], j11 * viewmat[1, 1] + j12 * viewmat[2, 1]
        b2 = j11 * viewmat[1, 2] + j12 * viewmat[2, 2]
        grad_rotation = (
            a0 * gp0 + b0 * gq0, a0 * gp1 + b0 * gq1, a0 * gp2 + b0 * gq2,
            a1 * gp0 + b1 * gq0, a1 * gp1 + b1 * gq1, a1 * gp2 + b1 * gq2,
            a2 * gp0 + b2 * gq0, a2 * gp1 + b2 * gq1, a2 * gp2 + b2 * gq2,
        )  # fmt: skip
        quat_rotation_vjp(quats[n], rotation[9], grad_rotation, quats_grad[n])
