"""The fit of single frames with a known shape, compiled: for live tracking, where one frame comes at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.records import HeadParams
from spatialavatar.tracking.fit import _kernels
from spatialavatar.tracking.fit.config import FitConfig
from spatialavatar.tracking.fit.geometry import FitState
from spatialavatar.tracking.fit.landmark_head import MOVING_JOINTS, LandmarkHead, reduced_head
from spatialavatar.tracking.fit.problem import FACING, FACING_RANGE, HIDDEN_WEIGHT, FitProblem
from spatialavatar.tracking.fit.records import Fit, Observations
from spatialavatar.tracking.fit.solver import RIDGE, fit_of, start_state


class FrameFit:
    """:func:`~spatialavatar.tracking.fit.fit_landmarks` of single frames of one person, about ten times as fast.

    The results differ by rounding only.

    Attributes:
        shape: (S,) the person's shape.
    """

    def __init__(self, head: HeadModel, shape: Tensor, count: int, config: FitConfig) -> None:
        """Prepare the person's landmarks.

        Args:
            head: the head model.
            shape: (S,) the person's shape.
            count: number of landmarks that are detected, 478 or 68.
            config: weights and steps.

        Raises:
            InputError: the head lacks the landmarks.
        """
        self.shape = shape
        self._head, self._config = reduced_head(head, count), config
        self._shape = shape.double().cpu()
        self._arrays = _arrays_of(self._head, self._shape)
        self._steps = _kernels.Steps(**dataclasses.asdict(config.solver), ridge=RIDGE)

    def __call__(self, observed: Observations, start: HeadParams | None = None, iterations: int | None = None) -> Fit:
        """Fit one frame.

        Args:
            observed: the detections of one frame.
            start: where to start; None: as :func:`~spatialavatar.tracking.fit.fit_landmarks`.
            iterations: largest number of steps; None: that of the settings.
        """
        steps = self._steps if iterations is None else self._steps._replace(iterations=iterations)
        problem = FitProblem(self._head, observed.double(), self._config, free_shape=False, anchor=None)
        state = start_state(problem, self._shape, start)
        at = problem.unknowns
        values = torch.cat(
            [torch.zeros(3), state.translation[0], state.expression[0], state.angles[0], state.log_focal]
        )
        target = _target(problem)
        found = _kernels.minimise(self._arrays, target, steps, _array(state.rotation[0]), _array(values))
        rotation, unknowns, pixels = (torch.from_numpy(array)[None] for array in found)
        fitted = FitState(
            shape=self._shape,
            rotation=rotation,
            translation=unknowns[:, at.translation],
            expression=unknowns[:, at.expression],
            angles=unknowns[:, at.angles],
            log_focal=unknowns[:, at.log_focal],
        )
        return fit_of(problem, fitted, pixels)


def _arrays_of(head: LandmarkHead, shape: Tensor) -> _kernels.HeadArrays:
    """The landmarks of a person."""
    moving = list(MOVING_JOINTS)
    joints = head.joints + torch.tensordot(shape, head.shape_joints, 1)
    moved = np.zeros(len(head.template), dtype=np.bool_)
    moved[head.moved.numpy()] = True
    return _kernels.HeadArrays(
        base=_array(head.template + torch.tensordot(shape, head.shape_basis, 1)).reshape(-1),
        by_expression=_array(head.expression_basis.flatten(1)),
        by_coefficient=_array(head.expression_basis.permute(1, 2, 0)),
        correctives=_array(head.correctives.flatten(0, 1).flatten(1)),
        skinning=_array(head.skinning),
        moved=moved,
        joints=_array(joints[moving]),
        joint_basis=_array(head.expression_joints[:, moving].permute(1, 2, 0)),
        normals=_array(head.normals),
        pairs=np.array(head.set.pairs, dtype=np.int64).reshape(-1, 2),
        pair_weights=_array(head.set.pair_weights),
    )


def _target(problem: FitProblem) -> _kernels.Target:
    """The cost of a problem of one frame."""
    return _kernels.Target(
        points=_array(problem.points[0]),
        weights=_array(problem.full_weights()[0]),
        mean=_array(problem.mean[0]),
        precision=_array(problem.precision[0]),
        low=_array(problem.low),
        high=_array(problem.high),
        bound_precision=_array(problem.bound_precision),
        principal=_array(problem.observed.principal_point),
        sigma=float(problem.sigma[0]),
        robust=float(problem.config.data.robust_scale**2),
        hidden=HIDDEN_WEIGHT,
        facing=FACING,
        facing_range=FACING_RANGE,
    )


def _array(tensor: Tensor) -> np.ndarray:
    """A contiguous float64 array."""
    return np.ascontiguousarray(tensor.double().numpy())
