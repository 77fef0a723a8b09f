"""A ball with a jaw, two eyes and both landmark sets: enough to prove the fit on, and known exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.tracking.landmark_sets import IBUG_68

from .ball_head import make_ball_head

UNITS = ("mouthSmileLeft", "mouthSmileRight", "browInnerUp", "cheekPuff", "eyeBlinkLeft", "eyeBlinkRight")
SHAPES = 8
JAW_AXIS = torch.tensor([0.0, -0.01, 0.02])
EYES = {"left": torch.tensor([0.032, 0.025, 0.09]), "right": torch.tensor([-0.032, 0.025, 0.09])}


def make_puppet_head() -> HeadModel:
    """A ball of radius 10 cm that looks along +z, with smooth random shape and expression modes."""
    ball = make_ball_head(rings=40, segments=64, head_id="puppet")
    points = ball.template * torch.tensor([1.0, 1.0, -1.0])  # the chart's seam to the back, the face to +z
    faces = ball.faces.flip(1)
    generator = torch.Generator().manual_seed(4)
    skinning = torch.zeros(len(points), 5)
    skinning[:, 2] = torch.sigmoid(-(points[:, 1] + 0.03) / 0.01) * torch.sigmoid((points[:, 2] - 0.02) / 0.01)
    for joint, side in ((3, "left"), (4, "right")):
        skinning[:, joint] = near(points, EYES[side])
    skinning[:, 0] = (1 - skinning.sum(1)).clamp_min(0)
    skinning = skinning / skinning.sum(1, keepdim=True)
    regressor = torch.zeros(5, len(points))
    for joint, place in (
        (0, torch.zeros(3)),
        (1, torch.zeros(3)),
        (2, JAW_AXIS),
        (3, EYES["left"]),
        (4, EYES["right"]),
    ):
        weights = torch.softmax(-(points - place).norm(dim=1) / 0.002, 0)
        regressor[joint] = weights
    correctives = torch.zeros(36, len(points), 3)
    correctives[9:18] = 0.2 * waves(points, 9, generator) * skinning[:, 2:3]
    arkit_to_expression = torch.zeros(52, len(UNITS))
    for column, name in enumerate(UNITS):
        arkit_to_expression[ARKIT_INDEX[name], column] = 1.0
    arkit_to_pose = torch.zeros(52, 9)
    arkit_to_pose[ARKIT_INDEX["jawOpen"], 0] = 0.3
    tensors = ball.tensors() | {
        "template": points,
        "faces": faces,
        "shape_basis": 0.3 * waves(points, SHAPES, generator),
        "expression_basis": 1.5 * waves(points, len(UNITS), generator),
        "pose_correctives": correctives,
        "joint_regressor": regressor,
        "skinning_weights": skinning,
        "arkit_to_expression": arkit_to_expression,
        "arkit_to_pose": arkit_to_pose,
    }
    dense = landmarks(points, faces, generator)
    tensors["lmk478_faces"], tensors["lmk478_bary"] = dense
    tensors["lmk68_faces"], tensors["lmk68_bary"] = (tensor[list(IBUG_68)] for tensor in dense)
    return HeadModel(tensors, ball.info | {"expressions": list(UNITS)})


def near(points: Tensor, place: Tensor) -> Tensor:
    """(V,) 1 within 8 mm of a place, falling to 0."""
    return torch.sigmoid((0.014 - (points - place / place.norm() * 0.1).norm(dim=1)) / 0.002)


def waves(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count, V, 3) smooth random displacements of about 1 mm."""
    frequency = 25.0 * torch.randn(count, 3, 3, generator=generator)
    phase = 6.28 * torch.rand(count, 1, 3, generator=generator)
    return 1e-3 * torch.sin(torch.einsum("vd,cdk->cvk", points, frequency) + phase)


def landmarks(points: Tensor, faces: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """478 random points on the front; the eye corners and the irises where they belong."""
    centres = points[faces].mean(1)
    front = (centres[:, 2] > 0.055).nonzero().squeeze(1)
    chosen = front[torch.randint(len(front), (478,), generator=generator)]
    wanted = {33: [-0.05, 0.02, 0.08], 133: [-0.015, 0.02, 0.09], 362: [0.015, 0.02, 0.09], 263: [0.05, 0.02, 0.08]}
    for index in range(5):
        wanted[468 + index] = (EYES["right"] + torch.tensor([0.0, 0.002 * index, 0.0])).tolist()
        wanted[473 + index] = (EYES["left"] + torch.tensor([0.0, 0.002 * index, 0.0])).tolist()
    for index, place in wanted.items():
        chosen[index] = (centres - torch.tensor(place)).norm(dim=1).argmin()
    bary = torch.rand(478, 3, generator=generator) + 0.05
    return chosen, bary / bary.sum(1, keepdim=True)
