"""The surface that carries the Gaussians: everything about the texel grid that no photo changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from spatialavatar.generator.config import BaseConfig, GraphConfig
from spatialavatar.generator.numerics import Mask
from spatialavatar.generator.texel_grid import TexelGrid, texel_grid
from spatialavatar.generator.texel_tables import TexelTables, build_tables
from spatialavatar.head import HeadModel, UVLayout


@dataclass(frozen=True, eq=False)
class TexelSurface:
    """Head, layout, tables and constants: what every step of the base reads.

    Attributes:
        grid: the texels on the head's mesh.
        tables: neighbours, mirror twins and regions of the texels.
        config: constants of the base.
    """

    grid: TexelGrid
    tables: TexelTables
    config: BaseConfig

    @property
    def head(self) -> HeadModel:
        """The head model."""
        return self.grid.mesh.model

    @property
    def layout(self) -> UVLayout:
        """Its UV layout of N texels."""
        return self.grid.layout

    def __len__(self) -> int:
        return len(self.grid.corners)

    def mask(self, *parts: str) -> Mask:
        """(N,) bool: the texels on those of the named parts that the head has."""
        return self.grid.mask(*parts)


def texel_surface(head: HeadModel, layout: UVLayout, config: BaseConfig) -> TexelSurface:
    """The surface of a head, a layout and constants; grid and tables are cached, for every photo of every person."""
    return TexelSurface(texel_grid(head, layout), _tables(head, layout, config.graph), config)


@lru_cache(maxsize=2)
def _tables(head: HeadModel, layout: UVLayout, graph: GraphConfig) -> TexelTables:
    return build_tables(texel_grid(head, layout), graph)
