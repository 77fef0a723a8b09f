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
    """LPIPS (AlexNet), in single precision, on the CPU unless it is moved."""

    def __init__(self, weights: Path | None = None) -> None:
        """Load the network from ``weights``; by default from the file that ships.

        Raises:
            MissingAssetError: the file is not there.
        """
        self._tensors = {name: t.float() for name, t in load_file(weights or hub.asset(WEIGHTS)).items()}

    def to(self, device: torch.device | str) -> Lpips:
        """Move this network to a device."""
        self._tensors = {name: tensor.to(device) for name, tensor in self._tensors.items()}
        return self

    @torch.inference_mode()
    def __call__(self, first: Tensor, second: Tensor) -> float:
        """The distance of two pictures, each (H, W, 3) float sRGB in [0, 1], at least 64 pixels on each side."""
        return sum(float(layer) for layer in self._layers(first[None], second[None]))

    def distances(self, first: Tensor, second: Tensor) -> Tensor:
        """The distances (B,) of pictures (B, H, W, 3); differentiable."""
        return torch.stack(self._layers(first, second)).sum(0)

    def _layers(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """The five layers' shares (B,) of the distance."""
        shares = []
        for layer, features in enumerate(self._features(torch.cat([first, second]))):
            # The root's gradient at 0 is infinite, and features that are all 0 are common; 1e-20 changes nothing else.
            unit = features / ((features.square().sum(1, keepdim=True) + 1e-20).sqrt() + 1e-10)
            one, other = unit.chunk(2)
            weighted = (one - other).square() * self._tensors[f"head.{layer}"][:, None, None]
            shares.append(weighted.sum(1).mean((1, 2)))
        return shares

    def _features(self, images: Tensor) -> list[Tensor]:
        """The outputs of the five convolutions for pictures (N, H, W, 3)."""
        shift, scale = (images.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
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


def lpips(image: Tensor, target: Tensor) -> float:
    """LPIPS of two pictures (H, W, 3) on the CPU, sRGB in [0, 1]; 0 for equal pictures.

    Raises:
        MissingAssetError: the weight file is missing.
    """
    return shared_lpips()(image, target)
