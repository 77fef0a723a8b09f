"""Rotations: axis-angle, matrices and wxyz quaternions, safe at zero and differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


def axis_angle_to_matrix(vectors: Tensor) -> Tensor:
    """Axis-angle (..., 3), radians, to rotation matrices (..., 3, 3) by Rodrigues' formula."""
    squared = (vectors * vectors).sum(-1, keepdim=True)
    # The square root's gradient at 0 is infinite, so small angles take the series of sin(a)/a and (1 - cos(a))/a^2.
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1.0 - squared / 6.0, angle.sin() / angle)[..., None]
    cosine = torch.where(small, 0.5 - squared / 24.0, (1.0 - angle.cos()) / (angle * angle))[..., None]
    skew = skew_matrix(vectors)
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + sine * skew + cosine * (skew @ skew)


def skew_matrix(vectors: Tensor) -> Tensor:
    """Cross-product matrices (..., 3, 3) of vectors (..., 3)."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def matrix_to_quat(matrices: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) to unit quaternions (..., 4), wxyz, w >= 0.

    Each entry is computed with the largest of four possible divisors, so no rotation is ill-conditioned.
    """
    m = matrices
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    four_squares = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = [
        torch.stack([four_squares[..., 0], wx, wy, wz], -1),
        torch.stack([wx, four_squares[..., 1], xy, xz], -1),
        torch.stack([wy, xy, four_squares[..., 2], yz], -1),
        torch.stack([wz, xz, yz, four_squares[..., 3]], -1),
    ]
    candidates = torch.stack(rows, -2)
    best = four_squares.argmax(-1)[..., None, None].expand(*four_squares.shape[:-1], 1, 4)
    quats = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def quat_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product of wxyz quaternions (..., 4)."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    return torch.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        -1,
    )


def quat_conjugate(quats: Tensor) -> Tensor:
    """Inverse of unit quaternions (..., 4), wxyz."""
    return quats * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=quats.dtype, device=quats.device)


def quat_to_matrix(quats: Tensor) -> Tensor:
    """Quaternions (..., 4), wxyz, normalised here, to rotation matrices (..., 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ],
        -1,
    ).unflatten(-1, (3, 3))


def matrix_to_axis_angle(matrices: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) to axis-angle vectors (..., 3), radians, length in [0, pi]."""
    quats = matrix_to_quat(matrices)
    sine = quats[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, quats[..., :1])
    return quats[..., 1:] * torch.where(sine > 1e-8, angle / sine.clamp_min(1e-8), torch.full_like(sine, 2.0))


def mean_rotation(matrices: Tensor) -> Tensor:
    """The rotation (3, 3) nearest to the mean of rotation matrices (T, 3, 3)."""
    u, _, vh = torch.linalg.svd(matrices.mean(0))
    flip = torch.ones(3, dtype=u.dtype, device=u.device)
    flip[2] = torch.linalg.det(u @ vh)
    return u @ torch.diag(flip) @ vh
