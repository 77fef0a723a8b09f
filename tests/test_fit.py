"""The fit on a synthetic head whose parameters are known."""

from __future__ import annotations

import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.records import Camera, HeadParams
from spatialavatar.tracking.cues import close_lids, rescaled_scores, shut_eyes
from spatialavatar.tracking.fit import (
    Anchor,
    FitConfig,
    FrameFit,
    Observations,
    PriorConfig,
    SolverConfig,
    fit_landmarks,
)
from spatialavatar.tracking.fit.geometry import pixel_jacobians, pose_landmarks
from spatialavatar.tracking.fit.landmark_head import LandmarkHead
from spatialavatar.tracking.fit.problem import FitProblem
from spatialavatar.tracking.fit.solver import start_state
from spatialavatar.tracking.landmark_sets import (
    IBUG_68,
    LOWER_LID_LEFT,
    LOWER_LID_RIGHT,
    UPPER_LID_LEFT,
    UPPER_LID_RIGHT,
)

from .support.ball_head import make_ball_head
from .support.puppet_head import SHAPES, UNITS, make_puppet_head


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return make_puppet_head()


def some_params(frames: int, seed: int = 0) -> HeadParams:
    generator = torch.Generator().manual_seed(seed)

    def noise(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    jaw = torch.zeros(frames, 3)
    jaw[:, 0] = 0.25 * torch.rand(frames, generator=generator)
    eyes = 0.1 * noise(frames, 6)
    eyes[:, [2, 5]] = 0.0
    return HeadParams(
        shape=noise(SHAPES),
        expression=torch.rand(frames, len(UNITS), generator=generator),
        rotation=0.2 * noise(frames, 3),
        translation=torch.tensor([0.0, 0.0, -0.7]) + 0.02 * noise(frames, 3),
        neck=torch.zeros(frames, 3),
        jaw=jaw,
        eyes=eyes,
    )


def observe(head: HeadModel, params: HeadParams, noise: float = 0.0, focal: float = 900.0) -> Observations:
    pixels = Camera.frontal(512, focal).project(head.landmarks(head.vertices(params)))
    pixels = pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(9))
    scores = torch.zeros(len(params), 52)
    for column, name in enumerate(UNITS):
        if not name.startswith("eyeBlink"):  # a high blink score would switch the iris points off
            scores[:, ARKIT_INDEX[name]] = params.expression[:, column]
    count = len(params)
    return Observations(pixels, scores, torch.tensor([256.0, 256.0]), torch.full((count,), focal))


def projected(head: HeadModel, params: HeadParams) -> torch.Tensor:
    return Camera.frontal(512).project(head.landmarks(head.vertices(params)))


def test_reduced_head_agrees_with_the_full_one(head):
    params = some_params(3)
    observed = observe(head, params).double()
    problem = FitProblem(LandmarkHead(head, 478), observed, FitConfig(), free_shape=False, anchor=None)
    state = start_state(problem, params.shape.double(), params)
    world = pose_landmarks(problem.head, state, observed.principal_point).world
    expected = head.landmarks(head.vertices(params))[:, list(problem.head.set.used)]
    distance = (world - expected).norm(dim=-1)
    assert distance.mean() < 5e-5
    assert distance.max() < 5e-4


def test_jacobians_agree_with_finite_differences(head):
    params = some_params(2)
    observed = observe(head, params).double()
    problem = FitProblem(LandmarkHead(head, 478), observed, FitConfig(), free_shape=True, anchor=None)
    state, centre = start_state(problem, None, params), observed.principal_point
    posed = pose_landmarks(problem.head, state, centre)
    own, shared = pixel_jacobians(problem.head, state, posed, centre, with_shape=True)
    unknowns = own.shape[-1]
    for index in range(unknowns + SHAPES):
        step = torch.zeros(2, unknowns, dtype=torch.float64)
        shape_step = torch.zeros(SHAPES, dtype=torch.float64)
        if index < unknowns:
            step[:, index] = 1e-6
        else:
            shape_step[index - unknowns] = 1e-6
        states = [state.stepped(problem.unknowns, s * step, s * shape_step) for s in (1, -1)]
        moved = [pose_landmarks(problem.head, one, centre).pixels for one in states]
        numeric = (moved[0] - moved[1]) / 2e-6
        analytic = own[..., index] if index < unknowns else shared[..., index - unknowns]
        torch.testing.assert_close(analytic, numeric, atol=1e-3, rtol=1e-4)


