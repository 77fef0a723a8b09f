"""The true maps of a synthetic head; heights are relative to a head that was fitted to its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats, Pixels
from spatialavatar.generator.prior.fills import push_pull
from spatialavatar.generator.prior.sphere import COLUMNS, ROWS, SphereGrid, blur_around, frames
from spatialavatar.generator.silhouette import OutlineFit
from spatialavatar.generator.silhouette.mesh import build_field, outline_mesh
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.synthetic import SyntheticHead, measure_truth
from spatialavatar.training.prior.samples import Truth

_HIDDEN: Final = 0.8
"""Share of hair around an ear from which it counts as hidden, if half of that covers the ear itself."""

_SMOOTHING: Final = 0.010
"""Metres over which the shell's heights are smoothed."""


@dataclass(frozen=True, eq=False)
class WholeTruth:
    """Ground truth of a synthetic head, independent of the pictures.

    Attributes:
        shell: (V, 3) metres, the outer surface: hair where there is some, else skin.
        colors: (ROWS, COLUMNS, 3) float32 sRGB there.
        hair: (ROWS, COLUMNS) float32 in [0, 1].
        direction: (ROWS, COLUMNS, 2) float32 of ``network.Prediction``.
    """

    shell: Floats
    colors: Pixels
    hair: Pixels
    direction: Pixels


def whole_truth(surface: TexelSurface, sphere: SphereGrid, head: SyntheticHead) -> WholeTruth:
    """Measure a synthetic head over its own mesh without hair."""
    mesh = outline_mesh(surface.head, surface.config.silhouette.face_mask)
    vertices = head.rest()
    field = build_field(mesh, vertices, vertices, surface.config.silhouette)
    found = measure_truth(head, vertices, field.directions)
    smooth = splu((sp.diags(field.area) + _SMOOTHING**2 * field.laplacian).tocsc())
    heights = smooth.solve(field.area * found.heights)
    shell = vertices + heights[:, None] * field.directions
    hair = sphere.gather(found.hair[:, None]).astype(np.float32)
    direction = _directions(sphere, surface.grid.points_on(shell), found.strands, found.hair)
    maps = np.concatenate([sphere.gather(found.colors).astype(np.float32), hair, direction], -1)
    maps = _without_hidden_ears(surface, sphere, maps, hair[..., 0])
    return WholeTruth(shell=shell, colors=maps[..., :3], hair=maps[..., 3], direction=maps[..., 4:])


def true_maps(sphere: SphereGrid, fit: OutlineFit, whole: WholeTruth, config: SilhouetteConfig) -> Truth:
    """The maps of a head whose outline was fitted to pictures; heights are over the fit's smooth head."""
    heights = ((whole.shell - fit.field.flat) * fit.field.directions).sum(1) * fit.mesh.mobility
    ones = np.ones((ROWS, COLUMNS), np.float32)
    return Truth(
        colors=whole.colors,
        hair=whole.hair,
        height=sphere.gather_vertices(heights.clip(*config.limits)).astype(np.float32),
        direction=whole.direction,
        known=ones,
        shaped=ones,
    )


def _without_hidden_ears(surface: TexelSurface, sphere: SphereGrid, maps: Pixels, hair: Pixels) -> Pixels:
    """Maps (ROWS, COLUMNS, C) with ears under hair replaced by their surroundings: the outline's fit flattens them."""
    ears = sphere.gather(surface.mask("ears")[:, None].astype(np.float64))[..., 0].astype(np.float32)
    hidden = np.zeros_like(ears)
    left = np.arange(COLUMNS)[None] >= COLUMNS // 2
    for side in (left, ~left):
        ear = ears * side
        around = np.clip(blur_around(ear, 4.0) - ear, 0.0, None) * side
        if (hair * around).sum() > _HIDDEN * around.sum() and (hair * ear).sum() > 0.5 * _HIDDEN * ear.sum():
            hidden += ear
    weight = 1.0 - np.clip(2.0 * blur_around(hidden, 0.7), 0.0, 1.0)
    filled = [push_pull(maps[..., start : start + 3], weight) for start in range(0, maps.shape[-1], 3)]
    return np.concatenate(filled, -1)


def _directions(sphere: SphereGrid, points: Floats, strands: Floats, hair: Floats) -> Pixels:
    """(ROWS, COLUMNS, 2) mean cosine and sine of twice the angle of strands (N, 3) to the rows; 0 without hair."""
    axes = frames(sphere, points)
    across = (strands * sphere.scatter(axes.across)).sum(1)
    down = (strands * sphere.scatter(axes.down)).sum(1)
    double = np.stack([across**2 - down**2, 2.0 * across * down], 1)
    double /= np.maximum(across**2 + down**2, 1e-6)[:, None]
    weight = (hair * (np.abs(strands).sum(1) > 0.0))[:, None]
    mean = sphere.gather(double * weight) / np.maximum(sphere.gather(weight), 1e-3)
    return mean.astype(np.float32)
