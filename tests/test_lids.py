"""Shut lids of the shipped head: nothing of the eyeball is seen, and open eyes stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialavatar import hub
from spatialavatar.head import HeadModel, load_head
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import Camera, HeadParams
from spatialavatar.render.mesh import rasterize_mesh
from spatialavatar.tracking.landmark_sets import (
    LOWER_LID_LEFT,
    LOWER_LID_RIGHT,
    UPPER_LID_LEFT,
    UPPER_LID_RIGHT,
)
from spatialavatar.tracking.landmarker import FaceLandmarks
from spatialavatar.tracking.lids import CLOSED_GAP, lid_gaps, lids_as_shut, shut_by_network, with_shut_lids
from spatialavatar.tracking.live import LiveTracker


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head(hub.weights_dir() / "head")


def faces(head: HeadModel, count: int = 3) -> HeadParams:
    """Some people's head with half-closed, squinting and wide-open eyes."""
    generator = torch.Generator().manual_seed(0)
    params = head.neutral(count).replace(shape=torch.randn(head.shape_count, generator=generator))
    for frame, unit in enumerate(("eyeBlink", "eyeSquint", "eyeWide")):
        for side in ("Left", "Right"):
            params.expression[frame, head.expressions.index(unit + side)] = 0.5
    return params


def eyeball_pixels(head: HeadModel, params: HeadParams) -> list[int]:
    """How many pixels of each frame show an eyeball, seen from the front."""
    camera = Camera.frontal(256, 900.0)
    eyes = head.part_faces("eye_left", "eye_right").numpy()
    found = []
    for vertices in head.vertices(params):
        away = camera.to_camera(vertices - vertices[head.part_vertices("eye_left")].mean(0) - torch.tensor([0, 0, 0.7]))
        seen = rasterize_mesh(away.numpy(), head.faces.numpy(), camera.intrinsics.numpy(), 256, 256).face
        found.append(int(eyes[seen[seen >= 0]].sum()))
    return found


def test_shut_lids_hide_the_eyes(head):
    params = faces(head)
    assert min(eyeball_pixels(head, params)) > 30
    shut = with_shut_lids(head, params, torch.ones(3, 2))
    assert max(eyeball_pixels(head, shut)) <= 2
    assert (lid_gaps(head, shut) <= CLOSED_GAP).all()


def test_a_wink_shuts_one_eye(head):
    before, after = (
        lid_gaps(head, faces(head)),
        lid_gaps(head, with_shut_lids(head, faces(head), torch.eye(2)[[0, 0, 0]])),
    )
    assert (after[:, 0] <= CLOSED_GAP).all()
    torch.testing.assert_close(after[:, 1], before[:, 1], atol=1e-3, rtol=0)


def test_open_eyes_are_left_alone(head):
    params = faces(head)
    assert torch.equal(with_shut_lids(head, params, torch.zeros(3, 2)).expression, params.expression)


def test_lids_that_are_shut_already_are_never_opened(head):
    params = faces(head)
    params.expression[:, head.expressions.index("eyeBlinkLeft")] = 1.1
    after = with_shut_lids(head, params, torch.full((3, 2), 0.5))
    assert (after.expression >= params.expression - 1e-6).all()


def test_the_gap_is_what_the_mesh_shows(head):
    params = faces(head)
    points = head.landmarks(head.vertices(params))
    measured = (points[:, 159, 1] - points[:, 145, 1]) / (points[:, 33] - points[:, 133]).norm(dim=-1)
    assert torch.argsort(measured).tolist() == torch.argsort(lid_gaps(head, params)[:, 0]).tolist()


def eyes(frames: int, narrower: float = 1.0) -> torch.Tensor:
    """Landmarks (T, 478, 2) of open eyes; the left one has this share of the other's width."""
    points = torch.zeros(frames, 478, 2)
    for (upper, lower), centre, width in (
        ((UPPER_LID_RIGHT, LOWER_LID_RIGHT), -60.0, 40.0),
        ((UPPER_LID_LEFT, LOWER_LID_LEFT), 60.0, 40.0 * narrower),
    ):
        for lid, height in ((upper, -8.0), (lower, 8.0)):
            across = torch.linspace(-1.0, 1.0, len(lid))
            points[:, list(lid)] = torch.stack([centre + 0.5 * width * across, height * (1.0 - across**2)], 1)
    return points


