"""The gap between the lips of posed heads, and the jaw that gives a wanted gap.

Landmarks determine the gap of a driver's lips well, but not its division among jaw and lips. Another person with other
gains of lips and jaw would open the mouth too little, or leave it open where the driver's lips meet. The jaw of the
avatar is therefore solved for the driver's gap.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from spatialavatar.head import HeadModel, Identity
from spatialavatar.head.rotations import axis_angle_to_matrix

_LANDMARKS: Final = (13, 14, 33, 263)  # inner edges of upper and lower lip; outer corners of the eyes
_JAW: Final = 2  # among the joints
_STEPS: Final = 3  # of Newton's method; the gap is nearly linear in the angle
_PROBE: Final = 0.02  # radians
_SLOPE: Final = 0.2  # least gap per radian that counts: less means that the jaw does not move the lips


def lip_gaps(head: HeadModel, identity: Identity, expression: Tensor, jaw: Tensor) -> Tensor:
    """(T,) height of the lips' opening over the distance of the outer eye corners; negative where lips overlap.

    Args:
        head: a head with the 478 landmarks.
        identity: the person's rest head.
        expression: (T, E).
        jaw: (T, 3) axis-angle, radians.
    """
    lips = _lips_of(head)
    return lips.gaps(*lips.unposed(identity, expression), jaw)


@dataclass(frozen=True, eq=False)
class _Lips:
    """A head model reduced to the C corners of the triangles that the landmarks are on.

    Attributes:
        corners: (C,) indices of the vertices.
        bary: (4, 3, 1) weights of a landmark's corners.
        expression_basis: (E, C, 3) metres.
        joint_basis: (E, 3) displacement of the jaw's joint by the expression, metres.
        correctives: (9, C, 3) pose correctives of the jaw, metres.
        share: (C, 1) skinning weight of the jaw.
    """

    corners: Tensor
    bary: Tensor
    expression_basis: Tensor
    joint_basis: Tensor
    correctives: Tensor
    share: Tensor

    def unposed(self, identity: Identity, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Corners (T, C, 3) before skinning and without pose correctives, and the jaw's joint (T, 3)."""
        rest = identity.vertices[self.corners] + torch.tensordot(expression, self.expression_basis, 1)
        return rest, identity.joints[_JAW] + expression @ self.joint_basis

    def gaps(self, rest: Tensor, joint: Tensor, jaw: Tensor) -> Tensor:
        """(T,) gaps of :func:`lip_gaps` for the result of :meth:`unposed`."""
        rotation = axis_angle_to_matrix(jaw)
        feature = (rotation - torch.eye(3, dtype=rest.dtype, device=rest.device)).flatten(1)
        rest = rest + torch.tensordot(feature, self.correctives, 1)
        turned = (rest - joint[:, None]) @ rotation.mT + joint[:, None]
        posed = ((1.0 - self.share) * rest + self.share * turned).unflatten(1, (len(_LANDMARKS), 3))
        upper, lower, right, left = (posed * self.bary).sum(-2).unbind(1)
        return (upper - lower)[:, 1] / (right - left).norm(dim=-1)


_REDUCED: weakref.WeakKeyDictionary[HeadModel, _Lips] = weakref.WeakKeyDictionary()


def _lips_of(head: HeadModel) -> _Lips:
    """The reduction of ``head``, cached per head: live driving needs it in every frame."""
    if head not in _REDUCED:
        with torch.inference_mode(False), torch.no_grad():  # callers with gradients may follow
            faces, bary = (tensor[list(_LANDMARKS)] for tensor in head.landmark_embeddings[478])
            corners = head.faces[faces].flatten()
            rows = slice(9 * (_JAW - 1), 9 * _JAW)
            _REDUCED[head] = _Lips(
                corners,
                bary[..., None],
                head.expression_basis[:, corners],
                head.joint_regressor[_JAW] @ head.expression_basis,
                head.pose_correctives[rows][:, corners],
                head.skinning_weights[corners, _JAW, None],
            )
    return _REDUCED[head]


def jaw_for_gap(
    head: HeadModel, identity: Identity, expression: Tensor, jaw: Tensor, gap: Tensor, limits: tuple[float, float]
) -> Tensor:
    """Jaw angles (T, 3) that open the lips by ``gap`` (T,); only the opening angle changes.

    Args:
        head: a head with the 478 landmarks.
        identity: the person's rest head.
        expression: (T, E).
        jaw: (T, 3) where to start, axis-angle, radians.
        gap: (T,) over the distance of the outer eye corners.
        limits: lowest and highest opening angle, radians.
    """
    axis = jaw.new_tensor([1.0, 0.0, 0.0])
    lips = _lips_of(head)
    unposed = lips.unposed(identity, expression)
    for _ in range(_STEPS):
        now = lips.gaps(*unposed, jaw)
        slope = (lips.gaps(*unposed, jaw + _PROBE * axis) - now) / _PROBE
        opening = jaw[:, 0] + (gap - now) / slope.clamp_min(_SLOPE)
        jaw = torch.cat([opening.clamp(*limits)[:, None], jaw[:, 1:]], 1)
    return jaw
