"""The picture of a torso: what of a photo belongs to it, and how opaque it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatialavatar.avatar import Avatar
from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.numerics import Mask, Pixels, blur, smoothstep
from spatialavatar.records import CLOTHES, HAIR, SEGMENT_CLASSES, Camera, HeadParams, Track
from spatialavatar.render.mesh import rasterize_mesh
from spatialavatar.tracking.picture_border import beyond_picture

DENSE = 478
"""Landmarks whose chin separates head and torso."""

_CHIN = 152
_ENCLOSED = 0.012  # metres from the background, beyond which a pixel is not part of the outline
_NEAREST = 0.1  # metres; a head is farther from its camera
_HANGING = (-0.02, 0.05)  # metres below the root joint between which hair that hangs on the head ends
_WEIGHT_BLUR = 0.002  # metres
_DARKENED = 0.003  # metres beside hair that is left out
_FACE_SKIN = SEGMENT_CLASSES.index("face_skin")


@dataclass(frozen=True, eq=False)
class TorsoPicture:
    """A photo around a torso, padded where its border cuts the torso off.

    Attributes:
        image: (H, W, 3) float32 sRGB; beside the torso, its colours continue.
        opacity: (H, W) float32 of the torso in front of everything; it fades out beyond the photo.
        background: (H, W) bool, pixels that show what is behind the person.
        clothes: (H, W) bool.
        hair: (H, W) bool.
        hidden: (H, W) bool, torso behind the head; its colours and its place are guesses.
        mesh_depth: (H, W) float32, depth of the posed head, metres; infinite beside it.
        root_weight: (H, W) float32, skinning weight of the root joint on the visible point of the neck; 0 elsewhere.
        neck: (H, W) bool, pixels in which the neck is the visible part of the head.
        in_photo: (H, W) bool, pixels of the photo itself.
        neck_weight: (H, W) float32, skinning weight of the neck joint on the torso; see :func:`neck_weights`.
        camera: of these pixels.
        params: head parameters, one frame.
    """

    image: Pixels
    opacity: Pixels
    background: Mask
    clothes: Mask
    hair: Mask
    hidden: Mask
    mesh_depth: Pixels
    root_weight: Pixels
    neck: Mask
    in_photo: Mask
    neck_weight: Pixels
    camera: Camera
    params: HeadParams

    @property
    def pixel(self) -> float:
        """Side of a pixel at the distance of the head, metres."""
        return float(self.params.translation[0, 2].abs()) / float(self.camera.intrinsics[0, 0])

    @property
    def area(self) -> float:
        """Area of the visible torso in the photo, square metres."""
        return float(self.opacity[~self.hidden & self.in_photo].sum()) * self.pixel**2


@dataclass(frozen=True, eq=False)
class _Padded:
    """Photo, matte and classes with repeated borders; ``inside`` is 1 in the ``photo`` and falls to 0 beyond it."""

    image: NDArray[np.uint8]
    matte: Pixels
    classes: NDArray[np.uint8]
    inside: Pixels
    photo: Mask
    camera: Camera


def torso_picture(avatar: Avatar, track: Track, config: BustConfig) -> TorsoPicture:
    """The torso in a tracked photo.

    Args:
        avatar: made from the photo.
        track: one frame with pictures and segments.
        config: constants.
    """
    padded = _padded(track, config)
    params, camera = track.params[0], padded.camera
    height, width = padded.matte.shape
    vertices = avatar.head.pose(avatar.identity(), params)[0]
    fragments = rasterize_mesh(
        camera.to_camera(vertices).numpy(), avatar.head.faces.numpy(), camera.intrinsics.numpy(), width, height
    )
    on_mesh = fragments.face >= 0
    face = np.maximum(fragments.face, 0)
    neck = on_mesh & avatar.head.part_faces(*avatar.head.available_parts("neck")).numpy()[face]
    weights = avatar.head.skinning_weights[:, 0].numpy()[avatar.head.faces.numpy()[face]]
    root_weight = np.where(neck, (weights * fragments.bary).sum(-1), 0.0).astype(np.float32)
    chin = float(camera.project(avatar.head.landmarks(vertices, DENSE)[_CHIN])[1])
    pixel = float(fragments.depth[on_mesh].min()) / float(camera.intrinsics[0, 0]) if on_mesh.any() else 1e-3
    root = avatar.identity().joints[0] + params.translation[0]
    root_row = float(camera.project(root[None])[0, 1])
    below = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - chin) * pixel  # metres below the chin

    classes, person = padded.classes, padded.matte > 0.5
    of_face = (classes == _FACE_SKIN) & (below < config.face_below)
    head_shows = on_mesh & ~neck
    clothes, hair = classes == CLOTHES, classes == HAIR
    rises = np.where(hair, smoothstep(below, -config.hair_rise, 0.0), 1.0)
    # The neck turns with the head: skin of the torso begins where the root joint holds it.
    weight = beside(root_weight, neck)
    held = np.where(neck, smoothstep(weight, *config.neck_fade), smoothstep(weight, *config.side_fade))
    held[_under(neck)] = 1.0
    rises = np.where(~clothes & ~hair, held * smoothstep(below, 0.0, config.skin_rise), rises)
    # A neck that is wider than the mesh's stands still beside it, narrower towards the jaw, which turns.
    flank = ~(on_mesh | clothes | hair | (classes == _FACE_SKIN))
    width = cv2.distanceTransform((~on_mesh).astype(np.uint8), cv2.DIST_L2, 5) * pixel
    slope = smoothstep(config.flank_slope * (below + config.flank_rise) - width, 0.0, 0.004)
    # Between a collar and the jaw it has no outline that could stand out.
    within = cv2.distanceTransform(person.astype(np.uint8), cv2.DIST_L2, 5) * pixel
    enclosed = smoothstep(within, 0.5 * _ENCLOSED, _ENCLOSED) * smoothstep(below, -config.hair_rise, 0.0)
    rises = np.where(flank, np.maximum.reduce([rises, slope, enclosed]), rises)
    shown = person & ~of_face & ~head_shows & (rises > 0.05)
    shown = _large_parts(shown & ((below > 0.0) | clothes), config.least_part) | (shown & (hair | flank))
    shown = _solid(shown & ~_strands(shown & hair, ~person, config.strand / pixel), config.wisp / pixel)
    # Behind head and neck clothes continue to the sides and downwards, and hair behind hair.
    tuck = disc(config.tuck / pixel)
    tuck[len(tuck) // 2 + 1 :] = 0
    behind = cv2.dilate((shown & clothes).astype(np.uint8), tuck) > 0
    near = (cv2.dilate((shown & hair).astype(np.uint8), tuck) > 0) & hair
    moving = neck & ~clothes & ~hair & (held < 0.05)
    beneath = cv2.dilate((shown & flank).astype(np.uint8), disc(config.flank_tuck / pixel)) > 0
    hidden = ((near & head_shows) | (behind & (head_shows | moving)) | (beneath & moving)) & person
    # Soft edges: the matte, but only next to visible pixels.
    reach = cv2.dilate(shown.astype(np.uint8), disc(4.0)) > 0
    opacity = padded.matte * reach * ~head_shows * ~of_face * rises
    tucked = np.where(beneath & ~behind, smoothstep(below, 0.0, config.skin_rise), 1.0)
    tucked = np.where(near & ~behind, smoothstep(below, -config.hair_rise, 0.0), tucked) * padded.matte
    opacity = np.where(hidden, tucked, opacity) * padded.inside
    # Hair that is left out darkens the pixels of clothes and skin beside it.
    left_out = cv2.dilate((hair & person & ~shown & ~head_shows).astype(np.uint8), disc(_DARKENED / pixel)) > 0
    known = shown & (padded.matte > 0.9) & padded.photo & (hair | ~left_out)
    return TorsoPicture(
        image=_continued(padded.image, known),
        opacity=opacity.astype(np.float32),
        background=padded.matte < 0.5,
        clothes=clothes & shown,
        hair=hair & shown,
        hidden=hidden,
        mesh_depth=fragments.depth,
        root_weight=root_weight,
        neck=neck,
        in_photo=padded.photo,
        neck_weight=neck_weights(on_mesh, neck, weight, clothes & shown, hair & (shown | hidden), pixel, root_row),
        camera=camera,
        params=params,
    )


def neck_weights(
    on_mesh: Mask, neck: Mask, root_weight: Pixels, clothes: Mask, hair: Mask, pixel: float, root_row: float
) -> Pixels:
    """(H, W) skinning weight of the neck joint on a torso, in [0, 1]; the rest is the root joint's.

    Skin bends with the nearest point of the head model's neck. Hair hangs on the head, and lies on clothes; between
    them, its weight falls with the distance from the head.

    Args:
        on_mesh: (H, W), the head model.
        neck: (H, W), its neck.
        root_weight: (H, W), the root joint's weight on the nearest visible point of the neck.
        clothes: (H, W).
        hair: (H, W).
        pixel: metres.
        root_row: of the root joint.
    """
    skin = np.where(neck, 1.0 - root_weight, (1.0 - root_weight) * (~clothes)).astype(np.float32)
    of_head, of_clothes = (
        cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) if mask.any() else np.full(neck.shape, 1e4)
        for mask in (on_mesh & ~neck, clothes)
    )
    hanging = of_clothes / np.maximum(of_clothes + of_head, 1.0)
    rows = np.arange(neck.shape[0], dtype=np.float32)[:, None] + 0.5
    hanging = hanging * (1.0 - smoothstep((rows - root_row) * pixel, *_HANGING))
    weight = np.where(hair, hanging, skin).astype(np.float32)
    return np.asarray(blur(weight, _WEIGHT_BLUR / pixel), np.float32)


def _padded(track: Track, config: BustConfig) -> _Padded:
    """The widest picture of a track, padded."""
    around, pictures = track.surroundings, track.require_pictures()
    if around is not None:
        image, matte, classes, camera = around.image, around.matte, around.segments, around.camera
    else:
        image, matte, classes = pictures.images[0], pictures.mattes[0], pictures.require_segments()[0]
        inside = ~beyond_picture(image[None], matte[None])
        columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
        x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        image, matte, classes = (value[y0:y1, x0:x1] for value in (image, matte, classes))
        camera = track.camera.window(x0, y0, x1, y1)
    distance = max(float(track.params.translation[0, 2].abs()), _NEAREST)
    pad = round(config.padding * float(camera.intrinsics[0, 0]) / distance)
    border = (0, pad, pad, pad)
    repeated = [
        cv2.copyMakeBorder(value.cpu().numpy(), *border, cv2.BORDER_REPLICATE) for value in (image, matte, classes)
    ]
    photo = np.pad(np.ones(matte.shape, bool), ((0, pad), (pad, pad)))
    rows = np.arange(len(photo), dtype=np.float32)[:, None]
    faded = 1.0 - smoothstep(rows - matte.shape[0], 0.0, 0.95 * pad)
    rounded = np.concatenate(
        [
            _shoulder(repeated[1][:, 0], pad)[:, ::-1],
            np.ones((len(rows), matte.shape[1]), np.float32),
            _shoulder(repeated[1][:, -1], pad),
        ],
        1,
    )
    return _Padded(
        image=repeated[0],
        matte=(repeated[1] / 255.0).astype(np.float32),
        classes=repeated[2],
        inside=(faded * rounded).astype(np.float32),
        photo=photo,
        camera=camera.window(-pad, 0, camera.width + pad, camera.height + pad),
    )


def _shoulder(border: NDArray[np.uint8], pad: int) -> Pixels:
    """(H, pad) in [0, 1]: a torso that a photo's border cuts off, rounded off beyond it, towards the right.

    Args:
        border: (H,), matte on the border.
        pad: width in pixels.
    """
    shown = np.flatnonzero(border > 127)
    top = int(shown[0]) if len(shown) else len(border)
    away = (np.arange(pad, dtype=np.float32)[None] + 0.5) / pad
    curve = top + (len(border) - top) * (1.0 - np.sqrt(1.0 - away**2))
    rows = np.arange(len(border), dtype=np.float32)[:, None] + 0.5
    return smoothstep(rows - curve, -1.0, 2.0).astype(np.float32)


def beside(values: Pixels, known: Mask) -> Pixels:
    """Values (H, W), those outside of ``known`` by the nearest known ones; 0 where nothing is known."""
    if not known.any():
        return np.zeros_like(values)
    unknown = (~known).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros(labels.max() + 1, np.float32)
    lookup[labels[known]] = values[known]
    return lookup[labels]


def _under(mask: Mask) -> Mask:
    """(H, W): pixels outside of a mask whose nearest pixel of it lies above them, more than beside them."""
    if not mask.any():
        return np.zeros_like(mask)
    rows, columns = (np.arange(side, dtype=np.float32) for side in mask.shape)
    near_row = beside(np.broadcast_to(rows[:, None], mask.shape), mask)
    near_column = beside(np.broadcast_to(columns[None], mask.shape), mask)
    return ~mask & (rows[:, None] - near_row > np.abs(columns[None] - near_column))


def disc(radius: float) -> NDArray[np.uint8]:
    """A structuring element of a radius in pixels."""
    size = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _large_parts(mask: Mask, least: float) -> Mask:
    """The connected parts of at least ``least`` of the area of the largest one."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= max(1.0, least * areas.max(initial=0)))[labels] & mask


