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

_COVERED: Final = 0.4
"""Share of an ear's vertices under hair from which the ear is smoothed away."""

_FAR_SIDE: Final = 0.04
"""Metres: an ear this much farther from the camera than the other one is on the far side."""


def flatten_covered_ears(mesh: OutlineMesh, people: Sequence[PersonView], rest: Floats) -> Floats:
    """Rest vertices (V, 3) without the ears that hair covers; ``rest`` itself where there is none."""
    ears = mesh.base.vertex_mask("ears")
    hidden = np.zeros(len(rest), bool)
    if not ears.any():
        return rest
    for side in (rest[:, 0] > 0, rest[:, 0] < 0):
        shares = [_hair_share(mesh, ears & side, ears & ~side, person) for person in people]
        if max(shares) > _COVERED:
            hidden |= ears & side
    if not hidden.any():
        return rest
    # The membrane over the hole: every vertex at the mean of its neighbours.
    inside, outside = np.flatnonzero(hidden), np.flatnonzero(~hidden)
    rows = sp.identity(len(rest), format="csr")[inside] - mesh.averaging[inside]
    result = rest.copy()
    result[inside] = splu(rows[:, inside].tocsc()).solve(-rows[:, outside] @ rest[outside])
    return result


def _hair_share(mesh: OutlineMesh, ear: Mask, other: Mask, person: PersonView) -> float:
    """Share of an ear's vertices where the photo shows hair; that of the near ear where this one is on the far side."""
    vertices = mesh.base.posed(person.view, None)
    if vertices[ear, 2].mean() > vertices[other, 2].mean() + _FAR_SIDE:
        ear = other
    return float((bilinear(person.hair, project(vertices[ear], person.view.intrinsics)) > 0.5).mean())
