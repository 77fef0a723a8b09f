"""Input and output of the landmark fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.records import HeadParams


@dataclass(frozen=True, eq=False)
class Observations:
    """Detections in T frames of one person.

    Attributes:
        points: (T, L, 2) landmarks, pixels, pixel centres at + 0.5; L is 478 or 68.
        blendshapes: (T, 52) scores in the order of ``ARKIT_52``.
        principal_point: (2,) pixels.
        focal: (T,) focal lengths, pixels: fixed, or the mean of the prior where ``PriorConfig.focal_sigma`` is
            positive.
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


@dataclass(frozen=True, eq=False)
class Anchor:
    """Expected parameters of each frame, for instance from its neighbours, as an additional prior.

    Attributes:
        params: the expected parameters, T frames.
        rotation_sigma: standard deviation, radians.
        translation_sigma: standard deviation, metres.
        expression_sigma: standard deviation, expression weight.
        angle_sigma: standard deviation of jaw and eyes, radians.
    """

    params: HeadParams
    rotation_sigma: float
    translation_sigma: float
    expression_sigma: float
    angle_sigma: float


@dataclass(frozen=True, eq=False)
class Fit:
    """Result of a fit.

    Attributes:
        params: T frames, float32.
        focal: (T,) pixels.
        error: (T,) mean distance between fitted and detected landmarks, as a fraction of the distance between the outer
            eye corners.
    """

    params: HeadParams
    focal: Tensor
    error: Tensor
