"""The surface of a torso from its silhouette: a membrane that is inflated and attached to the neck."""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from spatialavatar.avatar import Avatar
from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.bust.picture import TorsoPicture, beside
from spatialavatar.generator.numerics import Floats, Mask, Pixels, blur

STRIDE = 4
"""Pixels of the picture per node of the surface."""

_NECK_WEIGHT = (1.0, 0.05)  # of the neck's depth in the membrane: skin, clothes and hair
_TINY = 1e-6


def torso_depth(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> Pixels:
    """Depth (H / STRIDE, W / STRIDE) of the torso's front in the picture, metres; smooth beyond the torso.

    The height h above the plane of the outline obeys a membrane's equation in its square: the Laplacian of h^2 is
    constant, h = 0 on the outline, so that a strip becomes half an elliptic cylinder. On the neck, h is the mesh's own.
    """
    rim = _rim(avatar, picture, config)
    cells = _cells(picture)
    depth, root_weight = _nearest(picture.mesh_depth), _nearest(picture.root_weight)
    neck = (cells["neck"] > 0.9) & np.isfinite(depth) & (root_weight > 0.1)
    domain = (cells["opacity"] > 0.02) | neck
    covered = np.maximum(cells["clothes"], cells["hair"]) > 0.5
    weight = np.where(neck, np.where(covered, _NECK_WEIGHT[1], _NECK_WEIGHT[0]), 0.0)
    height = _height(picture, domain, weight, np.where(neck, rim - depth, 0.0), rim, config.roundness)
    lift = np.where(cells["clothes"] > 0.5, config.clothes_lift, -config.skin_drop)
    lift = np.where(cells["hair"] > 0.5, config.hair_lift, lift)
    surface = rim - height - _smooth(lift, domain, 2.0)
    hidden = _coarse(picture.hidden) > 0.5
    surface = np.where(hidden & np.isfinite(depth), np.maximum(surface, depth + 0.012), surface)
    return _spread(surface, domain)


def back_depth(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> Pixels:
    """The same of the torso's back, for a picture as :func:`spatialavatar.generator.bust.back.back_picture` makes.

    Its outline is that of the front, so that the two close; on the neck, it follows the mesh's far side.
    """
    rim = _rim(avatar, picture, config)
    depth = _nearest(picture.mesh_depth)
    neck = (_coarse(picture.neck) > 0.9) & np.isfinite(depth)
    domain = (_coarse(picture.opacity) > 0.02) | neck
    height = _height(
        picture,
        domain,
        np.where(neck, _NECK_WEIGHT[0], 0.0),
        np.where(neck, depth - rim, 0.0),
        rim,
        config.back_roundness,
    )
    lift = np.where(_coarse(picture.clothes) > 0.5, config.clothes_lift, -config.skin_drop)
    return _spread(rim + height + _smooth(lift, domain, 2.0), domain)


def _rim(avatar: Avatar, picture: TorsoPicture, config: BustConfig) -> float:
    """Depth of the plane of the torso's outline, metres."""
    root = avatar.head.identity(avatar.shape).joints[0] + picture.params.translation[0]
    return float(picture.camera.to_camera(root)[2]) + config.rim


def _cells(picture: TorsoPicture) -> dict[str, Pixels]:
    """Shares of what the cells of the surface's grid show."""
    return {name: _coarse(getattr(picture, name)) for name in ("opacity", "clothes", "hair", "neck")}


def _height(
    picture: TorsoPicture, domain: Mask, weight: Floats, target: Floats, rim: float, roundness: float
) -> Floats:
    """Height (h, w) in front of the plane of the outline or behind it, metres.

    Args:
        picture: for its background and the photo's borders.
        domain: cells of the torso.
        weight: of the target in the membrane.
        target: wanted height; below 0 counts as 0.
        rim: depth of the plane.
        roundness: as in :class:`BustConfig`.
    """
    size = STRIDE * rim / float(picture.camera.intrinsics[0, 0])
    outline = _outline(domain, picture)
    squared = _membrane(domain, outline, weight, np.maximum(target, 0.0) ** 2, roundness * size**2)
    return np.sqrt(np.maximum(squared, 0.0))


def _outline(domain: Mask, picture: TorsoPicture) -> tuple[Mask, Mask]:
    """Cells beyond the torso's end: for those above and below, and for those to the sides.

    Beyond the photo's sides, the torso ends where its picture does.
    """
    outline = (_coarse(picture.background) > 0.5) & ~domain
    return outline, outline | (~domain & (_coarse(picture.in_photo) < 0.5))


def torso_outline(back: TorsoPicture) -> Pixels:
    """Opacity (H / STRIDE, W / STRIDE) of what joins front and back on the back's outline; 0 elsewhere."""
    opacity = _coarse(back.opacity)
    # Of the row beside, so that the outline is opaque where the torso is, and fades out with it.
    row = np.asarray(cv2.dilate(opacity, np.ones((1, 9), np.uint8)), np.float32)
    solid = (opacity > 0.5 * row) & (opacity > 0.02)
    above_and_beside = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0]], np.uint8)  # the lower end stays open
    inner = cv2.erode(solid.astype(np.uint8), above_and_beside) > 0
    return np.where(solid & ~inner, row, 0.0).astype(np.float32)


