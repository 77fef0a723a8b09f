"""Base geometry: one flat Gaussian per texel on the surface, as wide as its texel and thin along the normal.

In tensors throughout, because the rotations and the change to local space are the head's own functions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spatialavatar.generator.numerics import Floats, smoothstep
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.head import HeadModel, Identity, UVLayout, to_local
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.rotations import matrix_to_quat
from spatialavatar.records import Gaussians


def build_surfels(surface: TexelSurface, shape: Tensor, offsets: Tensor, colors: Floats, kept: Floats) -> Gaussians:
    """Local Gaussians (N) that tile the rest surface of one person.

    The local means are 0: the binding anchors a Gaussian at its texel's own point. Lids are tiled as they lie when
    closed, because at rest they are folded, and what tiles the fold leaves holes when it unfolds.

    Args:
        surface: the texels.
        shape: (S,) coefficients.
        offsets: (V, 3) metres on the rest vertices.
        colors: (N, 3) sRGB.
        kept: (N,) in [0, 1], share of the opacity that carving keeps.
    """
    head, config = surface.head, surface.config.surfels
    identity = head.identity(shape, offsets)
    quats, scales = _tile(surface, identity.vertices)
    lid = torch.from_numpy(surface.tables.lid > 0.5)[:, None]
    if lid.any():
        closed_quats, closed_scales = _tile(surface, _blinking(head, identity))
        quats, scales = torch.where(lid, closed_quats, quats), torch.where(lid, closed_scales, scales)
    opacity = config.opacity * smoothstep(surface.tables.rim, *config.rim_fade)
    return Gaussians(
        means=torch.zeros(len(surface), 3),
        quats=quats,
        scales=scales,
        opacities=torch.from_numpy(opacity).float() * torch.from_numpy(kept).float(),
        colors=torch.from_numpy(colors).float(),
    )


def _blinking(head: HeadModel, identity: Identity) -> Tensor:
    """Vertices (V, 3) of the head with both eyes closed."""
    coefficients = torch.zeros(1, len(ARKIT_INDEX))
    coefficients[0, [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]] = 1.0
    expression, _, _ = head.from_arkit(coefficients.to(head.device))
    return head.pose(identity, head.neutral().replace(expression=expression))[0]


def _tile(surface: TexelSurface, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Local rotations (N, 4) and scales (N, 3) of Gaussians that tile the surface ``vertices`` (V, 3)."""
    head, layout = surface.head, surface.layout
    quats, extent = _texel_axes(head, layout, vertices)
    points = layout.surface(head, vertices).double()
    scales = _scales(surface, points.numpy(), extent)
    world = Gaussians(
        means=points.float(),
        quats=quats,
        scales=torch.from_numpy(scales).float(),
        opacities=torch.ones(len(layout)),
        colors=torch.zeros(len(layout), 3),
        space="world",
    )
    local = to_local(world, head, layout, vertices)
    return local.quats, local.scales


def _scales(surface: TexelSurface, points: Floats, extent: Floats) -> Floats:
    """Standard deviations (N, 3), metres: two along the surface, one along the normal.

    Args:
        surface: the texels.
        points: (N, 3) texel centres, metres.
        extent: (N, 2) metres that a texel spans along its two axes.
    """
    config = surface.config.surfels
    near = points[surface.tables.neighbours[:, :4]]
    distance = np.linalg.norm(near - points[:, None], axis=2)
    # The limit keeps stretched texels in the folds of lids and ears from covering what is in front of them. Scalp and
    # neck have no folds, but texels so oblong that the nearest ones do not tell the gap to the next row. A texel of a
    # tiny group is its own neighbour; the limit then does not bind.
    smooth = surface.mask("scalp", "neck") | (distance.sum(1) == 0)
    limit = np.where(smooth, np.inf, distance.mean(1))
    cap = np.where(smooth, config.smooth_spacing_cap, config.spacing_cap)
    spacing = np.minimum(np.sqrt(extent[:, 0] * extent[:, 1]), cap)
    low, high = config.anisotropy
    tangential = np.clip(extent, low * spacing[:, None], high * spacing[:, None])
    tangential = np.minimum(tangential, config.neighbour_limit * limit[:, None])
    normal = config.thickness * np.minimum(spacing, config.thickness_cap)
    return np.concatenate([config.tangential * tangential, normal[:, None]], 1).clip(1e-6)


def _texel_axes(head: HeadModel, layout: UVLayout, vertices: Tensor) -> tuple[Tensor, Floats]:
    """Rotations (N, 4), of x, y and z to a texel's two principal directions and the normal, and extents (N, 2), metres.

    From the Jacobian J (3, 2), metres per texel, of each triangle: the eigenvectors of J'J in closed form, because the
    signs and orders of library decompositions differ between machines.
    """
    corners = vertices[head.faces].double()
    edges = torch.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], -1)
    uv = head.uv.double() * layout.resolution
    texels = torch.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], -1)
    det = texels[:, 0, 0] * texels[:, 1, 1] - texels[:, 0, 1] * texels[:, 1, 0]
    adjugate = torch.stack(
        [
            torch.stack([texels[:, 1, 1], -texels[:, 0, 1]], -1),
            torch.stack([-texels[:, 1, 0], texels[:, 0, 0]], -1),
        ],
        -2,
    )
    jacobian = edges @ adjugate / torch.where(det.abs() < 1e-12, torch.ones_like(det), det)[:, None, None]
    first, second = jacobian.unbind(-1)
    a, b, c = (first * first).sum(-1), (first * second).sum(-1), (second * second).sum(-1)
    angle = 0.5 * torch.atan2(2 * b, a - c)[:, None]
    major = first * angle.cos() + second * angle.sin()
    normal = torch.linalg.cross(edges[..., 0], edges[..., 1])
    fallback = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    normal = _unit(normal, fallback)
    helper = torch.nn.functional.one_hot(normal.abs().argmin(-1), 3).double()
    sideways = _unit(major - normal * (normal * major).sum(-1, keepdim=True), torch.linalg.cross(normal, helper))
    sideways = torch.nn.functional.normalize(sideways, dim=-1)
    axes = torch.stack([sideways, torch.linalg.cross(normal, sideways), normal], -1)
    minor = second * angle.cos() - first * angle.sin()
    extent = torch.stack([major.norm(dim=-1), minor.norm(dim=-1)], -1)
    # By triangle: there are six times as many texels.
    return matrix_to_quat(axes).float()[layout.faces], extent[layout.faces].numpy()


def _unit(vectors: Tensor, fallback: Tensor) -> Tensor:
    """``vectors`` (..., 3) at unit length; ``fallback`` (..., 3) where they have none."""
    length = vectors.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-12, vectors / length.clamp_min(1e-12), fallback.expand_as(vectors))
