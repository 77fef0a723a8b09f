"""What an expression adds to the Gaussians: the same in the network, in an avatar, in its file and in refinement."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError
from spatialavatar.export.ply import ply_rows
from spatialavatar.generator.network.corrections import scaled
from spatialavatar.generator.network.heads import ResidualHead
from spatialavatar.records import HeadParams, Track
from spatialavatar.refinement import BasesConfig, RateConfig, RefineConfig, refine
from spatialavatar.refinement.deformation import Deformer
from spatialavatar.residual import changed, expression_code

from .support.avatars import make_ball_avatar
from .support.filmed_ball import filmed, turning
from .support.moving_avatar import FEATURES, correction_weight, head_and_features, moving_avatar


def looking(avatar: Avatar, **changes: float) -> HeadParams:
    """The reference with some parameters all set to a number."""
    reference = avatar.reference
    return reference.replace(**{name: torch.full_like(getattr(reference, name), v) for name, v in changes.items()})


def test_an_avatar_applies_the_network_s_corrections():
    head, features = head_and_features(colors=6)
    avatar = make_ball_avatar()
    params = looking(avatar, expression=0.7, jaw=0.2, rotation=0.1)
    with torch.no_grad():
        corrections = {
            name: scaled(v[0], correction_weight()) for name, v in head(features[None], expression_code(params)).items()
        }
    corrections["colors"] = corrections["colors"][:, :3]
    expected = changed(avatar.gaussians, corrections)
    found = dataclasses.replace(avatar, residual=head.of_person(features, correction_weight())).local(params)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-5, rtol=1e-5)
    assert (found.means - avatar.gaussians.means).abs().mean() > 0.01


def test_a_frame_depends_on_the_expression():
    avatar = moving_avatar()
    still = looking(avatar, expression=0.0)
    moved = looking(avatar, expression=0.8)
    plain = dataclasses.replace(avatar, residual=None)
    assert not torch.equal(avatar.render(still)[0], plain.render(still)[0])
    assert not torch.equal(avatar.local(still).colors, avatar.local(moved).colors)
    assert torch.equal(avatar.local(moved).opacities, avatar.gaussians.opacities)


def test_a_residual_of_zero_leaves_every_bit():
    avatar = make_ball_avatar()
    head = ResidualHead(FEATURES, avatar.head.expression_count + 12, 7, 3)
    untrained = dataclasses.replace(avatar, residual=head.of_person(head_and_features()[1], correction_weight()))
    params = looking(avatar, expression=0.8, jaw=0.3)
    assert torch.equal(untrained.render(params)[0], avatar.render(params)[0])


def test_torso_and_neck_share_a_turn_without_a_difference():
    params = looking(moving_avatar(), rotation=0.1)
    half = params.replace(rotation=0.5 * params.rotation, neck=0.5 * params.rotation)
    torch.testing.assert_close(expression_code(half), expression_code(params))


def test_the_code_is_that_of_the_paper():
    params = looking(moving_avatar(), expression=0.5, rotation=0.2, jaw=0.3, eyes=0.4)
    code = expression_code(params)
    count = params.expression.shape[1]
    assert code.shape == (1, count + 12)
    torch.testing.assert_close(code[0, count : count + 3], params.rotation[0])
    assert code[0, -9:].tolist() == pytest.approx([0.3] * 3 + [0.4] * 6)


def test_a_saved_residual_renders_the_same_picture(tmp_path):
    avatar = moving_avatar()
    again = Avatar.load(avatar.save(tmp_path / "a.safetensors"), avatar.head)
    params = looking(avatar, expression=0.8)
    assert torch.equal(again.render(params)[0], avatar.render(params)[0])


def test_an_avatar_without_residual_is_a_file_that_earlier_releases_read(tmp_path):
    versions = []
    for avatar in (make_ball_avatar(), moving_avatar()):
        with safe_open(avatar.save(tmp_path / "a.safetensors"), framework="pt") as file:
            versions.append(json.loads(file.metadata()["spatialavatar"])["version"])
    assert versions == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("residual.film_bias"), "lacks residual.film_bias"),
        (lambda t: t["residual.features"].fill_(torch.nan), "residual.features that are not finite"),
        (lambda t: t.update({"residual.output_bias": torch.zeros(13)}), r"residual.output_bias of shape \(13,\)"),
        (lambda t: t.update({"residual.more": torch.zeros(1)}), "unknown residual.more"),
    ],
)
def test_a_damaged_residual_is_refused(tmp_path, change, words):
    path = moving_avatar().save(tmp_path / "a.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)
    with pytest.raises(FormatError, match=words):
        Avatar.load(path, moving_avatar().head)


def test_a_residual_of_another_head_is_refused():
    avatar = moving_avatar()
    residual = avatar.residual
    assert residual is not None
    other = residual.replace(hidden_weight=torch.zeros(len(residual.hidden_bias), 112))
    with pytest.raises(InputError, match="hidden_weight"):
        dataclasses.replace(avatar, residual=other)


def filmed_moving() -> Track:
    """The moving avatar as it opens and closes its mouth."""
    avatar = moving_avatar()
    params = turning(avatar.head, avatar.shape, 12)
    jaw = torch.zeros(12, 3)
    jaw[1::2, 0] = 0.2
    expression = torch.linspace(-0.5, 0.5, 12)[:, None].expand(12, avatar.head.expression_count)
    with torch.no_grad():
        return filmed(avatar, params.replace(jaw=jaw, expression=expression.contiguous()))


def test_a_frame_of_refinement_is_the_avatars_own():
    avatar = moving_avatar()
    params = looking(avatar, expression=0.6, jaw=0.2)
    deformer = Deformer(avatar.head, avatar.layout, avatar.identity(), avatar.residual)
    ours, theirs = deformer.to_world(avatar.gaussians, deformer.pose(params, 0)), avatar.pose(params)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_gaussians_through_the_residual():
    avatar = moving_avatar()
    deformer = Deformer(avatar.head, avatar.layout, avatar.identity(), avatar.residual)
    leaves = {n: getattr(avatar.gaussians, n).clone().requires_grad_() for n in ("means", "quats", "scales", "colors")}
    posed = deformer.to_world(avatar.gaussians.replace(**leaves), deformer.pose(looking(avatar, expression=0.6), 0))
    torch.stack([posed.means.sum(), posed.quats.sum(), posed.scales.sum(), posed.colors.sum()]).sum().backward()
    assert all(leaf.grad.abs().max() > 0 for leaf in leaves.values())


@pytest.mark.parametrize("rate", [0.0, 1e-2])
def test_refinement_keeps_the_residual_and_moves_it_only_when_told(rate):
    avatar, track = moving_avatar(), filmed_moving()
    config = RefineConfig(iterations=10, size=64, rates=RateConfig(residual=rate), bases=BasesConfig(inputs=0))
    refined = [step for step in refine(avatar, track, config) if step.fraction == 1.0][-1].avatar
    assert refined.layout.id == avatar.layout.id
    assert len(refined.gaussians) == len(avatar.gaussians)
    assert torch.equal(refined.residual.features, avatar.residual.features)
    assert torch.equal(refined.residual.freedom, avatar.residual.freedom)
    same = [
        torch.equal(new, old)
        for new, old in zip(refined.residual.weights().values(), avatar.residual.weights().values())
    ]
    assert all(same) if rate == 0.0 else not any(same)
    assert not torch.equal(refined.gaussians.colors, avatar.gaussians.colors)


def test_a_refinement_that_was_interrupted_goes_on_with_its_residual(tmp_path):
    avatar, track = moving_avatar(), filmed_moving()
    config = RefineConfig(iterations=8, size=64, rates=RateConfig(residual=1e-2))
    whole = [step for step in refine(avatar, track, config) if step.fraction == 1.0][-1].avatar
    steps = refine(avatar, track, config, checkpoint=tmp_path / "run.safetensors")
    for _ in range(5):
        next(steps)
    steps.close()
    rest = [s for s in refine(avatar, track, config, checkpoint=tmp_path / "run.safetensors") if s.fraction == 1.0]
    for name, value in whole.residual.tensors().items():
        assert torch.equal(getattr(rest[-1].avatar.residual, name), value), name


def test_a_still_export_holds_the_residual_of_its_expression():
    avatar = moving_avatar()
    params = looking(avatar, expression=0.6)
    rows = ply_rows(avatar, params)
    assert not (rows == ply_rows(dataclasses.replace(avatar, residual=None), params)).all()
    colors = torch.from_numpy(rows[:, 3:6].copy()) * 0.28209479177387814 + 0.5
    torch.testing.assert_close(colors, avatar.local(params).colors, atol=1e-5, rtol=1e-5)
