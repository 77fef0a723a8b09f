"""The head model's neck made as narrow as the person's, whose outline the photo shows."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.generator.bust.picture import TorsoPicture
from spatialavatar.generator.numerics import Floats, smoothstep
from spatialavatar.head import root_motion

_INSIDE = 0.002  # metres of the outline within which the neck ends
_STRIP = 0.15  # of the person's half-width, into which all is drawn that stands out
_SMOOTH = 0.004  # metres along the neck
_HELD = (0.0, 0.1)  # skinning weights of the root joint between which the neck follows the outline
_HAIR = (0.004, 0.012)  # metres of offset between which a vertex of the neck holds hair, which keeps its place


def narrowed_neck(avatar: Avatar, picture: TorsoPicture) -> Tensor:
    """Vertex offsets (V, 3) at rest, metres, that draw the neck into the outline of the person.

    What lies well inside the outline keeps its place; what stands out is drawn into a strip along it, in each row of
    the picture and on each side on its own. Depth stays.

    Args:
        avatar: the head.
        picture: the torso's front.
    """
    head, camera = avatar.head, picture.camera
    posed = head.pose(avatar.identity(), picture.params)[0]
    columns, rows = camera.project(posed).double().numpy().T
    axis, person, mesh = _outlines(picture)
    known = np.arange(len(axis))
    side = columns - np.interp(rows - 0.5, known, axis)
    inner, outer = (
        np.where(side < 0.0, *(np.interp(rows - 0.5, known, values) for values in widths)) for widths in (person, mesh)
    )
    start = (1.0 - _STRIP) * inner
    beyond = np.maximum(np.abs(side) - start, 0.0)
    drawn = beyond * (np.clip((inner - start) / np.maximum(outer - start, 1e-6), 0.0, 1.0) - 1.0)
    weight = smoothstep(head.skinning_weights[:, 0].double().numpy(), *_HELD)
    weight = weight * head.part_vertices(*head.available_parts("neck")).numpy()
    if avatar.vertex_offsets is not None:
        weight = weight * (1.0 - smoothstep(avatar.vertex_offsets.double().norm(dim=1).numpy(), *_HAIR))
    depth = camera.to_camera(posed)[:, 2].double().numpy()
    across = weight * drawn * np.sign(side) * depth / float(camera.intrinsics[0, 0])
    moved = torch.from_numpy(across)[:, None] * camera.world_to_camera[0, :3].double()
    rotation, _ = (value[0].double() for value in root_motion(picture.params, avatar.identity()))
    return (moved @ rotation).float()


def _outlines(picture: TorsoPicture) -> tuple[Floats, Floats, Floats]:
    """Outlines of the neck in the H rows of the picture, pixels.

    Returns:
        The column of its axis (H,); the half-widths (2, H), on the left and on the right, of the person, at most the
        mesh's; the same of the mesh.
    """
    height, width = picture.neck.shape
    rows = np.flatnonzero(picture.neck.any(1))
    axis, person, mesh = np.full(height, 0.5 * width), np.ones((2, height)), np.ones((2, height))
    if not len(rows):
        return axis, person, mesh
    for row in rows:
        neck = np.flatnonzero(picture.neck[row])
        axis[row] = middle = 0.5 * (neck[0] + neck[-1] + 1.0)
        mesh[:, row] = middle - neck[0]
        beside = np.flatnonzero(picture.background[row]) + 0.5
        person[0, row] = middle - beside[beside < middle].max(initial=-np.inf)
        person[1, row] = beside[beside > middle].min(initial=np.inf) - middle
    person = np.minimum(np.maximum(person - _INSIDE / picture.pixel, 1.0), mesh)
    everywhere = np.arange(height)
    axis = np.interp(everywhere, rows, axis[rows])
    person, mesh = (
        gaussian_filter1d(
            [np.interp(everywhere, rows, side[rows]) for side in widths], _SMOOTH / picture.pixel, mode="nearest"
        )
        for widths in (person, mesh)
    )
    return axis, person, mesh
