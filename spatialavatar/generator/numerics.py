"""Small numerical tools that the steps of the base share."""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Weights of red, green and blue in the brightness of a colour."""


def smoothstep(values: Floats | Pixels, low: float, high: float) -> Floats:
    """0 up to ``low``, 1 from ``high`` on, a smooth cubic between."""
    t = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bilinear(picture: Pixels, pixels: Floats) -> Floats:
    """Values of a picture (H, W, C) or (H, W) at positions (N, 2), whose x, y have pixel centres at + 0.5.

    Positions outside take the value of the border; positions that are not finite take that of the corner.
    """
    height, width = picture.shape[:2]
    x = np.nan_to_num(pixels[:, 0] - 0.5, nan=0.0, posinf=0.0, neginf=0.0).clip(0, width - 1)
    y = np.nan_to_num(pixels[:, 1] - 0.5, nan=0.0, posinf=0.0, neginf=0.0).clip(0, height - 1)
    x0, y0 = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = x - x0, y - y0
    if picture.ndim == 3:
        fx, fy = fx[:, None], fy[:, None]
    top = picture[y0, x0] * (1 - fx) + picture[y0, x1] * fx
    bottom = picture[y1, x0] * (1 - fx) + picture[y1, x1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float64)


def blur(picture: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of a picture (H, W[, C]) with standard deviation ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def graph_laplacian(neighbours: NDArray[np.int64]) -> sp.csr_matrix:
    """Symmetric Laplacian (N, N) of the graph that joins each node with its ``neighbours`` (N, k)."""
    count, k = neighbours.shape
    rows = np.repeat(np.arange(count), k)
    columns = neighbours.reshape(-1)
    real = rows != columns
    ones = np.ones(int(real.sum()))
    directed = sp.csr_matrix((ones, (rows[real], columns[real])), shape=(count, count))
    adjacency = directed.maximum(directed.T)
    degree = np.asarray(adjacency.sum(1)).ravel()
    return (sp.diags(degree) - adjacency).tocsr()


def conjugate_gradients(
    matrix: sp.csr_matrix, right: Floats, start: Floats, tolerance: float = 3e-4, rounds: int = 600
) -> Floats:
    """Solve ``matrix @ x = right`` (N, C) for a symmetric positive definite matrix, preconditioned by its diagonal.

    Stops, for each column by itself, when the residual has fallen to ``tolerance`` of the right side, or after
    ``rounds``.
    """
    inverse = 1.0 / matrix.diagonal()
    columns = [
        _solve_column(matrix, inverse, np.ascontiguousarray(b), np.ascontiguousarray(x), tolerance, rounds)
        for b, x in zip(right.T, start.T)
    ]
    return np.stack(columns, axis=1)


def _solve_column(
    matrix: sp.csr_matrix, inverse: Floats, right: Floats, start: Floats, tolerance: float, rounds: int
) -> Floats:
    x = start.astype(np.float64)
    residual = right - matrix @ x
    goal = tolerance * np.linalg.norm(right) + 1e-12
    direction = z = inverse * residual
    rho = residual @ z
    for _ in range(rounds):
        if np.linalg.norm(residual) <= goal:
            break
        image = matrix @ direction
        step = rho / (direction @ image)
        x += step * direction
        residual -= step * image
        z = inverse * residual
        rho, previous = residual @ z, rho
        direction = z + (rho / previous) * direction
    return x
