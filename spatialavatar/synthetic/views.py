"""Pictures of a synthetic head from phone cameras, with mattes and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from spatialavatar.records import SEGMENT_CLASSES, Camera, Gaussians, HeadParams
from spatialavatar.render import render
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.heads import SyntheticHead

PHONE_DISTANCES: Final = (0.35, 1.1)
"""Metres from a phone to the face it films."""

_MIDDLE: Final = np.array([0.0, 0.025, 0.03])
"""Middle of the head, head space, metres."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture of a head.

    Attributes:
        camera: world to camera; the world is head space.
        image: (H, W, 3) float32 sRGB in [0, 1], over the background.
        matte: (H, W) float32, 1 = person.
        segments: (H, W) uint8, index into ``SEGMENT_CLASSES``.
    """

    camera: Camera
    image: Array
    matte: Array
    segments: NDArray[np.uint8]


def look_at(eye: Array, target: Array, roll: float = 0.0) -> Array:
    """World to camera (4, 4), OpenCV axes, of a camera at ``eye`` that looks at ``target``; ``roll`` in radians."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, np.array([0.0, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    rows = np.stack([np.cos(roll) * right + np.sin(roll) * down, -np.sin(roll) * right + np.cos(roll) * down, forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rows, -rows @ eye
    return matrix


def phone_camera(
    yaw: float, pitch: float, rng: np.random.Generator | None = None, size: int = 512, distance: float | None = None
) -> Camera:
    """The crop around the head of a phone's picture, as the tracker would cut it.

    Args:
        yaw: degrees to the subject's left.
        pitch: degrees from above.
        rng: varies distance, framing and roll; None takes the means.
        size: pixels a side.
        distance: metres from the middle of the head; None draws one of a phone's.
    """
    far = distance or (0.75 if rng is None else float(np.exp(rng.uniform(*np.log(PHONE_DISTANCES)))) + 0.12)
    a, b = np.radians(yaw), np.radians(pitch)
    towards = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
    shift = np.zeros(3) if rng is None else rng.normal(0.0, 0.008, 3)
    roll = 0.0 if rng is None else float(rng.normal(0.0, 0.04))
    zoom = 1.0 if rng is None else float(rng.uniform(0.92, 1.06))
    middle = _MIDDLE + shift
    matrix = look_at(middle + far * towards, middle, roll)
    focal = zoom * size * far / 0.415  # the crop is about 42 cm wide at the head
    intrinsics = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return Camera(intrinsics, torch.from_numpy(matrix).float(), size, size)


def render_view(
    head: SyntheticHead,
    camera: Camera,
    background: Array | None = None,
    params: HeadParams | None = None,
    lit: bool = True,
) -> View:
    """Render a head.

    Args:
        head: the head.
        camera: in head space.
        background: (3,) sRGB, white by default, or a picture (H, W, 3).
        params: expression, one frame at the origin; the head's own by default.
        lit: with the light, or in even light.
    """
    return render_drawn(head.gaussians(params, lit), camera, background)


def render_drawn(drawn: tuple[Gaussians, Array], camera: Camera, background: Array | None = None) -> View:
    """Render what :meth:`SyntheticHead.gaussians` returned, so that many pictures share it.

    Args:
        drawn: Gaussians and their classes.
        camera: in head space.
        background: as in :func:`render_view`.
    """
    gaussians, classes = drawn
    labels = torch.nn.functional.one_hot(torch.from_numpy(classes), len(SEGMENT_CLASSES))[:, 1:].float()
    with torch.inference_mode():
        channels, alpha = render(gaussians.replace(colors=torch.cat([gaussians.colors, labels], 1)), camera)
    behind = np.ones(3) if background is None else background
    matte = alpha.numpy()
    image = channels[..., :3].numpy() + (1.0 - matte[..., None]) * behind
    segments = channels[..., 3:].numpy().argmax(-1).astype(np.uint8) + 1
    segments[matte < 0.5] = 0
    return View(camera, image.clip(0.0, 1.0).astype(np.float32), matte, segments)


def sample_background(rng: np.random.Generator, size: int) -> Array:
    """A random picture (size, size, 3) of soft colours: a wall, a gradient or a blurred room."""
    coarse = int(rng.integers(2, 7))
    tones = rng.uniform(0.1, 0.95) + rng.normal(0.0, rng.uniform(0.0, 0.22), (coarse, coarse, 3))
    place = np.linspace(0.0, coarse - 1.0, size)
    cells = np.meshgrid(place, place, indexing="ij")
    return np.stack([map_coordinates(channel, cells, order=1) for channel in np.moveaxis(tones, -1, 0)], -1).clip(0, 1)
