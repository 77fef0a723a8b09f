"""Configuration of a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.evaluation.comparison import Comparison, ComparisonFiles
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.evaluator import REGIONS, Evaluator
from spatialavatar.generator import SpatialAvatar
from spatialavatar.head import HeadModel
from spatialavatar.tracking.networks import Networks

PROTOCOL_NAMES: Final = ("self", "cross", "k-source", "refined", "multi-view", "turned", "expressive")
MAX_SOURCES: Final = 4


@dataclass(frozen=True)
class BenchConfig:
    """Configuration of a run; two runs with equal configurations and code give equal figures.

    Attributes:
        protocol: one of :data:`PROTOCOL_NAMES`.
        region: "head" or "full", see :mod:`spatialavatar.evaluation.evaluator`.
        stride: every n-th target frame is measured.
        sources: self: so many frames; multi-view: so many source cameras.
        polish: steps of the polish of each avatar that is made; 0 measures stage 1.
        iterations: refined: steps.
        train_frames: refined: at most so many frames, evenly spaced over the training part.
        seed: of the refinement.
    """

    protocol: str
    region: str = "head"
    stride: int = 1
    sources: int = 1
    iterations: int = 10_000
    train_frames: int = 300
    seed: int = 0
    polish: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOL_NAMES:
            raise InputError(f"There is no protocol {self.protocol!r}; give one of {', '.join(PROTOCOL_NAMES)}.")
        if self.region not in REGIONS:
            raise InputError(f"There is no region {self.region!r}; give one of {', '.join(REGIONS)}.")
        if self.stride < 1 or self.iterations < 1 or self.train_frames < 8:
            raise InputError("The stride and the iterations must be at least 1, the training frames at least 8.")
        if self.polish < 0:
            raise InputError(f"The polish takes 0 steps or more; you gave {self.polish}.")
        if not 1 <= self.sources <= MAX_SOURCES:
            raise InputError(f"There are 1 to {MAX_SOURCES} sources; you gave {self.sources}.")


@dataclass(frozen=True)
class Bench:
    """Inputs of a protocol that measures clips.

    Attributes:
        config: of the run.
        model: generates the avatars.
        networks: of the tracker.
        folder: of the clips' results.
    """

    config: BenchConfig
    model: SpatialAvatar
    networks: Networks
    folder: Path

    @property
    def head(self) -> HeadModel:
        """The head model of all avatars and tracks."""
        return self.model.head

    def comparison(self, clip: Clip, fps: float, identity: np.ndarray | None = None) -> Comparison:
        """Start the comparison of a clip's frames.

        Args:
            clip: whose results they are.
            fps: of the target; 0 for pictures without a rate.
            identity: (128,) embedding that renders are compared with, if there is no picture of them.
        """
        evaluator = Evaluator(self.networks, self.config.region)
        files = ComparisonFiles(self.folder, clip.file_name, fps / self.config.stride)
        return Comparison(evaluator, self.head, files, identity)
