"""The prior's network, a U-Net on the spherical map, and the decoding of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.fills import OFFSET
from spatialavatar.generator.prior.observation import HULLS

LUMA: Final = (0.2126, 0.7152, 0.0722)
HEIGHT_SCALE: Final = 0.05
"""Metres per unit of the network's height."""

CONSTANTS: Final = 8
"""Maps that depend on the head model alone: four parts, position (sideways without sign), mobility."""

_SIDED: Final = 7 + HULLS
"""Features of a place, which its mirror place repeats."""

_SHARED: Final = 3 + CONSTANTS
FEATURES: Final = 2 * _SIDED + _SHARED
OUTPUTS: Final = 10
"""Hair mask, three log ratios each for hair and skin, height, and two for the direction."""

_FOLD: Final = 2
"""Cells a side that share one place of the network."""

_WRAP: Final = 16
"""Columns repeated on either side, so that the back has no seam."""

_HAIR_RATIO: Final = 1.5
_SKIN_RATIO: Final = 1.0
"""Greatest absolute log ratios of colours to their fills."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Maps (B, ROWS, COLUMNS[, C]) of the whole head.

    Attributes:
        hair_logit: logit of the hair mask.
        colors: (..., 3) sRGB, hair and skin mixed by the mask.
        height: metres of the outer surface (hair where there is some) over the smooth head.
        direction: (..., 2) cosine and sine of twice the strands' angle to the row (0: sideways, 90 degrees: down).
    """

    hair_logit: Tensor
    colors: Tensor
    height: Tensor
    direction: Tensor


class _Convolution(nn.Module):
    """3 x 3 convolution and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, size: int = 3) -> None:
        super().__init__()
        self.weight = nn.Conv2d(inputs, outputs, size, stride, size // 2)
        # On the meta device, where only shapes count, normal_ would import sympy, which is slow.
        if not self.weight.weight.is_meta:
            nn.init.kaiming_normal_(self.weight.weight, a=0.1)
        nn.init.zeros_(self.weight.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.weight(x), 0.1)


class PriorNetwork(nn.Module):
    """Features (B, FEATURES, ROWS, COLUMNS) to outputs (B, OUTPUTS, ROWS, COLUMNS); untrained, the outputs are 0.

    No normalisation: features are bounded ratios, and maps with little in them must stay so.
    """

    def __init__(self, config: PriorConfig | None = None) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config or PriorConfig()
        first, *deeper = self.config.channels
        self.first = _Convolution(FEATURES * _FOLD**2, first, size=1)
        self.down = nn.ModuleList()
        inputs = first
        for size in deeper:
            self.down.append(nn.Sequential(_Convolution(inputs, size, 2), _Convolution(size, size)))
            inputs = size
        self.up = nn.ModuleList()
        for size in (deeper[1], deeper[0]):
            self.up.append(nn.Sequential(_Convolution(inputs + size, size), _Convolution(size, size)))
            inputs = size
        self.last = _Convolution(inputs + first, first)
        self.output = nn.Conv2d(first, OUTPUTS * _FOLD**2, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Outputs of features."""
        wide = torch.cat([features[..., -_WRAP:], features, features[..., :_WRAP]], -1)
        x = self.first(F.pixel_unshuffle(wide, _FOLD).contiguous(memory_format=torch.channels_last))
        skips = [x]
        for level in self.down:
            x = level(x)
            skips.append(x)
        for level, skip in zip(self.up, skips[-2:0:-1]):
            x = level(torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], 1))
        x = self.last(torch.cat([F.interpolate(x, size=skips[0].shape[2:], mode="nearest"), skips[0]], 1))
        return F.pixel_shuffle(self.output(x), _FOLD)[..., _WRAP:-_WRAP]


def features_of(maps: Mapping[str, Tensor], constants: Tensor) -> Tensor:
    """Features (B, FEATURES, ROWS, COLUMNS) of observations.

    Args:
        maps: those of ``Observation.arrays``, each (B, ROWS, COLUMNS[, C]) float32.
        constants: (CONSTANTS, ROWS, COLUMNS) of ``head_prior.constant_maps``.
    """
    luma = maps["colors"].new_tensor(LUMA)
    seen, hair = maps["visibility"], maps["hair"]
    brightness = ((maps["colors"].clamp_min(0.0) + OFFSET) @ luma).log()
    over_hair = brightness - ((maps["hair_fill"] + OFFSET) @ luma).log()
    over_skin = brightness - ((maps["skin_fill"] + OFFSET) @ luma).log()
    weight = (maps["rim_weight"] / 3.0).clamp(0.0, 1.0)
    sided = torch.stack(
        [
            seen,
            hair * seen,
            over_hair.clamp(-3.0, 3.0) * seen,
            over_skin.clamp(-3.0, 3.0) * seen,
            weight,
            weight * maps["rim_height"] / HEIGHT_SCALE,
            maps["height"] / HEIGHT_SCALE,
        ],
        1,
    )
    sided = torch.cat([sided, maps["hull"].movedim(-1, 1)], 1)
    shared = torch.stack([maps["hair_seen"], maps["hair_fill"] @ luma, maps["skin_fill"] @ luma], 1)
    fixed = constants.expand(len(seen), -1, -1, -1)
    return torch.cat([sided, sided.flip(-1), shared, fixed], 1)


def mirrored(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The maps (B, ROWS, COLUMNS[, C]) of the mirrored head; ``direction`` among them turns with it."""
    result = {name: value.flip(2) if value.ndim > 2 else value for name, value in maps.items()}
    if "direction" in result:
        result["direction"] = result["direction"] * result["direction"].new_tensor([1.0, -1.0])
    return result


def interpret(outputs: Tensor, hair_fill: Tensor, skin_fill: Tensor) -> Prediction:
    """What outputs (B, OUTPUTS, ROWS, COLUMNS) mean, given the fills (B, ROWS, COLUMNS, 3)."""
    maps = outputs.movedim(1, -1)
    over_hair = _HAIR_RATIO * torch.tanh(maps[..., 1:4] / _HAIR_RATIO)
    over_skin = _SKIN_RATIO * torch.tanh(maps[..., 4:7] / _SKIN_RATIO)
    mask = torch.sigmoid(maps[..., 0:1])
    hair = (hair_fill + OFFSET) * over_hair.exp() - OFFSET
    skin = (skin_fill + OFFSET) * over_skin.exp() - OFFSET
    return Prediction(
        hair_logit=maps[..., 0],
        colors=mask * hair + (1.0 - mask) * skin,
        height=HEIGHT_SCALE * maps[..., 7],
        direction=maps[..., 8:10],
    )
