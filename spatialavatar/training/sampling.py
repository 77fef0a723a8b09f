"""Sampling of sources: frames unlike the target in phase 1, cameras and instants in phase 2."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.generator.sources import MAX_SOURCES

HOT, COLD = 2.0, 0.5
"""Temperatures of the softmax at the start and after the first quarter of training (paper)."""


def temperature(step: int, iterations: int) -> float:
    """Return the temperature: linear from 2.0 to 0.5 over the first quarter of ``iterations``, then constant."""
    return HOT + (COLD - HOT) * min(step / (0.25 * iterations), 1.0)


def draw_count(generator: torch.Generator) -> int:
    """Draw K, the number of sources, uniform in 1 to 4."""
    return int(torch.randint(1, MAX_SOURCES + 1, (), generator=generator))


class SourceSampler:
    """Draws the source frames of a clip for a target frame (phase 1).

    The first source is drawn from a softmax over the dissimilarity to the target, so that the network learns to change
    the view and the expression. The other sources are uniform.
    """

    def __init__(self, directions: Tensor, expressions: Tensor) -> None:
        """Store the frames of a clip.

        Args:
            directions: (T, 3) unit camera directions (``heads.view_direction``).
            expressions: (T, E) coefficients.
        """
        self._directions = directions
        # Not in the paper: expressions are divided by their spread, so that the head model's units have no effect.
        spread = (expressions - expressions.mean(0)).square().sum(1).mean().sqrt()
        self._expressions = expressions / spread.clamp_min(1e-6)

    def dissimilarity(self, target: int) -> Tensor:
        """Return (T,) 1 - cos of the directions + distance of the normalised expressions."""
        turned = 1.0 - self._directions @ self._directions[target]
        return turned + (self._expressions - self._expressions[target]).norm(dim=1)

    def probabilities(self, target: int, heat: float) -> Tensor:
        """Return (T,) the distribution of the first source: softmax(dissimilarity / heat) without the target."""
        logits = self.dissimilarity(target) / heat
        logits[target] = -torch.inf
        return logits.softmax(0)

    def draw(self, target: int, count: int, heat: float, generator: torch.Generator) -> list[int]:
        """Draw ``count`` different frames without the target.

        Raises:
            InputError: the clip is too short.
        """
        frames = len(self._directions)
        if frames <= count:
            raise InputError(f"A clip of {frames} frames is too short for {count} sources and a target; leave it out.")
        first = int(torch.multinomial(self.probabilities(target, heat), 1, generator=generator))
        order = torch.randperm(frames, generator=generator).tolist()
        return [first, *[frame for frame in order if frame not in (first, target)][: count - 1]]


def draw_views(
    cameras: int, instants: int, count: int, generator: torch.Generator, cross_camera: float = 0.75
) -> list[tuple[int, int]]:
    """Draw ``count`` sources and then the target as (camera, instant) of a synchronised recording (phase 2).

    With probability ``cross_camera``, all views are of different cameras at one instant. Else all views are at
    different
    instants: of one camera for one source, of different cameras for more.

    Raises:
        InputError: too few cameras or instants.
    """
    if min(cameras, instants) <= count:
        raise InputError(
            f"{count} sources and a target need {count + 1} cameras and instants; the recording has {cameras} and "
            f"{instants}."
        )
    chosen = torch.randperm(cameras, generator=generator)[: count + 1].tolist()
    times = torch.randperm(instants, generator=generator)[: count + 1].tolist()
    if float(torch.rand((), generator=generator)) < cross_camera:
        return [(camera, times[0]) for camera in chosen]
    return [(chosen[0] if count == 1 else camera, time) for camera, time in zip(chosen, times)]