def test_joint_fit_finds_the_parameters_of_clean_landmarks(head):
    params = some_params(6)
    fit = fit_landmarks(head, observe(head, params), config=FitConfig(prior=PriorConfig(score_gain=1.0)))
    assert fit.error.max() < 2e-3
    assert (fit.params.shape - params.shape).abs().max() < 0.6
    scored = slice(0, 4)  # lids have no score here, so their mean over the frames may hide in the shape
    assert (fit.params.expression - params.expression)[:, scored].abs().max() < 0.15
    assert (fit.params.jaw[:, 0] - params.jaw[:, 0]).abs().max() < 0.03
    turn = axis_angle_to_matrix(fit.params.rotation) @ axis_angle_to_matrix(params.rotation).mT
    assert (turn - torch.eye(3)).abs().max() < 0.02
    assert (fit.params.translation - params.translation).norm(dim=1).max() < 0.02


def test_fit_reports_the_vertices_that_the_camera_sees(head):
    """The rotation about the origin inside the solver and about the root joint outside must agree."""
    observed = observe(head, some_params(2))
    fit = fit_landmarks(head, observed)
    distance = (projected(head, fit.params) - observed.points).norm(dim=-1)
    assert distance.mean() < 0.5


def test_known_shape_solves_frames_apart(head):
    params = some_params(60)
    observed = observe(head, params)
    together = fit_landmarks(head, observed, shape=params.shape)
    alone = fit_landmarks(head, observed[57:58], shape=params.shape)
    torch.testing.assert_close(together.params.shape, params.shape)
    torch.testing.assert_close(together.params.expression[57], alone.params.expression[0], atol=2e-2, rtol=0)


def test_frames_of_a_batch_differ_from_frames_alone_by_their_number_of_steps_only(head):
    params = some_params(4)
    observed = observe(head, params, noise=1.0)
    config = FitConfig(solver=SolverConfig(iterations=3))  # few enough that no frame is finished
    together = fit_landmarks(head, observed, shape=params.shape, config=config).params
    for frame in range(4):
        alone = fit_landmarks(head, observed[frame : frame + 1], shape=params.shape, config=config).params
        torch.testing.assert_close(together[frame].expression, alone.expression, atol=1e-6, rtol=0)
        torch.testing.assert_close(together[frame].translation, alone.translation, atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [478, 68])
def test_the_compiled_fit_of_a_frame_agrees_with_that_of_a_batch(head, count):
    params = some_params(4)
    params = params.replace(rotation=params.rotation + torch.tensor([0.0, 0.6, 0.0]))  # some points face away
    observed = observe(head, params, noise=2.0)
    points = observed.points if count == 478 else observed.points[:, list(IBUG_68)]
    observed = Observations(points, observed.blendshapes, observed.principal_point, observed.focal)
    compiled = FrameFit(head, params.shape, count, FitConfig())
    last = None
    for frame in range(4):
        for start, iterations in ((None, 25), (last, 3)):
            config = FitConfig().with_iterations(iterations)
            one = observed[frame : frame + 1]
            expected = fit_landmarks(head, one, shape=params.shape, start=start, config=config)
            found = compiled(one, start, iterations)
            for name in ("rotation", "translation", "expression", "jaw", "eyes"):
                torch.testing.assert_close(
                    getattr(found.params, name), getattr(expected.params, name), atol=2e-6, rtol=1e-6
                )
            torch.testing.assert_close(found.error, expected.error)
        last = found.params


def test_outliers_do_not_drag_the_fit(head):
    params = some_params(1)
    clean = observe(head, params)
    points = clean.points.clone()
    points[:, 200:240] += 60.0
    spoiled = Observations(points, clean.blendshapes, clean.principal_point, clean.focal)
    fit = fit_landmarks(head, spoiled, shape=params.shape)
    keep = torch.ones(478, dtype=torch.bool)
    keep[200:240] = False
    assert (projected(head, fit.params) - clean.points)[:, keep].norm(dim=-1).mean() < 0.6


