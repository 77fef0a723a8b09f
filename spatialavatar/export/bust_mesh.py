"""A bust as a triangle mesh, for formats without Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, QhullError

from spatialavatar.records import Bust

_SOLID = 0.5  # opacity from which a Gaussian is part of the mesh
_REACH = 4.0  # an edge's greatest length, in sums of its Gaussians' standard deviations


@dataclass(frozen=True, eq=False)
class BustMesh:
    """The front surface of a torso.

    Attributes:
        points: (P, 3) float32 at rest in head space, metres.
        colors: (P, 3) float32 linear, as glTF has vertex colours.
        faces: (G, 3) uint32, counter-clockwise seen from the front.
        neck_weight: (P,) float32, skinning weight of the neck joint; the rest is the root joint's.
    """

    points: np.ndarray
    colors: np.ndarray
    faces: np.ndarray
    neck_weight: np.ndarray


def bust_mesh(bust: Bust) -> BustMesh | None:
    """Join the Gaussians of a bust to a surface, seen from the front; None where they make none."""
    rest = bust.gaussians
    solid = (rest.opacities > _SOLID).cpu().numpy()
    points, size = rest.means.cpu().numpy()[solid], rest.scales.amax(1).cpu().numpy()[solid]
    try:
        faces = Delaunay(points[:, :2].astype(np.float64)).simplices
    except (QhullError, ValueError):  # fewer than three, or all on a line
        return None
    corners = points[faces]
    length = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)
    near = (length < _REACH * (size[faces] + np.roll(size[faces], 1, 1))).all(1)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    away = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0.0
    faces = np.where(away[:, None], faces[:, ::-1], faces)[near]
    if not len(faces):
        return None
    used, index = np.unique(faces, return_inverse=True)
    srgb = rest.colors.cpu().numpy()[solid][used].clip(0.0, 1.0)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    weight = np.zeros(len(rest)) if bust.neck_weight is None else bust.neck_weight.cpu().numpy()
    faces = index.reshape(-1, 3).astype("<u4")
    return BustMesh(points[used].astype("<f4"), linear.astype("<f4"), faces, weight[solid][used].astype("<f4"))
