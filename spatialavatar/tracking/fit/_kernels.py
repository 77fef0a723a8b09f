# ruff: noqa: ANN001, ANN202 - numba infers the kernels' types.
"""The fit of one frame with a known shape as one compiled function, float64.

It computes what :mod:`.geometry`, :mod:`.problem` and :mod:`.solver` compute for a batch of one frame without an
anchor. Only sums are in another order.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spatialavatar.render.kernels import kernel

part = partial(kernel, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Decorator of functions that only :func:`minimise` calls. Neither they nor it use array expressions or assignments of
slices: each of those takes the compiler about a second."""

Array = NDArray[np.float64]

_POSE, _ANGLES = 6, 9  # unknowns of rotation and translation before the expression; of jaw and eyes after it
_JOINTS = 3


class HeadArrays(NamedTuple):
    """The landmarks of a head of known shape; L landmarks, E expression coefficients.

    Attributes:
        base: (3 L,) at rest, metres, a landmark after the other.
        by_expression: (E, 3 L) metres.
        by_coefficient: (L, 3, E), the same numbers.
        correctives: (27, 3 L) pose correctives of jaw, left and right eye, metres.
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
        facing: cosine to the viewer at which a point begins to count.
        facing_range: from there until it counts fully.
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
    facing: float
    facing_range: float


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
    """Landmarks of one state: see :class:`~.geometry.PosedLandmarks`; ``rest`` is (3 L,)."""

    rest: Array
    joints: Array
    joint_rotations: Array
    blend: Array
    turned: Array
    world: Array
    pixels: Array


@part
def rotation_of(x, y, z):  # pragma: no cover - compiled
    """Rotation matrix of an axis-angle vector, radians."""
    squared = x * x + y * y + z * z
    if squared < 1e-8:
        sine, cosine = 1.0 - squared / 6.0, 0.5 - squared / 24.0
    else:
        angle = math.sqrt(squared)
        sine, cosine = math.sin(angle) / angle, (1.0 - math.cos(angle)) / squared
    skew = _skew(x, y, z)
    result = _product(skew, skew)
    for a in range(3):
        for b in range(3):
            result[a, b] = sine * skew[a, b] + cosine * result[a, b] + (1.0 if a == b else 0.0)
    return result


@part
def _skew(x, y, z):  # pragma: no cover - compiled
    matrix = np.zeros((3, 3))
    matrix[0, 1], matrix[0, 2], matrix[1, 2] = -z, y, -x
    matrix[1, 0], matrix[2, 0], matrix[2, 1] = z, -y, x
    return matrix


@part
def _product(left, right):  # pragma: no cover - compiled
    """Matrix product of two (3, 3)."""
    result = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for c in range(3):
                result[a, c] += left[a, b] * right[b, c]
    return result


@part
def pose(head, rotation, values, principal):  # pragma: no cover - compiled
    """The landmarks of a state, whose other unknowns are ``values`` (n,)."""
    count, units = len(head.normals), len(head.by_expression)
    expression, angles = values[_POSE : _POSE + units], values[_POSE + units : _POSE + units + _ANGLES]
    rest = np.empty(3 * count)
    for i in range(3 * count):
        rest[i] = head.base[i]
    for e in range(units):
        _add(rest, expression[e], head.by_expression[e])
    joints, turns = np.empty((_JOINTS, 3)), np.empty((_JOINTS, 3, 3))
    pivots = np.empty((_JOINTS, 3))
    for j in range(_JOINTS):
        turn = rotation_of(angles[3 * j], angles[3 * j + 1], angles[3 * j + 2])
        for a in range(3):
            joints[j, a] = head.joints[j, a]
            for e in range(units):
                joints[j, a] += expression[e] * head.joint_basis[j, a, e]
        for a in range(3):
            pivots[j, a] = joints[j, a]
            for b in range(3):
                turns[j, a, b] = turn[a, b]
                pivots[j, a] -= turn[a, b] * joints[j, b]
                share = turn[a, b] - (1.0 if a == b else 0.0)
                _add(rest, share, head.correctives[9 * j + 3 * a + b])
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
                skinned += entry * rest[3 * i + b]
            for c in range(3):
                turned[i, c] += rotation[c, a] * skinned
        for a in range(3):
            world[i, a] = turned[i, a] + values[3 + a]
        depth = max(-world[i, 2], 1e-3)
        pixels[i, 0] = principal[0] + focal * world[i, 0] / depth
        pixels[i, 1] = principal[1] - focal * world[i, 1] / depth
    return Posed(rest, joints, turns, blend, turned, world, pixels)


@part
def _add(total, share, values):  # pragma: no cover - compiled
    """Add a share of ``values`` (K,) to ``total`` (K,)."""
    for i in range(len(total)):
        total[i] += share * values[i]


@part
def point_weights(head, target, rotation, world):  # pragma: no cover - compiled
    """(L,) weights of the points; those that face away count less."""
    weights = np.empty(len(target.weights))
    for i in range(len(weights)):
        facing, squared = 0.0, 0.0
        for a in range(3):
            normal = 0.0
            for b in range(3):
                normal += rotation[a, b] * head.normals[i, b]
            facing -= normal * world[i, a]
            squared += world[i, a] * world[i, a]
        visible = (facing / max(math.sqrt(squared), 1e-12) - target.facing) / target.facing_range
        visible = min(max(visible, 0.0), 1.0)
        visible = visible * visible * (3.0 - 2.0 * visible)
        weights[i] = target.weights[i] * (target.hidden + (1.0 - target.hidden) * visible)
    return weights


@part
def cost_of(head, target, values, pixels, weights):  # pragma: no cover - compiled
    """The cost of a state with fixed weights (L,) of the points."""
    cost, scale = 0.0, target.robust
    residual = _residual(target, pixels)
    for i in range(len(weights)):
        squared = residual[i, 0] ** 2 + residual[i, 1] ** 2
        cost += weights[i] * scale * squared / (scale + squared)
    for p in range(len(head.pairs)):
        i, j = head.pairs[p, 0], head.pairs[p, 1]
        squared = (residual[i, 0] - residual[j, 0]) ** 2 + (residual[i, 1] - residual[j, 1]) ** 2
        cost += min(weights[i], weights[j]) * head.pair_weights[p] * scale * squared / (scale + squared)
    for k in range(3, len(values)):
        cost += target.precision[k] * (values[k] - target.mean[k]) ** 2
        cost += target.bound_precision[k] * _beyond(target, values, k) ** 2
    return 0.5 * cost


@part
def _residual(target, pixels):  # pragma: no cover - compiled
    """(L, 2) differences from the observed points, in standard deviations."""
    residual = np.empty((len(pixels), 2))
    for i in range(len(pixels)):
        for axis in range(2):
            residual[i, axis] = (pixels[i, axis] - target.points[i, axis]) / target.sigma
    return residual


@part
def _beyond(target, values, k):  # pragma: no cover - compiled
    """The part of an unknown beyond its bounds, signed; pose is free."""
    if k < _POSE:
        return 0.0
    return max(values[k] - target.high[k], 0.0) + min(values[k] - target.low[k], 0.0)


@part
def _turn_derivatives(vector, matrix, derivatives):  # pragma: no cover - compiled
    """Derivatives of a rotation matrix by its axis-angle vector; (3, 3, 3) ``derivatives`` receives them.

    See :func:`~.geometry.pixel_jacobians`.
    """
    squared = vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2
    own = _skew(vector[0], vector[1], vector[2])
    for k in range(3):
        if squared < 1e-14:
            generator = _skew(1.0 if k == 0 else 0.0, 1.0 if k == 1 else 0.0, 1.0 if k == 2 else 0.0)
        else:
            x, y, z = -matrix[0, k], -matrix[1, k], -matrix[2, k]
            x, y, z = x + (1.0 if k == 0 else 0.0), y + (1.0 if k == 1 else 0.0), z + (1.0 if k == 2 else 0.0)
            cross = _skew(vector[1] * z - vector[2] * y, vector[2] * x - vector[0] * z, vector[0] * y - vector[1] * x)
            generator = np.empty((3, 3))
            for a in range(3):
                for b in range(3):
                    generator[a, b] = (vector[k] * own[a, b] + cross[a, b]) / squared
        product = _product(generator, matrix)
        for a in range(3):
            for b in range(3):
                derivatives[k, a, b] = product[a, b]


@part
def jacobian(head, rotation, values, posed, principal):  # pragma: no cover - compiled
    """(L, 2, n) derivatives of the pixels with respect to the unknowns."""
    count, units = len(head.normals), len(head.by_expression)
    result = np.zeros((count, 2, len(values)))
    angles, focal = values[_POSE + units : _POSE + units + _ANGLES], math.exp(values[-1])
    derivatives, bulges = np.empty((_JOINTS, 3, 3, 3)), np.zeros((_JOINTS, 3, 3 * count))
    for j in range(_JOINTS):
        _turn_derivatives(angles[3 * j : 3 * j + 3], posed.joint_rotations[j], derivatives[j])
        for k in range(3):
            for p in range(9):
                _add(bulges[j, k], derivatives[j, k, p // 3, p % 3], head.correctives[9 * j + p])
    by_world, by_skinned, by_rest = np.zeros(3), np.empty(3), np.empty(3)
    for i in range(count):
        depth = max(-posed.world[i, 2], 1e-3)
        tx, ty, tz = posed.turned[i, 0], posed.turned[i, 1], posed.turned[i, 2]
        for axis in range(2):
            sign, along = 1.0 if axis == 0 else -1.0, posed.world[i, axis]
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
            for a in range(3):
                row[3 + a] = by_world[a]
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
                            swing += derivatives[j, k, a, b] * (posed.rest[3 * i + b] - posed.joints[j, b])
                        entry += by_skinned[a] * head.skinning[i, j] * swing
                        entry += by_rest[a] * bulges[j, k, 3 * i + a]
                    row[_POSE + units + 3 * j + k] = entry
            row[-1] = posed.pixels[i, axis] - principal[axis]
    return result


@part
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


@part
def _add_rows(hessian, gradient, rows, first, second, weight):  # pragma: no cover - compiled
    """Add two rows (2, n) with residuals ``first`` and ``second`` to the lower triangle of the normal equations."""
    for i in range(len(gradient)):
        x, y = weight * rows[0, i], weight * rows[1, i]
        gradient[i] += x * first + y * second
        for k in range(i + 1):
            hessian[i, k] += x * rows[0, k] + y * rows[1, k]


@part
def step_of(head, target, values, pixels, weights, rows, damping, ridge):  # pragma: no cover - compiled
    """(n,) solution of the damped normal equations; ``rows`` (L, 2, n) are divided by the standard deviation."""
    n, scale = len(values), target.robust
    hessian, gradient = np.zeros((n, n)), np.zeros(n)
    residual, between = _residual(target, pixels), np.empty((2, n))
    for i in range(len(weights)):
        for axis in range(2):
            for k in range(n):
                rows[i, axis, k] /= target.sigma
        squared = residual[i, 0] ** 2 + residual[i, 1] ** 2
        weight = weights[i] * (scale / (scale + squared)) ** 2
        _add_rows(hessian, gradient, rows[i], residual[i, 0], residual[i, 1], weight)
    for p in range(len(head.pairs)):
        i, j = head.pairs[p, 0], head.pairs[p, 1]
        for axis in range(2):
            for k in range(n):
                between[axis, k] = rows[i, axis, k] - rows[j, axis, k]
        first, second = residual[i, 0] - residual[j, 0], residual[i, 1] - residual[j, 1]
        weight = min(weights[i], weights[j]) * head.pair_weights[p]
        weight *= (scale / (scale + first * first + second * second)) ** 2
        _add_rows(hessian, gradient, between, first, second, weight)
    for k in range(n):
        beyond = _beyond(target, values, k)
        if k >= 3:
            gradient[k] += target.precision[k] * (values[k] - target.mean[k]) + target.bound_precision[k] * beyond
        hessian[k, k] += target.precision[k] + (target.bound_precision[k] if beyond != 0.0 else 0.0)
        hessian[k, k] += damping * hessian[k, k] + ridge
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


@part
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
        trial = step_of(head, target, values, posed.pixels, weights, derivatives, damping, steps.ridge)
        trial_rotation = _product(rotation_of(trial[0], trial[1], trial[2]), rotation)
        for k in range(len(trial)):
            trial[k] = 0.0 if k < 3 else values[k] + trial[k]
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
