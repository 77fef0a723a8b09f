"""The Gaussians of every splat export: posed, centred on the middle of the skull, on the axes of the format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.driving import DriveConfig, retarget
from spatialavatar.errors import InputError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import matrix_to_quat, quat_multiply
from spatialavatar.motion import Motion
from spatialavatar.records import Gaussians, HeadParams

Axes = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

Y_UP: Axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""OpenGL's and glTF's axes, those of head space: x right in the picture, y up, the face looks along +z."""

Y_DOWN: Axes = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
"""OpenCV's axes: x right, y down, z away from the viewer, so that the avatar faces a viewer's camera."""

SH_CONSTANT = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi)): colour = 0.5 + this * f_dc


def held_pose(
    avatar: Avatar, units: Mapping[str, float], yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0
) -> HeadParams:
    """Head parameters of one frame of ARKit units and head angles in degrees, retargeted as in ``drive``, not moved.

    Raises:
        InputError: as for :meth:`Motion.held`.
    """
    track = Motion.held(units, yaw, pitch, roll).to_track(avatar.head)
    params = retarget(track, avatar, DriveConfig(smoothing=0.0))[0][0]
    return params.replace(translation=torch.zeros_like(params.translation))


def units_alone(avatar: Avatar) -> HeadParams:
    """52 frames: each ARKit unit at weight 1, the others at 0, the head straight ahead."""
    count = len(ARKIT_52)
    expression, jaw, eyes = avatar.head.from_arkit(torch.eye(count))
    return avatar.head.neutral(count).replace(expression=expression, jaw=jaw, eyes=eyes)


def exported_gaussians(
    avatar: Avatar, params: HeadParams | None, axes: Axes | Tensor, radius: float | None = None
) -> Gaussians:
    """World Gaussians on the CPU, the middle of the resting skull at the origin.

    Args:
        avatar: the avatar.
        params: pose and expression of one frame; None is at rest, looking straight ahead.
        axes: (3, 3) rotation from head space.
        radius: half the diagonal of the skull's box after scaling; None keeps metres.

    Raises:
        InputError: the Gaussians have other channels than three colours, or ``params`` are of several frames.
    """
    if avatar.gaussians.colors.shape[1] != 3:
        raise InputError(f"A splat file holds three colours, not {avatar.gaussians.colors.shape[1]} channels.")
    with torch.inference_mode():
        avatar = avatar.to("cpu")
        world = avatar.pose(params.to("cpu") if params is not None else avatar.with_torso(avatar.head.neutral()))
        low, high = skull_box(avatar)
        scale = 1.0 if radius is None else radius / (0.5 * float((high - low).norm()))
        rotation = torch.as_tensor(axes)
        quats = quat_multiply(matrix_to_quat(rotation[None]).expand(len(world), 4), world.quats)
        return world.replace(
            means=scale * (world.means - 0.5 * (low + high)) @ rotation.T,
            scales=scale * world.scales,
            quats=torch.nn.functional.normalize(quats, dim=-1),
        )


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 255] as the nearest uint8; others are clipped."""
    return np.rint(values).clip(0, 255).astype(np.uint8)
