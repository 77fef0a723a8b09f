"""Positions of the landmark network's 478 points on a head, detected in renderings of the mean head.

The head is rendered with painted irises, brows and lips from several sides, the network marks its points, and the
depth buffer tells which point of which triangle each mark hit. Views are averaged by how squarely they see a point.
Points with a place of their own are put there: irises on the eyeballs, lid points on the lids' edge, inner-lip points
on the lips' edge, which only a view with an open mouth can tell apart. At the end left and right are made twins.

Works for any head in the head-file format; parts that a head lacks are done without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from spatialavatar.head import BEHIND_LIPS, HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import Camera
from spatialavatar.render.mesh import MeshFragments, rasterize_mesh, vertex_normals
from spatialavatar.tracking import landmark_sets as sets
from spatialavatar.tracking.landmarker import Roi

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IRIS_RADIUS = 5.9e-3
"""Metres; the horizontal visible iris diameter of adults is 11.7 +- 0.4 mm."""

_SIZE = 1024
_FOCAL = 1400.0  # pixels of a 512-pixel picture: nearly parallel, as the network expects
_DISTANCE = 1.3  # metres from the camera to the eyes
_CLOSED_VIEWS = ((0, 0), (-25, 0), (25, 0), (0, -15), (0, 15), (-12, 0), (12, 0))  # yaw, pitch in degrees
_OPEN_VIEWS = ((0, 0), (-12, 0), (12, 0))
_OPENING = 0.5  # of jawOpen
_AGREEMENT = 0.008  # metres between two views' places of a point at which the second loses three quarters
_SKIN = ("face", "scalp", "lips")  # never the neck or the ears behind the jaw line
_COLOURS = {
    "lips": (176, 92, 88),
    "scalp": (92, 70, 58),
    "mouth": (70, 22, 24),
    "tongue": (150, 70, 72),
    "teeth_upper": (225, 218, 205),
    "teeth_lower": (225, 218, 205),
}
_SKIN_COLOUR = (222, 176, 152)
# Without the inner corners, where the lids run on beyond the eyeball, and the outer ones, which both lids share.
_LIDS = tuple(
    index
    for lid in (sets.UPPER_LID_RIGHT, sets.LOWER_LID_RIGHT, sets.UPPER_LID_LEFT, sets.LOWER_LID_LEFT)
    for index in lid[1:-2]
)
_UPPER_EDGE, _LOWER_EDGE = sets.UPPER_LIP_INNER[1:-1], sets.LOWER_LIP_INNER[1:-1]
# On the red of the lips, between their outer line and their edge.
_UPPER_RED = (184, 74, 73, 72, 11, 302, 303, 304, 408, 183, 42, 41, 38, 12, 268, 271, 272, 407)
_LOWER_RED = (77, 90, 180, 85, 16, 315, 404, 320, 307, 96, 89, 179, 86, 15, 316, 403, 319, 325)
_UPPER_LIP, _LOWER_LIP = (*_UPPER_EDGE, *_UPPER_RED), (*_LOWER_EDGE, *_LOWER_RED)


class Landmarker(Protocol):
    """Interface of the landmark network (``spatialavatar.tracking.landmarker.FaceLandmarker``)."""

    def landmarks(self, image: NDArray[np.uint8], roi: Any, passes: int = 1) -> Any:
        """An object whose ``points`` are (478, 3) landmarks in pixels of ``image`` (H, W, 3)."""


@dataclass(frozen=True)
class View:
    """One rendering of the head, with the surface point of each pixel.

    Attributes:
        image: (H, W, 3) uint8.
        rest: (H, W, 3) the seen point on the rest head, metres; 0 where there is none.
        facing: (H, W) cosine of surface normal and view ray; 0 where there is no head.
        part: (H, W) index into the head's parts; -1 where there is no head.
        points: (478, 3) what the network marked, pixels.
    """

    image: NDArray[np.uint8]
    rest: Floats
    facing: Floats
    part: Ints
    points: Floats


def embed_landmarks(head: HeadModel, landmarker: Landmarker) -> dict[str, Tensor]:
    """The landmark tensors of a head file.

    Args:
        head: the head; its own landmark tensors, if it has any, are not looked at.
        landmarker: the landmark network.

    Returns:
        ``lmk478_faces`` (478,) int32, ``lmk478_bary`` (478, 3) float32, ``lmk68_faces`` (68,) and ``lmk68_bary``
        (68, 3).
    """
    closed = [render_view(head, landmarker, yaw, pitch) for yaw, pitch in _CLOSED_VIEWS]
    opened = [render_view(head, landmarker, yaw, pitch, _OPENING) for yaw, pitch in _OPEN_VIEWS]
    places = _pooled(head, closed, range(478), head_pixels(head, *_SKIN))
    places[list(_LIDS)] = _pooled(head, closed, _LIDS, _edge_pixels(head, ("eye_left", "eye_right")))[list(_LIDS)]
    lips = (*_UPPER_LIP, *_LOWER_LIP)
    places[list(lips)] = _pooled(head, opened, lips, head_pixels(head, *_SKIN))[list(lips)]
    inner = [*_UPPER_EDGE, *_LOWER_EDGE]
    places[inner] = _pooled(head, opened, inner, _edge_pixels(head, BEHIND_LIPS))[inner]
    for iris, side in ((sets.IRIS_RIGHT, "right"), (sets.IRIS_LEFT, "left")):
        places[list(iris)] = _iris(head, side, np.mean([view.points[list(iris)] for view in closed[:1]], 0))

    twins = _twins(places)
    places = 0.5 * (places + places[twins] * [-1.0, 1.0, 1.0])
    faces, bary = _snap(head, places, twins)
    dense = {
        "lmk478_faces": torch.from_numpy(faces.astype(np.int32)),
        "lmk478_bary": torch.from_numpy(bary.astype(np.float32)),
    }
    chosen = list(sets.IBUG_68)
    return dense | {
        "lmk68_faces": dense["lmk478_faces"][chosen].clone(),
        "lmk68_bary": dense["lmk478_bary"][chosen].clone(),
    }


# -- renderings -------------------------------------------------------------------------------------------------------


def render_view(head: HeadModel, landmarker: Landmarker, yaw: float, pitch: float, opening: float = 0.0) -> View:
    """Render the mean head and detect its landmarks.

    Args:
        head: the head.
        landmarker: the landmark network.
        yaw: degrees, positive to the subject's left.
        pitch: degrees, positive downwards.
        opening: weight of jawOpen.
    """
    weights = torch.zeros(1, 52)
    weights[0, ARKIT_INDEX["jawOpen"]] = opening
    expression, jaw, eyes = head.from_arkit(weights)
    neutral = head.neutral()
    rest = neutral.replace(expression=expression, jaw=jaw, eyes=eyes)
    posed = head.vertices(rest)[0].double().numpy()
    turn = _turn(yaw, pitch)
    middle = _eye_centres(head).mean(0)
    world = (posed - middle) @ turn.T + [0.0, 0.02, -_DISTANCE]
    camera = Camera.frontal(_SIZE, _FOCAL)
    fragments = rasterize_mesh(
        camera.to_camera(torch.from_numpy(world).float()).numpy(),
        head.faces.numpy(),
        camera.intrinsics.numpy(),
        _SIZE,
        _SIZE,
    )
    image, facing, seen, part = _shade(head, fragments, world)
    face = camera.project(torch.from_numpy(world[head.part_vertices("face").numpy()]).float()).numpy()
    low, high = face.min(0), face.max(0)
    roi = Roi((low + high) / 2, 1.4 * float((high - low).max()), 0.0)
    points = np.asarray(landmarker.landmarks(image, roi, passes=3).points, dtype=np.float64)
    return View(image, seen, facing, part, points)


def _turn(yaw: float, pitch: float) -> Floats:
    y, p = np.radians([yaw, pitch])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return about_x @ about_y


def _shade(head: HeadModel, fragments: MeshFragments, world: Floats) -> tuple[NDArray[np.uint8], Floats, Floats, Ints]:
    """Picture, facing, rest points and parts of every pixel."""
    inside = fragments.face >= 0
    corners = head.faces.numpy()[fragments.face[inside]]
    bary = fragments.bary[inside].astype(np.float64)

    def spread(values: Floats) -> Floats:
        """(H, W, ...) buffer with ``values`` at the head's pixels."""
        buffer = np.zeros((*inside.shape, *values.shape[1:]))
        buffer[inside] = values
        return buffer

    def interpolated(vertex_values: Floats) -> Floats:
        return (vertex_values[corners] * bary[..., None]).sum(1)

    template = head.template.double().numpy()
    normals = interpolated(vertex_normals(world, head.faces.numpy()).astype(np.float64))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    points, rest = interpolated(world), interpolated(template)
    facing = (normals * -points).sum(1) / np.linalg.norm(points, axis=1)
    part = head.face_parts.numpy()[fragments.face[inside]]
    colour = _paint(head, rest, part)
    light = np.array([0.25, 0.45, 0.86])
    shading = 0.45 + 0.55 * np.clip(normals @ light, 0.0, 1.0)
    picture = np.full((*inside.shape, 3), 205.0)
    picture[inside] = colour * shading[:, None]
    parts = np.full(inside.shape, -1, dtype=np.int64)
    parts[inside] = part
    return picture.clip(0, 255).astype(np.uint8), spread(facing), spread(rest), parts


