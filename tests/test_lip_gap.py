"""The gap between the lips, and the jaw that gives it."""

from __future__ import annotations

import pytest
import torch

from spatialavatar.avatar import default_head
from spatialavatar.lip_gap import jaw_for_gap, lip_gaps

LIMITS = (-0.03, 0.5)


@pytest.fixture(scope="module")
def head():
    return default_head()


def units(head, frames: int = 3, **weights: float) -> torch.Tensor:
    expression = torch.zeros(frames, head.expression_count)
    for name, weight in weights.items():
        expression[:, head.expressions.index(name)] = weight
    return expression


def test_the_gap_is_that_of_the_posed_landmarks(head):
    params = head.neutral(3).replace(
        expression=units(head, mouthUpperUpLeft=0.6, mouthPucker=0.4),
        jaw=torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.3, 0, 0]]),
    )
    identity = head.identity(params.shape)
    points = head.landmarks(head.pose(identity, params))
    expected = (points[:, 13, 1] - points[:, 14, 1]) / (points[:, 33] - points[:, 263]).norm(dim=-1)
    torch.testing.assert_close(lip_gaps(head, identity, params.expression, params.jaw), expected, atol=2e-4, rtol=0)


def test_the_jaw_gives_the_gap_with_other_lips(head):
    identity = head.identity(torch.zeros(head.shape_count))
    expression = units(head, mouthUpperUpLeft=0.8, mouthUpperUpRight=0.8)
    gap = torch.tensor([0.05, 0.15, 0.3])
    jaw = jaw_for_gap(head, identity, expression, torch.zeros(3, 3), gap, LIMITS)
    torch.testing.assert_close(lip_gaps(head, identity, expression, jaw), gap, atol=2e-3, rtol=0)


def test_the_jaw_stays_within_its_limits(head):
    identity = head.identity(torch.zeros(head.shape_count))
    jaw = jaw_for_gap(head, identity, units(head, 2), torch.zeros(2, 3), torch.tensor([-1.0, 5.0]), LIMITS)
    torch.testing.assert_close(jaw[:, 0], torch.tensor(LIMITS))
