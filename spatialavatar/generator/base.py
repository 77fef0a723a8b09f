"""Stage 1's base: photos to Gaussians with no training (method section 2, steps 2 and 3, then completion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.carving import carve
from spatialavatar.generator.completion.complete import complete
from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.evidence import PhotoEvidence, balance, observe, pool
from spatialavatar.generator.pooling import Pooled
from spatialavatar.generator.prior.applying import comb, paint_sides, shape_head, usable
from spatialavatar.generator.prior.head_prior import HeadPrior
from spatialavatar.generator.sharpening import sharpen
from spatialavatar.generator.silhouette import fit_silhouette
from spatialavatar.generator.sources import SourceView, source_views
from spatialavatar.generator.surface import texel_surface
from spatialavatar.generator.surfels import build_surfels
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.progress import Progress, no_progress
from spatialavatar.records import Gaussians, Track


@dataclass(frozen=True, eq=False)
class BaseResult:
    """The result of the base, before the network.

    Attributes:
        gaussians: N local Gaussians.
        vertex_offsets: (V, 3) metres on the rest vertices, head space: the hair.
        visibility: (N,) in [0, 1], how well the best photo shows each texel.
        sampled: (N, 3) pooled colours before anything was filled in.
        sources: the K photos, in canonical order.
        pixels: (K, N, 2) position of each texel in each photo, pixels of its crop.
        weights: (K, N) in [0, 1], how well each photo shows each texel.
    """

    gaussians: Gaussians
    vertex_offsets: Tensor
    visibility: Tensor
    sampled: Tensor
    sources: tuple[SourceView, ...]
    pixels: Tensor
    weights: Tensor


def build_base(
    head: HeadModel,
    layout: UVLayout,
    tracks: Sequence[Track],
    config: BaseConfig | None = None,
    progress: Progress | None = None,
    prior: HeadPrior | None = None,
) -> BaseResult:
    """One to four tracked photos of one person to Gaussians; the order of the photos changes no bit.

    The mesh's outline moves out to the silhouettes. Each texel is projected into each photo (barycentric warp), sampled
    and weighed by visibility; the photos, brought to one light, are averaged. Texels that no photo shows are completed.
    Every texel becomes a flat Gaussian; those outside the silhouettes are carved away, and the colours are sharpened
    against the photos.

    Args:
        head: the head model that the photos were tracked with.
        layout: its UV layout.
        tracks: photos with mattes, one shape.
        config: constants.
        progress: called with (fraction, message).
        prior: completes outline, hair, sides and back; without it, or where a photo has no segments, rules do.

    Raises:
        InputError: no photo, more than four, tracks of a different head, or of different shapes.
    """
    report = progress or no_progress
    views = source_views(tracks, head)
    surface = texel_surface(head, layout, config or BaseConfig())
    report(0.1, "Shaping the hair")
    if prior is not None and usable(views):
        shaped = shape_head(surface, prior, views)
        offsets, photos, pooled = shaped.offsets, shaped.photos, shaped.pooled
    else:
        shaped, offsets = None, fit_silhouette(head, views, surface.config.silhouette)
        report(0.4, "Reading the colours")
        photos = balance(surface, [observe(surface, view, offsets) for view in views])
        pooled = pool(photos)
    report(0.6, "Completing what no photo shows")
    completed = complete(surface, photos, pooled)
    if prior is not None and shaped is not None:
        completed = paint_sides(surface, prior, shaped, completed)
    vertex_offsets = torch.from_numpy(offsets)
    kept = carve(surface, photos)
    gaussians = build_surfels(surface, views[0].params.shape, vertex_offsets, completed.colors, kept)
    if prior is not None and shaped is not None:
        gaussians = comb(surface, prior, shaped, gaussians)
    report(0.8, "Sharpening")
    gaussians = sharpen(surface, photos, vertex_offsets, gaussians, completed.own)
    gaussians.check()
    report(1.0, "Painted the Gaussians")
    return _result(gaussians, vertex_offsets, photos, pooled)


def _result(gaussians: Gaussians, offsets: Tensor, photos: Sequence[PhotoEvidence], pooled: Pooled) -> BaseResult:
    """The arrays as float32 tensors."""
    return BaseResult(
        gaussians=gaussians,
        vertex_offsets=offsets,
        visibility=torch.from_numpy(pooled.visibility).float(),
        sampled=torch.from_numpy(pooled.colors).float(),
        sources=tuple(photo.view for photo in photos),
        pixels=torch.from_numpy(np.stack([photo.warp.pixels for photo in photos])).float(),
        weights=torch.from_numpy(np.stack([photo.weight for photo in photos])).float(),
    )
