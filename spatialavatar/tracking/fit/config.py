"""Settings of the landmark fit.

The fit minimises a sum of squares, so a standard deviation (``sigma``) sets the weight of its term: a small one pulls
hard, a large one hardly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class DataTermConfig:
    """Weight of the landmarks.

    Attributes:
        evidence: number of independent landmarks that the L correlated ones count as.
        sigma: standard deviation of a landmark, as a fraction of the distance between the outer eye corners.
        robust_scale: residual, in standard deviations, at which a point has lost three quarters of its weight
            (Geman-McClure).
    """

    evidence: float = 60.0
    sigma: float = 0.01
    robust_scale: float = 6.0


@dataclass(frozen=True)
class PriorConfig:
    """Priors of the unknowns. The blendshape scores are the mean of expression, jaw and gaze.

    Attributes:
        shape_sigma: of a shape coefficient, in units of its N(0, 1); a lower value gives heads nearer to the mean.
        unit_sigma: of a named (ARKit-like) expression unit, weight.
        score_gain: share of a blendshape score, above its resting value, that enters the mean.
        statistical_sigma: of an unnamed (PCA) expression coefficient.
        jaw_sigma: about x, y and z, radians.
        eye_sigma: about x, y and z, radians.
        focal_sigma: of the logarithm of the focal length; 0 keeps the given focal length.
    """

    shape_sigma: float = 1.2
    unit_sigma: float = 0.18
    score_gain: float = 1.0
    statistical_sigma: float = 1.0
    jaw_sigma: tuple[float, float, float] = (0.15, 0.05, 0.02)
    eye_sigma: tuple[float, float, float] = (0.1, 0.3, 0.01)
    focal_sigma: float = 0.0


@dataclass(frozen=True)
class BoundConfig:
    """Soft bounds: values within them are free, values beyond them are pulled back.

    Attributes:
        unit: lowest and highest weight of a named expression unit. Unnamed coefficients have no bounds.
        jaw: largest angle about x, y and z to either side, radians.
        jaw_closing: largest closing angle of the jaw about x, radians; the teeth stop it.
        eye: largest angle about x, y and z to either side, radians.
        sigma: of the part beyond a bound, weight or radians.
    """

    unit: tuple[float, float] = (0.0, 1.1)
    jaw: tuple[float, float, float] = (0.6, 0.2, 0.1)
    jaw_closing: float = 0.03
    eye: tuple[float, float, float] = (0.6, 0.7, 0.05)
    sigma: float = 0.03


@dataclass(frozen=True)
class SolverConfig:
    """Steps of the Levenberg-Marquardt solver.

    Attributes:
        iterations: largest number of steps.
        damping: of the first step, relative to the diagonal of the normal equations.
        accepted_factor: change of the damping after a step that lowers the cost.
        rejected_factor: change of the damping after a step that does not.
        lowest_damping: the damping is never below this.
        highest_damping: a frame with this damping or more has failed to improve and is finished.
        tolerance: relative decrease of the cost below which a frame is finished.
    """

    iterations: int = 25
    damping: float = 1e-3
    accepted_factor: float = 0.2
    rejected_factor: float = 8.0
    lowest_damping: float = 1e-6
    highest_damping: float = 1e6
    tolerance: float = 1e-4


@dataclass(frozen=True)
class FitConfig:
    """Settings of :func:`~spatialavatar.tracking.fit.fit_landmarks`, by part of the problem.

    Attributes:
        data: weight of the landmarks.
        prior: priors of the unknowns.
        bounds: soft bounds of expression, jaw and gaze.
        solver: steps of the solver.
    """

    data: DataTermConfig = field(default_factory=DataTermConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    bounds: BoundConfig = field(default_factory=BoundConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)

    def with_iterations(self, iterations: int) -> FitConfig:
        """A copy with a different maximum number of steps."""
        return replace(self, solver=replace(self.solver, iterations=iterations))
