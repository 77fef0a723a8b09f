"""Gains from renders of the avatar: a weak response is inverted, and a performance's amplitude is matched."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spatialavatar import avatar_response
from spatialavatar.avatar import Avatar, default_head
from spatialavatar.avatar_response import matched_gains, measured_gains
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import Camera, Evidence
from spatialavatar.transfer_gain import KNOTS, Gains, amplified_units

from .support.tracks import make_track

_BROW = ARKIT_INDEX["browInnerUp"]
_FULL = 2.5  # weight that is white in the fake pictures


class Network:
    """Scores a unit of a fake picture, whose grey is the unit's weight, by a response of its own."""

    def __init__(self, response: float | None, unit: int = _BROW) -> None:
        self.response, self.unit = response, unit

    def locate(self, image: np.ndarray):
        if self.response is None:
            return None
        scores = np.zeros(52, np.float32)
        scores[self.unit] = self.response * image[0, 0, 0] / 255.0 * _FULL
        points = np.zeros((478, 3), np.float32)
        points[263, 0] = 1.0
        return SimpleNamespace(blendshapes=scores, points=points)


@pytest.fixture
def avatar(monkeypatch):
    """An avatar of the open head whose pictures show the weight of its inner brow."""
    head = default_head()
    show_unit(monkeypatch, head, "browInnerUp")
    monkeypatch.setattr(Stub, "pose", lambda self, params: params)
    return Stub(head)


def show_unit(monkeypatch, head, name: str) -> None:
    """Make the pictures of an avatar with this head show the weight of the unit."""
    index = head.expressions.index(name)

    def grey(params, camera, background):
        return torch.full((4, 4, 3), float(params.expression[0, index]) / _FULL), None

    monkeypatch.setattr(avatar_response, "render", grey)


class Stub(Avatar):
    """Only what driving reads of an avatar."""

    def __init__(self, head) -> None:
        object.__setattr__(self, "head", head)
        object.__setattr__(self, "shape", torch.zeros(head.shape_count))


def measured(avatar, response: float | None) -> Gains:
    return measured_gains(avatar, Camera.frontal(64), torch.zeros(3), Network(response))


def test_a_brow_that_scores_a_third_is_raised_three_times_as_far(avatar):
    curve = measured(avatar, 1 / 3).curves["browInnerUp"]
    assert curve[KNOTS.index(0.5)] == pytest.approx(1.5, abs=0.05)


def test_measured_curves_rise_from_zero_and_stay_plausible(avatar):
    curve = measured(avatar, 0.1).curves["browInnerUp"]
    assert curve[0] == 0.0
    assert curve == tuple(sorted(curve))
    assert curve[-1] <= 2.2


def test_a_unit_without_a_response_keeps_its_usual_curve(avatar):
    weights = torch.tensor([[0.5]])
    gains = measured(avatar, 0.0)
    usual = amplified_units(weights, ["browInnerUp"], (-0.25, 1.25))
    assert torch.equal(amplified_units(weights, ["browInnerUp"], (-0.25, 1.25), gains), usual)


def test_the_pucker_keeps_its_usual_curve(avatar, monkeypatch):
    show_unit(monkeypatch, avatar.head, "mouthPucker")
    network = Network(0.5, ARKIT_INDEX["mouthPucker"])
    gains = measured_gains(avatar, Camera.frontal(64), torch.zeros(3), network)
    weights = torch.linspace(0.1, 0.9, 5)[:, None]
    usual = amplified_units(weights, ["mouthPucker"], (-0.25, 1.25))
    assert torch.equal(amplified_units(weights, ["mouthPucker"], (-0.25, 1.25), gains), usual)


def test_an_avatar_without_a_visible_face_has_the_usual_gains(avatar):
    assert measured(avatar, None) == Gains()


def test_a_brow_that_moves_too_little_in_a_performance_gets_a_factor(avatar):
    weights = torch.linspace(0.0, 1.0, 12)
    expression = torch.zeros(12, avatar.head.expression_count)
    expression[:, avatar.head.expressions.index("browInnerUp")] = weights
    scores = torch.zeros(12, 52)
    scores[:, _BROW] = weights
    track = make_track(avatar, frames=12).replace(evidence=Evidence(torch.zeros(12, 478, 2), scores))
    moved = track.params.replace(expression=expression, shape=avatar.shape)
    gains = matched_gains(Gains(), avatar, track, moved, Camera.frontal(64), Network(0.8))
    assert gains.factors["browInnerUp"] == pytest.approx(1.25, abs=0.02)
    assert gains.factors["mouthSmile"] == 1.0
