"""Stage 1's base: photos to Gaussians with no training (method section 2, steps 2 and 3, then completion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.filling import add_mirror, fill_unseen
from spatialavatar.generator.hair import seen_hair
from spatialavatar.generator.interior import complete_eyes, complete_mouth, light_of, mouth_light, teeth_color
from spatialavatar.generator.numerics import Floats, bilinear, smoothstep
from spatialavatar.generator.pooling import apply_gain, exposure_gains, match_light, mean_pool
from spatialavatar.generator.silhouette import fit_silhouette
from spatialavatar.generator.sources import SourceView, source_views
from spatialavatar.generator.surfels import build_surfels
from spatialavatar.generator.texels import TexelTables, part_mask, texel_tables
from spatialavatar.generator.visibility import Openings, carve, lash_line, openings, visibility
from spatialavatar.generator.warping import Warp, sample, warp
from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout, to_world
from spatialavatar.progress import Progress, silent
from spatialavatar.records import HAIR, Gaussians, Track
from spatialavatar.render import render

"""Parts in the dark behind the lips, whose colours are known better than they are seen."""

_ENOUGH = 0.08
"""Share of a region's seen texels that must show what the region is made of for the others to be left out."""


@dataclass(frozen=True)
class BaseResult:
    """What the photos alone determine.

    Attributes:
        gaussians: N local Gaussians.
        vertex_offsets: (V, 3) metres in head space, the hair.
        visibility: (N,) how well the best photo shows each texel, in [0, 1].
        sampled: (N, 3) pooled colours before anything was filled in.
        sources: the K views, in canonical order.
        pixels: (K, N, 2) where each texel lies in each view, in pixels of its crop.
        weights: (K, N) how well each view shows each texel, in [0, 1].
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
) -> BaseResult:
    """One to four tracked photos of one person to Gaussians; the order of the photos changes nothing.

    Args:
        head: the head model the photos were tracked with.
        layout: its UV layout.
        tracks: photos with mattes, one shape.
        config: constants.
        progress: called with (fraction, message).

    Raises:
        InputError: no photo, more than four, or tracks of another head.
    """
    config = config or BaseConfig()
    report = progress or silent
    sources = source_views(tracks, head)
    tables = texel_tables(head, layout, config)
    shape = sources[0].params.shape
    report(0.1, "Shaping the hair")
    offsets = fit_silhouette(head, sources, shape, config)
    report(0.4, "Reading the colours")
    warps = [warp(head, layout, source, offsets) for source in sources]
    found = [openings(source, config.opening_margin) for source in sources]
    weights = [visibility(head, layout, tables, s, o, w, config) for s, o, w in zip(sources, found, warps)]
    samples = [_sample(tables, s, o, w) for s, o, w in zip(sources, found, warps)]
    gains = exposure_gains(samples, weights, part_mask(head, layout, "face"))
    balanced = [apply_gain(colors, gain) for colors, gain in zip(samples, gains)]
    matched = match_light(tables, balanced, weights, config)
    pooled, seen = mean_pool(matched, weights)
    report(0.6, "Completing what no photo shows")
    hair = _hair_share(sources, warps, weights)
    colors = complete(head, layout, tables, pooled, seen, hair, teeth_color(sources, found), config)
    gaussians = build_surfels(head, layout, tables, shape, offsets, colors, config)
    kept = carve(head, layout, sources, warps, config.carve_margin)
    gaussians = gaussians.replace(opacities=gaussians.opacities * torch.from_numpy(kept).float())
    report(0.8, "Sharpening")
    shifts = [after - before for before, after in zip(balanced, matched)]
    gaussians = sharpen(head, layout, tables, gaussians, sources, warps, weights, gains, shifts, offsets, config)
    gaussians.check()
    report(1.0, "Painted the Gaussians")
    return BaseResult(
        gaussians=gaussians,
        vertex_offsets=offsets,
        visibility=torch.from_numpy(seen).float(),
        sampled=torch.from_numpy(pooled).float(),
        sources=tuple(sources),
        pixels=torch.from_numpy(np.stack([warped.pixels for warped in warps])).float(),
        weights=torch.from_numpy(np.stack(weights)).float(),
    )


def complete(
    head: HeadModel,
    layout: UVLayout,
    tables: TexelTables,
    pooled: Floats,
    seen: Floats,
    hair: Floats | None,
    teeth: Floats | None,
    config: BaseConfig,
) -> Floats:
    """Colours (N, 3) for every texel: mirror and smooth fill, then eyes and mouth from what is known of them.

    Args:
        head: the head.
        layout: its layout.
        tables: of the layout.
        pooled: (N, 3) sampled colours.
        seen: (N,) visibility.
        hair: (N,) how much of a texel's samples is hair, or None where the tracker could not tell.
        teeth: (3,) their colour, or None where no photo shows them.
        config: constants.
    """
    colors, confidence = add_mirror(tables, pooled, seen, config)
    trust, strands = 1.0 - tables.lid, None
    if hair is not None:
        hair = np.where(seen >= seen[tables.twin], hair, hair[tables.twin])
        trust = trust * _class_trust(head, layout, seen, hair)
        shown = part_mask(head, layout, "scalp") & (seen > 0.8)
        if hair[shown].sum() > _ENOUGH * shown.sum():
            strands = seen_hair(tables.neighbours, pooled, shown & (hair > 0.7))
    colors = fill_unseen(tables, colors, confidence, trust, config, strands)
    light = light_of(head, layout, tables, pooled, seen)
    colors = complete_eyes(head, layout, tables, pooled, colors, seen, light)
    return complete_mouth(head, layout, colors, mouth_light(head, layout, pooled, seen, light), teeth)


def sharpen(
    head: HeadModel,
    layout: UVLayout,
    tables: TexelTables,
    gaussians: Gaussians,
    sources: Sequence[SourceView],
    warps: Sequence[Warp],
    weights: Sequence[Floats],
    gains: Sequence[Floats],
    shifts: Sequence[Floats],
    offsets: Tensor,
    config: BaseConfig,
) -> Gaussians:
    """Undo the blur of sampling and splatting: add to each colour what the render misses of the photos there.

    Colours only, and only where a photo shows the texel clearly: unseen, grazing and rim texels would take up
    background, and lids would take up lashes that a blink smears.
    """
    identity = head.identity(sources[0].params.shape, offsets)
    photos = [apply_gain(source.image.astype(np.float64), gain) for source, gain in zip(sources, gains)]
    gates = [smoothstep(weight, 0.3, 0.8) * (1.0 - tables.lid) for weight in weights]
    gates = [gate * ~part_mask(head, layout, *BEHIND_LIPS) for gate in gates]
    strength = np.max(gates, axis=0)[:, None]
    colors = start = gaussians.colors.double().numpy()
    for _ in range(config.sharpening_rounds):
        current = gaussians.replace(colors=torch.from_numpy(colors).float())
        missing = []
        for source, warped, photo, shift in zip(sources, warps, photos, shifts):
            posed = to_world(current, head, layout, head.pose(identity, source.params)[0])
            image, alpha = render(posed, source.camera)
            covered = alpha.numpy()[..., None]
            missing.append(bilinear((photo * covered - image.numpy()).astype(np.float32), warped.pixels) + shift)
        residual, _ = mean_pool(missing, gates)
        step = config.sharpening_step * strength * residual
        colors = (colors + step).clip(0.0, 1.0)
    # Ringing beyond what the photo's own contrast explains comes from errors of the fit.
    colors = start + (colors - start).clip(-config.sharpening_limit, config.sharpening_limit)
    return gaussians.replace(colors=torch.from_numpy(colors).float())


def _sample(tables: TexelTables, source: SourceView, found: Openings | None, warped: Warp) -> Floats:
    """Colours (N, 3) of a photo at the texels; at the lids' edge those of the lashes beside it."""
    colors = sample(source.image, warped)
    if found is None:
        return colors
    lash = tables.lash[:, None]
    return colors + lash * (sample(lash_line(source, found), warped) - colors)


