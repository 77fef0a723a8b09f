"""The trained prior in use: what photos show in, the whole head out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats, smoothstep
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.network import PriorNetwork, features_of, interpret
from spatialavatar.generator.prior.observation import Observation
from spatialavatar.generator.prior.sphere import COLUMNS, ROWS, SphereGrid, sphere_grid
from spatialavatar.generator.silhouette.mesh import outline_mesh
from spatialavatar.generator.texel_grid import texel_grid
from spatialavatar.head import HeadModel, UVLayout

_PARTS = ("face", "scalp", "ears", "neck")
_POSITION_SCALE = 0.1  # metres

_BALD = (0.03, 0.15)
"""Shares of hair on the seen scalp up to which a head is shaved or bald, and from which on it is not."""

_MIN_SCALP = 50.0
"""Sum of visibilities of the scalp's cells below which nothing is known of its hair."""

_STUBBLE = 0.35
"""Strength of the hair that is expected at the back of a shaved head: no photo shows its colour."""


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
        hair, colors = _array(torch.sigmoid(found.hair_logit)), _array(found.colors).clip(0.0, 1.0)
        missing = (1.0 - _STUBBLE) * self._baldness(seen)
        return ExpectedHead(
            hair=(1.0 - missing) * hair,
            colors=colors + (missing * hair)[..., None] * (seen.skin_fill - colors),
            height=_array(found.height),
            direction=_array(found.direction),
        )

    def _baldness(self, seen: Observation) -> float:
        """In [0, 1], 1 where the photos show a scalp with hardly any hair."""
        scalp = seen.visibility * self.constants[_PARTS.index("scalp")].numpy()
        share = float((scalp * seen.hair).sum() / max(float(scalp.sum()), 1e-9))
        return 1.0 - float(smoothstep(np.array(share), *_BALD)) if scalp.sum() > _MIN_SCALP else 0.0


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
