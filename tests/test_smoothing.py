"""The one-euro filter: calm on jitter, quick on motion, safe on rotations."""

from __future__ import annotations

import math

import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.tracking.smoothing import OneEuroFilter, low_pass, low_pass_rotations, one_euro, one_euro_rotations

FPS = 30.0


def jitter(frames: int, seed: int = 0) -> torch.Tensor:
    return 0.01 * torch.randn(frames, 2, generator=torch.Generator().manual_seed(seed))


def test_jitter_at_rest_is_cut_to_less_than_half():
    noisy = jitter(300)
    smooth = one_euro(noisy, FPS, min_cutoff=1.0, beta=0.5)
    assert smooth[30:].std() < 0.5 * noisy[30:].std()


def test_a_fast_step_arrives_within_a_tenth_of_a_second():
    step = torch.zeros(60, 1)
    step[30:] = 1.0
    smooth = one_euro(step, FPS, min_cutoff=1.5, beta=1.0)
    assert smooth[33, 0] > 0.8


def test_zero_phase_does_not_lag():
    time = torch.arange(120) / FPS
    wave = torch.sin(2 * math.pi * 0.8 * time)[:, None]
    causal, centred = (one_euro(wave, FPS, 1.5, 0.2, zero_phase=z) for z in (False, True))

    def lag(signal: torch.Tensor) -> int:
        shifts = range(-6, 7)
        return max(shifts, key=lambda s: float((signal[20:100, 0] * wave[20 - s : 100 - s, 0]).sum()))

    assert lag(causal) > 0
    assert lag(centred) == 0


def test_zero_phase_is_the_same_played_backwards():
    values = jitter(80).cumsum(0)
    forward = one_euro(values, FPS, zero_phase=True)
    torch.testing.assert_close(one_euro(values.flip(0), FPS, zero_phase=True).flip(0), forward)


def test_frame_by_frame_equals_the_whole_clip():
    values = jitter(40).cumsum(0)
    live = OneEuroFilter(FPS)
    torch.testing.assert_close(torch.stack([live(value) for value in values]), one_euro(values, FPS))


def test_reset_lets_the_next_value_through():
    live = OneEuroFilter(FPS)
    live(torch.zeros(3))
    live.reset()
    torch.testing.assert_close(live(torch.ones(3)), torch.ones(3))


def test_channels_do_not_touch_each_other():
    values = jitter(50)
    both = one_euro(values, FPS)
    torch.testing.assert_close(one_euro(values[:, :1], FPS), both[:, :1])


@pytest.mark.parametrize("zero_phase", [False, True])
def test_rotations_turn_through_half_a_circle_without_a_jump(zero_phase):
    angles = torch.linspace(0.8 * math.pi, 1.2 * math.pi, 60)  # the axis-angle vector flips its sign on the way
    wrapped = torch.where(angles > math.pi, angles - 2 * math.pi, angles)
    rotations = torch.zeros(60, 3)
    rotations[:, 1] = wrapped
    smooth = axis_angle_to_matrix(one_euro_rotations(rotations, FPS, 1.0, 5.0, zero_phase=zero_phase))
    steps = smooth[1:] @ smooth[:-1].mT
    turn = torch.acos(((steps.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert turn.max() < 0.04


def test_a_still_rotation_stays():
    rotations = torch.tensor([0.3, -0.2, 0.1]).expand(20, 3)
    torch.testing.assert_close(one_euro_rotations(rotations, FPS), rotations, atol=1e-5, rtol=0)


def test_one_frame_and_none_pass_through():
    assert one_euro(torch.ones(1, 4), FPS).shape == (1, 4)
    assert one_euro(torch.ones(0, 4), FPS).shape == (0, 4)


def test_a_frame_rate_of_zero_is_refused():
    with pytest.raises(InputError, match="positive rate"):
        one_euro(torch.ones(5, 1), 0.0)


@pytest.mark.parametrize(("hertz", "share"), [(1.0, 1.0), (5.0, 0.5), (12.0, 0.01)])
def test_the_low_pass_keeps_what_is_slow_and_halves_its_cutoff(hertz, share):
    wave = torch.sin(2 * math.pi * hertz * torch.arange(300) / FPS)
    middle = slice(60, 240)
    passed = (low_pass(wave, FPS, 5.0)[middle] * wave[middle]).sum() / wave[middle].square().sum()
    assert float(passed) == pytest.approx(share, abs=0.02)


def test_the_low_pass_lets_a_steady_turn_through_to_its_ends():
    line = torch.linspace(-3, 5, 40)[:, None] ** 2
    torch.testing.assert_close(low_pass(line, FPS, 5.0), line, atol=1e-4, rtol=1e-4)


def test_the_low_pass_turns_through_half_a_circle_without_a_jump():
    angles = torch.linspace(0.8 * math.pi, 1.2 * math.pi, 60)
    rotations = torch.zeros(60, 3)
    rotations[:, 1] = torch.where(angles > math.pi, angles - 2 * math.pi, angles)
    smooth = axis_angle_to_matrix(low_pass_rotations(rotations, FPS, 5.0))
    torch.testing.assert_close(smooth, axis_angle_to_matrix(rotations), atol=2e-3, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_the_low_pass_takes_clips_of_any_length(frames):
    assert low_pass(torch.ones(frames, 2), FPS, 5.0).shape == (frames, 2)
