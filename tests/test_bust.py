"""The bust of an avatar: its motion with the torso, and its place in files."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from spatialavatar.avatar import Avatar, default_head
from spatialavatar.driving import DriveConfig, retarget
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import turned_at_neck
from spatialavatar.motion import Motion

from .support.avatars import make_ball_avatar, make_bust


@pytest.fixture(scope="module")
def head_alone():
    return make_ball_avatar()


@pytest.fixture(scope="module")
def avatar(head_alone):
    return replace(head_alone, bust=make_bust(40, len(head_alone.layout)))


def yawed(avatar, degrees):
    return avatar.reference.replace(rotation=torch.tensor([[0.0, math.radians(degrees), 0.0]]))


def test_a_turn_of_the_neck_moves_the_head_and_not_the_bust(avatar):
    still, turned = avatar.pose(avatar.reference), avatar.pose(avatar.with_torso(yawed(avatar, 25.0), neck_share=1.0))
    torch.testing.assert_close(turned.means[-40:], still.means[-40:], atol=1e-6, rtol=0.0)
    assert (turned.means[:-40] - still.means[:-40]).norm(dim=1).max() > 0.02


def test_the_bust_takes_its_share_of_a_turn(avatar):
    torso = avatar.with_torso(yawed(avatar, 30.0), neck_share=0.7)
    torch.testing.assert_close(torso.rotation, torch.tensor([[0.0, math.radians(9.0), 0.0]]), atol=1e-6, rtol=0.0)


def test_dividing_a_turn_leaves_the_skull_in_its_place():
    head = default_head()
    identity = head.identity(torch.zeros(head.shape_count))
    tracked = head.neutral().replace(
        rotation=torch.tensor([[0.1, 0.4, 0.0]]), neck=torch.tensor([[0.1, 0.0, 0.05]]), translation=torch.rand(1, 3)
    )
    divided = turned_at_neck(tracked, head.neutral(), identity, 0.7)
    of_skull = head.skinning_weights[:, 0] < 1e-6
    skull, again = (head.pose(identity, p)[0, of_skull] for p in (tracked, divided))
    torch.testing.assert_close(again, skull, atol=2e-4, rtol=0.0)


def test_the_reference_view_keeps_its_parameters(avatar):
    tilted = replace(avatar, reference=yawed(avatar, 12.0))
    same = tilted.with_torso(tilted.reference)
    for name in ("rotation", "neck", "translation"):
        torch.testing.assert_close(getattr(same, name), getattr(tilted.reference, name), atol=1e-6, rtol=0.0)


def test_driving_turns_the_head_against_the_bust(avatar):
    track = Motion.held({}, 20.0, 0.0, 0.0).to_track(avatar.head)
    params, _ = retarget(track, avatar, DriveConfig(smoothing=0.0, neck_share=0.5))
    assert math.isclose(float(params.rotation.norm()), math.radians(10.0), abs_tol=1e-4)


def test_the_head_fades_where_the_bust_replaces_it(avatar, head_alone):
    posed, alone = avatar.pose(avatar.reference), head_alone.pose(avatar.reference)
    torch.testing.assert_close(posed.opacities[:-40], alone.opacities * avatar.bust.head_share)
    assert torch.equal(avatar.without_bust().pose(avatar.reference).opacities, alone.opacities)


def test_a_part_of_the_bust_moves_with_the_head(avatar):
    params = avatar.with_torso(yawed(avatar, 25.0), neck_share=1.0)
    weight = torch.linspace(0.0, 1.0, 40)
    bent = replace(avatar, bust=avatar.bust.replace(neck_weight=weight)).pose(params).means[-40:]
    rigid, rest = avatar.pose(params).means[-40:], avatar.bust.gaussians.means
    torch.testing.assert_close(bent[0], rigid[0])
    # The last one keeps its place relative to the skull, whose vertices move a little more where the neck bends.
    skull = avatar.head.skinning_weights[:, 1] > 0.999
    first = avatar.identity().vertices[skull]
    distance = (avatar.head.pose(avatar.identity(), params)[0, skull] - bent[-1]).norm(dim=1)
    torch.testing.assert_close(distance, (first - rest[-1]).norm(dim=1), atol=3e-3, rtol=0.0)
    assert float((bent[-1] - rigid[-1]).norm()) > 0.02
    moved = (bent - rigid).norm(dim=1)
    assert 0.3 < float(moved[20] / (rest[20, [0, 2]] - avatar.identity().joints[1, [0, 2]]).norm()) / 0.433 < 0.7


def test_a_file_keeps_which_part_of_the_bust_moves_with_the_head(avatar, head_alone, tmp_path):
    bent = replace(avatar, bust=avatar.bust.replace(neck_weight=torch.linspace(0.0, 1.0, 40)))
    with safe_open(bent.save(tmp_path / "a.safetensors"), "pt") as file:
        assert '"version": 5' in file.metadata()["spatialavatar"]
    assert torch.equal(Avatar.load(tmp_path / "a.safetensors", avatar.head).bust.neck_weight, bent.bust.neck_weight)
    with safe_open(avatar.save(tmp_path / "b.safetensors"), "pt") as file:
        assert '"version": 3' in file.metadata()["spatialavatar"]


def test_a_file_keeps_the_bust(avatar, tmp_path):
    again = Avatar.load(avatar.save(tmp_path / "a.safetensors"), avatar.head)
    assert torch.equal(again.render()[0], avatar.render()[0])


def test_a_file_without_a_bust_is_of_the_version_that_earlier_releases_read(head_alone, tmp_path):
    with safe_open(head_alone.save(tmp_path / "a.safetensors"), "pt") as file:
        assert '"version": 1' in file.metadata()["spatialavatar"]
    assert Avatar.load(tmp_path / "a.safetensors", head_alone.head).bust is None


def test_a_file_with_too_large_a_bust_is_refused(avatar, head_alone, tmp_path, monkeypatch):
    path = avatar.save(tmp_path / "a.safetensors")
    monkeypatch.setattr("spatialavatar.avatar._MAX_BUST", 39)
    with pytest.raises(FormatError, match=r"bust\.means of shape \(40, 3\)"):
        Avatar.load(path, avatar.head)


def test_a_bust_of_another_layout_is_refused(head_alone):
    with pytest.raises(InputError, match="another layout"):
        replace(head_alone, bust=make_bust(4, 7))


@pytest.mark.parametrize("seen_from", [0.0, 50.0, 180.0])
def test_a_sheet_of_gaussians_is_a_front_whichever_way_it_faces(avatar, seen_from):
    bust, half = avatar.bust, 0.5 * math.radians(seen_from)
    turn = torch.tensor([[math.cos(half), 0.0, math.sin(half), 0.0]]).expand_as(bust.gaussians.quats)
    sheet = bust.replace(gaussians=bust.gaussians.replace(quats=turn))
    assert not sheet.behind.any()


def test_gaussians_that_face_away_from_the_front_are_the_back(avatar):
    bust = avatar.bust
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(40, 1)
    quats[30:] = torch.tensor([0.0, 0.0, -1.0, 0.0])
    behind = bust.replace(gaussians=bust.gaussians.replace(quats=quats)).behind
    assert behind.tolist() == [False] * 30 + [True] * 10
