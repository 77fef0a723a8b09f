# ruff: noqa: ANN001, ANN202 - numba infers the kernels' types.
"""The fit of one frame with a known shape as one compiled function, float64.

It computes what :mod:`.geometry`, :mod:`.problem` and :mod:`.solver` compute for a batch of one frame without an
anchor. Only sums are in another order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spatialavatar.render.kernels import kernel

Array = NDArray[np.float64]

_POSE, _ANGLES = 6, 9  # unknowns of rotation and translation before the expression; of jaw and eyes after it
_JOINTS = 3


class HeadArrays(NamedTuple):
    """The landmarks of a head of known shape; L landmarks, E expression coefficients.

    Attributes:
        base: (L, 3) at rest, metres.
        by_expression: (E, L, 3) metres.
        by_coefficient: (L, 3, E), the same numbers.
        correctives: (27, L, 3) pose correctives of jaw, left and right eye, metres.
        skinning: (L, 3) weights of these joints.
        moved: (L,) bool, whether one of them moves the landmark.
        joints: (3, 3) at rest, metres.
        joint_basis: (3, 3, E) displacement of each joint by the expression, metres.
        normals: (L, 3).
        pairs: (P, 2) paired landmarks.
        pair_weights: (P,).
    """

    base: Array
    by_expression: Array
    by_coefficient: Array
    correctives: Array
    skinning: Array
    moved: NDArray[np.bool_]
    joints: Array
    joint_basis: Array
    normals: Array
    pairs: NDArray[np.int64]
    pair_weights: Array


class Target(NamedTuple):
    """The cost of one frame; n unknowns in the order of :class:`~.geometry.Unknowns`.

    Attributes:
        points: (L, 2) pixels.
        weights: (L,) weights of points that face the camera.
        mean: (n,) mean of the prior.
        precision: (n,) of the prior.
        low: (n,) soft bounds.
        high: (n,) soft bounds.
        bound_precision: (n,) of the part beyond them.
        principal: (2,) pixels.
        sigma: standard deviation of a landmark, pixels.
        robust: square of the robust scale, in standard deviations.
        hidden: share of its weight that a point keeps on the far side of the head.
        facing: cosine to the viewer at which a point begins to count, and until it counts fully.
    """

    points: Array
    weights: Array
    mean: Array
    precision: Array
    low: Array
    high: Array
    bound_precision: Array
    principal: Array
    sigma: float
    robust: float
    hidden: float
    facing: tuple[float, float]


class Steps(NamedTuple):
    """:class:`~.config.SolverConfig`, and the ridge of the normal equations."""

    iterations: int
    damping: float
    accepted_factor: float
    rejected_factor: float
    lowest_damping: float
    highest_damping: float
    tolerance: float
    ridge: float


class Posed(NamedTuple):
    """Landmarks of one state: see :class:`~.geometry.PosedLandmarks`."""

    rest: Array
    joints: Array
    joint_rotations: Array
    blend: Array
    turned: Array
    world: Array
    pixels: Array


@kernel
def rotation_of(x, y, z):  # pragma: no cover - compiled
    """Rotation matrix of an axis-angle vector, radians."""
    squared = x * x + y * y + z * z
    if squared < 1e-8:
        sine, cosine = 1.0 - squared / 6.0, 0.5 - squared / 24.0
    else:
        angle = math.sqrt(squared)
        sine, cosine = math.sin(angle) / angle, (1.0 - math.cos(angle)) / squared
    skew = _skew(x, y, z)
    return np.eye(3) + sine * skew + cosine * _product(skew, skew)


@kernel
def _skew(x, y, z):  # pragma: no cover - compiled
    matrix = np.zeros((3, 3))
    matrix[0, 1], matrix[0, 2], matrix[1, 2] = -z, y, -x
    matrix[1, 0], matrix[2, 0], matrix[2, 1] = z, -y, x
    return matrix


@kernel
def _product(left, right):  # pragma: no cover - compiled
    """Matrix product of two (3, 3)."""
    result = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for c in range(3):
                result[a, c] += left[a, b] * right[b, c]
    return result


@kernel
def pose(head, rotation, values, principal):  # pragma: no cover - compiled
    """The landmarks of a state, whose other unknowns are ``values`` (n,)."""
    count, units = len(head.base), len(head.by_expression)
    expression, angles = values[_POSE : _POSE + units], values[_POSE + units : _POSE + units + _ANGLES]
    rest = head.base.copy().reshape(-1)
    for e in range(units):
        row = head.by_expression[e].reshape(-1)
        for i in range(3 * count):
            rest[i] += expression[e] * row[i]
    joints, turns = head.joints.copy(), np.empty((_JOINTS, 3, 3))
    pivots = np.zeros((_JOINTS, 3))
    for j in range(_JOINTS):
        turns[j] = rotation_of(angles[3 * j], angles[3 * j + 1], angles[3 * j + 2])
        for a in range(3):
            for e in range(units):
                joints[j, a] += expression[e] * head.joint_basis[j, a, e]
        for a in range(3):
            pivots[j, a] = joints[j, a]
            for b in range(3):
                pivots[j, a] -= turns[j, a, b] * joints[j, b]
                share = turns[j, a, b] - (1.0 if a == b else 0.0)
                row = head.correctives[9 * j + 3 * a + b].reshape(-1)
                for i in range(3 * count):
                    rest[i] += share * row[i]
    rest = rest.reshape(count, 3)
    blend, turned = np.empty((count, 3, 3)), np.zeros((count, 3))
    world, pixels = np.empty((count, 3)), np.empty((count, 2))
    focal = math.exp(values[-1])
    for i in range(count):
        for a in range(3):
            skinned = 0.0
            for j in range(_JOINTS):
                skinned += head.skinning[i, j] * pivots[j, a]
            for b in range(3):
                entry = 1.0 if a == b else 0.0
                for j in range(_JOINTS):
                    entry += head.skinning[i, j] * (turns[j, a, b] - (1.0 if a == b else 0.0))
                blend[i, a, b] = entry
                skinned += entry * rest[i, b]
            for c in range(3):
                turned[i, c] += rotation[c, a] * skinned
        for a in range(3):
            world[i, a] = turned[i, a] + values[3 + a]
        depth = max(-world[i, 2], 1e-3)
        pixels[i, 0] = principal[0] + focal * world[i, 0] / depth
        pixels[i, 1] = principal[1] - focal * world[i, 1] / depth
    return Posed(rest, joints, turns, blend, turned, world, pixels)


@kernel
def point_weights(head, target, rotation, world):  # pragma: no cover - compiled
    """(L,) weights of the points; those that face away count less."""
    weights = target.weights.copy()
    first, span = target.facing
    for i in range(len(weights)):
        facing, squared = 0.0, 0.0
        for a in range(3):
            normal = 0.0
            for b in range(3):
                normal += rotation[a, b] * head.normals[i, b]
            facing -= normal * world[i, a]
            squared += world[i, a] * world[i, a]
        visible = (facing / max(math.sqrt(squared), 1e-12) - first) / span
        visible = min(max(visible, 0.0), 1.0)
        visible = visible * visible * (3.0 - 2.0 * visible)
        weights[i] *= target.hidden + (1.0 - target.hidden) * visible
    return weights


@kernel
def cost_of(head, target, values, pixels, weights):  # pragma: no cover - compiled
    """The cost of a state with fixed weights (L,) of the points."""
    cost, scale = 0.0, target.robust
    residual = (pixels - target.points) / target.sigma
    for i in range(len(weights)):
        squared = residual[i, 0] ** 2 + residual[i, 1] ** 2
        cost += weights[i] * scale * squared / (scale + squared)
    for p in range(len(head.pairs)):
        i, j = head.pairs[p]
        squared = (residual[i, 0] - residual[j, 0]) ** 2 + (residual[i, 1] - residual[j, 1]) ** 2
        cost += min(weights[i], weights[j]) * head.pair_weights[p] * scale * squared / (scale + squared)
    for k in range(3, len(values)):
        cost += target.precision[k] * (values[k] - target.mean[k]) ** 2
        cost += target.bound_precision[k] * _beyond(target, values, k) ** 2
    return 0.5 * cost


@kernel
def _beyond(target, values, k):  # pragma: no cover - compiled
    """The part of an unknown beyond its bounds, signed; pose is free."""
    if k < _POSE:
        return 0.0
    return max(values[k] - target.high[k], 0.0) + min(values[k] - target.low[k], 0.0)


@kernel
def _turn_derivatives(vector, matrix):  # pragma: no cover - compiled
    """(3, 3, 3) derivatives of a rotation matrix by its axis-angle vector; see :func:`~.geometry.pixel_jacobians`."""
    squared = vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2
    derivatives = np.empty((3, 3, 3))
    own = _skew(vector[0], vector[1], vector[2])
    for k in range(3):
        if squared < 1e-14:
            axis = np.zeros(3)
            axis[k] = 1.0
            generator = _skew(axis[0], axis[1], axis[2])
        else:
            x, y, z = -matrix[0, k], -matrix[1, k], -matrix[2, k]
            x, y, z = x + (1.0 if k == 0 else 0.0), y + (1.0 if k == 1 else 0.0), z + (1.0 if k == 2 else 0.0)
            cross = _skew(vector[1] * z - vector[2] * y, vector[2] * x - vector[0] * z, vector[0] * y - vector[1] * x)
            generator = (vector[k] * own + cross) / squared
        derivatives[k] = _product(generator, matrix)
    return derivatives


@kernel
def jacobian(head, rotation, values, posed, principal):  # pragma: no cover - compiled
    """(L, 2, n) derivatives of the pixels with respect to the unknowns."""
    count, units = len(head.base), len(head.by_expression)
    result = np.zeros((count, 2, len(values)))
    angles, focal = values[_POSE + units : _POSE + units + _ANGLES], math.exp(values[-1])
    derivatives, bulges = np.empty((_JOINTS, 3, 3, 3)), np.zeros((_JOINTS, 3, 3 * count))
    for j in range(_JOINTS):
        derivatives[j] = _turn_derivatives(angles[3 * j : 3 * j + 3], posed.joint_rotations[j])
        for k in range(3):
            bulge = bulges[j, k]
            for p in range(9):
                share, row = derivatives[j, k, p // 3, p % 3], head.correctives[9 * j + p].reshape(-1)
                for i in range(3 * count):
                    bulge[i] += share * row[i]
    by_world, by_skinned, by_rest = np.zeros(3), np.empty(3), np.empty(3)
    for i in range(count):
        x, y, z = posed.world[i]
        depth = max(-z, 1e-3)
        tx, ty, tz = posed.turned[i]
        for axis in range(2):
            sign, along = (1.0, x) if axis == 0 else (-1.0, y)
            by_world[0] = focal / depth if axis == 0 else 0.0
            by_world[1] = 0.0 if axis == 0 else -focal / depth
            by_world[2] = sign * focal * along / depth**2
            for b in range(3):
                by_skinned[b] = 0.0
                for a in range(3):
                    by_skinned[b] += by_world[a] * rotation[a, b]
            for b in range(3):
                by_rest[b] = 0.0
                for a in range(3):
                    by_rest[b] += by_skinned[a] * posed.blend[i, a, b]
            row = result[i, axis]
            row[0] = by_world[2] * ty - by_world[1] * tz
            row[1] = by_world[0] * tz - by_world[2] * tx
            row[2] = by_world[1] * tx - by_world[0] * ty
            row[3:6] = by_world
            for a in range(3):
                basis = head.by_coefficient[i, a]
                for e in range(units):
                    row[_POSE + e] += by_rest[a] * basis[e]
            for j in range(_JOINTS):
                if head.moved[i]:
                    _add_pivot(row, by_skinned, head.skinning[i, j], posed.joint_rotations[j], head.joint_basis[j])
                for k in range(3):
                    entry = 0.0
                    for a in range(3):
                        swing = 0.0
                        for b in range(3):
                            swing += derivatives[j, k, a, b] * (posed.rest[i, b] - posed.joints[j, b])
                        entry += by_skinned[a] * head.skinning[i, j] * swing
                        entry += by_rest[a] * bulges[j, k, 3 * i + a]
                    row[_POSE + units + 3 * j + k] = entry
            row[-1] = posed.pixels[i, axis] - principal[axis]
    return result


@kernel
def _add_pivot(row, by_skinned, share, turn, joint_basis):  # pragma: no cover - compiled
    """Add to a row of the Jacobian how a skinned landmark moves with the rest position of a joint."""
    if share == 0.0:
        return
    for b in range(3):
        by_joint = by_skinned[b]
        for a in range(3):
            by_joint -= by_skinned[a] * turn[a, b]
        for e in range(joint_basis.shape[1]):
            row[_POSE + e] += share * by_joint * joint_basis[b, e]


@kernel
def _add_rows(hessian, gradient, rows, residual, weight):  # pragma: no cover - compiled
    """Add two weighted rows (2, n) to the lower triangle of the normal equations."""
    for i in range(len(gradient)):
        first, second = weight * rows[0, i], weight * rows[1, i]
        gradient[i] += first * residual[0] + second * residual[1]
        line = hessian[i]
        for k in range(i + 1):
            line[k] += first * rows[0, k] + second * rows[1, k]


@kernel
def step_of(head, target, values, pixels, weights, derivatives, regular):  # pragma: no cover - compiled
    """(n,) solution of the damped normal equations; ``regular`` is the damping and the ridge."""
    n, scale = len(values), target.robust
    hessian, gradient = np.zeros((n, n)), np.zeros(n)
    rows = derivatives / target.sigma
    residual = (pixels - target.points) / target.sigma
    for i in range(len(weights)):
        squared = residual[i, 0] ** 2 + residual[i, 1] ** 2
        _add_rows(hessian, gradient, rows[i], residual[i], weights[i] * (scale / (scale + squared)) ** 2)
    for p in range(len(head.pairs)):
        i, j = head.pairs[p]
        between = residual[i] - residual[j]
        squared = between[0] ** 2 + between[1] ** 2
        weight = min(weights[i], weights[j]) * head.pair_weights[p]
        _add_rows(hessian, gradient, rows[i] - rows[j], between, weight * (scale / (scale + squared)) ** 2)
    for k in range(n):
        beyond = _beyond(target, values, k)
        if k >= 3:
            gradient[k] += target.precision[k] * (values[k] - target.mean[k]) + target.bound_precision[k] * beyond
        hessian[k, k] += target.precision[k] + (target.bound_precision[k] if beyond != 0.0 else 0.0)
        hessian[k, k] += regular[0] * hessian[k, k] + regular[1]
    _factorise(hessian)
    for i in range(n):  # L y = -g, in place
        entry = -gradient[i]
        for k in range(i):
            entry -= hessian[i, k] * gradient[k]
        gradient[i] = entry / hessian[i, i]
    for i in range(n - 1, -1, -1):  # L' x = y
        gradient[i] /= hessian[i, i]
        for k in range(i):
            gradient[k] -= hessian[i, k] * gradient[i]
    return gradient


@kernel
def _factorise(matrix):  # pragma: no cover - compiled
    """Replace the lower triangle of a positive definite matrix (n, n) by its Cholesky factor."""
    n = len(matrix)
    for j in range(n):
        for k in range(j):
            share = matrix[j, k]
            for i in range(j, n):
                matrix[i, j] -= share * matrix[i, k]
        matrix[j, j] = math.sqrt(matrix[j, j])
        for i in range(j + 1, n):
            matrix[i, j] /= matrix[j, j]


@kernel
def minimise(head, target, steps, rotation, values):  # pragma: no cover - compiled
    """Levenberg-Marquardt from a rotation (3, 3) and the other unknowns ``values`` (n,), whose first three are unused.

    Returns:
        Rotation (3, 3), values (n,) and the pixels (L, 2) of the landmarks.
    """
    damping = steps.damping
    posed = pose(head, rotation, values, target.principal)
    for _ in range(steps.iterations):
        weights = point_weights(head, target, rotation, posed.world)
        cost = cost_of(head, target, values, posed.pixels, weights)
        derivatives = jacobian(head, rotation, values, posed, target.principal)
        step = step_of(head, target, values, posed.pixels, weights, derivatives, (damping, steps.ridge))
        trial_rotation = _product(rotation_of(step[0], step[1], step[2]), rotation)
        trial = values + step
        trial[:3] = 0.0
        trial_posed = pose(head, trial_rotation, trial, target.principal)
        trial_cost = cost_of(head, target, trial, trial_posed.pixels, weights)
        better = trial_cost < cost
        done = damping >= steps.highest_damping
        if better:
            done = done or (cost - trial_cost) / max(cost, 1e-12) < steps.tolerance
            rotation, values, posed = trial_rotation, trial, trial_posed
            damping = max(damping * steps.accepted_factor, steps.lowest_damping)
        else:
            damping *= steps.rejected_factor
        if done:
            break
    return rotation, values, posed.pixels
