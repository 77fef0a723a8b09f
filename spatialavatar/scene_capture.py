"""The scene of a photo: background and body without the head, over which a driven head is composited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from spatialavatar.avatar import Avatar
from spatialavatar.easing import smoothstep
from spatialavatar.head import moved_with_torso
from spatialavatar.head_in_photo import BUST_CUT, HeadInPhoto, face_pixels, moving_bust, neck_pixels
from spatialavatar.photo_scene import MAX_SCENE_SIDE, PhotoScene, whole_camera
from spatialavatar.picture_fill import fill
from spatialavatar.records import BODY_SKIN, CLOTHES, HAIR, SEGMENT_CLASSES, Camera, Track
from spatialavatar.render import render
from spatialavatar.tracking.matting import fuse
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.photos import shared_networks

_SHOWN: Final = 0.15  # least matte of a pixel that shows some of the person
_REACH: Final = 0.015  # of the crop's side: how far hair and its shadow reach beyond the matte
_FRINGE: Final = 0.03  # of the crop's side: half of the width up to which hair beside the avatar's head is its fringe
_FLANK_TUCK: Final = 0.06  # of the crop's side: how far the body's neck continues behind the avatar's
_FLANK_RISE: Final = 0.01  # of the crop's side, above the chin: to where the body's neck reaches beside the avatar's
_FLANK_SLOPE: Final = 0.35  # width of that neck beside the avatar's over the distance from its upper end
_TRUNK_REACH: Final = 0.08  # of the crop's side: how far the torso continues behind hair
_LOOSE_REACH: Final = 0.18  # of the crop's side, from the avatar's head: where loose strands are
_FAINT: Final = 0.04  # least matte of a loose strand
_LINES_SIDE: Final = 400.0  # pixels of the crop's side at which thin lines are looked for
_LINE_WIDTH: Final = 0.02  # of the crop's side
_LINE_CONTRAST: Final = 5.0  # 8-bit levels
_PLAIN: Final = 14.0  # 8-bit levels, greatest standard deviation of a plain background beside the head
_FACE_SKIN: Final = SEGMENT_CLASSES.index("face_skin")
_COVERED: Final = 0.5  # alpha of the avatar's head from which a pixel counts as part of the person
_MIN_BESIDE: Final = 0.02  # least share of the picture outside of the person for its colours to be used
_BLEND: Final = 0.06  # of the crop's side: margin outside of the crop over which its matte blends into the photo's


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
    whole, avatar = avatar, avatar.without_bust()
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
    level, end = _neck_level(avatar, camera)
    above = 1.0 - _smooth_ramp(level, 0.0, end)
    side = float(box[2] - box[0])
    removed = _head_region(person, covered, above, side)
    classes = _classes(tracks[index], box, person.shape)
    skin = ~np.isin(classes, (CLOTHES, HAIR, _FACE_SKIN)) & _in_crop(box, person.shape)
    removed *= np.where(skin, np.minimum(above, 1.0 - _flank(skin, covered, level, side)), above)
    # What the driven head leaves out of its neck, such as hair that is painted on it, stays with the body.
    with torch.inference_mode():
        inner = HeadInPhoto(avatar, camera=camera, body=(person * (1.0 - removed)).astype(np.float32))
        shown, _ = render(inner.gaussians(avatar.reference), camera)
    left_out = covered & (shown[..., 3].numpy() < _COVERED) & (level > 0.0)
    removed *= 1.0 - cv2.GaussianBlur(left_out.astype(np.float32), (0, 0), max(0.5, 0.002 * side))
    torso = np.isin(classes, (BODY_SKIN, CLOTHES)) & (person > 0.5)
    trunk = _trunk(torso | (classes == _FACE_SKIN), side) & (level > 0.0)
    strands = np.isin(classes, (HAIR, 0)) & ((person > _FAINT) | _thin_lines(picture, person, covered, side))
    removed = np.maximum(removed, _loose(strands, covered, trunk | torso | (level > 1.3 * end), side))
    moving = _moving(whole, camera) * ~(covered & (classes == BODY_SKIN))
    fringe = cv2.dilate(moving * (classes == HAIR), _disc(max(1, round(0.4 * _REACH * side))))
    moving = np.maximum(moving, fringe * ~torso)
    over = cv2.GaussianBlur(moving * (trunk & (classes == HAIR)), (0, 0), max(0.5, 0.003 * side))
    removed = np.maximum(removed, moving)
    behind = fill(picture, _beside_the_person(person, removed, side)).astype(np.float32)
    if over.max() > 0.5:  # hair that hangs over the torso
        part = _around(over > 0.0, round(_TRUNK_REACH * side))
        solid = cv2.erode((torso & (removed == 0.0)).astype(np.uint8), _disc(2)) > 0
        inner = fill(np.ascontiguousarray(picture[part]), solid[part]).astype(np.float32)
        behind[part] += over[part][..., None] * (inner - behind[part])
    plate = np.round(picture + removed[..., None] * (behind - picture)).astype(np.uint8)
    body = np.round(255.0 * np.maximum(person * (1.0 - removed), over * person)).astype(np.uint8)
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


def _neck_level(avatar: Avatar, camera: Camera) -> tuple[NDArray[np.float32], float]:
    """(H, W) pixels below the chin along the neck, and those to where the photo's own neck ends."""
    (ux, uy), (lx, ly) = neck_pixels(avatar, camera).double().numpy()
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float32) + 0.5
    length = max(float(np.hypot(lx - ux, ly - uy)), 1.0)
    level = ((columns - ux) * (lx - ux) + (rows - uy) * (ly - uy)) / length
    return level.astype(np.float32), length


