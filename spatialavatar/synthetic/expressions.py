"""Random expressions."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import HeadParams

_FACES: Final = (
    ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"),
    ("jawOpen",),
    ("eyeBlinkLeft", "eyeBlinkRight"),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    ("browDownLeft", "browDownRight", "eyeSquintLeft", "eyeSquintRight"),
    ("mouthPucker",),
    ("mouthFunnel",),
    ("mouthFrownLeft", "mouthFrownRight"),
    ("mouthStretchLeft", "mouthStretchRight"),
    ("mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight"),
)
"""Units that move together in a random face."""


def sample_expression(model: HeadModel, shape: Tensor, rng: np.random.Generator, calm: float) -> HeadParams:
    """A random expression at the world's origin.

    Args:
        model: the head model.
        shape: (S,) coefficients.
        rng: the source of randomness.
        calm: share of resting faces.
    """
    units = torch.zeros(1, len(ARKIT_INDEX))
    if rng.random() >= calm:
        for number in rng.choice(len(_FACES), int(rng.integers(1, 4)), replace=False):
            strength = float(rng.beta(1.6, 2.2))
            for unit in _FACES[int(number)]:
                units[0, ARKIT_INDEX[unit]] = min(1.0, strength * rng.uniform(0.85, 1.15))
    expression, jaw, eyes = model.from_arkit(units)
    gaze = torch.from_numpy(rng.normal(0.0, 0.06, (1, 2))).float()
    eyes = eyes + torch.cat([gaze, torch.zeros(1, 1), gaze, torch.zeros(1, 1)], 1)
    return model.neutral().replace(shape=shape, expression=expression, jaw=jaw, eyes=eyes)
