"""Joints, skinning weights and pose correctives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 1, 1)
ROOT, NECK, JAW, EYE_LEFT, EYE_RIGHT = range(5)

ROOT_JOINT = np.array([0.0, -0.125, -0.015])
NECK_JOINT = np.array([0.0, -0.052, -0.004])
JAW_FROM_EARS = np.array([0.0, -0.004, 0.012])  # the jaw's joint lies before and below the ears' middle


@dataclass(frozen=True)
class Hinge:
    """The jaw's: opening turns by ``angle`` about the x axis through ``centre``."""

    centre: Floats
    angle: float


def rotation(axis: int, angle: float) -> Floats:
    """(3, 3) rotation about a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def fit_hinge(centre: Floats, points: Floats, offsets: Floats) -> Hinge:
    """The turn about x through ``centre`` that moves ``points`` (N, 3) by ``offsets`` (N, 3) best."""
    p, q = (points - centre)[:, 1:], (points + offsets - centre)[:, 1:]
    angle = np.arctan2((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum(), (p * q).sum())
    return Hinge(centre, float(angle))


def smoothstep(value: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def neck_weight(template: Floats) -> Floats:
    """(V,) how much a vertex turns with the head: a smooth step over a plane that falls towards the chin.

    An upright plane would bind the chin, which is lower than the nape, to the shoulders.
    """
    return smoothstep(template[:, 1] + 0.35 * template[:, 2], -0.125, -0.045)


def jaw_weight(template: Floats, offsets: Floats, hinge: Hinge, smoothing: sp.csr_matrix) -> Floats:
    """(V,) the share of the hinge's turn that explains the sculpted opening best, smoothed over the surface.

    Args:
        template: (V, 3).
        offsets: (V, 3) the sculpted opening.
        hinge: its hinge.
        smoothing: (V, V) averaging over neighbours.
    """
    turned = (template - hinge.centre) @ (rotation(0, hinge.angle) - np.eye(3)).T
    share = (turned * offsets).sum(1) / np.maximum((turned**2).sum(1), 1e-8)
    moved = np.linalg.norm(offsets, axis=1)
    weight = np.clip(share, 0, 1) * smoothstep(moved, 0.0, 0.002)
    for _ in range(4):
        weight = smoothing @ weight
    return weight


def unskinned(template: Floats, offsets: Floats, weight: Floats, turn: Floats, centre: Floats) -> Floats:
    """(V, 3) rest-space offsets c so that skinning ``template + c`` by ``weight`` gives ``template + offsets``."""
    blended = np.eye(3) + weight[:, None, None] * (turn - np.eye(3))
    skinned = template + weight[:, None] * ((template - centre) @ (turn - np.eye(3)).T)
    return np.linalg.solve(blended, (template + offsets - skinned)[..., None])[..., 0]


def corrective_row(joint: int, row: int, column: int) -> int:
    """Index of the entry (row, column) of a joint's rotation minus identity among the pose correctives."""
    return (joint - 1) * 9 + row * 3 + column


def add_swing(
    correctives: Floats, joint: int, entries: tuple[tuple[int, int], tuple[int, int]], offsets: dict[float, Floats]
) -> None:
    """Add correctives that give two sculpted offsets (V, 3) at two angles of a turn about one axis.

    Args:
        correctives: (36, V, 3), changed in place.
        joint: the joint that turns.
        entries: entries of its rotation minus identity that hold the sine and the cosine minus 1.
        offsets: two offsets by angle, radians.
    """
    angles = np.array(list(offsets))
    features = np.stack([np.sin(angles), np.cos(angles) - 1], 1)
    solved = np.einsum("fa,avc->fvc", np.linalg.inv(features), np.stack(list(offsets.values())))
    for entry, values in zip(entries, solved, strict=True):
        correctives[corrective_row(joint, *entry)] += values


def joint_weights(template: Floats, candidates: Ints, joint: Floats) -> Floats:
    """(V,) least-norm affine weights over ``candidates`` that give ``joint`` exactly; they sum to 1."""
    points = np.concatenate([template[candidates].T, np.ones((1, len(candidates)))])
    weights = np.zeros(len(template))
    weights[candidates] = np.linalg.pinv(points) @ np.append(joint, 1.0)
    return weights


def smoothing_matrix(faces: Ints, count: int) -> sp.csr_matrix:
    """(V, V) the mean of each vertex with its neighbours'."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    adjacency = sp.csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    adjacency = ((adjacency + adjacency.T) > 0).astype(float)
    degree = np.asarray(adjacency.sum(1)).ravel()
    average = sp.diags(1 / np.maximum(degree, 1)) @ adjacency
    return (0.5 * sp.eye(count) + 0.5 * average + 0.5 * sp.diags((degree == 0).astype(float))).tocsr()
