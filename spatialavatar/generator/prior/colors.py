"""Colours of unseen hair, sides and back from the prior, with strands and grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatialavatar.generator.completion.complete import Completed
from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.numerics import Floats, neighbour_means, smoothstep
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.fills import OFFSET
from spatialavatar.generator.prior.head_prior import HeadPrior
from spatialavatar.generator.prior.observation import Observation, mean_share
from spatialavatar.generator.prior.shaped import ShapedHead
from spatialavatar.generator.prior.sphere import OUTER_PARTS, SphereGrid, blur_around
from spatialavatar.generator.prior.strands import HairTexture, seen_texture, strand_shade
from spatialavatar.generator.surface import TexelSurface

_EAR_KEEP = (0.5, 0.95)
"""``FillConfig.keep`` of ears, whose folds a fit that is a pixel off smears."""

_DISAGREE = (0.35, 0.7)
"""Differences between the share of hair in a sample and the expected one up to which it is kept, and from which on not,
where it is not seen well."""

_CLOTHES_AZIMUTH = np.radians((45.0, 55.0))
"""Beyond these the neck takes no colour of a collar."""

_JAW_AZIMUTH = np.radians((50.0, 60.0))
_JAW_DROP = (0.03, 0.045)
"""Azimuths, and metres below the eyes, from which, and from which on fully, the face is the side of the jaw."""

_BESIDE = 6.0
"""Cells over which the expected colour is adapted to adjacent seen colours."""

_TWIN_BLUR = 7.0
"""Cells over which the twin's colours are brought to the expected ones: its detail stays, its light does not."""

_TWIN_TRUST = (0.2, 0.7)
"""How well the twin is seen from which, and from which on fully, its detail is used."""

_GRAIN_LIMIT = 0.1
"""Greatest log ratio between a skin texel and its neighbours that counts as grain."""

_MIN_SKIN = 500
"""Texels of well-seen skin below which no grain is measured."""


@dataclass(frozen=True, eq=False)
class Sight:
    """Observed and expected colours on the map, and where the observed ones are kept.

    Attributes:
        pooled: colours and visibility.
        hair: (N,) share of hair in the samples.
        expected_hair: (N,) in [0, 1].
        doubt: (N,) in [0, 1]: 1 where a sample that is not seen well is hair and skin is expected, or the reverse.
        keep: (N,) in [0, 1], share of the own sample in the result.
    """

    pooled: Pooled
    hair: Floats
    expected_hair: Floats
    doubt: Floats
    keep: Floats


def hair_texture(
    surface: TexelSurface, prior: HeadPrior, photos: Sequence[PhotoEvidence], pooled: Pooled, seen: Observation
) -> HairTexture:
    """Contrast and curl of the hair that the photos show on the scalp; ``seen`` gives the fill of unseen hair."""
    hair = mean_share([photo.view.hair() for photo in photos], photos)
    shown = surface.mask("scalp") * pooled.visibility * (hair > 0.8)
    unseen = seen.hair_fill[(seen.visibility == 0.0) & prior.sphere.valid]
    fill = np.median(unseen.astype(np.float64), axis=0) if len(unseen) else None
    return seen_texture(prior.sphere, pooled.colors, shown, prior.config.contrast, fill)


def complete_sides(surface: TexelSurface, prior: HeadPrior, head: ShapedHead, sight: Sight) -> tuple[Completed, Floats]:
    """Colours, and (N,) strands: of mean 0 and deviation 1, bright and dark in turn.

    Colours are samples where the photos show the head well, elsewhere the twin's detail and the prior.

    Meaningless on eyes and inside the mouth.

    Args:
        surface: the texels.
        prior: for its map and constants.
        head: the shaped head.
        sight: of :func:`see`.
    """
    sphere, outer = prior.sphere, surface.mask(*OUTER_PARTS).astype(np.float64)
    expected, pooled = head.expected, head.pooled
    lit = np.exp(expected.hair[..., None] * np.array(head.texture.lit))
    grid_colors = _adapted(sphere, (expected.colors * lit).clip(0.0, 1.0), pooled.colors, sight.keep * outer)
    colors = sphere.scatter(grid_colors)
    seed = int(head.photos[0].view.key[:8], 16)
    points = surface.grid.points_on(surface.grid.mesh.rest(head.photos[0].view.params.shape) + head.offsets)
    strands = strand_shade(sphere, points, expected.direction, head.texture, seed)
    hair = sight.expected_hair[:, None]
    shade = strands[:, None] * head.texture.tint * hair + _grain(surface, sight, seed)[:, None] * (1.0 - hair)
    colors = (colors * np.exp(shade)).clip(0.0, 1.0)
    colors = _with_twin(surface, sphere, sight, grid_colors, colors, outer)
    keep = sight.keep[:, None]
    completed = Completed((keep * pooled.colors + (1.0 - keep) * colors).clip(0.0, 1.0), sight.keep)
    return completed, (strands - strands.mean()) / max(float(strands.std()), 1e-9)


