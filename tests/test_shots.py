"""Which shot a frame belongs to, from its pixels alone."""

from __future__ import annotations

import numpy as np
import pytest

from spatialavatar.tracking.shots import ShotCounter


def scene(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A picture of a few large coloured patches, (H, W, 3) uint8."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * count // side for side, count in zip(size, (4, 5)))
    return patches[rows][:, columns]


def shots_of(*frames: np.ndarray) -> list[int]:
    counter = ShotCounter()
    return [counter(frame) for frame in frames]


def test_a_cut_begins_a_new_shot():
    assert shots_of(*[scene(1)] * 4, *[scene(2)] * 4) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_view_that_comes_back_keeps_its_number():
    black = np.zeros_like(scene(1))
    assert shots_of(scene(1), black, black, scene(1), scene(2), scene(1)) == [0, 1, 1, 0, 2, 0]


def test_motion_is_no_cut():
    wide = scene(3, (120, 400))
    assert set(shots_of(*(wide[:, start : start + 160] for start in range(0, 120, 6)))) == {0}


@pytest.mark.parametrize("gain", [0.6, 1.4])
def test_a_change_of_light_is_no_cut(gain):
    dim = np.clip(scene(4).astype(float) * 0.6, 0, 255)
    lit = np.clip(dim * gain, 0, 255).astype(np.uint8)
    assert shots_of(*[dim.astype(np.uint8)] * 3, *[lit] * 3) == [0] * 6


def test_noise_in_the_dark_is_no_cut():
    generator = np.random.default_rng(0)
    assert set(shots_of(*(generator.integers(0, 12, (90, 160, 3), dtype=np.uint8) for _ in range(6)))) == {0}


def test_a_shot_of_one_frame_counts():
    assert shots_of(scene(5), scene(6), scene(7)) == [0, 1, 2]
