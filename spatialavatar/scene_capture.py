"""Cuts the head out of a photo: the scene that a driven head is put back into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.head_in_photo import HeadInPhoto, face_pixels, neck_levels
from spatialavatar.photo_scene import MAX_SCENE_SIDE, PhotoScene, whole_camera
from spatialavatar.picture_fill import fill
from spatialavatar.records import Camera, Track
from spatialavatar.render import render
from spatialavatar.tracking.matting import fuse
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.photos import shared_networks

_SHOWN: Final = 0.03  # least matte of a pixel that shows some of the person
_REACH: Final = 0.015  # of the crop's side: how far hair and its shadow reach beyond the matte
_FRINGE: Final = 0.03  # of the crop's side: half of the width up to which hair beside the avatar's head is its fringe
_COVERED: Final = 0.5  # alpha of the avatar's head from which a pixel counts as part of the person
_BLEND: Final = 0.06  # of the crop's side, beside the crop, over which its matte passes into that of the whole photo


def capture_scene(
    images: Sequence[NDArray[np.uint8]], tracks: Sequence[Track], avatar: Avatar, networks: Networks | None = None
) -> PhotoScene:
    """The scene of an avatar: its reference photo without the head.

    Args:
        images: the photos (H, W, 3) uint8 sRGB that the avatar was made from.
        tracks: their tracks, in the same order, of one frame each.
        avatar: made from them.
        networks: opened networks to reuse.

    Raises:
        InputError: a track has no crop, because it was not made from a photo.
    """
    avatar = avatar.without_bust()
    index = _reference(tracks, avatar)
    networks = networks or shared_networks()
    crop = tracks[index].require_crop()[0].double().numpy()
    picture, scale = _scaled(images[index])
    box = crop * scale
    pictures = tracks[index].pictures
    crop_matte = None if pictures is None else pictures.mattes[0].numpy()
    person = _person_matte(picture, box, crop_matte, networks)

    camera = whole_camera(avatar.camera, torch.from_numpy(box), (picture.shape[1], picture.shape[0]))
    with torch.inference_mode():
        shown, _ = render(HeadInPhoto(avatar).gaussians(avatar.reference), camera)
    covered = shown[..., 3].numpy() > _COVERED
    above = _above_the_neck(avatar, camera)
    side = float(box[2] - box[0])
    removed = above * _head_region(person, covered, above, side)
    behind = fill(picture, removed == 0)
    plate = np.round(picture + removed[..., None] * (behind.astype(np.float32) - picture)).astype(np.uint8)
    body = np.round(255.0 * person * (1.0 - removed)).astype(np.uint8)
    mask = face_pixels(avatar, camera)
    tone = picture[mask].mean(0) / 255.0 if mask.any() else np.zeros(3)
    return PhotoScene.of(plate, body, torch.from_numpy(box), torch.from_numpy(tone))


def _reference(tracks: Sequence[Track], avatar: Avatar) -> int:
    """The index of the track whose parameters are the avatar's reference."""
    place = avatar.reference.translation[0].cpu()
    return int(np.argmin([float((track.params.translation[0] - place).norm()) for track in tracks]))


