"""A bust as a triangle mesh, for formats without Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, QhullError

from spatialavatar.records import Bust

_SOLID = 0.5  # opacity from which a Gaussian is part of the mesh
_CUT = 2.6  # radians from the front, beyond which points are copied across the cut in the back
_REACH = 4.0  # an edge's greatest length, in sums of its Gaussians' standard deviations


@dataclass(frozen=True, eq=False)
class BustMesh:
    """The surface of a torso.

    Attributes:
        points: (P, 3) float32 at rest in head space, metres.
        colors: (P, 3) float32 linear, as glTF has vertex colours.
        faces: (G, 3) uint32, counter-clockwise seen from outside.
        neck_weight: (P,) float32, skinning weight of the neck joint; the rest is the root joint's.
    """

    points: np.ndarray
    colors: np.ndarray
    faces: np.ndarray
    neck_weight: np.ndarray


def bust_mesh(bust: Bust) -> BustMesh | None:
    """Join the Gaussians of a bust to a surface; None where they make none.

    A bust with a back is unrolled around an axis inside it; one without is seen from the front.
    """
    rest = bust.gaussians
    solid = (rest.opacities > _SOLID).cpu().numpy()
    points, size = rest.means.cpu().numpy()[solid], rest.scales.amax(1).cpu().numpy()[solid]
    behind = bust.behind.cpu().numpy()[solid]
    axis = _axis(points, behind) if behind.any() else None
    try:
        faces = _around(points, axis) if axis is not None else Delaunay(points[:, :2].astype(np.float64)).simplices
    except (QhullError, ValueError):  # fewer than three, or all on a line
        return None
    corners = points[faces]
    length = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)
    near = (length < _REACH * (size[faces] + np.roll(size[faces], 1, 1))).all(1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.array([0.0, 0.0, 1.0]) if axis is None else (corners.mean(1) - axis) * np.array([1.0, 0.0, 1.0])
    faces = np.where(((normal * out).sum(1) < 0.0)[:, None], faces[:, ::-1], faces)[near]
    if not len(faces):
        return None
    used, index = np.unique(faces, return_inverse=True)
    srgb = rest.colors.cpu().numpy()[solid][used].clip(0.0, 1.0)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    weight = np.zeros(len(rest)) if bust.neck_weight is None else bust.neck_weight.cpu().numpy()
    faces = index.reshape(-1, 3).astype("<u4")
    return BustMesh(points[used].astype("<f4"), linear.astype("<f4"), faces, weight[solid][used].astype("<f4"))


def _axis(points: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """A point (3,) of a vertical axis between front and back."""
    depth = 0.5 * (np.median(points[behind, 2]) + np.median(points[~behind, 2]))
    return np.array([0.5 * (points[:, 0].min() + points[:, 0].max()), 0.0, depth])


def _around(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Triangles (G, 3) between points (P, 3) by their angle around the axis and their height."""
    offset = (points - axis).astype(np.float64)
    radius = np.hypot(offset[:, 0], offset[:, 2])
    angle = np.arctan2(offset[:, 0], offset[:, 2])
    index = np.arange(len(points))
    # Copies continue the surface beyond its cut, which lies in the middle of the back.
    copies = [np.abs(angle) <= np.pi, angle > _CUT, angle < -_CUT]
    angles = np.concatenate([angle[part] + turn for part, turn in zip(copies, (0.0, -2 * np.pi, 2 * np.pi))])
    index = np.concatenate([index[part] for part in copies])
    faces = Delaunay(np.stack([np.median(radius) * angles, points[index, 1]], 1)).simplices
    middle = angles[faces].mean(1)
    return index[faces[(middle >= -np.pi) & (middle < np.pi)]]