def _paint(head: HeadModel, rest: Floats, part: Ints) -> Floats:
    """(N, 3) colours of points ``rest`` (N, 3) on parts ``part`` (N,)."""
    colour = np.broadcast_to(np.array(_SKIN_COLOUR, dtype=np.float64), rest.shape).copy()
    for name, value in _COLOURS.items():
        if name in head.parts:
            colour[part == head.parts.index(name)] = value
    for index, name in enumerate(("eye_right", "eye_left")):
        centre = _eye_centres(head)[index]
        on_eye = part == head.parts.index(name)
        offset = rest[on_eye] - centre
        across = np.linalg.norm(offset[:, :2], axis=1)
        front = offset[:, 2] > 0
        eye = np.broadcast_to(np.array([236.0, 233.0, 230.0]), (len(offset), 3)).copy()
        eye[front & (across < IRIS_RADIUS)] = (70.0, 46.0, 32.0)
        eye[front & (across < 0.4 * IRIS_RADIUS)] = (12.0, 10.0, 10.0)
        colour[on_eye] = eye
        # A brow is an arch over the eye, thinner towards the temple.
        outwards = (rest[:, 0] - centre[0]) * np.sign(centre[0])
        arch = centre[1] + 0.0195 - 12.0 * (outwards - 0.004) ** 2 * np.where(outwards > 0.004, 1.0, 0.35)
        thickness = np.interp(outwards, [-0.018, -0.012, 0.012, 0.026], [0.002, 0.0042, 0.0035, 0.001])
        on_brow = (part == head.parts.index("face")) & (rest[:, 2] > centre[2] - 0.005)
        on_brow &= (np.abs(rest[:, 1] - arch) < thickness) & (outwards > -0.018) & (outwards < 0.026)
        colour[on_brow] = (74.0, 54.0, 42.0)
    return colour


