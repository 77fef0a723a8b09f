"""Constants of the refinement, grouped by stage of the work.

Each constant is documented with its unit, its source ("paper": method section 3; "ours": chosen in this project) and
the reason for its value. Each has a valid range, which is checked when a configuration is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spatialavatar.errors import InputError
from spatialavatar.refinement.constants import Constants, constant
from spatialavatar.render import Backend

MAX_ITERATIONS = 10_000_000
"""Steps; a run of that length takes weeks."""


@dataclass(frozen=True)
class LossConfig(Constants):
    """How a render and a frame are compared.

    Attributes:
        l1_weight: lambda_1, no unit. The paper gives no value; this is the one of 3D Gaussian Splatting.
        ssim_weight: lambda_ssim, no unit; likewise.
        random_background: composite render and frame over one random colour a step (paper), which fits alpha to the
            matte without a loss of its own; otherwise over grey.
        near_side_cosine: cosine between a surface normal and the direction to the camera below which Gaussians are
            hidden in the compared renders; None hides none. Ours: through a hole, the dark far side of the head would
            be visible, and would be fitted as stubble in the filmed views and as specks in all others.
    """

    l1_weight: float = constant(0.8, 0.0, 100.0)
    ssim_weight: float = constant(0.2, 0.0, 100.0)
    random_background: bool = True
    near_side_cosine: float | None = constant(-0.3, -1.0, 1.0)


@dataclass(frozen=True)
class RateConfig(Constants):
    """Learning rates, per step of Adam. The paper has one rate a family and one cosine, without values.

    The values were chosen on training frames of this project's clips.

    Attributes:
        position: of local means, triangle units.
        rotation: of quaternions, before normalisation.
        scale: of log scales.
        opacity: of opacity logits.
        color: of sRGB colours.
        residual: of the weights of the expression residual's small network, where the avatar has one; 0 freezes it.
            Ours. Its changes are applied either way.
        joint_steps: use one step length for all axes of a mean, a quaternion or a scale (ours; see ``joint_adam.py``).
            Adam moves every axis by its full rate, also those that the frames do not constrain, such as depth. Over
            thousands of steps the surface then breaks up in turned views.
        full_rate_steps: length of a run, steps, up to which the rates are as above. In longer runs they fall with the
            square root of the length (ours): an unconstrained value is a random walk, whose spread is the rate times
            the square root of the number of steps.
        final_share: share of the rates at the end of the cosine.
        adam_epsilon: Adam's epsilon, in units of a gradient. PyTorch's default.
    """

    position: float = constant(4e-3, 0.0, 10.0)
    rotation: float = constant(4e-3, 0.0, 10.0)
    scale: float = constant(1e-2, 0.0, 10.0)
    opacity: float = constant(2e-2, 0.0, 10.0)
    color: float = constant(5e-3, 0.0, 10.0)
    residual: float = constant(0.0, 0.0, 10.0)
    joint_steps: bool = True
    full_rate_steps: int = constant(1000, 1, MAX_ITERATIONS)
    final_share: float = constant(0.02, 0.0, 1.0)
    adam_epsilon: float = constant(1e-8, 0.0, 1.0)


@dataclass(frozen=True)
class AntiSpikeConfig(Constants):
    """The three anti-spike measures of the paper: scale freeze, hard clamp, penalty on the aspect on screen.

    Attributes:
        scale_freeze: first steps in which the scales do not move (paper: 500); at most a tenth of a shorter run.
        clamp: clamp the scales after each later step (paper), by the next two constants.
        scale_range: smallest and largest standard deviation, metres on the rest head. The paper has a fixed range
            without values; these are a fiftieth of a millimetre, and 8 mm.
        max_spread: largest difference between two log scales of one Gaussian. The paper gives no value; its full
            method ends at an aspect of about 8. No view shows a larger aspect than that of the axes: e^2.2 = 9.
        aspect_weight: lambda_aspect (paper: 0.5); 0 switches the penalty off.
        aspect_limit: tau, logarithm of the aspect that is not penalised. The paper gives no value; its runs end at 8,
            about e^2.
        aspect_share: share of the visible Gaussians, drawn anew each step, over which the expectation is taken. Ours:
            the same expectation in a quarter of the time.
        aspect_start: first step with the penalty (paper: 500); at most a tenth of a shorter run.
    """

    scale_freeze: int = constant(500, 0, MAX_ITERATIONS)
    clamp: bool = True
    scale_range: tuple[float, float] = constant((2e-5, 8e-3), 1e-9, 1.0)
    max_spread: float = constant(2.2, 0.0, 50.0)
    aspect_weight: float = constant(0.5, 0.0, 1000.0)
    aspect_limit: float = constant(2.0, 0.0, 50.0)
    aspect_share: float = constant(0.25, 1e-3, 1.0)
    aspect_start: int = constant(500, 0, MAX_ITERATIONS)


@dataclass(frozen=True)
class ColorConfig(Constants):
    """Limits on the change of colours that the frames hardly constrain (all ours).

    Attributes:
        gate: cosines of the angle to the viewer between which a colour becomes free to move, in the frame that shows
            the Gaussian most squarely; None frees all. A Gaussian that is visible only at the silhouette would take
            the colour of the background, where the matte is a pixel off.
        pull: share of a colour's change that is undone each step, times the schedule. Adam moves a colour that few
            frames show as fast as all others; over 10 000 steps that noise adds up.
        smoothing: share by which the change of a colour approaches, each step, the mean change of the texels around
            it, times the schedule. Gaussians that overlap in all frames can err in opposite directions, which is
            visible as speckle in turned views.
    """

    gate: tuple[float, float] | None = constant((0.15, 0.4), -1.0, 1.0)
    pull: float = constant(3e-3, 0.0, 1.0)
    smoothing: float = constant(1e-2, 0.0, 1.0)


@dataclass(frozen=True)
class BasesConfig(Constants):
    """Changes of the Gaussians by expression, learned for the person (all ours; see ``expression_bases.py``).

    Attributes:
        inputs: K, numbers that describe an expression, each with a vector a Gaussian for position and for colour; 0
            switches the bases off.
        skull: include the rotation of the skull in the inputs, which fits light that changes as the head turns.
        position: learning rate of the vectors of positions, triangle units.
        color: learning rate of the vectors of colours.
        pull: share of the bases that is undone each step, times the schedule.
        smoothing: share by which the bases approach, each step, their mean over the texels around, times the schedule.
    """

    inputs: int = constant(8, 0, 32)
    skull: bool = True
    position: float = constant(1e-3, 0.0, 10.0)
    color: float = constant(1e-3, 0.0, 10.0)
    pull: float = constant(1e-3, 0.0, 1.0)
    smoothing: float = constant(1e-2, 0.0, 1.0)


@dataclass(frozen=True)
class TurnedViewsConfig(Constants):
    """Comparisons with the initial avatar from random sides (all ours; see ``turned_views.py``).

    Attributes:
        weight: of the difference, no unit; 0 switches the comparisons off.
        every: steps from one comparison to the next.
        reach: largest turn of the camera away from the frame's, degrees: about its horizontal axis (up or down) and
            about its vertical axis (to the sides).
    """

    weight: float = constant(1.0, 0.0, 1000.0)
    every: int = constant(4, 1, MAX_ITERATIONS)
    reach: tuple[float, float] = constant((15.0, 35.0), 0.0, 180.0)


@dataclass(frozen=True)
class RefineConfig(Constants):
    """Configuration of one refinement. Every part of the method can be switched off, for ablations.

    Attributes:
        iterations: optimisation steps (paper: 10 000).
        size: width and height of the compared pictures, pixels, a multiple of 4 (paper: 512).
        holdout: share of the clip, at its end, that is not used (the protocol of this project's tables).
        backend: of the rasteriser, as in :func:`spatialavatar.render.render`.
        loss: comparison of render and frame.
        rates: learning rates.
        anti_spike: measures against needles.
        colors: limits on colours.
        bases: changes by expression.
        turned_views: comparisons from random sides.

    Raises:
        InputError: a constant is outside its range.
    """

    iterations: int = 10_000
    size: int = 512
    holdout: float = 0.2
    backend: Backend = "auto"
    loss: LossConfig = LossConfig()
    rates: RateConfig = RateConfig()
    anti_spike: AntiSpikeConfig = AntiSpikeConfig()
    colors: ColorConfig = ColorConfig()
    bases: BasesConfig = BasesConfig()
    turned_views: TurnedViewsConfig = TurnedViewsConfig()

    def __post_init__(self) -> None:
        """Check the constants that people set."""
        super().__post_init__()
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise InputError(
                f"The number of iterations is {self.iterations}; give at least 1 and at most {MAX_ITERATIONS}."
            )
        if not 64 <= self.size <= 2048 or self.size % 4:
            raise InputError(f"The size is {self.size}; give a multiple of 4 from 64 to 2048.")
        if not 0.0 <= self.holdout < 1.0:
            raise InputError(f"The share of held-out frames is {self.holdout}; give a number from 0 to less than 1.")

    @property
    def rate_factor(self) -> float:
        """Factor on all learning rates, for the length of the run."""
        return min(1.0, math.sqrt(self.rates.full_rate_steps / self.iterations))

    def scaled_start(self, steps: int) -> int:
        """``steps`` of the paper's 10 000, but at most a tenth of this run."""
        return min(steps, self.iterations // 10)
