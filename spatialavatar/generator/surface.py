"""The surface that carries the Gaussians: everything about the texel grid that no photo changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialavatar.generator.config import BaseConfig, GraphConfig
from spatialavatar.generator.numerics import Floats, Ints, Mask, Pixels
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.texel_tables import TexelTables, build_tables, interpolated_normals, part_mask
from spatialavatar.head import HeadModel, UVLayout


@dataclass(frozen=True, eq=False)
class TexelSurface:
    """Head, layout and constants, with NumPy copies of what the steps read.

    Steps take NumPy arrays and return NumPy arrays; tensors enter here (:meth:`posed`) and leave in ``base``.

    Attributes:
        head: the head model.
        layout: its UV layout of N texels.
        config: constants of the base.
        tables: neighbours, mirror twins and regions of the texels.
        faces: (F, 3) vertex indices of the triangles.
        corners: (N, 3) vertex indices of each texel's triangle.
        bary: (N, 3) float32, barycentric weights of the texel centres.
        points: (N, 3) texels on the template, metres in head space.
        normals: (N, 3) unit normals there.
    """

    head: HeadModel
    layout: UVLayout
    config: BaseConfig
    tables: TexelTables
    faces: Ints
    corners: Ints
    bary: NDArray[np.float32]
    points: Floats
    normals: Floats

    def __len__(self) -> int:
        return len(self.corners)

    def mask(self, *parts: str) -> Mask:
        """(N,) bool: the texels on those of the named parts that the head has."""
        return part_mask(self.head, self.layout, *parts)

    def posed(self, view: SourceView, offsets: Pixels | None) -> Floats:
        """Vertices (V, 3) posed as in a photo, camera axes, metres.

        Args:
            view: the photo.
            offsets: (V, 3) float32 metres added to the rest vertices, or None.
        """
        return posed_vertices(self.head, view, offsets)

    def points_on(self, vertices: Floats) -> Floats:
        """Texel centres (N, 3) on ``vertices`` (V, 3)."""
        return (vertices[self.corners] * self.bary[..., None]).sum(1)

    def normals_on(self, vertices: Floats) -> Floats:
        """Unit normals (N, 3) of the texels, interpolated from those of ``vertices`` (V, 3)."""
        return interpolated_normals(self.head, self.layout, vertices)

    def texel_areas(self, vertices: Floats) -> Floats:
        """Square metres (N,) that each texel covers on ``vertices`` (V, 3)."""
        head, layout = self.head, self.layout
        corners = torch.from_numpy(vertices)[head.faces.cpu()]
        area = 0.5 * torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
        uv = head.uv.cpu()
        a, b = (uv[:, 1] - uv[:, 0]).double(), (uv[:, 2] - uv[:, 0]).double()
        texels = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs() * layout.resolution**2
        return (area / texels.clamp_min(1e-6))[layout.faces.cpu()].numpy()


def texel_surface(head: HeadModel, layout: UVLayout, config: BaseConfig) -> TexelSurface:
    """The surface of a head, a layout and constants; its tables and geometry are cached."""
    tables, points, normals = _geometry(head, layout, config.graph)
    faces = head.faces.cpu().numpy()
    return TexelSurface(
        head=head,
        layout=layout,
        config=config,
        tables=tables,
        faces=faces,
        corners=faces[layout.faces.cpu().numpy()],
        bary=layout.bary.cpu().numpy(),
        points=points,
        normals=normals,
    )


@lru_cache(maxsize=2)
def _geometry(head: HeadModel, layout: UVLayout, graph: GraphConfig) -> tuple[TexelTables, Floats, Floats]:
    """Tables, points (N, 3) and normals (N, 3) on the template; every photo of every person uses the same."""
    points = layout.surface(head, head.template).cpu().double().numpy()
    normals = interpolated_normals(head, layout, head.template.cpu().double().numpy())
    return build_tables(head, layout, graph), points, normals


def posed_vertices(head: HeadModel, view: SourceView, offsets: Pixels | None) -> Floats:
    """Vertices (V, 3) of ``head`` posed as in a photo, camera axes, metres; see :meth:`TexelSurface.posed`."""
    added: Tensor | None = None if offsets is None else torch.from_numpy(offsets).to(head.device)
    return view.camera.to_camera(head.vertices(view.params, added)[0]).cpu().double().numpy()