def test_named_units_stay_within_their_range_under_noise(head):
    fit = fit_landmarks(head, observe(head, some_params(4), noise=4.0))
    assert fit.params.expression.min() > -0.1
    assert fit.params.expression.max() < 1.2


def test_focal_length_is_found_when_free(head):
    params = some_params(4)
    observed = observe(head, params, focal=700.0)
    guess = Observations(observed.points, observed.blendshapes, observed.principal_point, torch.full((4,), 900.0))
    fit = fit_landmarks(head, guess, shape=params.shape, config=FitConfig(prior=PriorConfig(focal_sigma=0.5)))
    assert (fit.focal - 700.0).abs().max() < 40.0


def test_anchor_holds_what_landmarks_leave_open(head):
    params = some_params(3)
    observed = observe(head, params, noise=3.0)
    free = fit_landmarks(head, observed, shape=params.shape)
    anchor = Anchor(params, rotation_sigma=1e-3, translation_sigma=1e-3, expression_sigma=0.02, angle_sigma=0.01)
    held = fit_landmarks(head, observed, shape=params.shape, anchor=anchor)
    assert (held.params.translation - params.translation).norm() < 0.3 * (
        free.params.translation - params.translation
    ).norm()
    assert (held.params.expression - params.expression).norm() < 0.5 * (
        free.params.expression - params.expression
    ).norm()


def test_68_points_are_enough_for_a_pose(head):
    params = some_params(2)
    pixels = Camera.frontal(512).project(head.landmarks(head.vertices(params), 68))
    observed = Observations(pixels, torch.zeros(2, 52), torch.tensor([256.0, 256.0]), torch.full((2,), 900.0))
    fit = fit_landmarks(head, observed)
    assert fit.error.max() < 0.01


def test_head_without_landmarks_is_refused_with_a_sentence():
    params = some_params(1)
    with pytest.raises(InputError, match="478-point landmarks"):
        fit_landmarks(make_ball_head(), observe(make_puppet_head(), params))


# -- what the networks' readings are worth ----------------------------------------------------------------------------


def eyes_with_gap(gap: float) -> torch.Tensor:
    """(1, 478, 2) landmarks of two eyes 30 pixels wide whose lids are ``gap`` pixels apart; y is down."""
    points = torch.zeros(1, 478, 2)
    for upper, lower, outer in ((UPPER_LID_RIGHT, LOWER_LID_RIGHT, 100.0), (UPPER_LID_LEFT, LOWER_LID_LEFT, 200.0)):
        inwards = 1.0 if outer == 100.0 else -1.0
        for index in range(9):
            x, half = outer + inwards * 30.0 * index / 8, 0.5 * gap * (1 - (index / 4 - 1) ** 2)
            points[0, upper[index]] = torch.tensor([x, 50.0 - half])
            points[0, lower[index]] = torch.tensor([x, 50.0 + half])
    return points


def test_open_lids_are_left_alone():
    points = eyes_with_gap(9.0)
    assert shut_eyes(points).max() == 0
    torch.testing.assert_close(close_lids(points, shut_eyes(points)), points)


def test_lids_of_shut_eyes_are_brought_together():
    points = eyes_with_gap(1.2)
    assert shut_eyes(points).min() > 0.9
    closed = close_lids(points, shut_eyes(points))
    for upper, lower in ((159, 145), (386, 374)):
        assert closed[0, upper, 1] > closed[0, lower, 1] - 0.3
        torch.testing.assert_close(closed[0, lower], points[0, lower])


def test_resting_scores_count_for_nothing_and_full_ones_for_all():
    scores = torch.zeros(2, 52)
    scores[0, ARKIT_INDEX["eyeSquintLeft"]] = 0.25
    scores[1, ARKIT_INDEX["eyeSquintLeft"]] = 1.0
    rescaled = rescaled_scores(scores)[:, ARKIT_INDEX["eyeSquintLeft"]]
    assert rescaled.tolist() == [0.0, 1.0]
