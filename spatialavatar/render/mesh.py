# ruff: noqa: ANN001, ANN202 - numba infers the kernel's types.
"""Z-buffers of triangle meshes, on the pixels of a camera and on the texels of a UV map.

Both return, per pixel, the visible triangle and the barycentric weights of the visible point, which interpolate any
vertex attribute. Everything is NumPy, because no gradient is needed.

Triangles are rasterised in homogeneous coordinates (Olano and Greer, "Triangle scan conversion using 2D homogeneous
coordinates", 1997), so that triangles that reach behind the camera need no clipping. Edges are inclusive and have the
same value in both of their triangles, so there are no holes. At equal depth, the lower index wins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatialavatar.errors import InputError
from spatialavatar.render._jit import kernel


class MeshFragments(NamedTuple):
    """The visible point of each pixel of a z-buffer.

    Attributes:
        face: (H, W) int32, index of the nearest triangle; -1 where there is none.
        bary: (H, W, 3) float32, perspective-correct barycentric weights; 0 where there is none.
        depth: (H, W) float32, camera z in metres; infinity where there is none.
    """

    face: NDArray[np.int32]
    bary: NDArray[np.float32]
    depth: NDArray[np.float32]


def rasterize_mesh(
    vertices_cam: ArrayLike,
    faces: ArrayLike,
    intrinsics: ArrayLike,
    width: int,
    height: int,
    cull_back: bool = False,
) -> MeshFragments:
    """Find the nearest triangle at each pixel centre.

    Args:
        vertices_cam: (V, 3) vertices in camera axes (x right, y down, z forward), metres.
        faces: (F, 3) integer vertex indices, counter-clockwise seen from outside.
        intrinsics: (3, 3), pixels; the centre of pixel (column i, row j) is (i + 0.5, j + 0.5).
        width: pixels.
        height: pixels.
        cull_back: skip back-facing triangles.

    Triangles with a vertex that is not finite, and triangles of no area, are skipped.

    Raises:
        InputError: a shape is wrong, or a face has an index outside the vertices.
    """
    vertices = _as_array("vertices_cam", vertices_cam, np.float64, (None, 3))
    triangles = _as_faces(faces, len(vertices))
    matrix = _as_array("intrinsics", intrinsics, np.float64, (3, 3))
    if width < 0 or height < 0:
        raise InputError(f"An image of {width} x {height} pixels cannot be rendered; give a size of at least 0 x 0.")
    face = np.full((height, width), -1, np.int32)
    bary = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float64)
    with np.errstate(invalid="ignore"):
        points = vertices @ matrix.T
    _zbuffer(points, triangles, bool(cull_back), False, (face, bary, depth))
    return MeshFragments(face, bary, depth.astype(np.float32))


def rasterize_uv(uv: ArrayLike, resolution: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the triangle and the barycentric weights at each texel centre of a UV map.

    Args:
        uv: (F, 3, 2) UV of each face corner, origin at the top left of the map; a face with a negative coordinate is
            skipped.
        resolution: width and height U of the map; texel (row r, column c) has its centre at
            ((c + 0.5) / U, (r + 0.5) / U).

    Returns:
        face (U, U) int32, -1 where there is none, and bary (U, U, 3) float32, 0 where there is none. Where faces
        overlap, the one of the lower index is taken.

    Raises:
        InputError: a shape is wrong.
    """
    corners = _as_array("uv", uv, np.float64, (None, 3, 2))
    if resolution < 0:
        raise InputError(f"A UV map of {resolution} texels cannot be made; give a resolution of at least 0.")
    face = np.full((resolution, resolution), -1, np.int32)
    bary = np.zeros((resolution, resolution, 3), np.float32)
    depth = np.full((resolution, resolution), np.inf, np.float64)
    present = np.all(corners >= 0, axis=(1, 2))
    points = np.ones((3 * len(corners), 3))
    points[:, :2] = np.where(present[:, None, None], corners, np.nan).reshape(-1, 2) * resolution
    triangles = np.arange(len(points), dtype=np.int32).reshape(-1, 3)
    _zbuffer(points, triangles, False, True, (face, bary, depth))
    return face, bary


