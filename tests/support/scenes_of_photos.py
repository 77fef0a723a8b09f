"""A grey head that keeps the scene of a made-up photo."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.photo_scene import PhotoScene

from .avatars import make_grey_avatar

SIZE = (160, 120)
"""Width and height of the photo."""
BOX = (40.0, 8.0, 136.0, 104.0)


def plate() -> np.ndarray:
    """(H, W, 3): a smooth background."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.stack([40 + rows, 60 + columns, np.full_like(rows, 120)], -1).astype(np.uint8)


def body() -> np.ndarray:
    """(H, W): the matte of a body below the head."""
    matte = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    matte[100:, 50:120] = 255
    return matte


@lru_cache
def avatar_with_scene(resolution: int = 48) -> Avatar:
    """The avatar; its head is in the middle of the box."""
    avatar = make_grey_avatar(resolution)
    reference = avatar.reference.replace(translation=torch.tensor([[0.0, 0.0, -0.8]]))
    scene = PhotoScene.of(plate(), body(), torch.tensor(BOX), torch.full((3,), 0.5))
    return replace(avatar, reference=reference, scene=scene)