def _head_region(
    person: NDArray[np.float32], covered: NDArray[np.bool_], above: NDArray[np.float32], side: float
) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: what the avatar's head covers, and the fringe of the person around it.

    Thick parts of the person beyond that which hang together with the body, such as long hair, stay in the photo.
    """
    shown = (person > _SHOWN).astype(np.uint8)
    beyond = shown & ~covered
    half = max(2.0, _FRINGE * side)
    thick = _grown(cv2.distanceTransform(beyond, cv2.DIST_L2, 5) > half, half).astype(np.uint8)
    thick = _touching(thick | (beyond & (above < 0.5)), above < 0.5)
    near = _grown(covered, max(3.0, 4 * _FRINGE * side))
    reach = max(1, round(_REACH * side))
    region = cv2.dilate((covered | ((beyond & ~thick & near) > 0)).astype(np.uint8), _disc(reach))
    region &= ~cv2.erode(thick, _disc(max(1, reach // 2))) | covered
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), max(0.5, 0.25 * reach))
    return np.where(region > 0, np.maximum(soft, cv2.erode(region, _disc(max(1, reach // 2)))), soft)


def _beside_the_person(person: NDArray[np.float32], removed: NDArray[np.float32], side: float) -> NDArray[np.bool_]:
    """(H, W): pixels whose colours continue behind the person; all that stay, where the person fills the picture."""
    shown = (person > _SHOWN).astype(np.uint8)
    beside = (cv2.dilate(shown, _disc(max(1, round(0.5 * _REACH * side)))) == 0) & (removed == 0)
    return beside if beside.mean() > _MIN_BESIDE else removed == 0


def _classes(track: Track, box: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W): the classes of the crop's pixels; background beyond the crop."""
    segments = None if track.pictures is None else track.pictures.segments
    if segments is None:
        return np.zeros(shape, np.uint8)
    x0, y0, x1, _ = box
    step = segments.shape[2] / (x1 - x0)
    to_picture = np.array([[1.0 / step, 0.0, x0], [0.0, 1.0 / step, y0]])
    return cv2.warpAffine(segments[0].numpy(), to_picture, (shape[1], shape[0]), flags=cv2.INTER_NEAREST)