def see(surface: TexelSurface, sphere: SphereGrid, head: ShapedHead) -> Sight:
    """Compare the observed colours with the expected ones."""
    pooled, photos = head.pooled, head.photos
    hair = mean_share([photo.view.hair() for photo in photos], photos)
    clothes = mean_share([photo.view.clothes() for photo in photos], photos)
    mask = sphere.scatter(head.expected.hair[..., None])[:, 0]
    keep = smoothstep(pooled.visibility, *surface.config.fill.keep)
    keep = np.where(surface.mask("ears"), smoothstep(pooled.visibility, *_EAR_KEEP), keep)
    doubt = smoothstep(np.abs(hair - mask), *_DISAGREE) * (1.0 - smoothstep(pooled.visibility, 0.9, 0.999))
    keep *= 1.0 - doubt
    aside = smoothstep(np.abs(sphere.azimuth), *_CLOTHES_AZIMUTH)
    keep *= 1.0 - surface.mask("neck") * aside * smoothstep(clothes, 0.2, 0.6)
    return Sight(pooled, hair, mask, doubt, keep)


def _adapted(sphere: SphereGrid, expected: Floats, seen: Floats, weight: Floats) -> Floats:
    """Expected colours (ROWS, COLUMNS, 3), near what is seen (N, 3) scaled to meet it."""
    total = sphere.gather(weight[:, None])
    mean = sphere.gather(seen * weight[:, None]) / np.maximum(total, 1e-6)
    sure = total * (total > 0.3)
    ratio = np.log((mean + OFFSET) / (expected + OFFSET)).clip(-0.5, 0.5)
    near = blur_around(sure[..., 0], _BESIDE).astype(np.float64)[..., None]
    around = blur_around(ratio * sure, _BESIDE) / np.maximum(near, 1e-4)
    scale = np.exp(around * (2.0 * near).clip(0.0, 1.0))
    return ((expected + OFFSET) * scale - OFFSET).clip(0.0, 1.0)


def _grain(surface: TexelSurface, sight: Sight, seed: int) -> Floats:
    """(N,) log brightness of skin's unevenness, drawn from that of the seen skin; 0 where too little is seen."""
    neighbours, colors = surface.tables.neighbours, sight.pooled.colors
    uneven = np.log((colors + OFFSET) / (neighbour_means(colors, neighbours) + OFFSET)).mean(1)
    skin = surface.mask("face") & (sight.keep > 0.9) & (sight.hair < 0.05) & (np.abs(uneven) < _GRAIN_LIMIT)
    if skin.sum() < _MIN_SKIN:
        return np.zeros(len(uneven))
    drawn = np.asarray(np.random.default_rng(seed + 1).choice(uneven[skin], len(uneven)), np.float64)
    # Pores and freckles are wider than a texel.
    soft = drawn + 0.6 * neighbour_means(drawn, neighbours) * np.sqrt(neighbours.shape[1])
    return soft * (uneven[skin].std() / max(float(soft.std()), 1e-9))


def _with_twin(
    surface: TexelSurface, sphere: SphereGrid, sight: Sight, expected: Floats, colors: Floats, outer: Floats
) -> Floats:
    """Colours (N, 3) with the detail of the mirror twin where that is seen well and is hair or skin as expected."""
    twin = surface.tables.twin
    agree = 1.0 - smoothstep(np.abs(sight.hair[twin] - sight.expected_hair), 0.3, 0.6)
    trust = sight.keep[twin] * agree * outer
    seen = sight.pooled.colors[twin]
    total = sphere.gather(trust[:, None])
    mean = sphere.gather(seen * trust[:, None]) / np.maximum(total, 1e-6)
    sure = total * (total > 0.3)
    ratio = np.log((expected + OFFSET) / (mean + OFFSET)).clip(-0.8, 0.8) * sure
    near = np.maximum(blur_around(sure[..., 0], _TWIN_BLUR), 1e-3)[..., None]
    lighting = sphere.scatter(blur_around(ratio, _TWIN_BLUR) / near)
    detail = ((seen + OFFSET) * np.exp(lighting) - OFFSET).clip(0.0, 1.0)
    share = (smoothstep(trust, *_TWIN_TRUST))[:, None]
    return share * detail + (1.0 - share) * colors


def below_temples(surface: TexelSurface, sphere: SphereGrid) -> Floats:
    """(N,) in [0, 1]: 1 on ears, neck and the sides of the jaw, where hair beside the head is easily taken for skin.

    The photo's hair and the head do not meet there to the pixel. Temples are left out: their sideburns are real.
    """
    aside = smoothstep(np.abs(sphere.azimuth), *_JAW_AZIMUTH)
    jaw = surface.mask("face") * aside * smoothstep(-_above_eyes(surface), *_JAW_DROP)
    return np.where(surface.mask("ears", "neck"), 1.0, jaw)


def side_share(surface: TexelSurface, sphere: SphereGrid, config: PriorConfig) -> Floats:
    """(N,) in [0, 1]: 1 on hair, ears and the sides of face and neck, 0 on their fronts, eyes and mouth."""
    aside = smoothstep(np.abs(sphere.azimuth), *np.radians(config.side_azimuth))
    face = np.maximum(aside, smoothstep(_above_eyes(surface), *config.forehead))
    core = surface.mask("face", "lips", "neck")
    return np.where(core, face, 1.0) * surface.mask(*OUTER_PARTS) * (1.0 - surface.tables.lid)


def _above_eyes(surface: TexelSurface) -> Floats:
    """(N,) metres above the eyes' centres, on the mean head."""
    return surface.grid.points[:, 1] - surface.grid.mesh.eye_centres()[:, 1].mean()
