"""Gauss-Newton steps for one frame.

The derivative of a pixel's colour by a parameter is the picture's gradient there times the motion of the surface under
it on screen (Lucas and Kanade, "An iterative image registration technique", 1981). The gradient is that of the mean of
render and frame, as in Benhimane and Malis, "Real-time image-based tracking of planes using efficient second-order
minimization", 2004. No gradient of the rasteriser is needed, and a frame takes as many renders as steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.records import HeadParams, Track
from spatialavatar.refinement.photometric.compare import MIN_NOISE, Comparison, FrameComparer
from spatialavatar.refinement.photometric.config import PhotometricConfig
from spatialavatar.refinement.photometric.correction import CorrectionModel, pixel_derivatives, with_rigid_motion


@dataclass(frozen=True, eq=False)
class FrameFit:
    """The correction of one frame.

    Attributes:
        change: (P,) float64.
        information: (P, P) float64, inverse of its covariance.
        before: mean absolute difference of render and frame without the correction; NaN where it cannot be measured.
        after: the same with the correction.
    """

    change: Tensor
    information: Tensor
    before: float
    after: float


class FrameSolver:
    """Fits the frames of a clip one by one."""

    def __init__(self, avatar: Avatar, track: Track, config: PhotometricConfig, seen: Tensor | None) -> None:
        """Prepare a clip; arguments as for :class:`FrameComparer`."""
        self._head, self._track, self._config = avatar.head, track, config
        self._comparer = FrameComparer(avatar, track, seen)
        self.model = CorrectionModel(
            avatar.head, avatar.head.identity(track.params.shape, avatar.vertex_offsets), config
        )
        self._prior = self.model.spread(config.sigma).pow(-2)

    @torch.no_grad()
    def fit(self, frame: int) -> FrameFit:
        """The correction of one frame by its pixels, with its landmark fit as the prior.

        The correction is 0 where too few pixels can be compared, and where the difference does not decrease.
        """
        config, model, tracked = self._config, self.model, self._track.params[frame]
        motion = model.surface(tracked)
        centre = model.centre(motion[0])
        prior = torch.diag(self._prior)
        prior = prior + model.landmark_information(motion, centre, self._track.camera, config)
        targets = {size: self._comparer.target(frame, size) for size in set(config.sizes)}
        change = torch.zeros(len(prior), dtype=torch.float64)
        information, before = prior, float("nan")
        for number, size in enumerate(config.sizes):
            compared = self._comparer.compare(model.apply(tracked, change, centre), targets[size])
            if number == 0:
                before = compared.error
            if not compared.error >= 0.0:
                return FrameFit(torch.zeros_like(change), prior, before, before)
            hessian, gradient = self._normal_equations(compared, motion[1], centre)
            information = hessian + prior
            change = change - torch.linalg.solve(information, gradient + prior @ change)
        after = self._comparer.compare(model.apply(tracked, change, centre), targets[config.sizes[0]]).error
        if not after < before:
            return FrameFit(torch.zeros_like(change), prior, before, before)
        return FrameFit(change, information, before, after)

    def corrected(self, tracked: HeadParams, change: Tensor) -> HeadParams:
        """One frame's parameters with a correction (P,)."""
        return self.model.apply(tracked, change, self.model.centre(self.model.vertices(tracked)))

    def _normal_equations(self, compared: Comparison, directions: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Matrix (P, P) and gradient (P,) of the pixels, float64."""
        size = compared.difference.square().mean(-1).sqrt()
        noise = (1.48 * size.median()).clamp_min(MIN_NOISE)  # standard deviation of normal noise by its median
        weight = (1.0 + (size / (self._config.robust_scale * noise)).square()).pow(-2)  # Geman-McClure
        # A surface that moves to the right shows the colours that were to its left: hence the sign.
        slope = -compared.gradient
        stretch = (slope * weight[:, None, None]).mT @ slope
        pull = ((weight[:, None] * compared.difference)[:, None] @ slope)[:, 0]
        vertices = compared.vertices
        moves = pixel_derivatives(vertices, with_rigid_motion(vertices, directions, centre), compared.camera)
        moves = moves.movedim(0, -1).flatten(1)  # (V, 2 P)
        corners = self._head.faces[compared.face]
        flow = sum(moves.index_select(0, corners[:, k]) * compared.bary[:, k : k + 1] for k in range(3))
        flow = flow.unflatten(1, (2, -1))  # type: ignore[union-attr]
        hessian = flow.flatten(0, 1).mT @ (stretch @ flow).flatten(0, 1)
        gradient = flow.flatten(0, 1).mT @ pull.flatten()
        share = self._config.evidence / (3.0 * noise**2 * weight.sum())
        return (share * hessian).double(), (share * gradient).double()
