"""The alternation of measuring gaps and solving for heights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatialavatar.generator.config import SilhouetteConfig
from spatialavatar.generator.numerics import Floats, Pixels
from spatialavatar.generator.silhouette.covered_ears import flatten_covered_ears
from spatialavatar.generator.silhouette.measuring import measure_gaps, person_view
from spatialavatar.generator.silhouette.mesh import HeightField, OutlineMesh, build_field, hanging, outline_mesh
from spatialavatar.generator.silhouette.solving import close_gaps, meet_expected, side_coupling, solve_heights, targets
from spatialavatar.generator.sources import SourceView
from spatialavatar.head import HeadModel


@dataclass(frozen=True, eq=False)
class OutlineFit:
    """The fitted outline and its measurements.

    Attributes:
        mesh: constants of the head model.
        field: directions of this person's head.
        heights: (V,) metres.
        rim_weight: (V,) weight of the gaps that were measured last; 0 where none was.
        rim_height: (V,) metres that close them.
        symmetry: weight of the difference between mirror twins.
    """

    mesh: OutlineMesh
    field: HeightField
    heights: Floats
    rim_weight: Floats
    rim_height: Floats
    symmetry: float

    def offsets(self) -> Pixels:
        """(V, 3) float32, metres in head space."""
        return self.field.offsets(self.heights).astype(np.float32)

    def towards(self, expected: Floats, views: Sequence[SourceView], config: SilhouetteConfig) -> Pixels:
        """Offsets (V, 3) float32 of the heights nearest to ``expected`` (V,) in bending that meet the outline.

        Args:
            expected: metres.
            views: the photos; expected heights move the outline, so that its gaps are measured again.
            config: constants; ``rounds`` 0 takes the gaps that were measured last.
        """
        found, field = (self.rim_weight, self.rim_height), hanging(self.mesh, self.field)
        heights = meet_expected(self.mesh, field, found, expected, self.symmetry, config)
        people = [person_view(view) for view in views] if config.rounds else []
        for _ in range(config.rounds):
            gaps = [measure_gaps(self.mesh, field, heights, person, config) for person in people]
            weight, weighted = targets(gaps, heights, config)
            found = weight, weighted / np.maximum(weight, 1e-9)
            heights = close_gaps(self.mesh, field, found, heights, config)
        return field.offsets(heights).astype(np.float32)


def fit_outline(head: HeadModel, views: Sequence[SourceView], config: SilhouetteConfig) -> OutlineFit:
    """Fit the outline of the head to that of the mattes.

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
    weight, weighted = np.zeros(len(rest)), np.zeros(len(rest))
    for number in range(config.rounds):
        gaps = [measure_gaps(mesh, field, heights, person, config) for person in people]
        if number == 0:
            symmetry = side_coupling(gaps, config)
        weight, weighted = targets(gaps, heights, config)
        heights = solve_heights(mesh, field, (weight, weighted), symmetry, config)
    return OutlineFit(mesh, field, heights, weight, weighted / np.maximum(weight, 1e-9), symmetry)


def fit_silhouette(head: HeadModel, views: Sequence[SourceView], config: SilhouetteConfig) -> Pixels:
    """Offsets (V, 3) float32, metres in head space, of :func:`fit_outline`."""
    return fit_outline(head, views, config).offsets()
