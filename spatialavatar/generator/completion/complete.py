"""Completion in order: mirror twin, smooth fill, eyes, mouth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from spatialavatar.generator.completion.eyes import complete_eyes
from spatialavatar.generator.completion.hair import HairStyle, measure_hair
from spatialavatar.generator.completion.light import light_at_mouth, light_of_photo
from spatialavatar.generator.completion.mirror_fill import fill_from_mirror
from spatialavatar.generator.completion.mouth import complete_mouth, teeth_color
from spatialavatar.generator.completion.smooth_fill import fill_smoothly
from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.numerics import Floats, bilinear, smoothstep
from spatialavatar.generator.pooling import Pooled, mean_pool
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.visibility import turned

MIN_CLASS_SHARE: Final = 0.08
"""Share of a region's seen texels that must show its own class (hair or skin) before the others leave the fill."""


@dataclass(frozen=True, eq=False)
class Completed:
    """Colours of all texels.

    Attributes:
        colors: (N, 3) sRGB.
        own: (N,) in [0, 1], share of the texel's own sample in what it shows; the rest comes from its mirror twin.
    """

    colors: Floats
    own: Floats


def complete(surface: TexelSurface, photos: Sequence[PhotoEvidence], pooled: Pooled) -> Completed:
    """Colours of every texel.

    Args:
        surface: the texels.
        photos: what each photo shows of them.
        pooled: their mean colours and visibility.
    """
    hair = _hair_shares(surface, photos, pooled)
    trust = 1.0 - surface.tables.lid
    style: HairStyle | None = None
    if hair is not None:
        trust = trust * _class_trust(surface, pooled.visibility, hair)
        style = _hair_style(surface, pooled, hair)
    far_side = min(turned(photo.view, surface.config.visibility) for photo in photos)
    known = fill_from_mirror(surface, pooled, squareness(surface, photos), far_side)
    colors = fill_smoothly(surface, known, trust, style)
    light = light_of_photo(surface, pooled)
    colors = complete_eyes(surface, pooled, colors, light)
    colors = complete_mouth(surface, colors, light_at_mouth(surface, pooled, light), teeth_color(surface, photos))
    return Completed(colors, known.own)


def squareness(surface: TexelSurface, photos: Sequence[PhotoEvidence]) -> Floats:
    """(N,) in [0, 1], how squarely the best photo shows the skin; 1 where a smear does no harm, on the scalp.

    A photo from the front shows both sides alike and has no better sample of either: all of it counts as square.
    """
    config, qualities = surface.config, []
    for photo in photos:
        smeared = 1.0 - smoothstep(photo.warp.facing, *config.mirror.facing)
        qualities.append(photo.weight * (1.0 - turned(photo.view, config.visibility) * smeared))
    best = np.max(qualities, 0)
    seen = np.max([photo.weight for photo in photos], 0)
    return np.where(surface.mask("scalp"), 1.0, best / np.maximum(seen, 1e-9))


def _hair_shares(surface: TexelSurface, photos: Sequence[PhotoEvidence], pooled: Pooled) -> Floats | None:
    """(N,) share of hair in the samples of each texel, or of its twin where that is seen better.

    None where a photo has no segments.
    """
    shares = []
    for photo in photos:
        mask = photo.view.hair()
        if mask is None:
            return None
        shares.append(bilinear(mask, photo.warp.pixels)[:, None])
    hair = mean_pool(shares, [photo.weight for photo in photos]).colors[:, 0]
    twin = surface.tables.twin
    return np.where(pooled.visibility >= pooled.visibility[twin], hair, hair[twin])


def _hair_style(surface: TexelSurface, pooled: Pooled, hair: Floats) -> HairStyle | None:
    """Colour and contrast of the seen hair; None on a scalp that shows hardly any."""
    shown = surface.mask("scalp") & (pooled.visibility > 0.8)
    if hair[shown].sum() <= MIN_CLASS_SHARE * shown.sum():
        return None
    return measure_hair(surface.tables.neighbours, pooled.colors, shown & (hair > 0.7))


def _class_trust(surface: TexelSurface, visibility: Floats, hair: Floats) -> Floats:
    """(N,) in [0, 1], weight of a texel in the fill by whether it shows the class of its region.

    The scalp's unseen back becomes hair and not forehead, and the unseen side of a face skin and not the strand in
    front of it; except where there is hardly any of the class: on a bald scalp, on ears under hair.
    """
    trust = np.ones(len(visibility))
    for parts, wanted in ((("scalp",), hair), (("face", "neck", "lips"), 1.0 - hair), (("ears",), 1.0 - hair)):
        region = surface.mask(*parts)
        shown = visibility * region
        if (shown * wanted).sum() > MIN_CLASS_SHARE * shown.sum():
            trust[region] = smoothstep(wanted[region], 0.3, 0.7)
    return trust