def vertex_normals(vertices: ArrayLike, faces: ArrayLike) -> NDArray[np.float32]:
    """Compute unit normals (V, 3) float32, the area-weighted mean over the faces of each vertex; 0 without a face.

    Args:
        vertices: (V, 3).
        faces: (F, 3) integer vertex indices, counter-clockwise seen from outside.

    Raises:
        InputError: a shape is wrong, or a face has an index outside the vertices.
    """
    points = _as_array("vertices", vertices, np.float64, (None, 3))
    triangles = _as_faces(faces, len(points))
    v0, v1, v2 = (points[triangles[:, corner]] for corner in range(3))
    per_face = np.repeat(np.cross(v1 - v0, v2 - v0), 3, axis=0)
    columns = [np.bincount(triangles.ravel(), per_face[:, axis], minlength=len(points)) for axis in range(3)]
    normals = np.stack(columns, axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0).astype(np.float32)


def _as_array(name: str, value: ArrayLike, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return ``value`` as a contiguous array; ``None`` in ``shape`` accepts any length."""
    array = np.ascontiguousarray(value, dtype)
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape)):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise InputError(f"{name} has shape {array.shape}, not ({wanted}).")
    return array


def _as_faces(faces: ArrayLike, vertex_count: int) -> NDArray[np.int32]:
    """Return the faces as (F, 3) int32 after a check of the indices."""
    triangles = _as_array("faces", faces, np.int32, (None, 3))
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < vertex_count:
        raise InputError(f"The faces name vertices that are not there; indices must lie in 0 .. {vertex_count - 1}.")
    return triangles


@kernel
def _zbuffer(points, faces, cull_back, keep_first, out):  # pragma: no cover - compiled
    """Fill ``out``: face, barycentric weights and depth.

    ``points`` (V, 3) are homogeneous pixels (x w, y w, w), where w is the depth.

    With ``keep_first``, a pixel gets the lowest index that covers it, at any depth. A shared edge has exactly opposite
    values in its two triangles; the compiler must not change that by regrouping.
    """
    face_out, bary_out, depth_out = out
    height, width = face_out.shape
    for f in range(faces.shape[0]):
        x0, y0, w0 = points[faces[f, 0]]
        x1, y1, w1 = points[faces[f, 1]]
        x2, y2, w2 = points[faces[f, 2]]
        # Row i of the adjugate of [p0 p1 p2]: the edge function opposite corner i.
        a0, b0, c0 = y1 * w2 - y2 * w1, x2 * w1 - x1 * w2, x1 * y2 - x2 * y1
        a1, b1, c1 = y2 * w0 - y0 * w2, x0 * w2 - x2 * w0, x2 * y0 - x0 * y2
        a2, b2, c2 = y0 * w1 - y1 * w0, x1 * w0 - x0 * w1, x0 * y1 - x1 * y0
        det = x0 * a0 + y0 * b0 + w0 * c0
        if not (abs(det) > 0.0 and abs(det) < np.inf):
            continue
        if cull_back and det > 0.0:
            continue
        if w0 <= 0.0 and w1 <= 0.0 and w2 <= 0.0:
            continue
        first_column, last_column, first_row, last_row = 0, width - 1, 0, height - 1
        if w0 > 0.0 and w1 > 0.0 and w2 > 0.0:
            u0, u1, u2 = x0 / w0, x1 / w1, x2 / w2
            v0, v1, v2 = y0 / w0, y1 / w1, y2 / w2
            # Clamped before the conversion: a float out of the integer range converts to anything.
            first_column = int(min(max(np.floor(min(u0, u1, u2) - 0.5), 0.0), width))
            last_column = int(max(min(np.ceil(max(u0, u1, u2) - 0.5), width - 1.0), -1.0))
            first_row = int(min(max(np.floor(min(v0, v1, v2) - 0.5), 0.0), height))
            last_row = int(max(min(np.ceil(max(v0, v1, v2) - 0.5), height - 1.0), -1.0))
        sign = 1.0 if det > 0.0 else -1.0
        for row in range(first_row, last_row + 1):
            y = row + 0.5
            for column in range(first_column, last_column + 1):
                x = column + 0.5
                e0 = sign * (a0 * x + b0 * y + c0)
                e1 = sign * (a1 * x + b1 * y + c1)
                e2 = sign * (a2 * x + b2 * y + c2)
                total = e0 + e1 + e2
                if e0 >= 0.0 and e1 >= 0.0 and e2 >= 0.0 and total > 0.0:
                    depth = abs(det) / total
                    if depth < depth_out[row, column] and not (keep_first and face_out[row, column] >= 0):
                        depth_out[row, column] = depth
                        face_out[row, column] = f
                        bary_out[row, column, 0] = e0 / total
                        bary_out[row, column, 1] = e1 / total
                        bary_out[row, column, 2] = e2 / total
