"""The 15 Oculus visemes as weights of ARKit units.

The names and their order are those of the Oculus lip-sync interface, which engines and avatar formats use for speech.
The weights are ours: from the articulation of each sound (closed lips for ``PP``, lower lip at the upper teeth for
``FF``, rounded lips for ``O`` and ``U``), as one shape at the middle of the sound.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX


def _both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


OCULUS_VISEMES: Mapping[str, Mapping[str, float]] = {
    "sil": {},
    "PP": {"mouthRollLower": 0.3, "mouthRollUpper": 0.3, **_both("mouthPress", 0.5)},
    "FF": {"jawOpen": 0.08, "mouthRollLower": 0.7, "mouthShrugUpper": 0.15, **_both("mouthUpperUp", 0.25)},
    "TH": {"jawOpen": 0.15, "tongueOut": 0.3, **_both("mouthLowerDown", 0.15), **_both("mouthUpperUp", 0.1)},
    "DD": {"jawOpen": 0.12, **_both("mouthLowerDown", 0.3), **_both("mouthUpperUp", 0.15)},
    "kk": {"jawOpen": 0.2, **_both("mouthLowerDown", 0.25), **_both("mouthStretch", 0.1)},
    "CH": {"jawOpen": 0.08, "mouthFunnel": 0.55, "mouthPucker": 0.2, **_both("mouthLowerDown", 0.2)},
    "SS": {"jawOpen": 0.04, **_both("mouthStretch", 0.3), **_both("mouthLowerDown", 0.35), **_both("mouthSmile", 0.1)},
    "nn": {"jawOpen": 0.12, **_both("mouthLowerDown", 0.25), **_both("mouthUpperUp", 0.1)},
    "RR": {"jawOpen": 0.12, "mouthFunnel": 0.35, "mouthPucker": 0.25},
    "aa": {"jawOpen": 0.55, **_both("mouthLowerDown", 0.2), **_both("mouthUpperUp", 0.15)},
    "E": {"jawOpen": 0.3, **_both("mouthStretch", 0.25), **_both("mouthLowerDown", 0.25), **_both("mouthSmile", 0.15)},
    "I": {"jawOpen": 0.15, **_both("mouthStretch", 0.35), **_both("mouthSmile", 0.3), **_both("mouthLowerDown", 0.2)},
    "O": {"jawOpen": 0.35, "mouthFunnel": 0.6, "mouthPucker": 0.25},
    "U": {"jawOpen": 0.15, "mouthFunnel": 0.3, "mouthPucker": 0.75},
}
"""ARKit weights of each viseme at full strength; ``sil`` is silence, the resting mouth."""


def viseme_weights() -> Tensor:
    """(15, 52) float32 ARKit weights, in the orders of :data:`OCULUS_VISEMES` and :data:`ARKIT_52`."""
    weights = torch.zeros(len(OCULUS_VISEMES), len(ARKIT_52))
    for row, units in enumerate(OCULUS_VISEMES.values()):
        for name, weight in units.items():
            weights[row, ARKIT_INDEX[name]] = weight
    return weights
