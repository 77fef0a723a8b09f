"""The barycentric warp (method section 2, step 2): what a photo shows at each texel's point on the posed mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from spatialavatar.generator.numerics import Floats, Pixels, bilinear, blur
from spatialavatar.generator.sources import SourceView
from spatialavatar.generator.texels import surface_normals
from spatialavatar.head import HeadModel, UVLayout


@dataclass(frozen=True)
class Warp:
    """Where the texels of a posed head lie in a photo.

    Attributes:
        vertices_cam: (V, 3) posed vertices in camera axes, metres.
        pixels: (N, 2) positions in the crop.
        depth: (N,) camera z, metres.
        facing: (N,) cosine between the surface normal and the way to the camera.
        footprint: (N,) crop pixels that a texel spans (square root of its projected area).
    """

    vertices_cam: Floats
    pixels: Floats
    depth: Floats
    facing: Floats
    footprint: Floats


def warp(head: HeadModel, layout: UVLayout, source: SourceView, offsets: torch.Tensor | None) -> Warp:
    """Pose the head as in the photo, with ``offsets`` (V, 3) on its rest vertices, and project every texel."""
    posed = head.vertices(source.params, offsets)[0]
    vertices = source.camera.to_camera(posed).cpu().double()
    cam = layout.surface(head, vertices).numpy()
    matrix = source.camera.intrinsics.cpu().double().numpy()
    projected = cam @ matrix.T
    pixels = projected[:, :2] / np.maximum(projected[:, 2:], 1e-6)
    normals = surface_normals(head, layout, vertices.numpy())
    facing = -(normals * cam).sum(1) / np.maximum(np.linalg.norm(cam, axis=1), 1e-9)
    area = texel_area(head, layout, vertices)
    focal = np.sqrt(abs(matrix[0, 0] * matrix[1, 1]))
    footprint = np.sqrt(area * np.clip(facing, 0.05, 1.0)) * focal / np.maximum(cam[:, 2], 1e-6)
    return Warp(vertices.numpy(), pixels, cam[:, 2], facing, footprint)


def texel_area(head: HeadModel, layout: UVLayout, vertices: torch.Tensor) -> Floats:
    """Square metres (N,) that a texel covers on ``vertices`` (V, 3)."""
    corners = vertices[head.faces].double()
    area = 0.5 * torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    a, b = (head.uv[:, 1] - head.uv[:, 0]).double(), (head.uv[:, 2] - head.uv[:, 0]).double()
    texels = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs() * layout.resolution**2
    return (area / texels.clamp_min(1e-6))[layout.faces].cpu().numpy()


def sample(picture: Pixels, warped: Warp, levels: int = 4) -> Floats:
    """Colours (N, C) of a picture (H, W, C) under the texels, averaged over a texel's footprint where that is large.

    Each level of the pyramid is the picture blurred to twice the footprint of the one before, at full size.
    """
    level = np.log2(np.clip(warped.footprint, 1.0, 2.0 ** (levels - 1)))
    values = np.zeros((len(level), picture.shape[2]))
    for index in range(int(np.ceil(level.max())) + 1):
        share = np.clip(1.0 - np.abs(level - index), 0.0, 1.0)
        used = share > 0
        if used.any():
            smooth = picture if index == 0 else blur(picture, 0.5 * np.sqrt(4.0**index - 1.0))
            values[used] += share[used, None] * bilinear(smooth, warped.pixels[used])
    return values
