"""Ground truth of a completion: the surface above a fitted mesh, its colour, and the hair on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from spatialavatar.generator.numerics import smoothstep
from spatialavatar.generator.silhouette.mesh import outline_mesh
from spatialavatar.synthetic.anatomy import Anatomy, anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.hair.strands import tangents
from spatialavatar.synthetic.heads import SyntheticHead

_LATERAL: Final = 0.009
"""Metres from a vertex's normal within which hair counts as above it."""
_SHARE: Final = 0.9
"""Share of the strands above a vertex that lie below the shell."""
_ENOUGH: Final = 12.0
"""Points of hair above a vertex from which it is covered."""
_REACH: Final = 0.007
"""Metres around a point of the shell within which strands give it their colour."""
_ROUNDS: Final = 2
"""Averaging rounds over the vertices under hair; their tops are percentiles of few strands."""
LIMITS: Final = (-0.012, 0.07)
"""Metres between which heights lie."""


@dataclass(frozen=True, eq=False)
class SurfaceTruth:
    """The truth over a mesh at rest.

    Attributes:
        heights: (V,) metres of the shell of hair, or of the true skin, along the directions.
        colors: (N, 3) sRGB of what is seen there in the head's light, expression at rest.
        albedo: (N, 3) the same in even light.
        hair: (N,) in [0, 1], share of hair.
        strands: (N, 3) unit direction of the strands there, of either sign; zeros without hair.
    """

    heights: Array
    colors: Array
    albedo: Array
    hair: Array
    strands: Array

    @property
    def light(self) -> Array:
        """(N, 3) light on each texel: ``colors`` over ``albedo``."""
        return self.colors / np.maximum(self.albedo, 1e-3)


def measure_truth(head: SyntheticHead, flat: Array, directions: Array) -> SurfaceTruth:
    """Heights, colours, hair and strand directions over a mesh, for instance one that a silhouette fit started from.

    Args:
        head: the head.
        flat: (V, 3) rest vertices from which heights start, metres.
        directions: (V, 3) unit directions of the heights.
    """
    facts = anatomy()
    vertices = head.rest()
    heights, _ = shell_heights(facts, head, vertices, flat, directions)
    grid = facts.surface.grid
    lifted = facts.on_texels(flat + heights[:, None] * directions)
    normal = facts.on_texels(directions)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    tangent = tangents(head.strands.points).reshape(-1, 3)
    points = head.strands.points.reshape(-1, 3)
    used = slice(None, None, 2)
    lit, even = head.strand_colors.reshape(-1, 3)[used], head.strand_albedo.reshape(-1, 3)[used]
    outside = np.flatnonzero(facts.outside)
    distance, found = cKDTree(points[used]).query(lifted[outside], k=8, distance_upper_bound=_REACH)
    near = np.isfinite(distance)
    found = np.minimum(found, len(lit) - 1)
    above = np.where(near, ((points[used][found] - lifted[outside, None]) * normal[outside, None]).sum(-1), 0.0)
    weight = near * np.exp(-0.5 * (np.where(near, distance, 1.0) / 0.003) ** 2 + above.clip(-0.006, 0.004) / 0.002)
    total = np.maximum(weight.sum(1), 1e-12)[:, None]
    share = np.zeros(len(grid.corners))
    share[outside] = smoothstep(near.sum(1).astype(np.float64), 1.5, 6.0)
    colors, albedo = head.skin_colors(vertices), head.skin_colors(vertices, lit=False)
    for target, source in ((colors, lit), (albedo, even)):
        mean = (source[found] * weight[..., None]).sum(1) / total
        target[outside] += share[outside, None] * (mean - target[outside])
    # Directions have no sign: the mean is the main axis of their outer products.
    axis = tangent[used][found]
    outer = np.einsum("nk,nka,nkb->nab", weight, axis, axis)
    main = np.linalg.eigh(outer)[1][..., -1]
    strands = np.zeros((len(share), 3))
    strands[outside] = main * (share[outside, None] > 0.05)
    return SurfaceTruth(heights, colors, albedo, share, strands)


def shell_heights(
    facts: Anatomy, head: SyntheticHead, vertices: Array, flat: Array, directions: Array
) -> tuple[Array, Array]:
    """Heights (V,) of the outside of hair or skin over a mesh, metres, and how much hair is above each vertex, 0 to 1.

    Args:
        facts: of the head model.
        head: the head.
        vertices: (V, 3) true rest vertices.
        flat: (V, 3) rest vertices from which heights start.
        directions: (V, 3) unit directions.
    """
    count = len(flat)
    # Ears and what lies inside carry no shell of their own.
    outer = np.flatnonzero(facts.mesh.vertex_mask("scalp", "face", "neck", "ears"))
    points = head.strands.points[:, ::2].reshape(-1, 3)
    points = points[points[:, 1] > -0.17]
    distance, nearest = cKDTree(flat[outer]).query(points, k=3, distance_upper_bound=0.10)
    ok = np.isfinite(distance).ravel()
    vertex = outer[np.minimum(nearest, len(outer) - 1)].ravel()[ok]
    offset = np.repeat(points, 3, 0)[ok] - flat[vertex]
    height = (offset * directions[vertex]).sum(1)
    lateral = np.linalg.norm(offset - height[:, None] * directions[vertex], axis=1)
    kept = (lateral < _LATERAL) & (height > -0.010) & (height < 0.08)
    vertex, height = vertex[kept], height[kept]
    order = np.lexsort((height, vertex))
    vertex, height = vertex[order], height[order]
    first = np.searchsorted(vertex, np.arange(count + 1))
    number = np.diff(first)
    top = np.zeros(count)
    some = number > 0
    top[some] = height[(first[:-1] + np.floor(_SHARE * number).astype(int))[some].clip(0, len(height) - 1)]
    cover = np.clip(number / _ENOUGH, 0.0, 1.0)
    skin = ((vertices - flat) * directions).sum(1)
    heights = np.maximum(np.where(cover > 0.2, top, -1.0), skin).clip(*LIMITS)
    averaging = outline_mesh(facts.mesh.model, facts.surface.config.silhouette.face_mask).averaging
    covered = np.minimum(cover, 1.0)
    for _ in range(_ROUNDS):
        heights = heights + 0.5 * covered * (averaging @ heights - heights)
    return heights, cover
