"""Pictures of a synthetic head in the form of the tracker's output: with the errors of a fit, a matte and a crop."""

from __future__ import annotations

import hashlib
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from spatialavatar.generator.numerics import Floats, blur
from spatialavatar.generator.sources import SourceView
from spatialavatar.head.rotations import matrix_to_axis_angle
from spatialavatar.records import Camera, Gaussians, HeadParams
from spatialavatar.synthetic import SyntheticHead, View, phone_camera
from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.synthetic.views import render_drawn

_FRONTAL: Final = 0.4
"""Share of pictures from the front."""

_ROTATION_ERROR: Final = 0.012
"""Radians, deviation of the fitted pose's error about each axis."""

_TRANSLATION_ERROR: Final = 0.0012
"""Metres."""

_SHAPE_ERROR: Final = 0.15
"""Of each shape coefficient."""

_CUT: Final = 0.25
"""Share of pictures whose crop reaches beyond the source picture."""


def fitted_shape(head: SyntheticHead, draw: np.random.Generator) -> torch.Tensor:
    """(S,) shape as a tracker would find it; shared by all pictures of the head."""
    return head.shape + torch.from_numpy(draw.normal(0.0, _SHAPE_ERROR, len(head.shape))).float()


def draw_angles(draw: np.random.Generator) -> tuple[float, float]:
    """Yaw and pitch of a camera, degrees: two fifths frontal, the others up to 60 degrees aside."""
    yaw = draw.normal(0.0, 7.0) if draw.random() < _FRONTAL else draw.uniform(-60.0, 60.0)
    return float(yaw), float(draw.uniform(-12.0, 18.0))


def picture(
    head: SyntheticHead, drawn: tuple[Gaussians, Floats], shape: torch.Tensor, draw: np.random.Generator
) -> SourceView:
    """A picture from a random side.

    Args:
        head: the head.
        drawn: its Gaussians and their classes.
        shape: (S,) of :func:`fitted_shape`.
        draw: source of all randomness.
    """
    camera = phone_camera(*draw_angles(draw), draw)
    view = render_drawn(drawn, camera, _background(draw, camera.height, camera.width))
    image = blur(view.image, float(draw.uniform(0.4, 1.2))) + draw.normal(0.0, 0.008, view.image.shape)
    matte = blur(view.matte.astype(np.float32), float(draw.uniform(0.5, 1.5)))
    segments = _uneven(view, draw)
    extent = np.array([[0.0, 0.0], [camera.width, camera.height]])
    if draw.random() < _CUT:
        extent = _cut(extent, draw)
        columns, rows = np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5
        inside = ((columns >= extent[0, 0]) & (columns <= extent[1, 0]))[None]
        inside = inside & ((rows >= extent[0, 1]) & (rows <= extent[1, 1]))[:, None]
        matte, segments = matte * inside, np.where(inside, segments, 0).astype(np.uint8)
    params = _fitted_pose(head.params.replace(shape=shape), camera, draw)
    return SourceView(
        image=image.clip(0.0, 1.0).astype(np.float32),
        matte=matte.clip(0.0, 1.0).astype(np.float32),
        segments=segments,
        landmarks=None,
        params=params,
        camera=Camera(camera.intrinsics, Camera.frontal(camera.width).world_to_camera, camera.width, camera.height),
        intrinsics=camera.intrinsics.double().numpy(),
        extent=extent,
        key=hashlib.sha256(image.tobytes()).hexdigest(),
    )


def _fitted_pose(params: HeadParams, camera: Camera, draw: np.random.Generator) -> HeadParams:
    """The head turned in front of the tracker's camera, with the errors of a fit."""
    model = anatomy().mesh.model
    frontal = Camera.frontal().world_to_camera
    turn = frontal[:3, :3].T @ camera.world_to_camera[:3, :3]
    shown = camera.to_camera(model.vertices(params)[0]) @ frontal[:3, :3]
    error = torch.from_numpy(draw.normal(0.0, _ROTATION_ERROR, 3)).float()
    posed = params.replace(rotation=matrix_to_axis_angle(turn)[None] + error)
    shift = (shown - model.vertices(posed)[0]).mean(0) + torch.from_numpy(
        draw.normal(0.0, _TRANSLATION_ERROR, 3)
    ).float()
    return posed.replace(translation=posed.translation + shift)


def _background(draw: np.random.Generator, height: int, width: int) -> Floats:
    """(H, W, 3) a blurred random pattern of one hue."""
    pattern = draw.uniform(0.0, 1.0, (4, 4, 1)) * draw.uniform(0.0, 0.6) + draw.uniform(0.0, 1.0, 3)
    return cv2.resize(pattern, (width, height), interpolation=cv2.INTER_CUBIC).clip(0.0, 1.0)


def _uneven(view: View, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Classes (H, W) uint8 with borders a few pixels off, as a network draws them."""
    height, width = view.segments.shape
    field = draw.normal(0.0, 1.0, (height // 16, width // 16, 2)).astype(np.float32)
    shift = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) * float(draw.uniform(0.5, 3.0))
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    maps = x + shift[..., 0], y + shift[..., 1]
    moved = cv2.remap(view.segments, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _cut(extent: Floats, draw: np.random.Generator) -> Floats:
    """``SourceView.extent`` of a picture that ends inside the crop, on one or two sides."""
    size = extent[1].copy()
    low, high = draw.uniform(0.0, 0.14, 2) * (draw.random(2) < 0.5), draw.uniform(0.0, 0.14, 2) * (draw.random(2) < 0.5)
    return np.stack([low * size, (1.0 - high) * size])
