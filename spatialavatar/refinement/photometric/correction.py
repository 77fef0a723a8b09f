"""The correction of a frame's head parameters as a vector, and its effect on the surface.

A correction has P entries: rotation about the centre of the face (3), translation (3), jaw (3), expression units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.head import HeadModel, Identity
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.records import Camera, HeadParams
from spatialavatar.refinement.photometric.config import CorrectionScale, PhotometricConfig

_JAW = 3  # angles
_JAW_STEP, _UNIT_STEP = 0.02, 0.1  # of the finite differences: radians, expression weight
_UNIT_BOUNDS = (0.0, 1.1)  # of named expression units, as in the landmark fit


class CorrectionModel:
    """Effect of a correction on one person's head."""

    def __init__(self, head: HeadModel, identity: Identity, config: PhotometricConfig) -> None:
        """Prepare for a head model, a person's rest head, and the units that may change."""
        self._head, self._identity = head, identity
        self._units = _unit_indices(head, config)
        self._named = torch.tensor(
            [head.expressions[int(unit)] in ARKIT_INDEX for unit in self._units], dtype=torch.bool
        )
        self._has_landmarks = bool(head.landmark_embeddings)

    def __len__(self) -> int:
        return 6 + _JAW + len(self._units)

    def spread(self, scale: CorrectionScale) -> Tensor:
        """(P,) float64: the number of each entry's kind."""
        kinds = ((scale.rotation, 3), (scale.translation, 3), (scale.jaw, _JAW), (scale.unit, len(self._units)))
        return torch.cat([torch.full((count,), float(value)) for value, count in kinds]).double()

    def apply(self, tracked: HeadParams, change: Tensor, centre: Tensor) -> HeadParams:
        """One frame's parameters with a correction (P,); it rotates about ``centre`` (3,), world."""
        rotation, translation, jaw, units = change.float().split([3, 3, _JAW, len(self._units)])
        turn = axis_angle_to_matrix(rotation)
        root = self._identity.joints[0]
        moved = turn @ (root + tracked.translation[0] - centre) + centre + translation - root
        expression = tracked.expression.clone()
        start = expression[0, self._units]
        low, high = start.clamp_max(_UNIT_BOUNDS[0]), start.clamp_min(_UNIT_BOUNDS[1])
        changed = start + units
        expression[0, self._units] = torch.where(self._named, changed.clamp(low, high), changed)
        return tracked.replace(
            rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(tracked.rotation)),
            translation=moved[None],
            jaw=tracked.jaw + jaw,
            expression=expression,
        )

    def vertices(self, params: HeadParams) -> Tensor:
        """(V, 3) posed vertices of one frame, world, metres."""
        return self._head.pose(self._identity, params)[0]

    def surface(self, tracked: HeadParams) -> tuple[Tensor, Tensor]:
        """Posed vertices (V, 3) and their derivatives (P - 6, V, 3) by jaw and units, world, metres."""
        count = _JAW + len(self._units)
        steps = torch.tensor([_JAW_STEP] * _JAW + [_UNIT_STEP] * len(self._units))
        varied = tracked[torch.zeros(1 + count, dtype=torch.long)]
        jaw, expression = varied.jaw.clone(), varied.expression.clone()
        rows = torch.arange(count) + 1
        jaw[rows[:_JAW], torch.arange(_JAW)] += steps[:_JAW]
        expression[rows[_JAW:], self._units] += steps[_JAW:]
        vertices = self._head.pose(self._identity, varied.replace(jaw=jaw, expression=expression))
        return vertices[0], (vertices[1:] - vertices[0]) / steps[:, None, None]

    def centre(self, vertices: Tensor) -> Tensor:
        """(3,) centre of the face, world; of the head where it has no landmarks."""
        return (self._landmarks(vertices) if self._has_landmarks else vertices).mean(0)

    def landmark_information(
        self, motion: tuple[Tensor, Tensor], centre: Tensor, camera: Camera, config: PhotometricConfig
    ) -> Tensor:
        """(P, P) float64: information of a frame's landmarks on its parameters; 0 where the head has none.

        Args:
            motion: of :meth:`surface`.
            centre: (3,) of the rotation, world.
            camera: of the track.
            config: constants.
        """
        if not self._has_landmarks:
            return torch.zeros(len(self), len(self), dtype=torch.float64)
        vertices, directions = motion
        points = self._landmarks(vertices)
        moves = self._landmarks(with_rigid_motion(vertices, directions, centre))
        pixels = camera.project(points)
        rows = pixel_derivatives(points, moves, camera).permute(1, 2, 0).flatten(0, 1).double()
        sigma = config.landmark_sigma * float((pixels.amax(0) - pixels.amin(0)).max())
        return rows.mT @ rows * (config.landmark_evidence / (len(points) * sigma**2))

    def _landmarks(self, values: Tensor) -> Tensor:
        """Vertex values (..., V, 3) at the head's landmarks (..., L, 3)."""
        return self._head.landmarks(values, max(self._head.landmark_embeddings))


def with_rigid_motion(vertices: Tensor, directions: Tensor, centre: Tensor) -> Tensor:
    """(P, V, 3): derivatives of points (V, 3) by a rotation about ``centre``, a translation, and ``directions``."""
    axes = torch.eye(3)[:, None].expand(3, len(vertices), 3)
    return torch.cat([torch.linalg.cross(axes, (vertices - centre).expand_as(axes)), axes, directions])


def pixel_derivatives(points: Tensor, moves: Tensor, camera: Camera) -> Tensor:
    """Derivatives of pixels (P, N, 2) for points (N, 3) with derivatives (P, N, 3), world."""
    x, y, z = camera.to_camera(points).unbind(-1)
    dx, dy, dz = (moves @ camera.world_to_camera[:3, :3].T).unbind(-1)
    focal_x, focal_y = camera.intrinsics[0, 0] / z, camera.intrinsics[1, 1] / z
    return torch.stack([focal_x * (dx - x / z * dz), focal_y * (dy - y / z * dz)], -1)


def _unit_indices(head: HeadModel, config: PhotometricConfig) -> Tensor:
    """Indices of the expression coefficients that may change."""
    named = [head.expressions.index(name) for name in config.units if name in head.expressions]
    return torch.tensor(named or list(range(min(config.statistical_units, head.expression_count))), dtype=torch.long)
