# ruff: noqa: ANN001, ANN202 - numba infers the kernels' types.
"""Compiled passes that move Gaussians to a posed mesh; ``binding`` has the reference in torch."""

from __future__ import annotations

import numpy as np

from spatialavatar.render.kernels import kernel

_EPSILON = 1e-12
_TINY = 1e-9


@kernel
def triangle_frames(first, last, faces, vertices, rotation, quat, scale):  # pragma: no cover - compiled
    """Frames of triangles ``first`` to ``last``; see :func:`spatialavatar.head.binding.triangle_frames`.

    ``rotation`` (F, 9), row-major, ``quat`` (F, 4) and ``scale`` (F,) receive the result.
    """
    for f in range(first, last):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        ex, ey, ez = vertices[j, 0] - x, vertices[j, 1] - y, vertices[j, 2] - z
        ox, oy, oz = vertices[k, 0] - x, vertices[k, 1] - y, vertices[k, 2] - z
        squared = np.float64(ex) * ex + np.float64(ey) * ey + np.float64(ez) * ez
        length = np.sqrt(squared) if squared >= _EPSILON * _EPSILON else 0.0
        ux, uy, uz = 1.0, 0.0, 0.0
        if length >= _TINY:
            ux, uy, uz = ex / length, ey / length, ez / length
        nx, ny, nz = uy * oz - uz * oy, uz * ox - ux * oz, ux * oy - uy * ox
        height = np.sqrt(nx * nx + ny * ny + nz * nz)
        if height >= _TINY:
            nx, ny, nz = nx / height, ny / height, nz / height
        else:  # the axis of the edge's smallest component
            nx, ny, nz = 0.0, 0.0, 0.0
            if abs(ux) <= abs(uy) and abs(ux) <= abs(uz):
                nx = 1.0
            elif abs(uy) <= abs(uz):
                ny = 1.0
            else:
                nz = 1.0
        along = ux * nx + uy * ny + uz * nz
        nx, ny, nz = nx - ux * along, ny - uy * along, nz - uz * along
        norm = max(np.sqrt(nx * nx + ny * ny + nz * nz), _EPSILON)
        nx, ny, nz = nx / norm, ny / norm, nz / norm
        wx, wy, wz = uy * nz - uz * ny, uz * nx - ux * nz, ux * ny - uy * nx
        scale[f] = 0.5 * (length + abs(wx * ox + wy * oy + wz * oz))
        rotation[f, 0], rotation[f, 1], rotation[f, 2] = ux, nx, wx
        rotation[f, 3], rotation[f, 4], rotation[f, 5] = uy, ny, wy
        rotation[f, 6], rotation[f, 7], rotation[f, 8] = uz, nz, wz
        # The largest of four possible divisors, as in rotations.matrix_to_quat.
        s0, s1, s2, s3 = 1 + ux + ny + wz, 1 + ux - ny - wz, 1 - ux + ny - wz, 1 - ux - ny + wz
        largest = max(max(s0, s1), max(s2, s3))
        if s0 == largest:
            a, b, c, d = s0, nz - wy, wx - uz, uy - nx
        elif s1 == largest:
            a, b, c, d = nz - wy, s1, uy + nx, wx + uz
        elif s2 == largest:
            a, b, c, d = wx - uz, uy + nx, s2, nz + wy
        else:
            a, b, c, d = uy - nx, wx + uz, nz + wy, s3
        norm = np.sqrt(a * a + b * b + c * c + d * d)
        if a < 0:
            norm = -norm
        quat[f, 0], quat[f, 1], quat[f, 2], quat[f, 3] = a / norm, b / norm, c / norm, d / norm


@kernel
def to_world(
    first, last, triangle, corners, bary, vertices, rotation, quat, scale, means, quats, scales, to_means, to_quats,
    to_scales,
):  # pragma: no cover - compiled  # fmt: skip
    """Gaussians ``first`` to ``last`` of N local ones to the world; see :func:`spatialavatar.head.binding.to_world`.

    ``triangle`` (N,), ``corners`` (N, 3) and ``bary`` (N, 3) bind them; ``rotation`` (F, 9), ``quat`` (F, 4) and
    ``scale`` (F,) are the triangles' frames; the last three arrays receive the result.
    """
    for n in range(first, last):
        t = triangle[n]
        s = scale[t]
        for i in range(3):
            anchor = bary[n, 0] * vertices[corners[n, 0], i] + bary[n, 1] * vertices[corners[n, 1], i]
            anchor += bary[n, 2] * vertices[corners[n, 2], i]
            turned = rotation[t, 3 * i] * means[n, 0] + rotation[t, 3 * i + 1] * means[n, 1]
            turned += rotation[t, 3 * i + 2] * means[n, 2]
            to_means[n, i] = anchor + s * turned
            to_scales[n, i] = s * scales[n, i]
        w1, x1, y1, z1 = quat[t, 0], quat[t, 1], quat[t, 2], quat[t, 3]
        w2, x2, y2, z2 = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        to_quats[n, 0] = w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2
        to_quats[n, 1] = w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2
        to_quats[n, 2] = w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2
        to_quats[n, 3] = w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2
