"""LPIPS, the learned perceptual distance of Zhang et al. (CVPR 2018), on AlexNet, version 0.1.

The five ReLU outputs of AlexNet's convolutions are scaled to unit length at every place; the squared differences of two
pictures are weighted by the learned heads, averaged over the picture and added up (the paper's equation 1).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from spatialavatar import hub

WEIGHTS: Final = "evaluation/lpips_alex.safetensors"
_STRIDES: Final = (4, 1, 1, 1, 1)
_PADDINGS: Final = (2, 2, 1, 1, 1)
_POOLED: Final = (1, 2)  # convolutions whose input is pooled
# The normalisation of the network's training, for pictures in [-1, 1].
_SHIFT: Final = (-0.030, -0.088, -0.188)
_SCALE: Final = (0.458, 0.448, 0.450)


class Lpips:
    """LPIPS (AlexNet), on the CPU, in single precision."""

    def __init__(self, weights: Path | None = None) -> None:
        """Load the network; ``weights`` is another file than the one that ships.

        Raises:
            MissingAssetError: the file is not there.
        """
        self._tensors = {name: t.float() for name, t in load_file(weights or hub.asset(WEIGHTS)).items()}

    @torch.inference_mode()
    def __call__(self, first: Tensor, second: Tensor) -> float:
        """The distance of two pictures, each (H, W, 3) float sRGB in [0, 1], at least 64 pixels on each side."""
        total = 0.0
        for layer, features in enumerate(self._features(torch.stack([first, second]))):
            unit = features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
            weighted = (unit[0] - unit[1]).square() * self._tensors[f"head.{layer}"][:, None, None]
            total += float(weighted.sum(0).mean())
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        """The outputs of the five convolutions for pictures (N, H, W, 3)."""
        shift, scale = torch.tensor(_SHIFT)[:, None, None], torch.tensor(_SCALE)[:, None, None]
        x = (images.permute(0, 3, 1, 2) * 2.0 - 1.0 - shift) / scale
        outputs = []
        for layer, (stride, padding) in enumerate(zip(_STRIDES, _PADDINGS)):
            if layer in _POOLED:
                x = functional.max_pool2d(x, kernel_size=3, stride=2)
            kernel, bias = self._tensors[f"conv.{layer}.weight"], self._tensors[f"conv.{layer}.bias"]
            x = functional.conv2d(x, kernel, bias, stride=stride, padding=padding).relu()
            outputs.append(x)
        return outputs


@functools.lru_cache(maxsize=1)
def shared_lpips() -> Lpips:
    """The process's network, so that a second call does not read it again."""
    return Lpips()
