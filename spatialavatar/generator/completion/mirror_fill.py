"""Mirror fill: a texel that no photo shows well takes the colour of its twin on the other half of the head.

Just behind the nose, and along the rim of the far cheek of a turned head, the photo shows slivers of skin at grazing
angles, and the fit is a few pixels off there. So a texel keeps its own sample only where the samples around it are kept
as well, and the two sources meet in a soft seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.exposure import LOG_OFFSET
from spatialavatar.generator.harmonic import light_field
from spatialavatar.generator.numerics import Floats, neighbour_means, smoothstep
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.surface import TexelSurface

_RELIABLE: Final = (0.5, 0.95)
"""Visibility of no and of full weight of a texel's ratio to its twin."""


@dataclass(frozen=True, eq=False)
class KnownColors:
    """Colours with how well they are known.

    Attributes:
        colors: (N, 3) sRGB.
        confidence: (N,) in [0, 1]; where it is 0 the colour means nothing.
        own: (N,) in [0, 1], share of the texel's own sample in the colour; the rest is its twin's.
    """

    colors: Floats
    confidence: Floats
    own: Floats


def fill_from_mirror(surface: TexelSurface, pooled: Pooled, square: Floats, far_side: float = 1.0) -> KnownColors:
    """Blend each texel with its mirror twin by how well each is seen, balanced for light from one side.

    The balance is the log ratio between a texel and its twin where both are seen, extended smoothly to where only one
    is.

    Args:
        surface: the texels.
        pooled: sampled colours and visibility.
        square: (N,) in [0, 1], how squarely the best photo shows each texel.
        far_side: in [0, 1], how far all photos are turned, so that samples at a seam count less.
    """
    config, twin = surface.config, surface.tables.twin
    colors, seen = pooled.colors, pooled.visibility
    borrowed = mirror_confidence(surface, seen)
    own = own_share(surface, seen * square, mirror_confidence(surface, seen * square), far_side)
    reliable = seen * own
    # A doubtful ratio without neighbours would tint the whole area that it is extended to.
    both = smoothstep(np.minimum(reliable, reliable[twin]), *_RELIABLE)
    ratio = np.log((colors + LOG_OFFSET) / (colors[twin] + LOG_OFFSET))
    balance = light_field(surface.tables.laplacian, ratio, both, config.light)
    mirrored = ((colors[twin] + LOG_OFFSET) * np.exp(balance) - LOG_OFFSET).clip(0.0, 1.0)
    share = own[:, None]
    confidence = np.maximum(own * seen, borrowed)
    return KnownColors(share * colors + (1.0 - share) * mirrored, confidence, own)


def own_share(surface: TexelSurface, quality: Floats, borrowed: Floats, far_side: float = 1.0) -> Floats:
    """(N,) share of each texel's own sample, by its quality and by that of its twin's as a substitute, each (N,).

    ``far_side`` in [0, 1] is the weight of the samples around it.
    """
    config = surface.config.mirror
    share = np.where(quality >= borrowed, 1.0, quality / np.maximum(borrowed, 1e-9))
    if config.seam_rounds == 0 or far_side == 0.0:
        return share
    around = share
    for _ in range(config.seam_rounds):
        around = neighbour_means(around, surface.tables.neighbours)
    # Where the twin is no better there is nothing to take instead.
    return np.where(borrowed > 0.0, share * (1.0 - far_side * (1.0 - smoothstep(around, *config.seam))), 1.0)


def mirror_confidence(surface: TexelSurface, seen: Floats) -> Floats:
    """(N,) how well the twin's colour stands in for each texel's own."""
    return surface.config.mirror.confidence * seen[surface.tables.twin]