def _coarse(values: Mask | Pixels) -> Pixels:
    """Means over the cells of the surface's grid."""
    height, width = (side // STRIDE * STRIDE for side in values.shape)
    cells = values[:height, :width].astype(np.float32).reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE)
    return np.asarray(cells.mean((1, 3)), np.float32)


def _nearest(values: Pixels) -> Pixels:
    """Values at the centres of the cells of the surface's grid."""
    height, width = (side // STRIDE * STRIDE for side in values.shape)
    return values[STRIDE // 2 : height : STRIDE, STRIDE // 2 : width : STRIDE]


def _membrane(domain: Mask, outline: tuple[Mask, Mask], weight: Floats, target: Floats, load: float) -> Floats:
    """Solve for a height field (h, w): the sum of differences to the neighbours plus ``load`` is 0.

    Args:
        domain: pixels of the field; its border is free except at the outline.
        outline: where it is 0, seen from the cells above and below, and from those to the sides.
        weight: of ``target`` in each cell.
        target: wanted values.
        load: of each cell.
    """
    index = np.full(domain.shape, -1)
    index[domain] = np.arange(int(domain.sum()))
    count = int(domain.sum())
    diagonal = weight[domain].astype(np.float64) + _TINY
    right = load + weight[domain] * target[domain]
    rows, columns = [], []
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        neighbour = _shifted(index, axis, step, -1)[domain]
        fixed = _shifted(outline[axis], axis, step, False)[domain]
        inside = neighbour >= 0
        diagonal += inside | fixed
        rows.append(np.flatnonzero(inside))
        columns.append(neighbour[inside])
    row, column = np.concatenate(rows), np.concatenate(columns)
    matrix = sp.diags(diagonal) - sp.csr_matrix((np.ones(len(row)), (row, column)), shape=(count, count))
    result = np.zeros(domain.shape)
    if count:
        result[domain] = spsolve(matrix.tocsc(), right)
    return result


def _shifted(values: np.ndarray, axis: int, step: int, fill: object) -> np.ndarray:
    """Values of the neighbours one step along an axis; ``fill`` beyond the border."""
    result = np.full_like(values, fill)
    source, place = [slice(None)] * 2, [slice(None)] * 2
    source[axis] = slice(1, None) if step > 0 else slice(None, -1)
    place[axis] = slice(None, -1) if step > 0 else slice(1, None)
    result[tuple(place)] = values[tuple(source)]
    return result


def _smooth(values: Floats, domain: Mask, sigma: float) -> Pixels:
    """Gaussian mean within the domain."""
    inside = domain.astype(np.float32)
    mean = blur(values.astype(np.float32) * inside, sigma) / np.maximum(blur(inside, sigma), _TINY)
    return mean.astype(np.float32)


def _spread(values: Floats, domain: Mask) -> Pixels:
    """The field, slightly smoothed, and continued beyond its domain by the nearest values."""
    return blur(beside(values.astype(np.float32), domain), 1.0)
