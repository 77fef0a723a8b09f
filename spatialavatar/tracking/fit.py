"""The fit: camera, identity, expression, jaw and gaze from landmarks, by damped Gauss-Newton with analytic Jacobians.

The head is linear in shape and expression before skinning, and only its landmarks are looked at, so it is reduced once
to L points (:class:`LandmarkHead`) and a whole batch of frames is solved at once: per frame one small dense system,
plus one shared block for the shape that is eliminated by its Schur complement (as in bundle adjustment; Triggs et al.,
"Bundle Adjustment - A Modern Synthesis", 1999). Points are weighted robustly (Geman-McClure). The scores of the
blendshape network are the mean of the prior of expression, jaw and gaze.

Per frame the unknowns are: rotation (3, a left perturbation), translation (3), expression (E), jaw (3), left eye (3),
right eye (3), log of the focal length (1). The neck joint stays at rest: the global rotation takes its part.
Everything is float64 on the CPU.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, skew_matrix
from spatialavatar.records import HeadParams
from spatialavatar.tracking.cues import believed_scores, close_lids, shut_eyes, unit_sigmas
from spatialavatar.tracking.landmark_sets import LandmarkSet, landmark_set

_MOVING = (2, 3, 4)  # jaw, left eye, right eye among the head's joints
_BATCH = 24  # frames solved at once when the shape is known: their Jacobians still fit the cache


@dataclass(frozen=True)
class FitConfig:
    """Weights of the fit. Standard deviations are in the unit of what they belong to.

    Attributes:
        evidence: how many independent landmarks the L correlated ones count for.
        landmark_sigma: standard deviation of a landmark, as a part of the distance of the outer eye corners.
        robust_scale: residual, in standard deviations, at which a point has lost three quarters of its weight.
        shape_sigma: of the shape coefficients; lower keeps to average heads.
        unit_sigma: of named (ARKit-like) expression units about the mean that the blendshape scores give.
        score_gain: part of a blendshape score, above its resting value, that is believed.
        statistical_sigma: of unnamed (PCA) expression coefficients.
        jaw_sigma: radians, about x, y, z.
        eye_sigma: radians, about x, y, z.
        focal_sigma: of the logarithm of the focal length; 0 keeps it as given.
        iterations: upper bound of the steps.
    """

    evidence: float = 60.0
    landmark_sigma: float = 0.01
    robust_scale: float = 6.0
    shape_sigma: float = 1.2
    unit_sigma: float = 0.18
    score_gain: float = 0.9
    statistical_sigma: float = 1.0
    jaw_sigma: tuple[float, float, float] = (0.15, 0.05, 0.02)
    eye_sigma: tuple[float, float, float] = (0.25, 0.3, 0.01)
    focal_sigma: float = 0.0
    iterations: int = 25


@dataclass(frozen=True)
class Observations:
    """What was detected in T frames of one person.

    Attributes:
        points: (T, L, 2) landmarks, pixels, pixel centres at + 0.5; L is 478 or 68.
        blendshapes: (T, 52) scores in the order of ``ARKIT_52``.
        principal_point: (2,) pixels.
        focal: (T,) focal lengths, pixels: fixed, or the prior's mean where ``FitConfig.focal_sigma`` is positive.
    """

    points: Tensor
    blendshapes: Tensor
    principal_point: Tensor
    focal: Tensor

    def __len__(self) -> int:
        return int(self.points.shape[0])

    def __getitem__(self, frames: slice | Tensor) -> Observations:
        return Observations(self.points[frames], self.blendshapes[frames], self.principal_point, self.focal[frames])

    def double(self) -> Observations:
        """A float64 copy on the CPU."""
        return Observations(
            *(t.to("cpu", torch.float64) for t in (self.points, self.blendshapes, self.principal_point, self.focal))
        )


@dataclass(frozen=True)
class Anchor:
    """Where a frame is expected to be, for instance by its neighbours: pulls the fit there.

    Attributes:
        params: the expected parameters, T frames.
        rotation_sigma: radians.
        translation_sigma: metres.
        expression_sigma: expression weight.
        angle_sigma: jaw and eyes, radians.
    """

    params: HeadParams
    rotation_sigma: float
    translation_sigma: float
    expression_sigma: float
    angle_sigma: float


@dataclass(frozen=True)
class Fit:
    """The solution.

    Attributes:
        params: T frames, float32.
        focal: (T,) pixels.
        error: (T,) mean distance of the fitted landmarks to the detected ones, as a part of the distance of the outer
            eye corners.
    """

    params: HeadParams
    focal: Tensor
    error: Tensor


class LandmarkHead:
    """A head reduced to the landmarks that the fit looks at, in float64.

    The skinning weights and rest positions of a landmark are those of its point on the triangle; this differs from the
    point on the skinned triangle by the weights' variation over one triangle (well below a tenth of a millimetre).
    """

    def __init__(self, head: HeadModel, count: int) -> None:
        """Reduce ``head`` to its ``count``-point landmarks.

        Raises:
            InputError: the head has no such landmarks, or its jaw and eyes do not hang from the neck or root.
        """
        if count not in head.landmark_embeddings:
            raise InputError(f"The head {head.id} has no {count}-point landmarks; use a head file that carries them.")
        if any(head.parents[joint] not in (0, 1) for joint in _MOVING):
            raise InputError(f"The jaw and the eyes of the head {head.id} must hang from its root or its neck.")
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
        moving_rows = slice(9 * (_MOVING[0] - 1), 9 * _MOVING[-1])
        self.correctives = at_landmarks(head.pose_correctives[moving_rows]).reshape(len(_MOVING), 9, -1, 3)
        skinning = at_landmarks(head.skinning_weights)
        self.skinning = skinning[:, _MOVING[0] :] / skinning.sum(-1, keepdim=True)
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
        """S."""
        return int(self.shape_basis.shape[0])

    @property
    def expression_count(self) -> int:
        """E."""
        return int(self.expression_basis.shape[0])


_REDUCED: weakref.WeakKeyDictionary[HeadModel, dict[int, LandmarkHead]] = weakref.WeakKeyDictionary()


def reduced_head(head: HeadModel, count: int) -> LandmarkHead:
    """The reduction of ``head`` to ``count`` landmarks, made once per head."""
    by_count = _REDUCED.setdefault(head, {})
    if count not in by_count:
        by_count[count] = LandmarkHead(head, count)
    return by_count[count]


def fit_landmarks(
    head: HeadModel,
    observed: Observations,
    *,
    shape: Tensor | None = None,
    start: HeadParams | None = None,
    anchor: Anchor | None = None,
    config: FitConfig | None = None,
) -> Fit:
    """Fit the head to the landmarks of T frames.

    Args:
        head: the head model.
        observed: detections of the T frames, one person.
        shape: (S,) known identity: the frames are then independent and any number of them takes constant memory.
            None: one identity is found for all of them together.
        start: where to start, T frames; None: the pose by perspective-n-point, the face by the blendshape scores.
        anchor: pulls the frames towards expected parameters.
        config: weights.

    Raises:
        InputError: the head lacks the landmarks, or no frames were given.
    """
    if len(observed) == 0:
        raise InputError("There is no frame with a face to fit.")
    config = config or FitConfig()
    reduced = reduced_head(head, int(observed.points.shape[1]))
    if shape is None:
        return _Solver(reduced, observed.double(), config, start=start, anchor=anchor).solve()
    parts = []
    for first in range(0, len(observed), _BATCH):
        frames = slice(first, first + _BATCH)
        parts.append(
            _Solver(
                reduced,
                observed[frames].double(),
                config,
                shape=shape.double().cpu(),
                start=None if start is None else start[frames],
                anchor=None if anchor is None else replace(anchor, params=anchor.params[frames]),
            ).solve()
        )
    return Fit(
        params=HeadParams.cat([part.params for part in parts]),
        focal=torch.cat([part.focal for part in parts]),
        error=torch.cat([part.error for part in parts]),
    )


def eye_distance(points: Tensor) -> Tensor:
    """(T,) distance between the outer eye corners of landmarks (T, L, 2+), pixels."""
    right, left = landmark_set(int(points.shape[1])).outer_eye_corners
    return (points[:, right, :2] - points[:, left, :2]).norm(dim=-1)


@dataclass
class _State:
    """The unknowns of T frames; ``angles`` are jaw, left eye, right eye."""

    shape: Tensor  # (S,)
    rotation: Tensor  # (T, 3, 3)
    translation: Tensor  # (T, 3), of the un-rooted form: world = rotation @ articulated + translation
    expression: Tensor  # (T, E)
    angles: Tensor  # (T, 9)
    log_focal: Tensor  # (T,)

    def where(self, accepted: Tensor, other: _State) -> _State:
        """This state in the accepted frames (T,), ``other`` in the rest; the shape is this one's if any is accepted."""
        per_frame = {}
        for name in ("rotation", "translation", "expression", "angles", "log_focal"):
            mine, theirs = getattr(self, name), getattr(other, name)
            per_frame[name] = torch.where(accepted.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)
        return _State(shape=self.shape if bool(accepted.any()) else other.shape, **per_frame)


