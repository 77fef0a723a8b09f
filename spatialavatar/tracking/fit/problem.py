"""The cost of the landmark fit: data term, priors and soft bounds of one batch of frames.

Points are weighted robustly (Geman-McClure). The scores of the blendshape network are the mean of the prior of
expression, jaw and gaze.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.tracking.cues import close_lids, rescaled_scores, shut_eyes, unit_sigmas
from spatialavatar.tracking.fit.config import BoundConfig, FitConfig, PriorConfig
from spatialavatar.tracking.fit.geometry import FitState, PosedLandmarks, Unknowns, about_origin
from spatialavatar.tracking.fit.landmark_head import LandmarkHead
from spatialavatar.tracking.fit.records import Anchor, Observations
from spatialavatar.tracking.landmark_sets import landmark_set

_FIXED_FOCAL_SIGMA = 1e-9  # a focal length that must not change has a prior that no landmark outweighs
FACING, FACING_RANGE = -0.1, 0.5
"""Cosine to the viewer at which a point begins to count, and until it counts fully."""
HIDDEN_WEIGHT = 0.1
"""Share of its weight that a point keeps on the far side of the head."""
_SHUT_IRIS_LOSS = 0.98  # share of its weight that an iris point loses behind shut lids


def eye_distance(points: Tensor) -> Tensor:
    """(T,) distance between the outer eye corners of landmarks (T, L, 2+), pixels."""
    right, left = landmark_set(int(points.shape[1])).outer_eye_corners
    return (points[:, right, :2] - points[:, left, :2]).norm(dim=-1)


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of points and of differences between paired points, in standard deviations, and their weights.

    Attributes:
        points: (T, L, 2).
        pairs: (T, P, 2).
        point_weights: (T, L).
        pair_weights: (T, P).
    """

    points: Tensor
    pairs: Tensor
    point_weights: Tensor
    pair_weights: Tensor


@lru_cache(maxsize=8)  # live tracking calls these in every frame
def _face_precision(head: LandmarkHead, prior: PriorConfig) -> Tensor:
    """(n - 6,) inverse variances of expression, jaw, eyes and focal length."""
    sigma = unit_sigmas(head.expressions, prior.unit_sigma)
    sigma[~head.named] = prior.statistical_sigma
    angle_sigma = torch.tensor([*prior.jaw_sigma, *prior.eye_sigma, *prior.eye_sigma], dtype=torch.float64)
    focal = prior.focal_sigma if prior.focal_sigma > 0 else _FIXED_FOCAL_SIGMA
    return torch.cat([sigma, angle_sigma, torch.tensor([focal], dtype=torch.float64)]) ** -2


