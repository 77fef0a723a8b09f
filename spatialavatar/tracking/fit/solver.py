"""Minimisation of the cost by Levenberg-Marquardt with analytic Jacobians.

A batch of frames is solved at once: one small dense system per frame, plus one shared block for the shape, which is
eliminated by its Schur complement (as in bundle adjustment; Triggs et al., "Bundle Adjustment - A Modern Synthesis",
1999).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.records import HeadParams
from spatialavatar.tracking.fit.geometry import (
    FitState,
    PosedLandmarks,
    about_origin,
    about_root,
    pixel_jacobians,
    pose_landmarks,
)
from spatialavatar.tracking.fit.problem import FitProblem
from spatialavatar.tracking.fit.records import Fit

RIDGE = 1e-9
"""Added to the diagonal of the normal equations."""


def start_state(problem: FitProblem, shape: Tensor | None, start: HeadParams | None) -> FitState:
    """The state at which the solver starts.

    Args:
        problem: the cost.
        shape: (S,) known shape; None starts at that of ``start``, or at the mean shape.
        start: parameters of T frames; None starts at the prior's face in a pose by perspective-n-point.
    """
    head, observed, at = problem.head, problem.observed, problem.unknowns
    log_focal = observed.focal.log()
    if start is not None:
        rotation = axis_angle_to_matrix(start.rotation.double())
        return FitState(
            shape=start.shape.double() if shape is None else shape,
            rotation=rotation,
            translation=about_origin(head, start, rotation),
            expression=start.expression.double(),
            angles=torch.cat([start.jaw, start.eyes], 1).double(),
            log_focal=log_focal,
        )
    count = len(observed)
    upright = FitState(
        shape=torch.zeros(head.shape_count, dtype=torch.float64) if shape is None else shape,
        rotation=torch.eye(3, dtype=torch.float64).expand(count, 3, 3),
        translation=torch.zeros(count, 3, dtype=torch.float64),
        expression=problem.mean[:, at.expression].clone(),
        angles=problem.mean[:, at.angles].clone(),
        log_focal=log_focal,
    )
    rotation, translation = _pose_by_pnp(problem, upright)
    return dataclasses.replace(upright, rotation=rotation, translation=translation)


def solve(problem: FitProblem, state: FitState) -> Fit:
    """Minimise the cost from ``state``.

    All frames of a batch take the same number of steps: the loop ends when each of them has once been finished, so a
    frame that is finished early keeps improving until then. With a free shape, all frames accept or reject a step
    together.
    """
    config = problem.config.solver
    count = len(problem.observed)
    damping = torch.full((count,), config.damping, dtype=torch.float64)
    finished = torch.zeros(count, dtype=torch.bool)
    posed = pose_landmarks(problem.head, state, problem.observed.principal_point)
    for _ in range(config.iterations):
        weights = problem.weights(state, posed)
        cost = problem.cost(state, posed, weights)
        trial = state.stepped(problem.unknowns, *_step(problem, state, posed, weights, damping))
        trial_posed = pose_landmarks(problem.head, trial, problem.observed.principal_point)
        trial_cost = problem.cost(trial, trial_posed, weights)
        if problem.free_shape:
            cost, trial_cost = cost.sum().expand(count), trial_cost.sum().expand(count)
        better = trial_cost < cost
        gain = torch.where(better, (cost - trial_cost) / cost.clamp_min(1e-12), torch.zeros_like(cost))
        finished = finished | (better & (gain < config.tolerance)) | (damping >= config.highest_damping)
        state = trial.where(better, state)
        posed = pose_landmarks(problem.head, state, problem.observed.principal_point)
        accepted = (damping * config.accepted_factor).clamp_min(config.lowest_damping)
        damping = torch.where(better, accepted, damping * config.rejected_factor)
        if bool(finished.all()):
            break
    return fit_of(problem, state, posed.pixels)


def _step(
    problem: FitProblem, state: FitState, posed: PosedLandmarks, weights: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve the damped normal equations for steps (T, n) of the frames and (S,) of the shape."""
    hessian, gradient = _normal_equations(problem, state, posed, weights)
    n = problem.unknowns.count
    violation = problem.violation(state)
    precision = problem.precision + problem.bound_precision * (violation != 0)
    gradient[:, :n] += problem.precision * problem.deviation(state) + problem.bound_precision * violation
    block = hessian[:, :n, :n] + torch.diag_embed(precision)
    block = block + torch.diag_embed(damping[:, None] * block.diagonal(dim1=1, dim2=2) + RIDGE)
    factor = torch.linalg.cholesky(block)
    if not problem.free_shape:
        step = -torch.cholesky_solve(gradient[..., None], factor).squeeze(-1)
        return step, torch.zeros_like(state.shape)
    cross = hessian[:, :n, n:]
    solved = torch.cholesky_solve(torch.cat([cross, gradient[:, :n, None]], -1), factor)
    prior = problem.shape_precision
    corner = hessian[:, n:, n:].sum(0) + prior * torch.eye(hessian.shape[-1] - n, dtype=torch.float64)
    corner = corner + torch.diag(damping[0] * corner.diagonal())
    reduced = corner - (cross.transpose(1, 2) @ solved[..., :-1]).sum(0)
    right_side = gradient[:, n:].sum(0) + prior * state.shape
    right_side = right_side - (cross.transpose(1, 2) @ solved[..., -1:]).sum(0).squeeze(-1)
    shape_step = -torch.linalg.solve(reduced, right_side)
    step = -(solved[..., -1] + solved[..., :-1] @ shape_step)
    return step, shape_step