def _hair_share(sources: Sequence[SourceView], warps: Sequence[Warp], weights: Sequence[Floats]) -> Floats | None:
    """(N,) how much of what the photos show at each texel is hair; None where a photo has no classes."""
    shares = []
    for source, warped in zip(sources, warps):
        if source.segments is None:
            return None
        shares.append(bilinear((source.segments == HAIR).astype(np.float32), warped.pixels)[:, None])
    return mean_pool(shares, weights)[0][:, 0]


def _class_trust(head: HeadModel, layout: UVLayout, seen: Floats, hair: Floats) -> Floats:
    """(N,) in [0, 1], how far the fill may draw on a texel, by whether it shows hair or skin.

    The scalp's unseen back is to become hair and not forehead, and the unseen side of a face skin and not the strand
    that hangs before it; except where there is hardly any of it: on a bald scalp, on ears under hair.
    """
    trust = np.ones(len(seen))
    for parts, wanted in ((("scalp",), hair), (("face", "neck", "lips"), 1.0 - hair), (("ears",), 1.0 - hair)):
        region = part_mask(head, layout, *parts)
        shown = seen * region
        if (shown * wanted).sum() > _ENOUGH * shown.sum():
            trust[region] = smoothstep(wanted[region], 0.3, 0.7)
    return trust