@dataclass
class _Geometry:
    """The posed landmarks and what their derivatives need."""

    rest: Tensor  # (T, L, 3) before skinning
    joints: Tensor  # (T, 3, 3) rest positions of jaw and eyes
    joint_rotations: Tensor  # (T, 3, 3, 3)
    blend: Tensor  # (T, L, 3, 3) skinning, without the global rotation
    turned: Tensor  # (T, L, 3) globally rotated, not translated
    world: Tensor  # (T, L, 3)
    pixels: Tensor  # (T, L, 2)


class _Solver:
    """Levenberg-Marquardt over one batch of frames; the shape is shared, or known."""

    def __init__(
        self,
        head: LandmarkHead,
        observed: Observations,
        config: FitConfig,
        shape: Tensor | None = None,
        start: HeadParams | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self.head, self.observed, self.config = head, observed, config
        self.free_shape = shape is None
        # The network errs alike in all frames of a person, so evidence grows with their number's root only.
        self.shape_precision = len(observed) ** 0.5 / config.shape_sigma**2
        self.eye_distance = eye_distance(observed.points).clamp_min(1e-3)
        self.sigma = config.landmark_sigma * self.eye_distance
        dense = len(head.set.iris_right) > 0
        nothing = torch.zeros(len(observed), 2, dtype=torch.float64)
        self.shut = shut_eyes(observed.points) if dense else nothing
        self.points = (close_lids(observed.points) if dense else observed.points)[:, list(head.set.used)]
        self.pairs = torch.tensor(head.set.pairs, dtype=torch.long).reshape(-1, 2)
        self._set_priors()
        self.state = self._start(shape, start)
        self._set_anchor(anchor)

    # -- set-up -------------------------------------------------------------------------------------------------------

    def _set_priors(self) -> None:
        """Mean, precision and soft bounds of the per-frame unknowns after rotation and translation."""
        head, config = self.head, self.config
        count, expressions = len(self.observed), head.expression_count
        scores = config.score_gain * believed_scores(self.observed.blendshapes)
        for side, name in enumerate(("eyeBlinkRight", "eyeBlinkLeft")):
            scores[:, ARKIT_INDEX[name]] = torch.maximum(scores[:, ARKIT_INDEX[name]], self.shut[:, side])
        expression = scores @ head.arkit_to_expression
        angles = scores @ head.arkit_to_pose
        # On a shut eye the network sees the gaze fall: it sees no gaze at all.
        angles[:, 3:6] *= 1.0 - self.shut[:, 1:]
        angles[:, 6:9] *= 1.0 - self.shut[:, :1]
        free = torch.zeros(count, 6, dtype=torch.float64)
        self.mean = torch.cat([free, expression, angles, self.observed.focal.log()[:, None]], 1)
        sigma = unit_sigmas(head.expressions, config.unit_sigma)
        sigma[~head.named] = config.statistical_sigma
        angle_sigma = torch.tensor([*config.jaw_sigma, *config.eye_sigma, *config.eye_sigma], dtype=torch.float64)
        # A focal length that is not to move is held by a spring that no landmark can stretch.
        focal_sigma = torch.tensor([config.focal_sigma if config.focal_sigma > 0 else 1e-9], dtype=torch.float64)
        spread = torch.cat([sigma, angle_sigma, focal_sigma])
        self.precision = torch.cat([free, (spread**-2).expand(count, -1)], 1)
        infinite = float("inf")
        low = torch.full((6 + expressions + 10,), -infinite, dtype=torch.float64)
        high = -low
        low[6 : 6 + expressions][head.named] = 0.0
        high[6 : 6 + expressions][head.named] = 1.1
        angle_high = torch.tensor([0.6, 0.2, 0.1, *[0.6, 0.7, 0.05] * 2], dtype=torch.float64)
        high[6 + expressions : -1] = angle_high
        low[6 + expressions : -1] = -angle_high
        low[6 + expressions] = -0.03  # the jaw opens about +x and closes on the teeth
        self.low, self.high = low, high
        self.bound_precision = torch.zeros_like(low)
        self.bound_precision[6:-1] = 0.03**-2

    def _set_anchor(self, anchor: Anchor | None) -> None:
        """Fold the anchor's springs into the prior: the sum of two squares is a square."""
        self.anchor_rotation: Tensor | None = None
        if anchor is None:
            return
        params = anchor.params
        self.anchor_rotation = axis_angle_to_matrix(params.rotation.double())
        translation = self._unrooted(params, self.anchor_rotation)
        angles = torch.cat([params.jaw, params.eyes], 1).double()
        wanted = torch.cat(
            [torch.zeros_like(translation), translation, params.expression.double(), angles, self.mean[:, -1:]], 1
        )
        stiffness = torch.zeros_like(self.precision)
        expressions = self.head.expression_count
        stiffness[:, 0:3] = anchor.rotation_sigma**-2
        stiffness[:, 3:6] = anchor.translation_sigma**-2
        stiffness[:, 6 : 6 + expressions] = anchor.expression_sigma**-2
        stiffness[:, 6 + expressions : -1] = anchor.angle_sigma**-2
        total = self.precision + stiffness
        self.mean = (self.precision * self.mean + stiffness * wanted) / total.clamp_min(1e-12)
        self.precision = total

    def _start(self, shape: Tensor | None, start: HeadParams | None) -> _State:
        head, observed = self.head, self.observed
        log_focal = observed.focal.log()
        if start is not None:
            rotation = axis_angle_to_matrix(start.rotation.double())
            return _State(
                shape=start.shape.double() if shape is None else shape,
                rotation=rotation,
                translation=self._unrooted(start, rotation),
                expression=start.expression.double(),
                angles=torch.cat([start.jaw, start.eyes], 1).double(),
                log_focal=log_focal,
            )
        known = torch.zeros(head.shape_count, dtype=torch.float64) if shape is None else shape
        count = len(observed)
        state = _State(
            shape=known,
            rotation=torch.eye(3, dtype=torch.float64).expand(count, 3, 3),
            translation=torch.zeros(count, 3, dtype=torch.float64),
            expression=self.mean[:, 6:-10].clone(),
            angles=self.mean[:, -10:-1].clone(),
            log_focal=log_focal,
        )
        state.rotation, state.translation = self._rigid_start(state)
        return state

    def _rigid_start(self, state: _State) -> tuple[Tensor, Tensor]:
        """Pose by perspective-n-point on the un-posed landmarks."""
        model = self._geometry(state).turned.numpy()
        flip = np.diag([1.0, -1.0, -1.0])  # world axes to the camera's
        rotations, translations = [], []
        for points, image_points, focal in zip(model, self.points.numpy(), self.observed.focal.tolist()):
            cx, cy = self.observed.principal_point.tolist()
            intrinsics = np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])
            found, vector, offset = cv2.solvePnP(points, image_points, intrinsics, None, flags=cv2.SOLVEPNP_SQPNP)
            matrix, _ = cv2.Rodrigues(vector)
            if not found or offset[2, 0] <= 0:
                matrix, offset = flip, np.array([[0.0], [0.0], [focal * 0.2 / 256.0]])
            rotations.append(flip @ matrix)
            translations.append(flip @ offset[:, 0])
        return torch.from_numpy(np.stack(rotations)), torch.from_numpy(np.stack(translations))

    # -- the model and its derivatives --------------------------------------------------------------------------------

    def _geometry(self, state: _State) -> _Geometry:
        head = self.head
        base = head.template + torch.tensordot(state.shape, head.shape_basis, 1)
        joint_base = head.joints + torch.tensordot(state.shape, head.shape_joints, 1)
        joints = (joint_base + torch.tensordot(state.expression, head.expression_joints, 1))[:, list(_MOVING)]
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
        depth = (-world[..., 2:]).clamp_min(1e-3)
        direction = torch.tensor([1.0, -1.0], dtype=torch.float64)
        pixels = (
            self.observed.principal_point + state.log_focal.exp()[:, None, None] * direction * world[..., :2] / depth
        )
        return _Geometry(rest, joints, rotations, blend, turned, world, pixels)

    def _jacobians(self, state: _State, geometry: _Geometry) -> tuple[Tensor, Tensor | None]:
        """Derivatives of the pixels: (T, L, 2, n) by the per-frame unknowns, (T, L, 2, S) by the shape."""
        head = self.head
        focal = state.log_focal.exp()[:, None]
        x, y, z = geometry.world.unbind(-1)
        depth = (-z).clamp_min(1e-3)
        zero = torch.zeros_like(x)
        by_world = torch.stack(
            [
                torch.stack([focal / depth, zero, focal * x / depth**2], -1),
                torch.stack([zero, -focal / depth, -focal * y / depth**2], -1),
            ],
            -2,
        )
        by_articulated = by_world @ state.rotation[:, None]
        by_rest = by_articulated @ geometry.blend
        moving, moved = list(_MOVING), head.moved
        by_pivot = torch.einsum(
            "tlia,lj,tjab->tlijb", by_articulated[:, moved], head.skinning[moved], _residual_rotation(geometry)
        )

        def by_linear(basis: Tensor, joint_basis: Tensor) -> Tensor:
            """Derivative by the coefficients of a vertex basis (C, L, 3) with joint displacements (C, J, 3)."""
            result = torch.einsum("tlia,cla->tlic", by_rest, basis)
            result[:, moved] += torch.einsum("tlija,cja->tlic", by_pivot, joint_basis[:, moving])
            return result

        derivatives = _rotation_derivatives(state.angles.unflatten(-1, (3, 3)), geometry.joint_rotations)
        lever = geometry.rest[:, :, None] - geometry.joints[:, None]  # (T, L, 3 joints, 3)
        swing = torch.einsum("lj,tjkab,tljb->tlajk", head.skinning, derivatives, lever)
        bulge = torch.einsum("tjkp,jpla->tlajk", derivatives.flatten(-2), head.correctives)
        by_angles = (by_articulated @ swing.flatten(-2)) + (by_rest @ bulge.flatten(-2))
        own = torch.cat(
            [
                by_world @ -skew_matrix(geometry.turned),
                by_world,
                by_linear(head.expression_basis, head.expression_joints),
                by_angles,
                (geometry.pixels - self.observed.principal_point)[..., None],
            ],
            -1,
        )
        return own, by_linear(head.shape_basis, head.shape_joints) if self.free_shape else None

    # -- the cost -----------------------------------------------------------------------------------------------------

    def _weights(self, state: _State, geometry: _Geometry) -> Tensor:
        """(T, L) weights that sum to the evidence: the set's own, less where a point turns away or its eye is shut."""
        head = self.head
        normals = head.normals @ state.rotation.transpose(-1, -2)
        facing = (normals * -torch.nn.functional.normalize(geometry.world, dim=-1)).sum(-1)
        visible = ((facing + 0.1) / 0.5).clamp(0.0, 1.0)
        weights = head.set.weights.double() * (0.1 + 0.9 * visible * visible * (3 - 2 * visible))
        for side, iris in enumerate((head.set.iris_right, head.set.iris_left)):
            weights[:, list(iris)] *= 1.0 - 0.98 * self.shut[:, side, None]
        return weights * (self.config.evidence / head.set.weights.sum())

    def _residuals(self, geometry: _Geometry) -> tuple[Tensor, Tensor]:
        """Point (T, L, 2) and pair-difference (T, P, 2) residuals in standard deviations."""
        points = (geometry.pixels - self.points) / self.sigma[:, None, None]
        return points, points[:, self.pairs[:, 0]] - points[:, self.pairs[:, 1]]

    def _pair_weights(self, weights: Tensor) -> Tensor:
        """(T, P): a pair counts as its weaker point does."""
        both = torch.minimum(weights[:, self.pairs[:, 0]], weights[:, self.pairs[:, 1]])
        return both * self.head.set.pair_weights.double()

    def _deviation(self, state: _State) -> Tensor:
        """(T, n) distance of the per-frame unknowns from their prior means."""
        turn = torch.zeros_like(state.translation)
        if self.anchor_rotation is not None:
            turn = matrix_to_axis_angle(state.rotation @ self.anchor_rotation.transpose(-1, -2))
        values = torch.cat([state.translation, state.expression, state.angles, state.log_focal[:, None]], 1)
        return torch.cat([turn, values - self.mean[:, 3:]], 1)

    def _violation(self, state: _State) -> Tensor:
        """(T, n) how far the unknowns lie beyond their soft bounds."""
        free = torch.zeros(len(self.observed), 6, dtype=torch.float64)
        values = torch.cat([free, state.expression, state.angles, state.log_focal[:, None]], 1)
        return (values - self.high).clamp_min(0.0) + (values - self.low).clamp_max(0.0)

    def _cost(self, state: _State, geometry: _Geometry, weights: Tensor) -> Tensor:
        """(T,) cost of each frame; the shape's own prior is shared out among them."""
        scale = self.config.robust_scale**2
        cost = torch.zeros(len(self.observed), dtype=torch.float64)
        points, pairs = self._residuals(geometry)
        for residual, weight in ((points, weights), (pairs, self._pair_weights(weights))):
            squared = residual.square().sum(-1)
            cost = cost + (weight * scale * squared / (scale + squared)).sum(-1)
        cost = cost + (self.precision * self._deviation(state).square()).sum(-1)
        cost = cost + (self.bound_precision * self._violation(state).square()).sum(-1)
        prior = self.shape_precision * state.shape.square().sum()
        return 0.5 * (cost + prior / len(self.observed) * float(self.free_shape))

    # -- the iteration ------------------------------------------------------------------------------------------------

    def solve(self) -> Fit:
        """Iterate to convergence."""
        state, count = self.state, len(self.observed)
        damping = torch.full((count,), 1e-3, dtype=torch.float64)
        geometry = self._geometry(state)
        active = torch.ones(count, dtype=torch.bool)
        for _ in range(self.config.iterations):
            weights = self._weights(state, geometry)
            cost = self._cost(state, geometry, weights)
            trial = self._stepped(state, *self._step(state, geometry, weights, damping))
            trial_geometry = self._geometry(trial)
            trial_cost = self._cost(trial, trial_geometry, weights)
            if self.free_shape:  # one shape: all frames step together
                cost, trial_cost = cost.sum().expand(count), trial_cost.sum().expand(count)
            better = trial_cost < cost
            gain = torch.where(better, (cost - trial_cost) / cost.clamp_min(1e-12), torch.zeros_like(cost))
            active = active & ~(better & (gain < 1e-4)) & (damping < 1e6)
            state = trial.where(better, state)
            geometry = self._geometry(state)
            damping = torch.where(better, (damping * 0.2).clamp_min(1e-6), damping * 8.0)
            if not bool(active.any()):
                break
        return self._result(state, geometry)

    def _step(self, state: _State, geometry: _Geometry, weights: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the damped normal equations: steps (T, n) of the frames and (S,) of the shape."""
        own, shared = self._jacobians(state, geometry)
        jacobian = own if shared is None else torch.cat([own, shared], -1)
        jacobian = jacobian / self.sigma[:, None, None, None]
        points, pairs = self._residuals(geometry)
        pair_jacobian = jacobian[:, self.pairs[:, 0]] - jacobian[:, self.pairs[:, 1]]
        scale = self.config.robust_scale**2
        hessian, gradient = torch.zeros(()), torch.zeros(())
        for rows, residual, weight in (
            (jacobian, points, weights),
            (pair_jacobian, pairs, self._pair_weights(weights)),
        ):
            robust = (scale / (scale + residual.square().sum(-1))).square()
            root = (weight * robust).sqrt()[..., None]
            weighted = (rows * root[..., None]).flatten(1, 2)
            hessian = hessian + weighted.mT @ weighted
            gradient = gradient + (weighted.mT @ (residual * root).flatten(1)[..., None]).squeeze(-1)
        n = own.shape[-1]
        violation = self._violation(state)
        precision = self.precision + self.bound_precision * (violation != 0)
        gradient[:, :n] += self.precision * self._deviation(state) + self.bound_precision * violation
        block = hessian[:, :n, :n] + torch.diag_embed(precision)
        block = block + torch.diag_embed(damping[:, None] * block.diagonal(dim1=1, dim2=2) + 1e-9)
        factor = torch.linalg.cholesky(block)
        if shared is None:
            step = -torch.cholesky_solve(gradient[..., None], factor).squeeze(-1)
            return step, torch.zeros_like(state.shape)
        cross = hessian[:, :n, n:]
        solved = torch.cholesky_solve(torch.cat([cross, gradient[:, :n, None]], -1), factor)
        prior = self.shape_precision
        corner = hessian[:, n:, n:].sum(0) + prior * torch.eye(hessian.shape[-1] - n, dtype=torch.float64)
        corner = corner + torch.diag(damping[0] * corner.diagonal())
        reduced = corner - (cross.transpose(1, 2) @ solved[..., :-1]).sum(0)
        right_side = gradient[:, n:].sum(0) + prior * state.shape
        right_side = right_side - (cross.transpose(1, 2) @ solved[..., -1:]).sum(0).squeeze(-1)
        shape_step = -torch.linalg.solve(reduced, right_side)
        step = -(solved[..., -1] + solved[..., :-1] @ shape_step)
        return step, shape_step

    def _stepped(self, state: _State, step: Tensor, shape_step: Tensor) -> _State:
        return _State(
            shape=state.shape + shape_step,
            rotation=axis_angle_to_matrix(step[:, :3]) @ state.rotation,
            translation=state.translation + step[:, 3:6],
            expression=state.expression + step[:, 6:-10],
            angles=state.angles + step[:, -10:-1],
            log_focal=state.log_focal + step[:, -1],
        )

    def _result(self, state: _State, geometry: _Geometry) -> Fit:
        root = self._root(state.shape, state.expression)
        translation = state.translation + (state.rotation @ root[..., None]).squeeze(-1) - root
        params = HeadParams(
            shape=state.shape.float(),
            expression=state.expression.float(),
            rotation=matrix_to_axis_angle(state.rotation).float(),
            translation=translation.float(),
            neck=torch.zeros(len(self.observed), 3),
            jaw=state.angles[:, :3].float(),
            eyes=state.angles[:, 3:].float(),
        )
        error = (geometry.pixels - self.points).norm(dim=-1).mean(-1) / self.eye_distance
        return Fit(params, state.log_focal.exp().float(), error.float())

    def _root(self, shape: Tensor, expression: Tensor) -> Tensor:
        """(T, 3) the root joint, about which the global rotation of :class:`HeadParams` turns."""
        joint = self.head.joints[0] + shape @ self.head.shape_joints[:, 0]
        return joint + expression @ self.head.expression_joints[:, 0]

    def _unrooted(self, params: HeadParams, rotation: Tensor) -> Tensor:
        """(T, 3) the translation of ``params`` for a rotation about the origin."""
        root = self._root(params.shape.double(), params.expression.double())
        return params.translation.double() - (rotation @ root[..., None]).squeeze(-1) + root


def _residual_rotation(geometry: _Geometry) -> Tensor:
    """(T, 3, 3, 3) I - R of jaw and eyes: how their skinning moves with the joints' rest positions."""
    return torch.eye(3, dtype=torch.float64) - geometry.joint_rotations


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
