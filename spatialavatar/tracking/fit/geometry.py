"""The unknowns of the fit, the landmarks that they give, and the derivatives of their pixels.

Per frame the unknowns are: rotation (3, a left perturbation), translation (3), expression (E), jaw (3), left eye (3),
right eye (3), log of the focal length (1). All frames share the shape (S). The neck joint stays at rest; the global
rotation takes its part. Everything is float64 on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.head.rotations import axis_angle_to_matrix, skew_matrix
from spatialavatar.records import HeadParams
from spatialavatar.tracking.fit.landmark_head import MOVING_JOINTS, LandmarkHead

_MIN_DEPTH = 1e-3  # metres; points nearer to the camera are projected as if they were here


class Unknowns:
    """Where each unknown of a frame is in a vector of all n = E + 16 of them.

    Attributes:
        rotation: slice of the rotation, 3.
        translation: slice of the translation, 3.
        pose: slice of rotation and translation, 6.
        expression: slice of the expression, E.
        angles: slice of jaw, left eye and right eye, 9.
        face: slice of expression and angles, E + 9.
        jaw_x: index of the jaw's angle about x.
        log_focal: index of the logarithm of the focal length.
        count: n.
    """

    def __init__(self, expression_count: int) -> None:
        """Lay out the unknowns of a head with ``expression_count`` expression coefficients."""
        end = 6 + expression_count
        self.rotation, self.translation, self.pose = slice(0, 3), slice(3, 6), slice(0, 6)
        self.expression, self.angles, self.face = slice(6, end), slice(end, end + 9), slice(6, end + 9)
        self.jaw_x, self.log_focal = end, end + 9
        self.count = end + 10


@dataclass(frozen=True, eq=False)
class FitState:
    """Values of the unknowns of T frames.

    Attributes:
        shape: (S,).
        rotation: (T, 3, 3) about the origin of head space.
        translation: (T, 3) metres; world = rotation @ articulated + translation. :class:`HeadParams` turns about the
            root joint instead; see :func:`about_origin` and :func:`about_root`.
        expression: (T, E).
        angles: (T, 9) jaw, left eye, right eye, axis-angle, radians.
        log_focal: (T,) of the focal length in pixels.
    """

    shape: Tensor
    rotation: Tensor
    translation: Tensor
    expression: Tensor
    angles: Tensor
    log_focal: Tensor

    def where(self, accepted: Tensor, other: FitState) -> FitState:
        """This state in the accepted frames (T,), ``other`` in the rest; this one's shape if any frame is accepted."""
        per_frame = {}
        for name in ("rotation", "translation", "expression", "angles", "log_focal"):
            mine, theirs = getattr(self, name), getattr(other, name)
            per_frame[name] = torch.where(accepted.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)
        return FitState(shape=self.shape if bool(accepted.any()) else other.shape, **per_frame)

    def stepped(self, unknowns: Unknowns, step: Tensor, shape_step: Tensor) -> FitState:
        """The state after steps (T, n) of the frames and (S,) of the shape."""
        return FitState(
            shape=self.shape + shape_step,
            rotation=axis_angle_to_matrix(step[:, unknowns.rotation]) @ self.rotation,
            translation=self.translation + step[:, unknowns.translation],
            expression=self.expression + step[:, unknowns.expression],
            angles=self.angles + step[:, unknowns.angles],
            log_focal=self.log_focal + step[:, unknowns.log_focal],
        )


@dataclass(frozen=True, eq=False)
class PosedLandmarks:
    """The landmarks of T frames, and what their derivatives need.

    Attributes:
        rest: (T, L, 3) before skinning, metres.
        joints: (T, 3, 3) rest positions of jaw, left and right eye, metres.
        joint_rotations: (T, 3, 3, 3) of these joints.
        blend: (T, L, 3, 3) skinning matrices without the global rotation.
        turned: (T, L, 3) after the global rotation, before the translation, metres.
        world: (T, L, 3) metres.
        pixels: (T, L, 2).
    """

    rest: Tensor
    joints: Tensor
    joint_rotations: Tensor
    blend: Tensor
    turned: Tensor
    world: Tensor
    pixels: Tensor


def pose_landmarks(head: LandmarkHead, state: FitState, principal_point: Tensor) -> PosedLandmarks:
    """The landmarks of a state in world space and in the picture.

    Args:
        head: the reduced head.
        state: T frames.
        principal_point: (2,) pixels.
    """
    base = head.template + torch.tensordot(state.shape, head.shape_basis, 1)
    joint_base = head.joints + torch.tensordot(state.shape, head.shape_joints, 1)
    joints = (joint_base + torch.tensordot(state.expression, head.expression_joints, 1))[:, list(MOVING_JOINTS)]
    rotations = axis_angle_to_matrix(state.angles.unflatten(-1, (3, 3)))
    identity = torch.eye(3, dtype=torch.float64)
    feature = (rotations - identity).flatten(-2)
    rest = base + torch.tensordot(state.expression, head.expression_basis, 1)
    rest = rest + torch.einsum("tjp,jplk->tlk", feature, head.correctives)
    blend = identity + torch.einsum("lj,tjab->tlab", head.skinning, rotations - identity)
    pivots = joints - (rotations @ joints[..., None]).squeeze(-1)
    articulated = (blend @ rest[..., None]).squeeze(-1) + torch.einsum("lj,tja->tla", head.skinning, pivots)
    turned = articulated @ state.rotation.transpose(-1, -2)
    world = turned + state.translation[:, None]
    depth = (-world[..., 2:]).clamp_min(_MIN_DEPTH)
    direction = torch.tensor([1.0, -1.0], dtype=torch.float64)
    pixels = principal_point + state.log_focal.exp()[:, None, None] * direction * world[..., :2] / depth
    return PosedLandmarks(rest, joints, rotations, blend, turned, world, pixels)


