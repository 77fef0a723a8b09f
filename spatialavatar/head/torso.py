"""The torso below a head: the root joint moves it, and the head turns against it at the neck joint.

A tracker sees one rotation, that of the skull. :func:`turned_at_neck` divides it between torso and neck: the torso
takes a share of the turn since a reference view, in which the head model is not bent.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spatialavatar.head.model import JOINTS, Identity
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_quat, quat_multiply
from spatialavatar.records import Bust, Gaussians, HeadParams

_ROOT, _NECK = JOINTS.index("root"), JOINTS.index("neck")


def root_motion(params: HeadParams, identity: Identity) -> tuple[Tensor, Tensor]:
    """The rigid motion of the root joint in T frames.

    Args:
        params: T frames.
        identity: the rest head.

    Returns:
        Rotation (T, 3, 3) and offset (T, 3), metres: world = rotation @ rest + offset.
    """
    rotation = axis_angle_to_matrix(params.rotation)
    root = identity.joints[_ROOT]
    return rotation, root - rotation @ root + params.translation


def moved_with_torso(bust: Bust, params: HeadParams, identity: Identity) -> Gaussians:
    """Move a bust with the root joint, and near the head with the neck joint (linear blend skinning).

    Args:
        bust: M Gaussians at rest in head space, metres.
        params: one frame.
        identity: the rest head.

    Returns:
        M world Gaussians.
    """
    rest = bust.gaussians
    rotation, offset = (value[0] for value in root_motion(params, identity))
    means, turn = rest.means @ rotation.T + offset, matrix_to_quat(rotation[None])
    if bust.neck_weight is not None:
        weight = bust.neck_weight[:, None]
        bent = rotation @ axis_angle_to_matrix(params.neck)[0]
        joint = identity.joints[_NECK]
        means = means + weight * ((rest.means - joint) @ bent.T + (rotation @ joint + offset) - means)
        quat = matrix_to_quat(bent[None])
        quat = torch.where((quat * turn).sum(-1, keepdim=True) < 0.0, -quat, quat)
        turn = normalize(turn + weight * (quat - turn), dim=-1)
    return rest.replace(means=means, quats=quat_multiply(turn.expand_as(rest.quats), rest.quats))


def turned_at_neck(
    params: HeadParams, reference: HeadParams, identity: Identity, neck_share: float, sway: Tensor | None = None
) -> HeadParams:
    """Divide the turn of the skull since a reference view between torso and neck; the skull stays where it is.

    Args:
        params: T frames.
        reference: one frame, in which the torso is where ``reference.rotation`` puts it.
        identity: the rest head.
        neck_share: share in [0, 1] of the turn that the neck joint takes; the torso takes the rest.
        sway: (T, 3) further turn of the torso below the skull, axis-angle, radians.

    Returns:
        The frames with other ``rotation``, ``neck`` and ``translation``. What hangs on the neck joint keeps its place
        and rotation.
    """
    root, neck = axis_angle_to_matrix(params.rotation), axis_angle_to_matrix(params.neck)
    first_root, first_neck = axis_angle_to_matrix(reference.rotation), axis_angle_to_matrix(reference.neck)
    skull = root @ neck
    turn = matrix_to_axis_angle(skull @ (first_root @ first_neck).transpose(-1, -2))
    torso = axis_angle_to_matrix((1.0 - neck_share) * turn) @ first_root
    if sway is not None:
        torso = axis_angle_to_matrix(sway) @ torso
    arm = identity.joints[_NECK] - identity.joints[_ROOT]
    return params.replace(
        rotation=matrix_to_axis_angle(torso),
        neck=matrix_to_axis_angle(torso.transpose(-1, -2) @ skull),
        translation=params.translation + (root - torso) @ arm,
    )
