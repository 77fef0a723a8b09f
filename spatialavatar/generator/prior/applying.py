"""Use of the prior in the base: outline, colours and strands of unseen parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from spatialavatar.generator.completion.complete import Completed
from spatialavatar.generator.evidence import PhotoEvidence, balance, observe, pool
from spatialavatar.generator.numerics import Floats, Pixels, smoothstep
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.prior.colors import below_temples, complete_sides, hair_texture, see, side_share
from spatialavatar.generator.prior.head_prior import HeadPrior
from spatialavatar.generator.prior.observation import Observation, observe_head
from spatialavatar.generator.prior.shaped import ShapedHead
from spatialavatar.generator.prior.sphere import SphereGrid
from spatialavatar.generator.prior.strand_gaussians import stretch_along_strands
from spatialavatar.generator.silhouette import OutlineFit, fit_outline
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.visibility import inside_picture
from spatialavatar.records import Gaussians

_ROUNDS: Final = 2
"""Rounds of the outline fit that gives the prior's input. Two suffice, because the fit with the prior replaces it."""

_LATER_ROUNDS: Final = 3
"""Number of times the remaining gaps are measured and closed.

With 0, person PSNR of a frontal photo falls by up to 2 dB."""

_FRAYED: Final = 0.15
"""Cosine to a camera by which the end of the seen hair differs from strand to strand."""

_STRETCHED: Final = ("scalp", "neck", "ears")
_HAIRY: Final = (0.5, 0.8)
_SHOWN: Final = (0.3, 0.7)
"""Hair masks and visibilities between which Gaussians are turned along the strands, and stay as they are."""


@dataclass(frozen=True, eq=False)
class ObservedOutline:
    """The photos on the outline that they alone give.

    Attributes:
        fit: of the outline.
        observation: the network's input.
    """

    fit: OutlineFit
    observation: Observation


def usable(views: Sequence[SourceView]) -> bool:
    """Whether the photos have segments (hair, skin)."""
    return all(view.segments is not None for view in views)


def observe_outline(surface: TexelSurface, sphere: SphereGrid, views: Sequence[SourceView]) -> ObservedOutline:
    """Fit the outline and map the photos onto the sphere; used by ``generate`` and by training.

    Args:
        surface: the texels.
        sphere: their map.
        views: photos with segments, of one shape.
    """
    fit = fit_outline(surface.head, views, replace(surface.config.silhouette, rounds=_ROUNDS))
    photos, pooled = _read(surface, views, fit.offsets())
    return ObservedOutline(fit, observe_head(surface, sphere, fit, photos, pooled))


def shape_head(surface: TexelSurface, prior: HeadPrior, views: Sequence[SourceView]) -> ShapedHead:
    """Outline from photos and prior, and the photos' evidence on it."""
    observed = observe_outline(surface, prior.sphere, views)
    expected = prior.complete(observed.observation)
    heights = prior.sphere.to_vertices @ expected.height.ravel()
    config = surface.config.silhouette
    offsets = observed.fit.towards(heights, views, replace(config, rounds=min(_LATER_ROUNDS, config.rounds)))
    photos, pooled = _read(surface, views, offsets)
    texture = hair_texture(surface, prior, photos, pooled, observed.observation)
    return ShapedHead(expected, offsets, photos, pooled, texture)


def _read(surface: TexelSurface, views: Sequence[SourceView], offsets: Pixels) -> tuple[list[PhotoEvidence], Pooled]:
    photos = balance(surface, [observe(surface, view, offsets) for view in views])
    return photos, pool(photos)


def paint_sides(surface: TexelSurface, prior: HeadPrior, head: ShapedHead, completed: Completed) -> Completed:
    """Colours with unseen hair, sides and back completed by the prior.

    Seen texels and the central face keep their colours.

    Args:
        surface: the texels.
        prior: the prior.
        head: the shaped head.
        completed: by rules, without the prior.
    """
    sight = see(surface, prior.sphere, head)
    painted, strands = complete_sides(surface, prior, head, sight)
    seen = smoothstep(completed.own * head.pooled.visibility, *prior.config.seen)
    # At a frayed rim visibility is low although it faces a camera: there the rules' colours match the neighbouring
    # texels best.
    seen = np.maximum(seen, surface.mask("scalp", "neck") * facing_share(head.photos, *prior.config.facing))
    # Strands of the seen hair end at different places, so that it meets the prior's in no line.
    ends = (_FRAYED * strands).clip(0.0, 2.0 * _FRAYED) * sight.expected_hair * surface.mask("scalp")
    seen = np.minimum(seen, np.where(ends > 0.0, facing_share(head.photos, *prior.config.facing, ends), 1.0))
    plausible = 1.0 - below_temples(surface, prior.sphere) * sight.doubt
    share = side_share(surface, prior.sphere, prior.config) * (1.0 - seen * plausible)
    return Completed(
        colors=share[:, None] * painted.colors + (1.0 - share[:, None]) * completed.colors,
        own=share * painted.own + (1.0 - share) * completed.own,
    )


def facing_share(photos: Sequence[PhotoEvidence], low: float, high: float, more: Floats | float = 0.0) -> Floats:
    """(N,) in [0, 1]: 1 where a texel faces a camera, even if its photo does not show it; see ``PriorConfig``.

    ``more`` is added to both cosines.
    """
    return np.max(
        [smoothstep(one.warp.facing - more, low, high) * inside_picture(one.view, one.warp, 4.0) for one in photos], 0
    )


def comb(surface: TexelSurface, prior: HeadPrior, head: ShapedHead, gaussians: Gaussians) -> Gaussians:
    """Local Gaussians with those of unseen hair turned into their strands and stretched."""
    direction = head.expected.direction
    hair = prior.sphere.scatter(head.expected.hair[..., None])[:, 0]
    certainty = prior.sphere.scatter(np.hypot(direction[..., 0], direction[..., 1])[..., None])[:, 0].clip(0.0, 1.0)
    share = smoothstep(hair, *_HAIRY) * (1.0 - smoothstep(head.pooled.visibility, *_SHOWN)) * certainty
    longest = 1.0 + (prior.config.stretch - 1.0) * (1.0 - head.texture.curl)
    stretch = np.where(surface.mask(*_STRETCHED), 1.0 + (longest - 1.0) * share, 1.0)
    # Nearly round ones would only turn.
    stretch = np.where(stretch > 1.2, stretch, 1.0)
    identity = surface.head.identity(head.photos[0].view.params.shape, torch.from_numpy(head.offsets))
    return stretch_along_strands(surface, prior.sphere, gaussians, identity.vertices, direction, stretch)
