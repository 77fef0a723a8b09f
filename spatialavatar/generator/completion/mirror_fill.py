"""Mirror fill: a texel that no photo shows takes the colour of its twin on the other half of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialavatar.generator.exposure import LOG_OFFSET
from spatialavatar.generator.harmonic import light_field
from spatialavatar.generator.numerics import Floats
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.surface import TexelSurface


@dataclass(frozen=True, eq=False)
class KnownColors:
    """Colours with how well they are known.

    Attributes:
        colors: (N, 3) sRGB.
        confidence: (N,) in [0, 1]; where it is 0 the colour means nothing.
    """

    colors: Floats
    confidence: Floats


def fill_from_mirror(surface: TexelSurface, pooled: Pooled) -> KnownColors:
    """Blend each texel with its mirror twin by how well each is seen, balanced for light from one side.

    The balance is the log ratio between a texel and its twin where both are seen, extended smoothly to where only one
    is.
    """
    config, twin = surface.config, surface.tables.twin
    colors, seen = pooled.colors, pooled.visibility
    both = np.minimum(seen, seen[twin])
    ratio = np.log((colors + LOG_OFFSET) / (colors[twin] + LOG_OFFSET))
    balance = light_field(surface.tables.laplacian, ratio, both, config.light)
    mirrored = ((colors[twin] + LOG_OFFSET) * np.exp(balance) - LOG_OFFSET).clip(0.0, 1.0)
    borrowed = mirror_confidence(surface, seen)
    share = np.where(seen >= borrowed, 1.0, seen / np.maximum(borrowed, 1e-9))[:, None]
    return KnownColors(share * colors + (1.0 - share) * mirrored, np.maximum(seen, borrowed))


def mirror_confidence(surface: TexelSurface, seen: Floats) -> Floats:
    """(N,) how well the twin's colour stands in for each texel's own."""
    return surface.config.mirror.confidence * seen[surface.tables.twin]
