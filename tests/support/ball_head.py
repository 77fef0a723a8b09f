"""A head small enough to reason about: a ball with a chart, three shape modes and two expression units."""

from __future__ import annotations

import torch

from spatialavatar.head import HeadModel
from spatialavatar.head.model import HEAD_FORMAT, HEAD_VERSION

PARTS = (
    "face",
    "scalp",
    "ears",
    "neck",
    "lips",
    "mouth",
    "tongue",
    "teeth_upper",
    "teeth_lower",
    "eye_left",
    "eye_right",
)
EXPRESSIONS = ("mouthSmileLeft", "cheekPuff")


def make_ball_head(rings: int = 12, segments: int = 16, radius: float = 0.1, head_id: str = "ball") -> HeadModel:
    """A ball of ``rings`` x ``segments`` quads; its front half is "face", its back half "scalp"."""
    u = torch.linspace(0, 1, segments + 1)
    v = torch.linspace(0, 1, rings + 1)
    latitude, longitude = torch.meshgrid(torch.pi * v, 2 * torch.pi * u, indexing="ij")
    template = radius * torch.stack(
        [-latitude.sin() * longitude.sin(), latitude.cos(), -latitude.sin() * longitude.cos()], -1
    ).reshape(-1, 3)
    chart = torch.stack(torch.meshgrid(0.05 + 0.9 * v, 0.05 + 0.9 * u, indexing="ij")[::-1], -1).reshape(-1, 2)
    corner = torch.arange(rings * (segments + 1)).reshape(rings, segments + 1)[:, :-1].reshape(-1)
    below = corner + segments + 1
    faces = torch.cat([torch.stack([corner, below, corner + 1], -1), torch.stack([corner + 1, below, below + 1], -1)])
    generator = torch.Generator().manual_seed(0)
    count = len(template)
    weights = torch.zeros(count, 5)
    weights[:, 1] = torch.sigmoid(template[:, 1] / radius * 8)
    weights[:, 0] = 1 - weights[:, 1]
    regressor = torch.full((5, count), 1.0 / count)
    tensors = {
        "template": template,
        "faces": faces,
        "face_parts": (template[faces].mean(1)[:, 2] < 0).to(torch.uint8),
        "uv": chart[faces],
        "shape_basis": 0.02 * torch.randn(3, 1, 3, generator=generator) * template,
        "expression_basis": 0.01 * torch.randn(2, count, 3, generator=generator),
        "pose_correctives": 0.001 * torch.randn(36, count, 3, generator=generator),
        "joint_regressor": regressor,
        "skinning_weights": weights,
        "parents": torch.tensor([-1, 0, 1, 1, 1]),
        "mirror_vertices": torch.cdist(template * torch.tensor([-1.0, 1, 1]), template).argmin(1),
        "arkit_to_expression": torch.zeros(52, 2),
        "arkit_to_pose": torch.zeros(52, 9),
    }
    info = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "id": head_id,
        "parts": list(PARTS),
        "expressions": list(EXPRESSIONS),
        "licence": "CC0-1.0",
        "provenance": "made by a test",
    }
    return HeadModel(tensors, info)
