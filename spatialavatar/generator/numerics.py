"""Array types, image filters and sparse solvers that all steps of the base share."""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg, splu

from spatialavatar import easing

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709 weights of red, green and blue in the luma of a colour."""

CG_TOLERANCE = 3e-4
"""Relative residual at which conjugate gradients stop."""

CG_MAX_ITERATIONS = 600
"""Bound on the iterations of conjugate gradients; the shipped layout needs fewer than 200."""


_PAIRWISE = 8
"""Numbers from which on NumPy sums a contiguous row in pairs."""


def smoothstep(values: Floats | Pixels, low: float, high: float) -> Floats:
    """Cubic step in double precision: 0 up to ``low``, 1 from ``high`` on."""
    return easing.smoothstep(np.asarray(values, np.float64), low, high)


def bilinear(picture: Pixels, pixels: Floats) -> Floats:
    """Sample a picture (H, W[, C]) at positions (N, 2), x and y in pixels with pixel centres at + 0.5.

    Positions outside read the border; positions that are not finite read the top left corner. ``scipy.ndimage``'s
    ``map_coordinates`` is twice as fast, but rounds differently in the last bit, so avatars would no longer be
    reproduced exactly.
    """
    height, width = picture.shape[:2]
    x = np.nan_to_num(pixels[:, 0] - 0.5, nan=0.0, posinf=0.0, neginf=0.0).clip(0, width - 1)
    y = np.nan_to_num(pixels[:, 1] - 0.5, nan=0.0, posinf=0.0, neginf=0.0).clip(0, height - 1)
    x0, y0 = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    fx, fy = x - x0, y - y0
    if picture.ndim == 3:
        fx, fy = fx[:, None], fy[:, None]
    # Looking up numbers of pixels takes half the time of looking up rows and columns.
    flat, first = picture.reshape(height * width, *picture.shape[2:]), y0 * width + x0
    right, down = min(width - 1, 1), width * min(height - 1, 1)
    top = flat.take(first, 0) * (1 - fx) + flat.take(first + right, 0) * fx
    first += down
    bottom = flat.take(first, 0) * (1 - fx) + flat.take(first + right, 0) * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float64)


def neighbour_means(values: Floats, neighbours: Ints) -> Floats:
    """Mean (N[, C]) of values (N[, C]) over the ``neighbours`` (N, k) of each node.

    ``values[neighbours].mean(1)`` to the last bit, in a third to a ninth of its time.
    """
    if values.ndim == 1 and neighbours.shape[1] > _PAIRWISE:
        return np.asarray(values[neighbours].mean(1))
    columns = [values.take(column, 0) for column in np.ascontiguousarray(neighbours.T)]
    if values.ndim == 1 and len(columns) == _PAIRWISE:
        # NumPy sums eight contiguous numbers in pairs, and rows one after the other.
        while len(columns) > 1:
            columns = [first + second for first, second in zip(columns[::2], columns[1::2])]
    total = columns[0]
    for column in columns[1:]:
        total += column
    total /= neighbours.shape[1]
    return total


def blur(picture: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of a picture (H, W[, C]) with standard deviation ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def graph_laplacian(neighbours: NDArray[np.int64]) -> sp.csr_matrix:
    """Symmetric Laplacian (N, N) of the graph whose edges join each node with its ``neighbours`` (N, k)."""
    count, k = neighbours.shape
    rows = np.repeat(np.arange(count), k)
    columns = neighbours.reshape(-1)
    real = rows != columns
    ones = np.ones(int(real.sum()))
    directed = sp.csr_matrix((ones, (rows[real], columns[real])), shape=(count, count))
    adjacency = directed.maximum(directed.T)
    degree = np.asarray(adjacency.sum(1)).ravel()
    return (sp.diags(degree) - adjacency).tocsr()


def conjugate_gradients(matrix: sp.csr_matrix, right: Floats, start: Floats) -> Floats:
    """Solve ``matrix @ x = right`` (N, C) by conjugate gradients, preconditioned with the diagonal.

    Args:
        matrix: (N, N), symmetric positive definite.
        right: (N, C).
        start: (N, C) first guess.

    Returns:
        (N, C). Each column stops when its residual is below ``CG_TOLERANCE`` of the right side, or after
        ``CG_MAX_ITERATIONS``.
    """
    inverse = 1.0 / matrix.diagonal()
    preconditioner = LinearOperator(matrix.shape, matvec=lambda residual: inverse * residual, dtype=np.float64)
    columns = []
    for b, x in zip(right.T, start.T):
        goal = CG_TOLERANCE * np.linalg.norm(b) + 1e-12
        options = {"rtol": 0.0, "atol": goal, "maxiter": CG_MAX_ITERATIONS, "M": preconditioner}
        columns.append(cg(matrix, np.ascontiguousarray(b), np.ascontiguousarray(x), **options)[0])
    return np.stack(columns, axis=1)


def solve_directly(matrix: sp.spmatrix, right: Floats) -> Floats:
    """Solve ``matrix @ x = right`` (V[, C]) by factoring a symmetric positive definite ``matrix`` (V, V).

    Pivots stay on the diagonal, which such a matrix allows: twice as fast as the general factorisation.
    """
    options = {"SymmetricMode": True}
    return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options).solve(right)