@lru_cache(maxsize=8)
def _bounds(head: LandmarkHead, bounds: BoundConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest and highest values (n,) of the unknowns, and the precision (n,) of what lies beyond them."""
    at = Unknowns(head.expression_count)
    low = torch.full((at.count,), -float("inf"), dtype=torch.float64)
    high = -low
    low[at.expression][head.named], high[at.expression][head.named] = bounds.unit
    angle_high = torch.tensor([*bounds.jaw, *bounds.eye, *bounds.eye], dtype=torch.float64)
    high[at.angles] = angle_high
    low[at.angles] = -angle_high
    low[at.jaw_x] = -bounds.jaw_closing  # the jaw opens about +x
    precision = torch.zeros_like(low)
    precision[at.face] = bounds.sigma**-2
    return low, high, precision


class FitProblem:
    """The terms of the cost for T frames that share a shape.

    Attributes:
        head: the reduced head.
        observed: the detections, float64.
        config: weights.
        unknowns: the order of the unknowns of a frame.
        free_shape: whether the shape is an unknown.
        points: (T, L, 2) landmarks to fit, pixels, with the lids of shut eyes closed.
        pairs: (P, 2) indices of paired points.
        eye_distance: (T,) pixels.
        sigma: (T,) standard deviation of a landmark, pixels.
        mean: (T, n) mean of the prior.
        precision: (T, n) inverse variance of the prior.
        shape_precision: inverse variance of the shape's prior.
        low: (n,) soft bounds of the unknowns.
        high: (n,) soft bounds.
        bound_precision: (n,) inverse variance of the part beyond a bound.
    """

    def __init__(
        self, head: LandmarkHead, observed: Observations, config: FitConfig, *, free_shape: bool, anchor: Anchor | None
    ) -> None:
        """Set up the terms.

        Args:
            head: the reduced head.
            observed: the detections.
            config: weights.
            free_shape: whether the shape is an unknown.
            anchor: an additional prior.
        """
        self.head, self.observed, self.config = head, observed, config
        self.unknowns = Unknowns(head.expression_count)
        self.free_shape = free_shape
        # The network makes the same errors in all frames of a person, so evidence grows with the root of their number.
        self.shape_precision = len(observed) ** 0.5 / config.prior.shape_sigma**2
        self.eye_distance = eye_distance(observed.points).clamp_min(1e-3)
        self.sigma = config.data.sigma * self.eye_distance
        dense = len(head.set.iris_right) > 0
        nothing = torch.zeros(len(observed), 2, dtype=torch.float64)
        self._shut = shut_eyes(observed.points) if dense else nothing
        self.points = (close_lids(observed.points, self._shut) if dense else observed.points)[:, list(head.set.used)]
        self.pairs = torch.tensor(head.set.pairs, dtype=torch.long).reshape(-1, 2)
        self.mean, self.precision = self._prior()
        self.low, self.high, self.bound_precision = _bounds(head, config.bounds)
        self._anchor_rotation: Tensor | None = None
        if anchor is not None:
            self._add_anchor(anchor)

    def _prior(self) -> tuple[Tensor, Tensor]:
        """Mean and precision (T, n) of the unknowns; rotation and translation have no prior."""
        head, prior, count = self.head, self.config.prior, len(self.observed)
        scores = prior.score_gain * rescaled_scores(self.observed.blendshapes)
        for side, name in enumerate(("eyeBlinkRight", "eyeBlinkLeft")):
            scores[:, ARKIT_INDEX[name]] = torch.maximum(scores[:, ARKIT_INDEX[name]], self._shut[:, side])
        expression = scores @ head.arkit_to_expression
        angles = scores @ head.arkit_to_pose
        # The network reports a falling gaze on a shut eye, where no gaze can be seen.
        angles[:, 3:6] *= 1.0 - self._shut[:, 1:]
        angles[:, 6:9] *= 1.0 - self._shut[:, :1]
        free = torch.zeros(count, 6, dtype=torch.float64)
        mean = torch.cat([free, expression, angles, self.observed.focal.log()[:, None]], 1)
        return mean, torch.cat([free, _face_precision(head, prior).expand(count, -1)], 1)

    def _add_anchor(self, anchor: Anchor) -> None:
        """Add the anchor to the prior: the sum of two squares is a square plus a constant."""
        params, at = anchor.params, self.unknowns
        self._anchor_rotation = axis_angle_to_matrix(params.rotation.double())
        translation = about_origin(self.head, params, self._anchor_rotation)
        angles = torch.cat([params.jaw, params.eyes], 1).double()
        log_focal = self.mean[:, [at.log_focal]]
        expected = torch.cat(
            [torch.zeros_like(translation), translation, params.expression.double(), angles, log_focal], 1
        )
        stiffness = torch.zeros_like(self.precision)
        stiffness[:, at.rotation] = anchor.rotation_sigma**-2
        stiffness[:, at.translation] = anchor.translation_sigma**-2
        stiffness[:, at.expression] = anchor.expression_sigma**-2
        stiffness[:, at.angles] = anchor.angle_sigma**-2
        total = self.precision + stiffness
        self.mean = (self.precision * self.mean + stiffness * expected) / total.clamp_min(1e-12)
        self.precision = total

    def weights(self, state: FitState, posed: PosedLandmarks) -> Tensor:
        """(T, L) weights of the points; points that face away and the irises of shut eyes count less."""
        head = self.head
        normals = head.normals @ state.rotation.transpose(-1, -2)
        facing = (normals * -torch.nn.functional.normalize(posed.world, dim=-1)).sum(-1)
        visible = ((facing - FACING) / FACING_RANGE).clamp(0.0, 1.0)
        visible = visible * visible * (3 - 2 * visible)
        weights = head.set.weights.double() * (HIDDEN_WEIGHT + (1.0 - HIDDEN_WEIGHT) * visible)
        return self._evidence_of(weights)

    def full_weights(self) -> Tensor:
        """(T, L) weights of the points if all of them faced the camera."""
        return self._evidence_of(self.head.set.weights.double().repeat(len(self.observed), 1))

    def _evidence_of(self, weights: Tensor) -> Tensor:
        """Weights (T, L) with less of the irises of shut eyes, scaled to the evidence of the points."""
        head = self.head
        for side, iris in enumerate((head.set.iris_right, head.set.iris_left)):
            weights[:, list(iris)] *= 1.0 - _SHUT_IRIS_LOSS * self._shut[:, side, None]
        return weights * (self.config.data.evidence / head.set.weights.sum())

    def residuals(self, posed: PosedLandmarks, weights: Tensor) -> Residuals:
        """Residuals with the weights (T, L) of the points; a pair counts as its weaker point does."""
        points = (posed.pixels - self.points) / self.sigma[:, None, None]
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        both = torch.minimum(weights[:, first], weights[:, second])
        pair_weights = both * self.head.set.pair_weights.double()
        return Residuals(points, points[:, first] - points[:, second], weights, pair_weights)

    def deviation(self, state: FitState) -> Tensor:
        """(T, n) difference between the unknowns and the means of their priors."""
        turn = torch.zeros_like(state.translation)
        if self._anchor_rotation is not None:
            turn = matrix_to_axis_angle(state.rotation @ self._anchor_rotation.transpose(-1, -2))
        values = torch.cat([state.translation, state.expression, state.angles, state.log_focal[:, None]], 1)
        return torch.cat([turn, values - self.mean[:, self.unknowns.translation.start :]], 1)

    def violation(self, state: FitState) -> Tensor:
        """(T, n) part of the unknowns beyond their soft bounds, signed."""
        free = torch.zeros(len(self.observed), 6, dtype=torch.float64)
        values = torch.cat([free, state.expression, state.angles, state.log_focal[:, None]], 1)
        return (values - self.high).clamp_min(0.0) + (values - self.low).clamp_max(0.0)

    def cost(self, state: FitState, posed: PosedLandmarks, weights: Tensor) -> Tensor:
        """(T,) cost of each frame; the prior of the shape is divided among them."""
        scale = self.config.data.robust_scale**2
        cost = torch.zeros(len(self.observed), dtype=torch.float64)
        found = self.residuals(posed, weights)
        for residual, weight in ((found.points, found.point_weights), (found.pairs, found.pair_weights)):
            squared = residual.square().sum(-1)
            cost = cost + (weight * scale * squared / (scale + squared)).sum(-1)
        cost = cost + (self.precision * self.deviation(state).square()).sum(-1)
        cost = cost + (self.bound_precision * self.violation(state).square()).sum(-1)
        prior = self.shape_precision * state.shape.square().sum()
        return 0.5 * (cost + prior / len(self.observed) * float(self.free_shape))
