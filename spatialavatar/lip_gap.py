"""The gap between the lips of posed heads, and the jaw that gives a wanted gap.

Landmarks determine the gap of a driver's lips well, but not its division among jaw and lips. Another person with other
gains of lips and jaw would open the mouth too little, or leave it open where the driver's lips meet. The jaw of the
avatar is therefore solved for the driver's gap.
"""

from __future__ import annotations

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
    faces, bary = (tensor[list(_LANDMARKS)] for tensor in head.landmark_embeddings[478])
    corners = head.faces[faces].flatten()
    rest = identity.vertices[corners] + torch.tensordot(expression, head.expression_basis[:, corners], 1)
    rotation = axis_angle_to_matrix(jaw)
    feature = (rotation - torch.eye(3, dtype=rest.dtype, device=rest.device)).flatten(1)
    rows = slice(9 * (_JAW - 1), 9 * _JAW)
    rest = rest + torch.tensordot(feature, head.pose_correctives[rows][:, corners], 1)
    joint = identity.joints[_JAW] + expression @ (head.joint_regressor[_JAW] @ head.expression_basis)
    turned = (rest - joint[:, None]) @ rotation.mT + joint[:, None]
    share = head.skinning_weights[corners, _JAW, None]
    posed = ((1.0 - share) * rest + share * turned).unflatten(1, (*faces.shape, 3))
    upper, lower, right, left = (posed * bary[..., None]).sum(-2).unbind(1)
    return (upper - lower)[:, 1] / (right - left).norm(dim=-1)


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
    for _ in range(_STEPS):
        now = lip_gaps(head, identity, expression, jaw)
        slope = (lip_gaps(head, identity, expression, jaw + _PROBE * axis) - now) / _PROBE
        opening = jaw[:, 0] + (gap - now) / slope.clamp_min(_SLOPE)
        jaw = torch.cat([opening.clamp(*limits)[:, None], jaw[:, 1:]], 1)
    return jaw