def pixel_jacobians(
    head: LandmarkHead, state: FitState, posed: PosedLandmarks, principal_point: Tensor, *, with_shape: bool
) -> tuple[Tensor, Tensor | None]:
    """Derivatives of the pixels with respect to the unknowns.

    Args:
        head: the reduced head.
        state: T frames.
        posed: their landmarks.
        principal_point: (2,) pixels.
        with_shape: whether the shape is an unknown, too.

    Returns:
        (T, L, 2, n) with respect to the unknowns of each frame, in the order of :class:`Unknowns`, and (T, L, 2, S)
        with respect to the shape, or None.
    """
    by_world = _projection_jacobian(state, posed)
    by_articulated = by_world @ state.rotation[:, None]
    by_rest = by_articulated @ posed.blend
    moving, moved = list(MOVING_JOINTS), head.moved
    # I - R: how the skinned landmarks move with the rest positions of the joints.
    fixed = torch.eye(3, dtype=torch.float64) - posed.joint_rotations
    by_pivot = torch.einsum("tlia,lj,tjab->tlijb", by_articulated[:, moved], head.skinning[moved], fixed)

    def by_coefficients(basis: Tensor, joint_basis: Tensor) -> Tensor:
        """With respect to the coefficients of a landmark basis (C, L, 3) with joint displacements (C, J, 3)."""
        result = torch.einsum("tlia,cla->tlic", by_rest, basis)
        result[:, moved] += torch.einsum("tlija,cja->tlic", by_pivot, joint_basis[:, moving])
        return result

    derivatives = _rotation_derivatives(state.angles.unflatten(-1, (3, 3)), posed.joint_rotations)
    lever = posed.rest[:, :, None] - posed.joints[:, None]  # (T, L, 3 joints, 3)
    swing = torch.einsum("lj,tjkab,tljb->tlajk", head.skinning, derivatives, lever)
    bulge = torch.einsum("tjkp,jpla->tlajk", derivatives.flatten(-2), head.correctives)
    by_angles = (by_articulated @ swing.flatten(-2)) + (by_rest @ bulge.flatten(-2))
    own = torch.cat(
        [
            by_world @ -skew_matrix(posed.turned),
            by_world,
            by_coefficients(head.expression_basis, head.expression_joints),
            by_angles,
            (posed.pixels - principal_point)[..., None],
        ],
        -1,
    )
    return own, by_coefficients(head.shape_basis, head.shape_joints) if with_shape else None


def root_joint(head: LandmarkHead, shape: Tensor, expression: Tensor) -> Tensor:
    """(T, 3) the root joint, about which the global rotation of :class:`HeadParams` turns, metres."""
    joint = head.joints[0] + shape @ head.shape_joints[:, 0]
    return joint + expression @ head.expression_joints[:, 0]


def about_origin(head: LandmarkHead, params: HeadParams, rotation: Tensor) -> Tensor:
    """(T, 3) the translation of ``params`` for a rotation (T, 3, 3) about the origin instead of the root joint."""
    root = root_joint(head, params.shape.double(), params.expression.double())
    return params.translation.double() - (rotation @ root[..., None]).squeeze(-1) + root


def about_root(head: LandmarkHead, state: FitState) -> Tensor:
    """(T, 3) the translation of ``state`` for a rotation about the root joint instead of the origin."""
    root = root_joint(head, state.shape, state.expression)
    return state.translation + (state.rotation @ root[..., None]).squeeze(-1) - root


def _projection_jacobian(state: FitState, posed: PosedLandmarks) -> Tensor:
    """(T, L, 2, 3) derivatives of the pixels with respect to the landmarks in world space."""
    focal = state.log_focal.exp()[:, None]
    x, y, z = posed.world.unbind(-1)
    depth = (-z).clamp_min(_MIN_DEPTH)
    zero = torch.zeros_like(x)
    return torch.stack(
        [
            torch.stack([focal / depth, zero, focal * x / depth**2], -1),
            torch.stack([zero, -focal / depth, -focal * y / depth**2], -1),
        ],
        -2,
    )


def _rotation_derivatives(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Derivatives (..., 3, 3, 3) of rotation matrices by their axis-angle vectors (..., 3); the first new axis is k.

    Closed form of Gallego and Yezzi, "A compact formula for the derivative of a 3-D rotation in exponential
    coordinates", 2015.
    """
    squared = vectors.square().sum(-1)[..., None, None, None]
    identity = torch.eye(3, dtype=vectors.dtype)
    small = squared < 1e-14
    turned = skew_matrix(torch.linalg.cross(vectors[..., None, :].expand(*vectors.shape, 3), (identity - matrices).mT))
    along = vectors[..., None, None] * skew_matrix(vectors)[..., None, :, :]
    exact = (along + turned) / torch.where(small, torch.ones_like(squared), squared)
    generators = torch.where(small, skew_matrix(identity).expand_as(exact), exact)
    return generators @ matrices[..., None, :, :]
