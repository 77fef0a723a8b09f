"""Changes of the Gaussians that a refinement learns by expression."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.driving import UNIT_LIMITS
from spatialavatar.head import HeadModel
from spatialavatar.records import HeadParams
from spatialavatar.refinement import BasesConfig, RateConfig, RefineConfig, refine
from spatialavatar.refinement.expression_bases import ExpressionBases, ExpressionInputs
from spatialavatar.refinement.scores import FrameScorer, mean_score
from spatialavatar.residual import by_attribute, changed, expression_code

from .support.filmed_ball import SIZE, filmed, in_grey, patterned_ball, turning
from .support.moving_avatar import moving_avatar

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = RefineConfig(iterations=60, size=SIZE, rates=RateConfig(color=2e-2), bases=BasesConfig(inputs=3, color=2e-2))


def talking(head: HeadModel, shape: torch.Tensor, frames: int = 15) -> HeadParams:
    """A turning head that opens its jaw every few frames, with a random expression."""
    params = turning(head, shape, frames)
    jaw = torch.zeros(frames, 3)
    jaw[:, 0] = 0.3 * (torch.arange(frames) % 3) / 2
    expression = 0.2 * torch.rand(frames, head.expression_count, generator=torch.Generator().manual_seed(1))
    return params.replace(jaw=jaw, expression=expression)


def random_bases(avatar: Avatar, params: HeadParams, inputs: int = 4, skull: bool = True) -> ExpressionBases:
    bases = ExpressionBases(ExpressionInputs(params, avatar.head, inputs, skull=skull), avatar, None)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in bases.tensors.values():
            tensor.copy_(0.03 * torch.randn(tensor.shape, generator=generator))
    return bases


def blushing(avatar: Avatar, params: HeadParams) -> Avatar:
    """The avatar with colours that follow the first input of a clip."""
    bases = random_bases(avatar, params, 1, skull=False)
    with torch.no_grad():
        bases.tensors["position"].zero_()
        bases.tensors["color"].copy_(torch.tensor([0.15, -0.1, 0.0])[:, None].expand_as(bases.tensors["color"]))
    return dataclasses.replace(avatar, residual=bases.residual(None))


@torch.no_grad()
@pytest.mark.parametrize("avatar", [patterned_ball(), moving_avatar()], ids=["no residual", "a residual below"])
def test_the_stored_residual_computes_the_learned_changes(avatar):
    params = talking(avatar.head, avatar.shape)
    bases = random_bases(avatar, params)
    code = expression_code(params[3])
    ours = bases.residual(avatar.residual).at(avatar.gaussians, code)
    theirs = bases.at(avatar.gaussians, code, avatar.residual)
    assert (ours.colors - avatar.gaussians.colors).abs().max() > 0.02
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_residual_of_positions_and_colours_is_added_as_any_other_bit_by_bit():
    avatar = patterned_ball()
    params = talking(avatar.head, avatar.shape)
    residual, code = random_bases(avatar, params).residual(None), expression_code(params[3])
    ours, theirs = residual.at(avatar.gaussians, code), changed(avatar.gaussians, by_attribute(residual.changes(code)))
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@torch.no_grad()
def test_inputs_equal_principal_components_within_the_clips_range():
    ball = patterned_ball()
    params = talking(ball.head, ball.shape)
    inputs = ExpressionInputs(params, ball.head, 3, skull=False)
    codes = expression_code(params)
    values = torch.stack([inputs.at(codes[t : t + 1]) for t in range(len(codes))])
    torch.testing.assert_close(values, codes @ inputs.directions.T - inputs.offsets, atol=0.1, rtol=0.0)


@torch.no_grad()
def test_no_expression_moves_a_gaussian_beyond_the_bound():
    ball = patterned_ball()
    params = talking(ball.head, ball.shape)
    bases = random_bases(ball, params)
    residual = bases.residual(None)
    reach = torch.maximum(bases.inputs.low.abs(), bases.inputs.high.abs()) + 0.04
    limits = [tensor.abs() @ reach for tensor in bases.tensors.values()]
    generator = torch.Generator().manual_seed(5)
    low, high = UNIT_LIMITS
    for _ in range(50):
        code = torch.empty(1, ball.head.expression_count + 12).uniform_(low, high, generator=generator)
        code[:, ball.head.expression_count :] *= 3.0
        changes = residual.changes(code)
        for limit, change in zip(limits, (changes[:, :3], changes[:, 9:])):
            assert (change.abs() <= limit + 1e-5).all()


def test_a_clip_of_one_expression_gives_no_inputs():
    ball = patterned_ball()
    inputs = ExpressionInputs(turning(ball.head, ball.shape), ball.head, 8, skull=False)
    assert len(inputs.low) == 0


def test_refinement_learns_colours_that_follow_the_expression():
    ball = patterned_ball()
    params = turning(ball.head, ball.shape)
    jaw = torch.zeros_like(params.jaw)
    jaw[:, 0] = 0.15 * (torch.arange(len(jaw)) % 3)
    params = params.replace(jaw=jaw)
    truth = blushing(ball, params)
    track, other = filmed(truth, params), filmed(truth, params.replace(jaw=jaw.roll(1, 0)))
    inner = []
    for inputs in (0, 3):
        config = QUICK.changed({"bases.inputs": inputs, "bases.color": 1e-2})
        refined = list(refine(ball, track, config))[-1].avatar
        scorer = FrameScorer(other, refined, SIZE)
        inner.append(mean_score([scorer.score(refined, frame)[2] for frame in (5, 6, 7)]).inner_psnr)
    assert inner[1] > inner[0] + 2.0


def test_a_killed_run_resumes_to_the_same_bases_bit_by_bit(tmp_path):
    ball = patterned_ball()
    track = filmed(ball, talking(ball.head, ball.shape))
    config = QUICK.changed({"iterations": 14})
    whole = list(refine(in_grey(ball), track, config))[-1].avatar
    path = tmp_path / "run.safetensors"
    steps = refine(in_grey(ball), track, config, checkpoint=path)
    for _ in range(8):
        next(steps)
    steps.close()
    resumed = list(refine(in_grey(ball), track, config, checkpoint=path))[-1].avatar
    assert whole.residual is not None
    assert resumed.residual is not None
    assert whole.residual.features.abs().max() > 0.0
    for name, value in whole.residual.tensors().items():
        assert torch.equal(getattr(resumed.residual, name), value), name
    assert torch.equal(whole.gaussians.colors, resumed.gaussians.colors)
