"""The picture of a torso's back, which no photo shows: clothes up to a collar, and skin of the nape above it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from spatialavatar.avatar import Avatar
from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.bust.picture import TorsoPicture, beside, disc, neck_weights
from spatialavatar.generator.numerics import Floats, Pixels, blur, smoothstep
from spatialavatar.records import Gaussians
from spatialavatar.render.mesh import MeshFragments, rasterize_mesh, vertex_normals

_EDGE = 0.0025  # half of the metres over which the collar ends
_INNER = (0.75, 1.0)  # opacities of the front, of the largest in the row beside, between which the back fades in
_DETAIL = 0.012  # metres; the radius of parts of the outline that hair beside it leaves out


def has_back(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> bool:
    """Whether the photo shows clothes on both sides of the neck, so that their outline is that of a back."""
    shown = picture.clothes & (picture.opacity > 0.5)
    axis = _root_pixel(avatar, picture)[0]
    left = np.arange(shown.shape[1]) + 0.5 < axis
    areas = int(shown[:, left].sum()), int(shown[:, ~left].sum())
    return min(areas) > config.both_sides * max(areas)


def _root_pixel(avatar: Avatar, picture: TorsoPicture) -> tuple[float, float]:
    """Column and row of the root joint."""
    root = avatar.identity().joints[0] + picture.params.translation[0]
    column, row = picture.camera.project(root[None])[0].tolist()
    return column, row


def back_picture(avatar: Avatar, picture: TorsoPicture, offsets: Tensor, config: BustConfig) -> TorsoPicture:
    """What a torso's back would show in the pixels of the photo, were its front not in the way.

    The outline is that of the front, without hair. Clothes begin at the height of the highest clothes in the photo,
    which lie beside the neck, and above them the nape's skin joins the head's.

    Args:
        avatar: made from the photo.
        picture: the front.
        offsets: (V, 3) of the neck, as :func:`spatialavatar.generator.bust.neck.narrowed_neck` gives them.
        config: constants.

    Returns:
        The back; its ``mesh_depth``, ``root_weight`` and ``neck`` are those of the far side of the neck.
    """
    far = _far_side(avatar, picture, offsets)
    neck = far.face >= 0
    corners = avatar.head.skinning_weights[:, 0].numpy()[avatar.head.faces.numpy()[np.maximum(far.face, 0)]]
    root_weight = np.where(neck, (corners * far.bary).sum(-1), 0.0).astype(np.float32)
    pixel = picture.pixel
    rows = np.arange(neck.shape[0], dtype=np.float32)[:, None] + 0.5
    collar = _collar(avatar, picture, config)
    above = (collar - rows) * pixel  # metres above the collar
    worn = 1.0 - smoothstep(above, -_EDGE, _EDGE)
    nearest_weight = beside(root_weight, neck)
    # The head model's neck may be wider than the person's.
    nape = neck * smoothstep(nearest_weight, *config.back_fade)
    nape = nape * (1.0 - smoothstep(blur(picture.background.astype(np.float32), 1.0), 0.2, 0.8))
    opacity = np.maximum(_outline(picture) * worn, nape)
    clothes = (worn > 0.5) & (opacity > 0.0)
    return replace(
        picture,
        image=_colors(avatar, picture, worn, config),
        opacity=opacity.astype(np.float32),
        clothes=clothes,
        hair=np.zeros_like(neck),
        hidden=np.zeros_like(neck),
        mesh_depth=far.depth,
        root_weight=root_weight,
        neck=neck,
        neck_weight=neck_weights(neck, neck, nearest_weight, clothes, np.zeros_like(neck), pixel, collar),
    )


def _outline(picture: TorsoPicture) -> Pixels:
    """(H, W) opacity of a torso without the hair that falls on it or hangs beside it, with a smooth outline."""
    body = (picture.opacity > 0.5) & ~picture.hair
    from_left = np.logical_or.accumulate(body, axis=1)
    from_right = np.logical_or.accumulate(body[:, ::-1], axis=1)[:, ::-1]
    window = disc(_DETAIL / picture.pixel)
    smooth = (from_left & from_right).astype(np.uint8)
    for operation in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
        smooth = cv2.morphologyEx(smooth, operation, window, borderType=cv2.BORDER_REPLICATE)
    # It ends inside the front's soft edge, which two layers would make harder and wider.
    row = cv2.dilate(picture.opacity, np.ones((1, 2 * round(_DETAIL / picture.pixel) + 1), np.uint8))
    inner = smoothstep(blur(picture.opacity, 2.0) / np.maximum(row, 1e-6), *_INNER)
    return np.asarray(picture.opacity * inner * blur(smooth.astype(np.float32), 1.0), np.float32)


def towards_camera(avatar: Avatar, posed: Gaussians, picture: TorsoPicture) -> Tensor:
    """(N,) cosine between the outward normal of each Gaussian of the head and the direction to the camera."""
    vertices = avatar.head.pose(avatar.identity(), picture.params)[0]
    normals = torch.from_numpy(vertex_normals(vertices.numpy(), avatar.head.faces.numpy()))
    normal = (normals[avatar.head.faces[avatar.layout.faces]] * avatar.layout.bary[..., None]).sum(1)
    world_to_camera = picture.camera.world_to_camera
    away = posed.means[: len(normal)] + world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
    return -(normalize(normal, dim=1) * normalize(away, dim=1)).sum(1)


def root_weights(avatar: Avatar) -> Tensor:
    """(N,) skinning weight of the root joint on each Gaussian of the head."""
    head, layout = avatar.head, avatar.layout
    return (head.skinning_weights[:, 0][head.faces[layout.faces]] * layout.bary).sum(-1)


def _far_side(avatar: Avatar, picture: TorsoPicture, offsets: Tensor) -> MeshFragments:
    """The farthest point of the neck in each pixel: the nearest one once depth is replaced by its inverse."""
    head = avatar.head
    # Without the avatar's own offsets, which may hold hair that hangs on the nape.
    vertices = head.pose(head.identity(avatar.shape, offsets), picture.params)[0]
    points = picture.camera.to_camera(vertices).double().numpy()
    index = np.flatnonzero(head.part_faces(*head.available_parts("neck")).numpy())
    height, width = picture.opacity.shape
    inverted = points / np.maximum(points[:, 2:], 1e-3) ** 2
    intrinsics = picture.camera.intrinsics.double().numpy()
    found = rasterize_mesh(inverted, head.faces.numpy()[index], intrinsics, width, height)
    on_neck = found.face >= 0
    depth = np.where(on_neck, 1.0 / found.depth, np.inf).astype(np.float32)
    return MeshFragments(np.where(on_neck, index[found.face], -1).astype(np.int32), found.bary, depth)


def _collar(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> float:
    """Row in which the clothes of the back begin: above those of the front, and not below the neck's base."""
    base = _root_pixel(avatar, picture)[1] + config.back_neckline[1] / picture.pixel
    rows = np.nonzero(picture.clothes)[0]
    if not len(rows):
        return base
    return min(base, float(np.quantile(rows, config.collar)) - config.back_neckline[0] / picture.pixel)


