"""Sampling of the photos on the outline that the prior completes."""

from __future__ import annotations

from dataclasses import dataclass

from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.numerics import Pixels
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.prior.head_prior import ExpectedHead
from spatialavatar.generator.prior.strands import HairTexture


@dataclass(frozen=True, eq=False)
class ShapedHead:
    """A head with its whole outline.

    Attributes:
        expected: the whole head by the prior.
        offsets: (V, 3) float32 metres on the rest vertices.
        photos: balanced.
        pooled: their mean.
        texture: of the hair that they show.
    """

    expected: ExpectedHead
    offsets: Pixels
    photos: list[PhotoEvidence]
    pooled: Pooled
    texture: HairTexture
