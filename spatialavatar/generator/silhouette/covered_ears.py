"""Ears under hair are smoothed into the side of the head before the outline moves.

Hair that is painted onto the folds of an ear, and drawn out to the silhouette with them, looks like a bun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from spatialavatar.generator.numerics import Floats, Mask, bilinear
from spatialavatar.generator.silhouette.measuring import PersonView
from spatialavatar.generator.silhouette.mesh import OutlineMesh
from spatialavatar.generator.warping import project
from spatialavatar.render.mesh import rasterize_mesh

_COVERED: Final = 0.3
"""Share of hair on the lobe and the rim beside it from which the ear is smoothed away. Hair over the top or before the
ear's root leaves that part bare; long hair covers it too."""

_SEEN: Final = 0.1
"""Share of an ear's vertices below which the photo does not show that ear."""

_DEPTH: Final = 0.004
"""Metres that a visible vertex may lie behind the nearest surface."""


def flatten_covered_ears(mesh: OutlineMesh, people: Sequence[PersonView], rest: Floats) -> Floats:
    """Rest vertices (V, 3) without the ears that hair covers; ``rest`` itself where there is none."""
    ears = mesh.base.vertex_mask("ears")
    hidden = np.zeros(len(rest), bool)
    if not ears.any():
        return rest
    looks = [_look(mesh, person) for person in people]
    for side in (rest[:, 0] > 0, rest[:, 0] < 0):
        if max(_hair_share(mesh, ears & side, ears & ~side, look) for look in looks) > _COVERED:
            hidden |= ears & side
    if not hidden.any():
        return rest
    # The membrane over the hole: every vertex at the mean of its neighbours.
    inside, outside = np.flatnonzero(hidden), np.flatnonzero(~hidden)
    rows = sp.identity(len(rest), format="csr")[inside] - mesh.averaging[inside]
    result = rest.copy()
    result[inside] = splu(rows[:, inside].tocsc()).solve(-rows[:, outside] @ rest[outside])
    return result


def _hair_share(mesh: OutlineMesh, ear: Mask, other: Mask, look: tuple[Mask, Mask]) -> float:
    """Share of the ear's outer lower part where a photo shows hair; that of the other ear where this one is hidden."""
    visible, hairy = look
    if visible[ear].mean() < _SEEN:
        ear = other
    outward, up = np.abs(mesh.base.template[:, 0]), mesh.base.template[:, 1]
    lobe = ear & (outward > np.median(outward[ear])) & (up < np.median(up[ear]))
    return float(hairy[lobe].mean()) if lobe.any() else 0.0


def _look(mesh: OutlineMesh, person: PersonView) -> tuple[Mask, Mask]:
    """(V,) bool, vertices in the picture that nothing of the mesh hides, and (V,) bool, where the photo shows hair."""
    camera, intrinsics = person.view.camera, person.view.intrinsics
    vertices = mesh.base.posed(person.view, None)
    pixels = project(vertices, intrinsics)
    depth = rasterize_mesh(vertices, mesh.base.faces, intrinsics, camera.width, camera.height).depth
    column, row = np.floor(np.nan_to_num(pixels, nan=-1.0).clip(-1.0, 1e6)).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    nearest = depth[np.where(inside, row, 0), np.where(inside, column, 0)]
    return inside & (vertices[:, 2] <= nearest + _DEPTH), bilinear(person.hair, pixels) > 0.5
