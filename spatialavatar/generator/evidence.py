"""Evidence of each photo for the texels: position, colour, visibility, and exposure relative to the other photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatialavatar.generator.exposure import apply_gain, exposure_gains, match_light
from spatialavatar.generator.numerics import Floats, Pixels
from spatialavatar.generator.openings import Openings, find_openings, lash_line
from spatialavatar.generator.pooling import Pooled, mean_pool
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.visibility import visibility
from spatialavatar.generator.warping import Warp, sample, warp


@dataclass(frozen=True, eq=False)
class PhotoEvidence:
    """One photo on the texel grid.

    Attributes:
        view: the photo.
        warp: where the texels lie in it.
        openings: of eyes and mouth, or None without dense landmarks.
        weight: (N,) in [0, 1], how well it shows each texel.
        colors: (N, 3) sRGB at the texels; :func:`balance` changes them.
        gain: (3,) that brought the photo to the exposure of the others; ones for a single photo.
        shading: (N, 3) what the match of light then added; zeros for a single photo.
    """

    view: SourceView
    warp: Warp
    openings: Openings | None
    weight: Floats
    colors: Floats
    gain: Floats
    shading: Floats


def observe(surface: TexelSurface, view: SourceView, offsets: Pixels | None) -> PhotoEvidence:
    """Warp, sample and weigh one photo.

    Args:
        surface: the texels.
        view: the photo.
        offsets: (V, 3) float32 metres on the rest vertices, or None.
    """
    warped = warp(surface, view, offsets)
    found = find_openings(view, surface.config.visibility.opening_margin)
    return PhotoEvidence(
        view=view,
        warp=warped,
        openings=found,
        weight=visibility(surface, view, found, warped),
        colors=_sampled_colors(surface, view, found, warped),
        gain=np.ones(3),
        shading=np.zeros((len(surface), 3)),
    )


def balance(surface: TexelSurface, photos: Sequence[PhotoEvidence]) -> list[PhotoEvidence]:
    """Bring the photos to one exposure and one light, so that their colours can be averaged; one alone is unchanged."""
    weights = [photo.weight for photo in photos]
    gains = exposure_gains([photo.colors for photo in photos], weights, surface.mask("face"))
    exposed = [apply_gain(photo.colors, gain) for photo, gain in zip(photos, gains)]
    matched = match_light(surface, exposed, weights)
    return [
        replace(photo, colors=after, gain=gain, shading=after - before)
        for photo, gain, before, after in zip(photos, gains, exposed, matched)
    ]


def pool(photos: Sequence[PhotoEvidence]) -> Pooled:
    """Mean of the photos' colours, weighted by how well each shows a texel (method section 2, step 3)."""
    return mean_pool([photo.colors for photo in photos], [photo.weight for photo in photos])


def _sampled_colors(surface: TexelSurface, view: SourceView, found: Openings | None, warped: Warp) -> Floats:
    """Colours (N, 3) of a photo at the texels; at the lids' edge those of the adjacent lashes."""
    colors = sample(view.image, warped)
    if found is None:
        return colors
    at_edge = np.flatnonzero(surface.tables.lash > 0.0)
    lash, skin = surface.tables.lash[at_edge, None], colors[at_edge]
    colors[at_edge] = skin + lash * (sample(lash_line(view, found), warped, at_edge) - skin)
    return colors
