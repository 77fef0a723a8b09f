"""Rotations, skinning and binding on small synthetic heads."""

from __future__ import annotations

import pytest
import torch

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import HeadModel, build_layout, to_local, to_world, triangle_frames
from spatialavatar.head.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quat,
    quat_multiply,
    quat_to_matrix,
)
from spatialavatar.records import Gaussians, HeadParams

from .support.ball_head import make_ball_head


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


@pytest.fixture(scope="module")
def ball():
    return make_ball_head()


def random_params(head, frames: int = 4) -> HeadParams:
    generator = torch.Generator().manual_seed(3)
    neutral = head.neutral(frames)
    return HeadParams(
        shape=torch.randn(head.shape_count, generator=generator),
        **{
            name: 0.4 * torch.randn(getattr(neutral, name).shape, generator=generator)
            for name in ("expression", "rotation", "translation", "neck", "jaw", "eyes")
        },
    )


def test_rest_pose_is_the_shaped_template(ball):
    params = ball.neutral()
    torch.testing.assert_close(ball.vertices(params)[0], ball.template, atol=1e-6, rtol=0)


def test_global_rotation_is_rigid_about_the_root_joint(ball):
    params = ball.neutral().replace(
        rotation=torch.tensor([[0.0, 0.7, 0.0]]), translation=torch.tensor([[0.1, 0.2, 0.3]])
    )
    root = ball.identity(params.shape).joints[0]
    expected = (ball.template - root) @ axis_angle_to_matrix(params.rotation)[0].T + root + params.translation
    torch.testing.assert_close(ball.vertices(params)[0], expected, atol=1e-6, rtol=0)


def test_positive_yaw_turns_the_face_to_the_subjects_left(ball):
    nose = ball.template[:, 2].argmax()
    params = ball.neutral().replace(rotation=torch.tensor([[0.0, 0.5, 0.0]]))
    assert ball.vertices(params)[0, nose, 0] > ball.template[nose, 0] + 0.02


def test_frames_are_posed_independently(ball):
    params = random_params(ball)
    together = ball.vertices(params)
    for i in range(len(params)):
        torch.testing.assert_close(ball.vertices(params[i])[0], together[i], atol=1e-6, rtol=0)


def test_offsets_move_vertices_but_not_joints(ball):
    shape = torch.randn(3)
    offsets = 0.01 * torch.randn(len(ball.template), 3)
    plain, moved = ball.identity(shape), ball.identity(shape, offsets)
    torch.testing.assert_close(moved.joints, plain.joints)
    torch.testing.assert_close(moved.vertices - plain.vertices, offsets, atol=1e-6, rtol=0)


def test_a_wrong_shape_length_is_refused_in_one_sentence(ball):
    with pytest.raises(InputError, match="needs \\(3,\\)"):
        ball.identity(torch.zeros(100))


def test_head_file_round_trip(ball, tmp_path):
    ball.save(tmp_path)
    again = HeadModel.load(tmp_path)
    torch.testing.assert_close(again.template, ball.template)
    torch.testing.assert_close(again.shape_basis, ball.shape_basis, atol=1e-4, rtol=1e-3)
    assert again.id == ball.id
    assert again.expressions == ball.expressions


def test_a_damaged_head_file_is_refused(ball, tmp_path):
    ball.save(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"not tensors")
    with pytest.raises(FormatError, match="cannot be read"):
        HeadModel.load(tmp_path)


def test_every_gaussian_lies_on_its_triangle_under_any_pose(ball):
    layout = build_layout(ball, 64)
    vertices = ball.vertices(random_params(ball))[0]
    rest = Gaussians(
        means=torch.zeros(len(layout), 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(len(layout), 4),
        scales=torch.full((len(layout), 3), 0.1),
        opacities=torch.ones(len(layout)),
        colors=torch.rand(len(layout), 3),
    )
    world = to_world(rest, ball, layout, vertices)
    torch.testing.assert_close(world.means, layout.surface(ball, vertices))
    assert (layout.bary >= -1e-6).all()
    torch.testing.assert_close(layout.bary.sum(1), torch.ones(len(layout)), atol=1e-5, rtol=0)


def test_world_and_local_round_trip(ball):
    layout = build_layout(ball, 64)
    vertices = ball.vertices(random_params(ball))[1]
    generator = torch.Generator().manual_seed(5)
    local = Gaussians(
        means=torch.randn(len(layout), 3, generator=generator),
        quats=torch.nn.functional.normalize(torch.randn(len(layout), 4, generator=generator), dim=-1),
        scales=torch.rand(len(layout), 3, generator=generator) + 0.1,
        opacities=torch.rand(len(layout), generator=generator),
        colors=torch.rand(len(layout), 3, generator=generator),
    )
    again = to_local(to_world(local, ball, layout, vertices), ball, layout, vertices)
    torch.testing.assert_close(again.means, local.means, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(again.scales, local.scales, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(quat_to_matrix(again.quats), quat_to_matrix(local.quats), atol=1e-4, rtol=0)


def test_layout_depends_on_the_uvs_alone(ball):
    first, second = build_layout(ball, 64), build_layout(make_ball_head(), 64)
    assert first.id == second.id
    assert build_layout(make_ball_head(segments=15), 64).id != first.id
    picture = first.to_image(first.bary)
    torch.testing.assert_close(first.from_image(picture), first.bary)