def _normal_equations(
    problem: FitProblem, state: FitState, posed: PosedLandmarks, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Hessian (T, m, m) and gradient (T, m) of the data term; m is n, or n + S with a free shape."""
    own, shared = pixel_jacobians(
        problem.head, state, posed, problem.observed.principal_point, with_shape=problem.free_shape
    )
    jacobian = own if shared is None else torch.cat([own, shared], -1)
    jacobian = jacobian / problem.sigma[:, None, None, None]
    found = problem.residuals(posed, weights)
    pair_jacobian = jacobian[:, problem.pairs[:, 0]] - jacobian[:, problem.pairs[:, 1]]
    scale = problem.config.data.robust_scale**2
    hessian, gradient = torch.zeros(()), torch.zeros(())
    for rows, residual, weight in (
        (jacobian, found.points, found.point_weights),
        (pair_jacobian, found.pairs, found.pair_weights),
    ):
        robust = (scale / (scale + residual.square().sum(-1))).square()
        root = (weight * robust).sqrt()[..., None]
        weighted = (rows * root[..., None]).flatten(1, 2)
        hessian = hessian + weighted.mT @ weighted
        gradient = gradient + (weighted.mT @ (residual * root).flatten(1)[..., None]).squeeze(-1)
    return hessian, gradient


def _pose_by_pnp(problem: FitProblem, state: FitState) -> tuple[Tensor, Tensor]:
    """Rotation (T, 3, 3) and translation (T, 3) by perspective-n-point on the landmarks of an upright state."""
    observed = problem.observed
    model = pose_landmarks(problem.head, state, observed.principal_point).turned.numpy()
    flip = np.diag([1.0, -1.0, -1.0])  # world axes to the camera's
    rotations, translations = [], []
    for points, image_points, focal in zip(model, problem.points.numpy(), observed.focal.tolist()):
        cx, cy = observed.principal_point.tolist()
        intrinsics = np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])
        found, vector, offset = cv2.solvePnP(points, image_points, intrinsics, None, flags=cv2.SOLVEPNP_SQPNP)
        matrix, _ = cv2.Rodrigues(vector)
        if not found or offset[2, 0] <= 0:
            matrix, offset = flip, np.array([[0.0], [0.0], [focal * 0.2 / 256.0]])
        rotations.append(flip @ matrix)
        translations.append(flip @ offset[:, 0])
    return torch.from_numpy(np.stack(rotations)), torch.from_numpy(np.stack(translations))


def fit_of(problem: FitProblem, state: FitState, pixels: Tensor) -> Fit:
    """The result in float32, for a state whose landmarks are at ``pixels`` (T, L, 2)."""
    params = HeadParams(
        shape=state.shape.float(),
        expression=state.expression.float(),
        rotation=matrix_to_axis_angle(state.rotation).float(),
        translation=about_root(problem.head, state).float(),
        neck=torch.zeros(len(problem.observed), 3),
        jaw=state.angles[:, :3].float(),
        eyes=state.angles[:, 3:].float(),
    )
    error = (pixels - problem.points).norm(dim=-1).mean(-1) / problem.eye_distance
    return Fit(params, state.log_focal.exp().float(), error.float())