def _scaled(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The photo with even sides of at most ``MAX_SCENE_SIDE``, and its scale; an odd last row or column is cut off."""
    scale = min(1.0, MAX_SCENE_SIDE / max(image.shape[:2]))
    if scale < 1.0:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    return np.ascontiguousarray(image[:height, :width]), scale


def _person_matte(
    picture: NDArray[np.uint8], box: NDArray[np.float64], crop_matte: NDArray[np.uint8] | None, networks: Networks
) -> NDArray[np.float32]:
    """(H, W) matte of the person: that of the crop around the head, and beyond it that of the whole photo."""
    whole = fuse(networks.matting(picture), networks.segmenter(picture)).astype(np.float32)
    height, width = whole.shape
    if crop_matte is not None:
        x0, y0, x1, y1 = box
        step = crop_matte.shape[0] / (x1 - x0)
        to_picture = np.array([[1.0 / step, 0.0, x0], [0.0, 1.0 / step, y0]])
        fine = cv2.warpAffine(crop_matte.astype(np.float32) / 255.0, to_picture, (width, height))
        inside = np.zeros((height, width), np.float32)
        pad = _BLEND * (x1 - x0)
        # The crop's border is blended inwards, except where the picture ends before it.
        rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
        down = np.minimum(_ramp(rows, y0, pad) if y0 > 0 else 1.0, _ramp(-rows, -y1, pad) if y1 < height else 1.0)
        across = np.minimum(_ramp(columns, x0, pad) if x0 > 0 else 1.0, _ramp(-columns, -x1, pad) if x1 < width else 1)
        inside[:] = np.minimum(np.broadcast_to(down, (height,))[:, None], np.broadcast_to(across, (width,))[None])
        whole = inside * fine + (1.0 - inside) * whole
    return _connected(whole, box)


def _connected(matte: NDArray[np.float32], box: NDArray[np.float64]) -> NDArray[np.float32]:
    """The matte of the one person whose head is in the middle of ``box``: other people are background."""
    count, labels = cv2.connectedComponents((matte > 0.5).astype(np.uint8))
    if count <= 2:
        return matte
    height, width = matte.shape
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    label = int(labels[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)])
    if label == 0:
        return matte
    own = cv2.dilate((labels == label).astype(np.uint8), _disc(max(2, round(0.03 * (box[2] - box[0])))))
    return matte * own


def _above_the_neck(avatar: Avatar, camera: Camera) -> NDArray[np.float32]:
    """(H, W): 1 above the chin, 0 below the middle of the neck, smooth between, along the neck in the picture."""
    chin, middle = neck_levels(avatar)
    posed = _on_torso(torch.stack([chin, middle]), avatar)
    (ux, uy), (lx, ly) = camera.project(posed).double().numpy()
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float32) + 0.5
    along = np.array([lx - ux, ly - uy])
    along = along / max(float(along @ along), 1e-6)
    level = (columns - ux) * along[0] + (rows - uy) * along[1]
    t = np.clip(1.0 - level, 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def _on_torso(points: Tensor, avatar: Avatar) -> Tensor:
    """Rest points (P, 3) of the neck in the world, as the torso carries them in the reference."""
    rotation = axis_angle_to_matrix(avatar.reference.rotation[0])
    root = avatar.identity().joints[0]
    return (points - root) @ rotation.T + root + avatar.reference.translation[0]


def _head_region(
    person: NDArray[np.float32], covered: NDArray[np.bool_], above: NDArray[np.float32], side: float
) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: what the avatar's head covers, and the fringe of the person around it.

    Thick parts of the person beyond that which hang together with the body, such as long hair, stay in the photo.
    """
    shown = (person > _SHOWN).astype(np.uint8)
    beyond = shown & ~covered
    thick = cv2.morphologyEx(beyond, cv2.MORPH_OPEN, _disc(max(2, round(_FRINGE * side))))
    thick = _touching(thick | (beyond & (above < 0.5)), above < 0.5)
    near = cv2.dilate(covered.astype(np.uint8), _disc(max(3, round(4 * _FRINGE * side))))
    reach = max(1, round(_REACH * side))
    region = cv2.dilate((covered | ((beyond & ~thick & near) > 0)).astype(np.uint8), _disc(reach))
    region &= ~cv2.erode(thick, _disc(max(1, reach // 2))) | covered
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), max(0.5, 0.25 * reach))
    return np.where(region > 0, np.maximum(soft, cv2.erode(region, _disc(max(1, reach // 2)))), soft)


def _touching(mask: NDArray[np.uint8], place: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The connected parts of a mask that reach a place."""
    _, labels = cv2.connectedComponents(mask)
    kept = np.unique(labels[place & (mask > 0)])
    return np.isin(labels, kept[kept > 0]).astype(np.uint8)


def _ramp(values: NDArray[np.float64], start: float, width: float) -> NDArray[np.float64]:
    return np.clip((values - start) / max(width, 1e-6), 0.0, 1.0)


def _disc(radius: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
