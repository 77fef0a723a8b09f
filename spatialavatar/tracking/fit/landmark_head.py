"""A head model reduced to the landmarks that are fitted."""

from __future__ import annotations

import weakref
from typing import Final

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.tracking.landmark_sets import LandmarkSet, landmark_set

MOVING_JOINTS: Final = (2, 3, 4)
"""Jaw, left eye and right eye among the head's joints: the joints that the fit turns."""


class LandmarkHead:
    """A head model reduced to the landmarks of the fit, float64 on the CPU.

    A landmark has the skinning weights and the rest position of its point on the triangle. Its posed position differs
    from that point on the skinned triangle by the variation of the weights over one triangle, well below 0.1 mm.

    Attributes:
        set: the landmarks and their weights in the fit.
        template: (L, 3) mean head at rest, metres.
        shape_basis: (S, L, 3) metres.
        expression_basis: (E, L, 3) metres.
        correctives: (3, 9, L, 3) pose correctives of jaw, left and right eye, metres.
        skinning: (L, 3) weights of jaw, left and right eye.
        moved: (M,) indices of the landmarks that one of these joints moves.
        joints: (J, 3) joints of the mean head, metres.
        shape_joints: (S, J, 3) their displacement by the shape, metres.
        expression_joints: (E, J, 3) their displacement by the expression, metres.
        normals: (L, 3) unit normals of the mean head.
        arkit_to_expression: (52, E).
        arkit_to_pose: (52, 9) jaw, left eye, right eye, radians.
        expressions: names of the expression units.
        named: (E,) bool, units that have an ARKit name.
    """

    def __init__(self, head: HeadModel, count: int) -> None:
        """Reduce ``head`` to its ``count`` landmarks.

        Raises:
            InputError: the head has no such landmarks, or its jaw and eyes do not hang from the neck or root.
        """
        if count not in head.landmark_embeddings:
            raise InputError(f"The head {head.id} has no {count}-point landmarks; use a head file that contains them.")
        if any(head.parents[joint] not in (0, 1) for joint in MOVING_JOINTS):
            raise InputError(f"The jaw and the eyes of the head {head.id} must have its root or its neck as parent.")
        self.set: LandmarkSet = landmark_set(count)
        faces, bary = (tensor.cpu()[list(self.set.used)] for tensor in head.landmark_embeddings[count])
        corners = head.faces.cpu()[faces]
        weights = bary.double()

        def at_landmarks(values: Tensor) -> Tensor:
            """Vertex values (..., V, C) at the landmarks (..., L, C)."""
            return (values.cpu()[..., corners, :].double() * weights[..., None]).sum(-2)

        self.template = at_landmarks(head.template)
        self.shape_basis = at_landmarks(head.shape_basis)
        self.expression_basis = at_landmarks(head.expression_basis)
        moving_rows = slice(9 * (MOVING_JOINTS[0] - 1), 9 * MOVING_JOINTS[-1])
        self.correctives = at_landmarks(head.pose_correctives[moving_rows]).reshape(len(MOVING_JOINTS), 9, -1, 3)
        skinning = at_landmarks(head.skinning_weights)
        self.skinning = skinning[:, MOVING_JOINTS[0] :] / skinning.sum(-1, keepdim=True)
        self.moved = (self.skinning.sum(-1) > 1e-4).nonzero().squeeze(1)
        regressor = head.joint_regressor.cpu().double()
        self.joints = regressor @ head.template.cpu().double()
        self.shape_joints = torch.einsum("jv,svk->sjk", regressor, head.shape_basis.cpu().double())
        self.expression_joints = torch.einsum("jv,evk->ejk", regressor, head.expression_basis.cpu().double())
        v0, v1, v2 = head.template.cpu().double()[corners].unbind(1)
        self.normals = torch.nn.functional.normalize(torch.linalg.cross(v1 - v0, v2 - v0), dim=-1)
        self.arkit_to_expression = head.arkit_to_expression.cpu().double()
        self.arkit_to_pose = head.arkit_to_pose.cpu().double()
        self.expressions = head.expressions
        self.named = torch.tensor([name in ARKIT_INDEX for name in head.expressions], dtype=torch.bool)

    @property
    def shape_count(self) -> int:
        """Number of shape coefficients, S."""
        return int(self.shape_basis.shape[0])

    @property
    def expression_count(self) -> int:
        """Number of expression coefficients, E."""
        return int(self.expression_basis.shape[0])


_REDUCED: weakref.WeakKeyDictionary[HeadModel, dict[int, LandmarkHead]] = weakref.WeakKeyDictionary()


def reduced_head(head: HeadModel, count: int) -> LandmarkHead:
    """The reduction of ``head`` to ``count`` landmarks, cached per head."""
    by_count = _REDUCED.setdefault(head, {})
    if count not in by_count:
        by_count[count] = LandmarkHead(head, count)
    return by_count[count]
