"""The photos' evidence on the spherical map: the input of the prior's network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from spatialavatar.generator.evidence import PhotoEvidence
from spatialavatar.generator.numerics import Floats, Pixels, bilinear, blur
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.prior.fills import measure_fills
from spatialavatar.generator.prior.sphere import COLUMNS, OUTER_PARTS, ROWS, SphereGrid
from spatialavatar.generator.silhouette import OutlineFit
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.generator.warping import project

LIFTS: Final = (0.003, 0.012, 0.025, 0.045)
"""Metres above the surface at which the photos are asked for person and hair."""

HULLS: Final = 2 * len(LIFTS) - 1
"""Maps of ``Observation.hull``: the person at each lift, hair at all but the lowest."""

_UNKNOWN: Final = 0.5
"""Hull where a point lies outside of every picture."""

_GREATEST_WEIGHT: Final = 10.0
"""Of the outline at a vertex; more photos do not make it surer."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Maps (ROWS, COLUMNS[, C]), float32.

    Attributes:
        colors: (..., 3) mean sRGB of what is seen.
        visibility: in [0, 1].
        hair: share of hair in what is seen, in [0, 1].
        height: metres of the outline's fit.
        rim_weight: weight of the measured outline.
        rim_height: metres, height that the outline requires, where it has weight.
        hull: (..., HULLS) share of the person, and of hair, where the lifted surface lies in the photos.
        hair_fill: (..., 3) of :class:`~spatialavatar.generator.prior.fills.Fills`.
        skin_fill: (..., 3) of the same.
        hair_seen: 1 everywhere if the photos show hair, else 0.
    """

    colors: Pixels
    visibility: Pixels
    hair: Pixels
    height: Pixels
    rim_weight: Pixels
    rim_height: Pixels
    hull: Pixels
    hair_fill: Pixels
    skin_fill: Pixels
    hair_seen: Pixels

    def arrays(self) -> dict[str, Pixels]:
        """The maps by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class Seen:
    """Maps (ROWS, COLUMNS[, 3]) of colours, visibility and share of hair, as in :class:`Observation`."""

    colors: Pixels
    visibility: Pixels
    hair: Pixels


@dataclass(frozen=True, eq=False)
class Outline:
    """Maps (ROWS, COLUMNS[, HULLS]) of height, rim_weight, rim_height and hull, as in :class:`Observation`."""

    height: Pixels
    rim_weight: Pixels
    rim_height: Pixels
    hull: Pixels

    @classmethod
    def unknown(cls) -> Outline:
        """Where nothing was measured."""
        flat = np.zeros((ROWS, COLUMNS), np.float32)
        return cls(flat, flat, flat, np.full((ROWS, COLUMNS, HULLS), _UNKNOWN, np.float32))


def observation(seen: Seen, outline: Outline) -> Observation:
    """Add the fills."""
    fills = measure_fills(seen.colors, seen.visibility, seen.hair)
    return Observation(
        **vars(seen),
        **vars(outline),
        hair_fill=fills.hair,
        skin_fill=fills.skin,
        hair_seen=np.full((ROWS, COLUMNS), float(fills.hair_seen), np.float32),
    )


def observe_head(
    surface: TexelSurface, sphere: SphereGrid, fit: OutlineFit, photos: Sequence[PhotoEvidence], pooled: Pooled
) -> Observation:
    """The maps of one to four photos that all have segments; their order does not matter.

    Args:
        surface: the texels.
        sphere: its map.
        fit: of the outline.
        photos: what each shows of the texels.
        pooled: their mean.
    """
    return observation(see(surface, sphere, photos, pooled), outline_maps(sphere, fit, [p.view for p in photos]))


def mean_share(masks: Sequence[Pixels | None], photos: Sequence[PhotoEvidence]) -> Floats:
    """(N,) share of masks (H, W), one a photo, in each texel's pooled sample; 0 where no photo shows the texel."""
    weights = [photo.weight for photo in photos]
    shares = [
        np.zeros(len(photo.weight)) if mask is None else photo.weight * bilinear(mask, photo.warp.pixels)
        for mask, photo in zip(masks, photos)
    ]
    return np.sum(shares, axis=0) / np.maximum(np.sum(weights, axis=0), 1e-9)


def see(surface: TexelSurface, sphere: SphereGrid, photos: Sequence[PhotoEvidence], pooled: Pooled) -> Seen:
    """Maps of pooled colours and share of hair, weighted by visibility; clothes are not seen."""
    hair = mean_share([photo.view.hair() for photo in photos], photos)
    clothes = mean_share([photo.view.clothes() for photo in photos], photos)
    weight = pooled.visibility * surface.mask(*OUTER_PARTS) * (1.0 - clothes)
    visibility = sphere.gather(weight[:, None])[..., 0]
    least = np.maximum(visibility, 1e-6)[..., None]
    return Seen(
        colors=(sphere.gather(pooled.colors * weight[:, None]) / least).astype(np.float32),
        visibility=(visibility * sphere.valid).astype(np.float32),
        hair=(sphere.gather((hair * weight)[:, None]) / least)[..., 0].astype(np.float32),
    )


def outline_maps(sphere: SphereGrid, fit: OutlineFit, views: Sequence[SourceView]) -> Outline:
    """Maps of the outline's fit, and of person and hair around the head."""
    weight = np.minimum(fit.rim_weight, _GREATEST_WEIGHT)
    spread = sphere.gather_vertices(weight)
    height = sphere.gather_vertices(weight * fit.rim_height) / np.maximum(spread, 1e-6)
    hulls = np.stack([_hull(sphere, fit, view) for view in views])
    persons, hairs = hulls[..., : len(LIFTS)].min(0), hulls[..., len(LIFTS) :].min(0)
    return Outline(
        height=sphere.gather_vertices(fit.heights).astype(np.float32),
        rim_weight=spread.astype(np.float32),
        rim_height=height.astype(np.float32),
        hull=np.concatenate([persons, hairs], -1).astype(np.float32),
    )


def _hull(sphere: SphereGrid, fit: OutlineFit, view: SourceView) -> Floats:
    """(ROWS, COLUMNS, HULLS) of one photo."""
    hair = view.hair()
    hair = np.zeros_like(view.matte) if hair is None else hair
    person, hair = blur(view.matte, 2.0), blur(hair, 2.0)
    low, high = view.extent
    people, hairs = [], []
    for lift in LIFTS:
        offsets = fit.field.offsets(np.full(len(fit.heights), lift)).astype(np.float32)
        points = sphere.from_vertices @ fit.mesh.base.posed(view, offsets)
        pixels = project(points, view.intrinsics)
        inside = ((pixels > low + 2.0) & (pixels < high - 2.0)).all(1)
        people.append(np.where(inside, bilinear(person, pixels), _UNKNOWN))
        hairs.append(np.where(inside, bilinear(hair, pixels), _UNKNOWN))
    return np.stack([*people, *hairs[1:]], -1).reshape(ROWS, COLUMNS, HULLS)
