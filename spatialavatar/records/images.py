"""Conversion of images between uint8 and float."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_float_image(image: Tensor | np.ndarray) -> Tensor:
    """(..., H, W, C) uint8 to float32 in [0, 1]; float input is returned as float32, unscaled."""
    tensor = torch.as_tensor(image)
    return tensor.float() / 255.0 if tensor.dtype == torch.uint8 else tensor.float()


def as_uint8_image(image: Tensor) -> np.ndarray:
    """(..., H, W, C) float on any device to uint8; values are clamped to [0, 1] and rounded."""
    return (image.detach().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
