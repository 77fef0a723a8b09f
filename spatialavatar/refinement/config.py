"""Constants of the refinement, each with its source: the paper (method section 3), or ours where it is silent."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from spatialavatar.errors import InputError


@dataclass(frozen=True)
class RefineConfig:
    """What one refinement does. Every step of the method can be switched off, for the ablation.

    Attributes:
        iterations: optimisation steps (paper: 10 000).
        size: width and height of the pictures that are compared, pixels (paper: 512).
        holdout: share of the clip, at its end, that is never looked at (the protocol of this project's tables).
        batch: frames per step (paper: 1).

        l1_weight: lambda_1; the paper names no value, this is 3D Gaussian Splatting's.
        ssim_weight: lambda_ssim; as above.
        random_background: composite both sides over one random colour per step (paper); otherwise over grey.

        position_rate: Adam's learning rate of the local positions, triangle units.
        rotation_rate: of the quaternions.
        scale_rate: of the log scales.
        opacity_rate: of the logits of the opacities.
        color_rate: of the colours. The paper has one rate per family and no values; these were chosen on this
            project's training frames.
        rate_steps: length of the run up to which the rates are those above; they fall with the square root of what is
            beyond (ours: what no frame tells walks at random, over n steps of a rate by the rate times the root of n).
        final_rate: share of the rates at the end of the one cosine (paper: a cosine, no value).
        adam_epsilon: ours; large enough that a Gaussian which hardly shows takes small steps.

        scale_freeze: steps during which the scales do not move (paper: 500); at most a tenth of a shorter run.
        clamp_scales: the hard clamps below (paper).
        scale_range: least and largest standard deviation, metres on the rest head (paper: a fixed range, no values).
        scale_spread: largest difference of two log scales of one Gaussian (paper: fixed, no value; its full recipe ends
            at an aspect of about 8). No view shows a Gaussian longer than its axes are, so that this bounds the aspect
            by e^2.2 = 9.
        aspect_weight: lambda_aspect (paper: 0.5); 0 switches the penalty off.
        aspect_limit: tau, log of the aspect ratio that is free (paper: no value; its runs end at 8, about e^2).
        aspect_share: share of the visible Gaussians, drawn anew each step, over which the expectation is taken (ours:
            the same expectation for a quarter of the time).
        aspect_start: step at which the penalty sets in (paper: 500); at most a tenth of a shorter run.

        color_gate: cosines of the angle to the viewer between which a colour is freed, at the frame that shows the
            Gaussian most squarely (ours: what is only ever seen on the rim would learn the background's colour from a
            matte that is a pixel off); None frees all.
        far_side: cosine of a surface's normal to the way to the camera below which its Gaussians are left out of the
            renders that are compared (ours: holes would show the dark back of the head, which paints stubble from the
            filmed angles and specks from others); None draws all.
        joint_steps: all axes of a Gaussian's position, rotation and scale share one step length (ours: Adam's own
            would move what no frame tells, such as depth, by full steps of noise; over thousands of steps the surface
            falls apart when it is seen from the side).
        color_pull: share by which a colour comes back, each step, to what it was, times the schedule (ours: Adam moves
            what hardly any frame shows as fast as the rest, and over 10 000 steps such noise adds up to any colour).
        color_smoothing: share by which the change of a colour comes nearer, each step, to the mean change of the
            texels around it, times the schedule (ours: two Gaussians that overlap in all frames may err in opposite
            ways, which shows as speckle when the head is turned).
        turned_weight: of the difference to the form of the start, in the same colours, from random sides (ours: what no
            frame shows would otherwise fall apart); 0 switches it off.
        turned_every: steps from one such picture to the next.
        turned_reach: how far its camera is turned from a frame's at most, degrees up or down and to the sides.
        residual_rate: Adam's learning rate of the small network that says what an expression adds to the Gaussians,
            where the avatar has one (ours; 0 leaves it as stage 1 made it). It is in force either way.
        shape_share: share of the run, at its start, in which the rest head is refined too, smoothly (ours; 0 is the
            paper's frozen mesh).
        shape_rate: its learning rate, metres.
        shape_smoothness: about the square of the length, in mesh edges, over which it moves as one.
        shape_pull: weight of the squared displacement, centimetres.
        tune_frames: also refine pose and expression of each training frame (ours).
        tune_prior: weight of the pull to the tracker's values, in units of the deviations below.
        tune_rate: learning rate, in units of the deviations.
        expression_sigma, angle_sigma, translation_sigma: how far the tracker may be off: coefficient, radians, metres.
        exposure: a gain per training frame and colour channel, pulled to one (ours).
        exposure_rate: its learning rate, logarithm of the gain.
        exposure_prior: weight of the pull to one.
        progressive: share of the run at half the size (ours).
        edge_weight: weight of pixels on the matte's soft rim, whose colour is mixed with the background (ours; 1 is as
            everywhere).
    """

    iterations: int = 10_000
    size: int = 512
    holdout: float = 0.2
    batch: int = 1

    l1_weight: float = 0.8
    ssim_weight: float = 0.2
    random_background: bool = True

    position_rate: float = 4e-3
    rotation_rate: float = 4e-3
    scale_rate: float = 1e-2
    opacity_rate: float = 2e-2
    color_rate: float = 5e-3
    rate_steps: int = 1000
    final_rate: float = 0.02
    adam_epsilon: float = 1e-8

    scale_freeze: int = 500
    clamp_scales: bool = True
    scale_range: tuple[float, float] = (2e-5, 8e-3)
    scale_spread: float = 2.2
    aspect_weight: float = 0.5
    aspect_limit: float = 2.0
    aspect_share: float = 0.25
    aspect_start: int = 500

    color_gate: tuple[float, float] | None = (0.15, 0.4)
    far_side: float | None = -0.3
    joint_steps: bool = True
    color_pull: float = 3e-3
    color_smoothing: float = 1e-2
    turned_weight: float = 1.0
    turned_every: int = 4
    turned_reach: tuple[float, float] = (15.0, 35.0)
    residual_rate: float = 0.0
    shape_share: float = 0.0
    shape_rate: float = 1e-4
    shape_smoothness: float = 30.0
    shape_pull: float = 1e-3
    tune_frames: bool = False
    tune_prior: float = 1e-3
    tune_rate: float = 2e-2
    expression_sigma: float = 0.1
    angle_sigma: float = 0.02
    translation_sigma: float = 0.001
    exposure: bool = False
    exposure_rate: float = 2e-3
    exposure_prior: float = 1e-2
    progressive: float = 0.0
    edge_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise InputError(f"The number of iterations is {self.iterations}; give at least 1.")
        if not 64 <= self.size <= 2048 or self.size % 4:
            raise InputError(f"The size is {self.size}; give a multiple of 4 from 64 to 2048.")
        if not 0.0 <= self.holdout < 1.0:
            raise InputError(f"The share of held-out frames is {self.holdout}; give a number from 0 to less than 1.")
        if self.batch < 1:
            raise InputError(f"The batch is {self.batch} frames; give at least 1.")

    @property
    def rate_share(self) -> float:
        """What the learning rates are multiplied by all along, for the run's length."""
        return min(1.0, math.sqrt(self.rate_steps / self.iterations))

    def short_of(self, steps: int) -> int:
        """``steps`` of the paper's 10 000, or a tenth of a run that is shorter than ten times that."""
        return min(steps, self.iterations // 10)

    def as_dict(self) -> dict[str, object]:
        """The constants by name, as JSON knows them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
