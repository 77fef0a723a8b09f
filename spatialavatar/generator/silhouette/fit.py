"""The alternation of measuring gaps and solving for heights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Pixels
from spatialavatar.generator.silhouette.covered_ears import flatten_covered_ears
from spatialavatar.generator.silhouette.measuring import measure_gaps, person_view
from spatialavatar.generator.silhouette.mesh import build_field, outline_mesh
from spatialavatar.generator.silhouette.solving import side_coupling, solve_heights
from spatialavatar.generator.sources import SourceView
from spatialavatar.head import HeadModel


def fit_silhouette(head: HeadModel, views: Sequence[SourceView], config: SilhouetteConfig) -> Pixels:
    """Offsets (V, 3) float32, metres in head space, that bring the outline of the head to that of the mattes.

    The face (everything near its landmarks), lips, eyes and the mouth's inside stay where they are.

    Args:
        head: the head model.
        views: photos of one person, of one shape.
        config: constants.
    """
    mesh = outline_mesh(head, config.face_mask)
    people = [person_view(view) for view in views]
    rest = mesh.base.rest(views[0].params.shape)
    field = build_field(mesh, rest, flatten_covered_ears(mesh, people, rest), config)
    heights, symmetry = np.zeros(len(rest)), 0.0
    for number in range(config.rounds):
        gaps = [measure_gaps(mesh, field, heights, person, config) for person in people]
        if number == 0:
            symmetry = side_coupling(gaps, config)
        heights = solve_heights(mesh, field, gaps, heights, symmetry, config)
    return field.offsets(heights).astype(np.float32)