def _in_crop(box: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W): pixels within a box."""
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None] + 0.5
    x0, y0, x1, y1 = box
    return (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)


def _trunk(torso: NDArray[np.bool_], side: float) -> NDArray[np.bool_]:
    """(H, W): where the torso continues behind hair."""
    reach = max(1, round(_TRUNK_REACH * side))
    closed = ~_grown(~_grown(np.pad(torso, reach), reach), reach)
    return closed[reach:-reach, reach:-reach]


def _thin_lines(
    picture: NDArray[np.uint8], person: NDArray[np.float32], covered: NDArray[np.bool_], side: float
) -> NDArray[np.bool_]:
    """(H, W): thin lines beside the person, before a background that is plain; nothing before another."""
    scale = min(1.0, _LINES_SIDE / side)
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small, matte, head = (
        cv2.resize(value, size, interpolation=cv2.INTER_AREA) for value in (picture, person, covered.astype(np.float32))
    )
    near = _grown(head > 0.5, _LOOSE_REACH * side * scale)
    away = near & (matte < _FAINT)
    smooth = cv2.medianBlur(small, 2 * max(1, round(_LINE_WIDTH * side * scale)) + 1).astype(np.float32)
    if not away.any() or smooth[away].std(0).max() > _PLAIN:
        return np.zeros(person.shape, bool)
    lines = (np.abs(small - smooth).max(-1) > _LINE_CONTRAST) & away
    return cv2.resize(lines.astype(np.uint8), person.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def _loose(
    strands: NDArray[np.bool_], covered: NDArray[np.bool_], kept: NDArray[np.bool_], side: float
) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: strands of hair beside the head and the neck, which the avatar does not have."""
    near = _grown(covered, _LOOSE_REACH * side)
    region = cv2.dilate((strands & near & ~kept).astype(np.uint8), _disc(max(1, round(0.5 * _REACH * side))))
    inside = cv2.erode(kept.astype(np.uint8), _disc(max(1, round(0.3 * _REACH * side))))
    return cv2.GaussianBlur((region & ~inside & 1).astype(np.float32), (0, 0), max(0.5, 0.15 * _REACH * side))


def _moving(avatar: Avatar, camera: Camera) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: what the part of the bust that moves with the neck covers in the photo."""
    bust = moving_bust(avatar, BUST_CUT)
    if bust is None:
        return np.zeros((camera.height, camera.width), np.float32)
    with torch.inference_mode():
        _, alpha = render(moved_with_torso(bust, avatar.reference, avatar.identity()), camera)
    return np.clip(1.5 * alpha.numpy() - 0.25, 0.0, 1.0).astype(np.float32)


def _flank(
    skin: NDArray[np.bool_], covered: NDArray[np.bool_], level: NDArray[np.float32], side: float
) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: the sides of a neck that is wider than the avatar's, and the skin next to them behind the head.

    They stay with the body; towards the jaw, which turns, they become narrower.
    """
    width = cv2.distanceTransform((~covered).astype(np.uint8), cv2.DIST_L2, 5) / side
    beside = cv2.morphologyEx((skin & ~covered).astype(np.uint8), cv2.MORPH_OPEN, _disc(max(1, round(0.002 * side))))
    near = _grown(beside > 0, _FLANK_TUCK * side)
    slope = _smooth_ramp(_FLANK_SLOPE * (level / side + _FLANK_RISE) - width, 0.0, 0.01)
    return np.where(covered, near * _smooth_ramp(level / side, 0.0, 0.05), slope).astype(np.float32)


def _grown(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """(H, W): pixels at most ``radius`` from a mask."""
    if not mask.any():
        return mask.copy()
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= radius


def _around(mask: NDArray[np.bool_], pad: int) -> tuple[slice, slice]:
    """The rows and columns of a mask's box, with ``pad`` pixels around it."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(max(0, rows[0] - pad), rows[-1] + 1 + pad), slice(max(0, columns[0] - pad), columns[-1] + 1 + pad)


def _smooth_ramp(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """0 up to ``low``, 1 from ``high``, smooth between."""
    return smoothstep(values, low, high).astype(np.float32)


def _touching(mask: NDArray[np.uint8], place: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The connected parts of a mask that reach a place."""
    _, labels = cv2.connectedComponents(mask)
    kept = np.unique(labels[place & (mask > 0)])
    return np.isin(labels, kept[kept > 0]).astype(np.uint8)


def _ramp(values: NDArray[np.float64], start: float, width: float) -> NDArray[np.float64]:
    return np.clip((values - start) / max(width, 1e-6), 0.0, 1.0)


def _disc(radius: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
