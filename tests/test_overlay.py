"""The picture of what the tracker sees."""

from __future__ import annotations

import numpy as np
import pytest

from spatialavatar.errors import InputError
from spatialavatar.tracking.landmark_sets import FACE_OVAL
from spatialavatar.tracking.overlay import COLOR, draw


def face_points() -> np.ndarray:
    """478 points around the middle of a 200-pixel picture, the face's oval on a circle of radius 80."""
    points = 100.0 + np.random.default_rng(0).normal(0.0, 12.0, (478, 2))
    angles = np.linspace(0.0, 2.0 * np.pi, len(FACE_OVAL), endpoint=False)
    points[list(FACE_OVAL)] = 100.0 + 80.0 * np.stack([np.sin(angles), -np.cos(angles)], 1)
    return points


def test_the_oval_is_drawn_where_the_landmarks_are_and_nothing_far_from_them() -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    drawn = draw(grey, face_points())
    changed = (drawn != grey).any(-1)
    rows, columns = np.nonzero(changed)
    distance = np.hypot(columns + 0.5 - 100.0, rows + 0.5 - 100.0)
    assert abs(distance.max() - 80.0) < 4.0
    assert np.abs(drawn[18:23, 100].astype(int) - COLOR).max(-1).min() < 80


def test_the_picture_given_is_left_as_it_is() -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    draw(grey, face_points())
    assert (grey == 90).all()


def test_landmarks_outside_the_picture_are_no_error() -> None:
    drawn = draw(np.zeros((40, 60, 3), np.uint8), 5.0 * face_points() - 400.0)
    assert drawn.shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("image", "landmarks"),
    [
        (np.zeros((8, 8, 3), np.uint8), np.zeros((68, 2))),
        (np.zeros((8, 8, 3), np.float32), np.zeros((478, 2))),
        (np.zeros((8, 8), np.uint8), np.zeros((478, 2))),
    ],
)
def test_other_landmarks_and_other_pictures_are_refused(image: np.ndarray, landmarks: np.ndarray) -> None:
    with pytest.raises(InputError):
        draw(image, landmarks)
