"""The trained prior in use: what photos show in, the whole head out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.network import PriorNetwork, features_of, interpret
from spatialavatar.generator.prior.observation import Observation
from spatialavatar.generator.prior.sphere import COLUMNS, ROWS, SphereGrid, sphere_grid
from spatialavatar.generator.silhouette.mesh import outline_mesh
from spatialavatar.generator.texel_grid import texel_grid
from spatialavatar.head import HeadModel, UVLayout

_PARTS = ("face", "scalp", "ears", "neck")
_POSITION_SCALE = 0.1  # metres


@dataclass(frozen=True, eq=False)
class ExpectedHead:
    """Maps (ROWS, COLUMNS[, C]) predicted by the prior, float64.

    Attributes:
        hair: in [0, 1], hair mask.
        colors: (..., 3) sRGB in [0, 1].
        height: metres.
        direction: (..., 2) of ``network.Prediction``.
    """

    hair: Floats
    colors: Floats
    height: Floats
    direction: Floats


class HeadPrior:
    """The network with the map of the head that it was trained on.

    Attributes:
        network: in evaluation mode.
        sphere: the map.
        constants: (CONSTANTS, ROWS, COLUMNS) of :func:`constant_maps`.
    """

    def __init__(self, network: PriorNetwork, head: HeadModel, layout: UVLayout) -> None:
        """Bind a network to a head model and its layout."""
        self.network = network.eval()
        self.sphere: SphereGrid = sphere_grid(head, layout)
        self.constants = constant_maps(head, layout)

    @property
    def config(self) -> PriorConfig:
        """Sizes of the network, and constants of its use."""
        return self.network.config

    def complete(self, seen: Observation) -> ExpectedHead:
        """The whole head that an observation suggests."""
        maps = {name: torch.from_numpy(np.ascontiguousarray(value))[None] for name, value in seen.arrays().items()}
        with torch.inference_mode():
            outputs = self.network(features_of(maps, self.constants))
            found = interpret(outputs, maps["hair_fill"], maps["skin_fill"])
        return ExpectedHead(
            hair=_array(torch.sigmoid(found.hair_logit)),
            colors=_array(found.colors).clip(0.0, 1.0),
            height=_array(found.height),
            direction=_array(found.direction),
        )


def _array(maps: Tensor) -> Floats:
    return maps[0].double().numpy()


def constant_maps(head: HeadModel, layout: UVLayout) -> Tensor:
    """(CONSTANTS, ROWS, COLUMNS) float32 of a head model: parts, position, mobility; equal on both sides."""
    return _constants(head, layout)


@lru_cache(maxsize=2)
def _constants(head: HeadModel, layout: UVLayout) -> Tensor:
    grid, sphere = texel_grid(head, layout), sphere_grid(head, layout)
    parts = sphere.gather(np.stack([grid.mask(part) for part in _PARTS], 1).astype(np.float64))
    position = (sphere.gather(grid.points) - sphere.centre) / _POSITION_SCALE
    position[..., 0] = np.abs(position[..., 0])
    mobility = sphere.gather_vertices(outline_mesh(head, SilhouetteConfig().face_mask).mobility)
    maps = np.concatenate([parts, position, mobility[..., None]], -1).reshape(ROWS, COLUMNS, -1)
    return torch.from_numpy(0.5 * (maps + maps[:, ::-1])).float().movedim(-1, 0).contiguous()
