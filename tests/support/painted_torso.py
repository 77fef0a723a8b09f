"""A grey head above a painted shirt, as the tracker sees it in a photo."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.records import BODY_SKIN, CLOTHES, SEGMENT_CLASSES, Camera, HeadMotion, Pictures, Track
from spatialavatar.render.mesh import rasterize_mesh

from .avatars import make_grey_avatar

SIZE = 256
DISTANCE = 0.76
SHIRT = (40, 60, 160)


def make_torso_photo(rows: int = SIZE, neck_side: int = 0) -> tuple[Avatar, Track]:
    """An avatar and its photo, whose picture ends after some rows.

    The person's neck is wider than the avatar's by ``neck_side`` pixels on each side, or narrower by ``-neck_side``.
    """
    avatar = make_grey_avatar(128)
    head, camera = avatar.head, Camera.frontal(SIZE)
    params = head.neutral().replace(translation=torch.tensor([[0.0, 0.05, -DISTANCE]]))
    avatar = Avatar(**{**vars(avatar), "reference": params, "camera": camera})
    vertices = head.pose(avatar.identity(), params)[0]
    points = camera.to_camera(vertices).numpy()
    face = rasterize_mesh(points, head.faces.numpy(), camera.intrinsics.numpy(), SIZE, SIZE).face
    neck = (face >= 0) & head.part_faces("neck").numpy()[np.maximum(face, 0)]
    classes = np.zeros((SIZE, SIZE), np.uint8)
    classes[face >= 0] = SEGMENT_CLASSES.index("face_skin")
    kernel = np.ones((1, 2 * abs(neck_side) + 1), np.uint8)
    change = cv2.dilate if neck_side > 0 else cv2.erode
    narrow = change(((face >= 0) & neck).astype(np.uint8), kernel) > 0
    classes[neck & (face >= 0)] = 0
    classes[narrow & (classes == 0)] = BODY_SKIN
    shirt = np.zeros((SIZE, SIZE), np.uint8)
    low = 0.05 if neck_side else 0.0  # a lower collar shows more of the neck
    outline = [[-0.06, -0.06, 0.0], [0.06, -0.06, 0.0], [0.19, -0.13, 0.0], [0.2, -0.4, 0.0], [-0.2, -0.4, 0.0]]
    corners = camera.project(torch.tensor(outline) + params.translation - torch.tensor([0.0, low, 0.0])).numpy()
    corners = np.concatenate([corners, [[2 * corners[:2, 0].mean() - corners[2, 0], corners[2, 1]]]])
    cv2.fillPoly(shirt, [np.round(corners).astype(np.int32)], 1)
    collar = (shirt > 0) & ~((face >= 0) & ~neck)
    collar[: round(float(corners[0, 1])) + 6] = False
    classes[collar] = CLOTHES
    image = np.full((SIZE, SIZE, 3), 128, np.uint8)
    image[classes == CLOTHES] = SHIRT
    matte = np.where(classes > 0, 255, 0).astype(np.uint8)
    image[rows:], matte[rows:], classes[rows:] = image[rows - 1], 0, 0
    pictures = Pictures(*(torch.from_numpy(value)[None] for value in (image, matte, classes)))
    motion = HeadMotion(params, 0.0, head.id, torch.ones(1))
    return avatar, Track(motion, camera, crop=torch.tensor([[0.0, 0.0, SIZE, SIZE]]), pictures=pictures)
