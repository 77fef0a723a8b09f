"""Expression transfer: the figures react to a late, weaker, opposite, shifted or still render as they should."""

from __future__ import annotations

import numpy as np
import pytest

from spatialavatar.evaluation.transfer import (
    GROUPS,
    MIN_DRIVER_STD,
    MIN_FRAMES,
    group_scores,
    transfer,
    transfer_means,
    transfer_over_clips,
)
from spatialavatar.head.arkit import ARKIT_52

LENGTH = 60
SEEN = np.ones(LENGTH, bool)


def performance(scale: float = 1.0) -> dict[str, np.ndarray]:
    """A series (LENGTH,) for each group, each of another random motion of a standard deviation of about .15."""
    random = np.random.default_rng(0)
    smooth = [np.convolve(random.normal(size=LENGTH + 4), np.ones(5) / 5.0, "valid") for _ in GROUPS]
    return {name: 0.3 + scale * 0.35 * motion for name, motion in zip(GROUPS, smooth)}


def at(series: dict[str, np.ndarray], frames: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[frames] for name, values in series.items()}


def test_a_copy_transfers_everything():
    frames = np.arange(LENGTH)
    figures = transfer(performance(), SEEN, performance(), frames)
    assert list(figures) == list(GROUPS)
    for group in figures.values():
        assert (group["r"], group["amplitude"], group["mae"], group["lag"]) == pytest.approx((1.0, 1.0, 0.0, 0.0))


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("delay", [-3, -1, 2, 3])
def test_a_delayed_copy_gives_the_delay_in_frames_at_any_stride(delay, stride):
    frames = np.arange(4, LENGTH - 4, stride)
    figures = transfer(performance(), SEEN, at(performance(), frames - delay), frames)
    assert {group["lag"] for group in figures.values()} == {delay}
    assert figures["jaw"]["r"] < 0.95


def test_a_halved_copy_gives_half_the_amplitude_and_keeps_the_correlation():
    frames = np.arange(0, LENGTH, 2)
    figures = transfer(performance(), SEEN, at(performance(0.5), frames), frames)
    for group in figures.values():
        assert (group["amplitude"], group["r"]) == pytest.approx((0.5, 1.0))


def test_a_still_render_has_no_correlation_and_no_lag():
    still = {name: np.full(LENGTH, 0.2) for name in GROUPS}
    figures = transfer(performance(), SEEN, still, np.arange(LENGTH))
    for group in figures.values():
        assert (group["r"], group["amplitude"]) == (0.0, pytest.approx(0.0))
        assert "lag" not in group


def test_a_constant_difference_counts_in_the_mae_but_not_in_that_of_the_change():
    shifted = {name: values + 0.1 for name, values in performance().items()}
    group = transfer(performance(), SEEN, shifted, np.arange(LENGTH))["smile"]
    assert (group["mae"], group["mae_change"], group["r"]) == pytest.approx((0.1, 0.0, 1.0))


def test_an_opposite_motion_is_a_correlation_of_minus_one():
    opposite = {name: -values for name, values in performance().items()}
    assert transfer(performance(), SEEN, opposite, np.arange(LENGTH))["blink"]["r"] == pytest.approx(-1.0)


def test_a_group_counts_only_where_the_driver_moves_in_it():
    driver = performance()
    for name, share in (("jaw", 0.9), ("lips_apart", 1.1)):
        driver[name] *= share * MIN_DRIVER_STD[name] / driver[name].std()
    assert set(transfer(driver, SEEN, performance(), np.arange(LENGTH))) == set(GROUPS) - {"jaw"}


def test_too_few_frames_have_no_figures():
    frames = np.arange(MIN_FRAMES - 1)
    assert transfer(performance(), SEEN, at(performance(), frames), frames) == {}
    assert transfer_means({}) == {}


def test_frames_without_the_driver_have_no_part_in_the_lag():
    driver, seen, frames = performance(), SEEN.copy(), np.arange(4, LENGTH - 4, 4)
    late = at(driver, frames - 2)
    lost = np.setdiff1d(np.arange(LENGTH), frames)  # all frames between the measured ones
    seen[lost] = False
    for values in driver.values():
        values[lost] = 0.0
    assert all(group.get("lag", 0) == 0 for group in transfer(driver, seen, late, frames).values())


def test_scores_follow_their_units_and_gaze_has_a_sign():
    blendshapes = np.zeros((3, 52))
    for frame, units in enumerate((("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight"))):
        blendshapes[frame, [ARKIT_52.index(unit) for unit in units]] = 0.6
    blendshapes[2, [ARKIT_52.index("mouthSmileLeft"), ARKIT_52.index("eyeLookDownRight")]] = 0.4
    scores = group_scores(blendshapes, np.ones((3, 478, 2)))
    assert scores["gaze_horizontal"] == pytest.approx([0.6, -0.6, 0.0])
    assert scores["gaze_vertical"] == pytest.approx([0.0, 0.0, -0.2])
    assert scores["smile"] == pytest.approx([0.0, 0.0, 0.2])
    assert set(scores) == set(GROUPS)


def test_the_lips_distance_does_not_depend_on_the_size_of_the_face():
    points = np.zeros((2, 478, 3))
    points[:, 14, 1], points[:, 263, 0] = 20.0, 100.0
    points[1] *= 3.0
    assert group_scores(np.zeros((2, 52)), points)["lips_apart"] == pytest.approx([0.2, 0.2])


def test_means_over_clips_leave_out_clips_in_which_a_group_does_not_count():
    def clip(r: float, amplitude: float, **more: float) -> dict[str, float]:
        return {"r": r, "amplitude": amplitude, "mae": 0.1, "mae_change": 0.05, **more}

    clips = [
        {"jaw": clip(0.9, 1.0, lag=1.0), "blink": clip(0.5, 0.5)},
        {"jaw": clip(0.8, 1.1, lag=-1.0)},
        {"jaw": clip(0.1, 9.0)},
    ]
    means = transfer_over_clips(clips)
    assert means["jaw"] == {"clips": 3, "r": 0.6, "amplitude": 1.1, "mae": 0.1, "mae_change": 0.05, "lag": 0.0}
    assert means["blink"]["clips"] == 1
    assert transfer_means(clips[0]) == pytest.approx(
        {"transfer_r": 0.7, "transfer_amplitude": 0.75, "transfer_mae": 0.1}
    )