def _eye_centres(head: HeadModel) -> Floats:
    """(2, 3) right and left eye joints at rest, metres."""
    joints = head.identity(torch.zeros(head.shape_count)).joints.double().numpy()
    return joints[[4, 3]]


# -- from pixels to places --------------------------------------------------------------------------------------------


def head_pixels(head: HeadModel, *parts: str) -> Any:
    """A function of a view: (H, W) bool, its pixels on any of the named parts."""
    wanted = [head.parts.index(name) for name in parts if name in head.parts]
    return lambda view: np.isin(view.part, wanted)


def _edge_pixels(head: HeadModel, borders: Sequence[str]) -> Any:
    """A function of a view: the skin pixels next to any of the named parts; all skin where the view shows none."""
    skin, inner = head_pixels(head, *_SKIN), head_pixels(head, *borders)

    def edge(view: View) -> NDArray[np.bool_]:
        touching = skin(view) & binary_dilation(inner(view), iterations=1)
        return touching if touching.any() else skin(view)

    return edge


def _pooled(head: HeadModel, views: Sequence[View], indices: Sequence[int], allowed: Any) -> Floats:
    """Places of landmarks on the rest head: the mean over the views, weighted by how squarely each sees them.

    On the far side of a turned head the marks follow the outline and hit what lies in front; such hits are far from
    where the first view, the frontal one, puts the point, and count for next to nothing.

    Args:
        head: the head.
        views: the renderings.
        indices: which landmarks.
        allowed: function of a view that gives the (H, W) pixels on which a landmark may lie.

    Returns:
        (478, 3) metres; 0 for the other landmarks.
    """
    chosen = np.asarray(indices)
    total, weights = np.zeros((478, 3)), np.zeros(478)
    frontal: Floats | None = None
    for view in views:
        mask = allowed(view)
        distance, nearest = distance_transform_edt(~mask, return_indices=True)
        column, row = np.clip(view.points[chosen, :2].T, 0, _SIZE - 1).astype(int)
        hit = nearest[:, row, column]
        facing = np.clip(view.facing[hit[0], hit[1]], 0.02, 1.0)
        # Marks far from the head, for instance beside it, are down-weighted.
        weight = facing**2 / (1.0 + (distance[row, column] / 6.0) ** 2)
        place = view.rest[hit[0], hit[1]]
        frontal = place if frontal is None else frontal
        weight /= (1.0 + (np.linalg.norm(place - frontal, axis=1) / _AGREEMENT) ** 2) ** 2
        total[chosen] += weight[:, None] * place
        weights[chosen] += weight
    return total / np.maximum(weights, 1e-9)[:, None]


