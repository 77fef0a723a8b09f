"""Schemas of the records that several formats share: head parameters and the camera.

The ranges exceed every real head; they exclude values whose products overflow, such as a rotation of 1e38.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spatialavatar.tensor_files import Schema, bounded

MAX_COEFFICIENT = 1e3  # shape and expression coefficients, standard deviations or weights
MAX_ANGLE = 1e2  # axis-angle, radians
MAX_DISTANCE = 1e3  # metres
MAX_COORDINATE = 1e6  # pixels
MAX_SIDE = 1 << 14
"""Pixels a side of a camera's picture."""


def params_schema(prefix: str, frames: int | str) -> Schema:
    """Head parameters of ``frames`` frames without the shape, under names that begin with ``prefix``.

    The number of expression coefficients is the named size "E".
    """
    angles = {"rotation": 3, "neck": 3, "jaw": 3, "eyes": 6}
    return {
        f"{prefix}expression": bounded(MAX_COEFFICIENT, frames, "E"),
        f"{prefix}translation": bounded(MAX_DISTANCE, frames, 3),
        **{f"{prefix}{name}": bounded(MAX_ANGLE, frames, width) for name, width in angles.items()},
    }


CAMERA_SCHEMA: Schema = {
    "camera.intrinsics": bounded(MAX_COORDINATE, 3, 3),
    "camera.world_to_camera": bounded(MAX_DISTANCE, 4, 4),
}


def camera_faults(tensors: Mapping[str, Tensor]) -> list[str]:
    """Faults of a camera read by :data:`CAMERA_SCHEMA` that no range shows, for messages."""
    focal = tensors["camera.intrinsics"].diagonal()[:2]
    rotation = tensors["camera.world_to_camera"][:3, :3].float()
    faults = []
    if bool((focal < 1e-3).any()):
        faults.append("has a camera without a focal length")
    if not torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-2):
        faults.append("has a camera whose rotation is none")
    return faults


def is_size(value: object) -> bool:
    """Whether it is a whole number of pixels that a camera's picture can have a side."""
    return type(value) is int and 1 <= value <= MAX_SIDE