def _strands(hair: Mask, background: Mask, radius: float) -> Mask:
    """Strands of hair of a width below ``2 * radius`` pixels that hang beside the torso and not on it."""
    core = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, disc(radius))
    thin = hair & (cv2.dilate(core, disc(0.5 * radius)) == 0)
    beside = cv2.dilate(background.astype(np.uint8), disc(2.0 * radius)) > 0
    _, labels = cv2.connectedComponents(thin.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel())
    return thin & (np.bincount(labels.ravel(), beside.ravel()) > 0.5 * areas)[labels]


def _solid(mask: Mask, radius: float) -> Mask:
    """The largest part that hangs together by more than strips of a width of ``2 * radius`` pixels, with its fringe."""
    core = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(radius)) > 0
    return mask & (cv2.dilate(_large_parts(core, 1.0).astype(np.uint8), disc(0.5 * radius)) > 0)


def _continued(image: NDArray[np.uint8], known: Mask) -> Pixels:
    """The image (H, W, 3) as float; outside of ``known``, the weighted mean of the nearest known colours."""
    picture = image.astype(np.float32) / 255.0
    result, missing = picture.copy(), ~known
    for sigma in (32.0, 12.0, 4.0, 1.5):
        weight = blur(known.astype(np.float32), sigma)
        mean = blur(picture * known[..., None], sigma) / np.maximum(weight, 1e-6)[..., None]
        use = missing & (weight > 0.02)
        result[use] = mean[use]
    return result