def blink_scores(right: list[float], left: list[float]) -> torch.Tensor:
    """Scores (T, 52) of the two lids."""
    scores = torch.zeros(len(right), 52)
    scores[:, ARKIT_INDEX["eyeBlinkRight"]] = torch.tensor(right)
    scores[:, ARKIT_INDEX["eyeBlinkLeft"]] = torch.tensor(left)
    return scores


def test_a_wink_shuts_its_eye_where_the_network_scores_it_low():
    shut = shut_by_network(eyes(5), blink_scores([0.1] * 5, [0.1, 0.1, 0.4, 0.1, 0.1]))
    assert shut[2].tolist() == [0.0, 1.0]
    assert float(shut[[0, 1, 3, 4]].max()) == 0.0


def test_half_closed_lids_of_both_eyes_are_no_wink():
    shut = shut_by_network(eyes(5), blink_scores([0.1, 0.1, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.1, 0.1]))
    assert float(shut.max()) == 0.0


def test_an_eye_that_droops_throughout_is_no_wink():
    assert float(shut_by_network(eyes(5), blink_scores([0.1] * 5, [0.4] * 5)).max()) == 0.0


def test_a_head_that_is_turned_away_has_no_winks():
    scores = blink_scores([0.1] * 5, [0.1, 0.1, 0.4, 0.1, 0.1])
    assert float(shut_by_network(eyes(5, narrower=0.5), scores).max()) == 0.0


def test_lids_that_shut_a_driver_shut_an_avatar_with_larger_eyes(head):
    driver = head.neutral(1)
    shut = with_shut_lids(head, driver, torch.ones(1, 2)).expression
    shapes = torch.randn(16, head.shape_count, generator=torch.Generator().manual_seed(1))
    gap = [float(lid_gaps(head, driver.replace(shape=s, expression=shut)).max()) for s in shapes]
    larger = shapes[gap.index(max(gap))]
    assert max(gap) > CLOSED_GAP
    scaled = lids_as_shut(head, shut, (driver.shape, larger))
    assert (lid_gaps(head, driver.replace(shape=larger, expression=scaled)) <= CLOSED_GAP).all()


class CalmFace:
    """A stand-in for the networks: a head at rest in every frame, with the blink scores (T, 2) of both eyes."""

    def __init__(self, head: HeadModel, blinks: torch.Tensor) -> None:
        params = head.neutral(1).replace(translation=torch.tensor([[0.0, 0.0, -0.7]]))
        points = Camera.frontal().project(head.landmarks(head.vertices(params), 478))[0]
        self._points = torch.cat([points, torch.zeros(478, 1)], 1).numpy()
        self._frames = iter(blink_scores(*blinks.T.tolist()).numpy())
        self.landmarker = self

    def track(self, frame: np.ndarray, previous: FaceLandmarks | None) -> FaceLandmarks:
        return FaceLandmarks(self._points, 1.0, next(self._frames))


def live_gaps(head: HeadModel, blinks: torch.Tensor) -> torch.Tensor:
    """(T, 2) lid gaps of a live tracker that is calibrated after six of the T frames."""
    tracker = LiveTracker(
        head, 10.0, shape=torch.zeros(head.shape_count), calibration=0.5, networks=CalmFace(head, blinks)
    )
    frames = [tracker.update(np.zeros((512, 512, 3), np.uint8)).params for _ in blinks]
    return torch.cat([lid_gaps(head, params) for params in frames])


def test_a_live_wink_shuts_its_eye_at_once(head):
    blinks = torch.full((10, 2), 0.1)
    blinks[8, 1] = 0.5
    gaps = live_gaps(head, blinks)
    assert gaps[8, 1] <= CLOSED_GAP
    assert min(gaps[8, 0], gaps[7, 1], gaps[9, 1]) > 5 * CLOSED_GAP


def test_a_live_eye_that_droops_from_the_start_is_no_wink(head):
    blinks = torch.tensor([[0.1, 0.4]]).repeat(10, 1)
    assert live_gaps(head, blinks)[6:].min() > 5 * CLOSED_GAP