def _iris(head: HeadModel, side: str, marks: Floats) -> Floats:
    """(5, 3) the iris landmarks on the eyeball: its pole, and the ring in the order in which the network marked it."""
    centre = _eye_centres(head)[0 if side == "right" else 1]
    eyeball = head.template[head.part_vertices(f"eye_{side}")].double().numpy()
    radius = float(np.median(np.linalg.norm(eyeball - centre, axis=1)))
    height = float(np.sqrt(max(radius**2 - IRIS_RADIUS**2, 0.0)))
    places = np.tile(centre, (5, 1))
    places[0, 2] += radius
    for index in range(1, 5):
        offset = (marks[index, :2] - marks[0, :2]) * [1.0, -1.0]  # picture to head: y up
        axis = int(np.abs(offset).argmax())
        places[index, axis] += np.sign(offset[axis]) * IRIS_RADIUS
        places[index, 2] += height
    return places


# -- symmetry and triangles -------------------------------------------------------------------------------------------


def _twins(places: Floats) -> Ints:
    """(478,) the left-right twin of each landmark: the assignment under which mirrored places match best."""
    mirrored = places * [-1.0, 1.0, 1.0]
    cost = ((places[:, None] - mirrored[None]) ** 2).sum(-1)
    # Lips that touch at rest, and points of the eyes, match only points of the same part.
    groups = (sets.IRIS_RIGHT + sets.IRIS_LEFT, _UPPER_LIP, _LOWER_LIP, _LIDS)
    label = np.zeros(478)
    for number, group in enumerate(groups, 1):
        label[list(group)] = number
    cost[label[:, None] != label[None]] = 1.0
    _, twins = linear_sum_assignment(cost + cost.T)
    if not np.array_equal(twins[twins], np.arange(478)):
        raise ValueError("The landmarks of the left and the right half do not pair up; look at the renderings.")
    return twins


