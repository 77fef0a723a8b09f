"""Smooth steps between two values, for arrays and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def smoothstep(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Cubic step of an array of floats, in its precision: 0 up to ``low``, 1 from ``high`` on."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def smoothstep_tensor(values: Tensor, low: float, high: float) -> Tensor:
    """Cubic step of a tensor of floats: 0 up to ``low``, 1 from ``high`` on."""
    t = ((values - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