def _colors(avatar: Avatar, picture: TorsoPicture, worn: Floats, config: BustConfig) -> Pixels:
    """The front's clothes without their pattern, and above the collar the colours of the head's nape."""
    sigma = config.back_blur / picture.pixel
    known = picture.clothes & (picture.opacity > 0.9) & ~picture.hidden
    clothes = _spread_mean(picture.image, known.astype(np.float32), sigma) if known.any() else picture.image
    return (clothes + (1.0 - worn[..., None]) * (_nape(avatar, picture, config) - clothes)).astype(np.float32)


def _nape(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> Pixels:
    """Colours (H, W, 3) of the far side of the head's neck."""
    head, layout = avatar.head, avatar.layout
    posed = avatar.pose(picture.params)
    weight = root_weights(avatar)
    far = layout.mask(head, *head.available_parts("neck")) & (weight > 0.1) & (weight < config.back_fade[1])
    far &= towards_camera(avatar, posed, picture) < -0.3
    if not far.any():
        return picture.image
    height, width = picture.opacity.shape
    columns, rows = picture.camera.project(posed.means[far]).round().long().numpy().T
    columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
    colors, count = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    np.add.at(colors, (rows, columns), posed.colors[far, :3].numpy())
    np.add.at(count, (rows, columns), 1.0)
    mean = colors / np.maximum(count, 1.0)[..., None]
    return _spread_mean(mean.astype(np.float32), count, 0.4 * config.back_blur / picture.pixel)


def _spread_mean(image: Pixels, weight: Pixels, sigma: float) -> Pixels:
    """Local weighted mean (H, W, 3) of a picture, continued to where the weights vanish."""
    total = blur(weight, sigma)
    mean = (blur(image * weight[..., None], sigma) / np.maximum(total, 1e-9)[..., None]).astype(np.float32)
    near = total > 0.05 * total.max()
    return blur(np.stack([beside(mean[..., channel], near) for channel in range(3)], -1), sigma)
