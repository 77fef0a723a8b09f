"""The compiled pass that carries Gaussians to a posed mesh, beside its twin in torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spatialavatar.head import carried, to_world

from .support.avatars import make_ball_avatar, make_grey_avatar


def posed(avatar, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    params = avatar.reference.replace(
        expression=0.5 * torch.rand(1, avatar.head.expression_count, generator=generator),
        rotation=torch.randn(1, 3, generator=generator),
        neck=0.3 * torch.randn(1, 3, generator=generator),
        jaw=torch.tensor([[0.3, 0.0, 0.0]]),
    )
    return avatar.head.pose(avatar.identity(), params)[0]


@pytest.mark.parametrize("make", [make_ball_avatar, make_grey_avatar])
@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_pass_is_the_one_in_torch(make, seed: int):
    avatar = make(48)
    vertices = posed(avatar, seed)
    compiled = carried(avatar.gaussians, avatar.head, avatar.layout, vertices)
    reference = to_world(avatar.gaussians, avatar.head, avatar.layout, vertices)
    assert compiled.space == "world"
    torch.testing.assert_close(compiled.means, reference.means, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(compiled.scales, reference.scales, atol=1e-8, rtol=1e-4)
    same = (compiled.quats * reference.quats).sum(-1).abs() / reference.quats.square().sum(-1)
    # The axes of a triangle without an area are arbitrary in both.
    corners = vertices[avatar.head.faces[avatar.layout.faces]]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    assert float((same[area > 1e-8] - 1.0).abs().max()) < 1e-4


def test_triangles_without_an_area_stay_finite():
    avatar = make_ball_avatar(32)
    vertices = posed(avatar)
    flat = torch.zeros_like(vertices)
    line = vertices * torch.tensor([1.0, 0.0, 0.0])
    for degenerate in (flat, line):
        world = carried(avatar.gaussians, avatar.head, avatar.layout, degenerate)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in (world.means, world.quats, world.scales))
        torch.testing.assert_close(world.quats.norm(dim=-1), avatar.gaussians.quats.norm(dim=-1), atol=1e-4, rtol=0)


def test_gradients_pass_through_the_twin():
    avatar = make_ball_avatar(32)
    means = avatar.gaussians.means.clone().requires_grad_()
    world = carried(replace(avatar.gaussians, means=means), avatar.head, avatar.layout, posed(avatar))
    world.means.sum().backward()
    assert means.grad is not None
    assert float(means.grad.abs().max()) > 0
