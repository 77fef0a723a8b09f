"""Rotations, skinning and binding on small synthetic heads."""

from __future__ import annotations

import torch

from spatialavatar.head.binding import triangle_frames
from spatialavatar.head.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quat,
    quat_multiply,
    quat_to_matrix,
)


def random_rotations(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_axis_angle_matches_the_matrix_exponential():
    vectors = torch.cat([random_rotations(50), torch.zeros(1, 3).double(), 1e-6 * random_rotations(5)])
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3)
    torch.testing.assert_close(axis_angle_to_matrix(vectors), torch.matrix_exp(skew), atol=1e-10, rtol=0)


def test_axis_angle_gradient_is_finite_at_zero():
    vector = torch.zeros(1, 3, requires_grad=True)
    axis_angle_to_matrix(vector)[0, 1, 0].backward()
    torch.testing.assert_close(vector.grad, torch.tensor([[0.0, 0.0, 1.0]]))


def test_quaternions_round_trip_for_all_branches():
    half_turns = torch.eye(3).double() * torch.pi
    matrices = axis_angle_to_matrix(torch.cat([random_rotations(200) * 2, half_turns]))
    torch.testing.assert_close(quat_to_matrix(matrix_to_quat(matrices)), matrices, atol=1e-10, rtol=0)
    torch.testing.assert_close(axis_angle_to_matrix(matrix_to_axis_angle(matrices)), matrices, atol=1e-9, rtol=0)


def test_quaternion_product_is_matrix_product():
    left, right = axis_angle_to_matrix(random_rotations(30, 1)), axis_angle_to_matrix(random_rotations(30, 2))
    product = quat_multiply(matrix_to_quat(left), matrix_to_quat(right))
    torch.testing.assert_close(quat_to_matrix(product), left @ right, atol=1e-10, rtol=0)


def test_triangle_frame_follows_the_paper():
    corners = torch.tensor([[[0.0, 0, 0], [2.0, 0, 0], [0.5, 3.0, 0]]])
    frames = triangle_frames(corners)
    torch.testing.assert_close(frames.centre, corners.mean(1))
    torch.testing.assert_close(frames.rotation[0, :, 0], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(frames.rotation[0, :, 1], torch.tensor([0.0, 0, 1]))
    torch.testing.assert_close(frames.rotation[0, :, 2], torch.tensor([0.0, -1, 0]))
    torch.testing.assert_close(frames.scale, torch.tensor([0.5 * (2 + 3)]))


def test_degenerate_triangles_stay_finite_with_orthonormal_frames():
    corners = torch.tensor(
        [
            [[0.0, 0, 0], [0, 0, 0], [0, 0, 0]],
            [[0.0, 0, 0], [1, 0, 0], [2, 0, 0]],
            [[0.0, 0, 0], [0, 0, 0], [0, 1, 0]],
            [[0.0, 0, 0], [1, 0, 0], [1, 1e-12, 0]],
            [[0.3, 0.1, 0], [0.3 + 1e-20, 0.1, 0], [0.3, 0.1, 1e-20]],
        ],
        requires_grad=True,
    )
    frames = triangle_frames(corners)
    eye = torch.eye(3).expand(len(corners), 3, 3)
    torch.testing.assert_close(frames.rotation.transpose(1, 2) @ frames.rotation, eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frames.rotation), torch.ones(len(corners)), atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.scale[1], torch.tensor(0.5))
    (frames.rotation.sum() + frames.scale.sum() + frames.quat.sum()).backward()
    assert torch.isfinite(corners.grad).all()