def _snap(head: HeadModel, places: Floats, twins: Ints) -> tuple[Ints, Floats]:
    """Triangle and barycentric weights of each place, exactly mirrored for twins."""
    faces = np.zeros(478, dtype=np.int64)
    bary = np.zeros((478, 3))
    template, triangles = head.template.double().numpy(), head.faces.numpy()
    for group, mask in _allowed_faces(head):
        candidates = mask.nonzero()[0]
        found, weights = closest_on_triangles(places[list(group)], template[triangles[candidates]])
        faces[list(group)], bary[list(group)] = candidates[found], weights
    mirror = head.mirror_vertices.numpy()
    lookup = {tuple(sorted(face)): index for index, face in enumerate(triangles.tolist())}
    for index, twin in enumerate(twins):
        if places[index, 0] < 0 or twin == index:
            continue
        corners = mirror[triangles[faces[index]]]
        twin_face = lookup.get(tuple(sorted(corners.tolist())))
        if twin_face is None:
            continue
        order = [corners.tolist().index(vertex) for vertex in triangles[twin_face]]
        faces[twin], bary[twin] = twin_face, bary[index][order]
    return faces, bary


def _allowed_faces(head: HeadModel) -> list[tuple[Sequence[int], NDArray[np.bool_]]]:
    """Landmark groups with the (F,) faces on which each may lie."""
    present = [name for name in _SKIN if name in head.parts]
    skin = head.part_faces(*present).numpy()
    moved = _jaw_motion(head)
    lips = (*_UPPER_LIP, *_LOWER_LIP)
    irises = (*sets.IRIS_RIGHT, *sets.IRIS_LEFT)
    rest = [index for index in range(478) if index not in lips and index not in irises]
    return [
        (rest, skin),
        (_UPPER_LIP, skin & (moved < 0.4)),
        (_LOWER_LIP, skin & (moved > 0.5)),
        (sets.IRIS_RIGHT, head.part_faces("eye_right").numpy()),
        (sets.IRIS_LEFT, head.part_faces("eye_left").numpy()),
    ]


def _jaw_motion(head: HeadModel) -> Floats:
    """(F,) motion of each face with the jaw, relative to the largest."""
    weights = torch.zeros(1, 52)
    weights[0, ARKIT_INDEX["jawOpen"]] = 1.0
    expression, jaw, eyes = head.from_arkit(weights)
    opened = head.vertices(head.neutral().replace(expression=expression, jaw=jaw, eyes=eyes))[0]
    distance = (opened - head.template).norm(dim=-1)
    return (distance / distance.max())[head.faces].mean(1).double().numpy()


def closest_on_triangles(points: Floats, corners: Floats) -> tuple[Ints, Floats]:
    """The nearest point on a set of triangles.

    Args:
        points: (N, 3).
        corners: (F, 3, 3).

    Returns:
        (N,) index of the triangle and (N, 3) barycentric weights of the nearest point on it.
    """
    index, bary = np.zeros(len(points), dtype=np.int64), np.zeros((len(points), 3))
    a, edges = corners[:, 0], corners[:, 1:] - corners[:, :1]
    gram = np.einsum("fic,fjc->fij", edges, edges)
    gram[:, [0, 1], [0, 1]] += 1e-18
    for number, point in enumerate(points):
        right = np.einsum("fic,fc->fi", edges, point - a)
        inner = np.linalg.solve(gram, right[..., None])[..., 0]
        options = [np.column_stack([1 - inner.sum(1), inner])]
        options[0][(options[0] < 0).any(1)] = np.nan
        for i, j in ((0, 1), (1, 2), (2, 0)):
            along = corners[:, j] - corners[:, i]
            share = ((point - corners[:, i]) * along).sum(1) / np.maximum((along**2).sum(1), 1e-18)
            share = np.clip(share, 0.0, 1.0)
            weights = np.zeros((len(corners), 3))
            weights[:, i], weights[:, j] = 1 - share, share
            options.append(weights)
        weights = np.stack(options, 1)  # (F, 4, 3)
        distance = np.linalg.norm(np.einsum("fok,fkc->foc", weights, corners) - point, axis=-1)
        best = int(np.nanargmin(distance))
        index[number], option = divmod(best, 4)
        bary[number] = weights[index[number], option]
    return index, bary
