"""A head model as NumPy arrays, on which the steps of the generator compute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.numerics import Floats, Ints, Mask, Pixels
from spatialavatar.generator.sources import SourceView
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX

_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


@dataclass(frozen=True, eq=False)
class HeadMesh:
    """Mesh of a head model, independent of the person.

    Attributes:
        model: the head model.
        faces: (F, 3) vertex indices of the triangles.
        template: (V, 3) mean head at rest, metres in head space.
    """

    model: HeadModel
    faces: Ints
    template: Floats

    def vertex_mask(self, *parts: str) -> Mask:
        """(V,) bool: the vertices of those of the named parts that the head has."""
        available = self.model.available_parts(*parts)
        if not available:
            return np.zeros(len(self.template), bool)
        return self.model.part_vertices(*available).cpu().numpy()

    def twins(self) -> Ints:
        """(V,) index of the mirror twin of each vertex."""
        return self.model.mirror_vertices.cpu().numpy()

    def landmarks(self, count: int) -> Floats:
        """(count, 3) landmarks on the template, metres; ``count`` is one of ``model.landmark_embeddings``."""
        return as_floats(self.model.landmarks(self.model.template, count))

    def rest(self, shape: Tensor) -> Floats:
        """(V, 3) rest vertices of shape (S,), metres in head space."""
        return as_floats(self.model.identity(shape).vertices)

    def posed(self, view: SourceView, offsets: Pixels | None) -> Floats:
        """Vertices (V, 3) posed as in a photo, camera axes, metres.

        Args:
            view: the photo.
            offsets: (V, 3) float32 metres added to the rest vertices, or None.
        """
        added = None if offsets is None else torch.from_numpy(offsets).to(self.model.device)
        return as_floats(view.camera.to_camera(self.model.vertices(view.params, added)[0]))

    def eye_centres(self) -> Floats:
        """(2, 3) joints of the left and the right eye at rest, metres."""
        return as_floats(self.model.joint_regressor @ self.model.template)[3:5]

    def blink_offsets(self) -> Tensor:
        """(2, V, 3) metres by which closing the left and the right eye moves the vertices."""
        rows = [ARKIT_INDEX[name] for name in _BLINKS]
        return torch.einsum("be,evk->bvk", self.model.arkit_to_expression[rows], self.model.expression_basis)


@lru_cache(maxsize=2)
def head_mesh(head: HeadModel) -> HeadMesh:
    """The mesh of a head model, cached."""
    return HeadMesh(head, head.faces.cpu().numpy(), as_floats(head.template))


def as_floats(values: Tensor) -> Floats:
    """A tensor on any device as a float64 array."""
    return values.cpu().double().numpy()
