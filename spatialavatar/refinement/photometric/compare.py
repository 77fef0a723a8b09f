"""Comparison of an avatar's render with a frame, pixel by pixel, at the frame's exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.records import BODY_SKIN, CLOTHES, Camera, HeadParams, Track
from spatialavatar.refinement.clip import screen_blur
from spatialavatar.refinement.deformation import Deformer
from spatialavatar.render import rasterize_view
from spatialavatar.render.mesh import rasterize_mesh

MIN_NOISE = 0.01
"""Smallest standard deviation of a colour channel between render and frame, in [0, 1]; no render fits better."""

_SOLID = 0.95  # coverage by matte and by render from which a pixel is compared
_MIN_PIXELS = 150  # with fewer compared pixels, a frame gives no correction


@dataclass(frozen=True, eq=False)
class Target:
    """A frame at one size.

    Attributes:
        image: (H, W, 3) float32 sRGB.
        usable: (H, W) bool, pixels that show skin or hair of the head only.
    """

    image: Tensor
    usable: Tensor


@dataclass(frozen=True, eq=False)
class Comparison:
    """A render against a frame, at M pixels.

    Attributes:
        camera: of the picture.
        vertices: (V, 3) posed head, world.
        face: (M,) triangle under each pixel.
        bary: (M, 3) barycentric weights of its corners.
        difference: (M, 3) exposed render minus frame.
        gradient: (M, 3, 2) of the mean of both pictures, per pixel to the right and down.
    """

    camera: Camera
    vertices: Tensor
    face: Tensor
    bary: Tensor
    difference: Tensor
    gradient: Tensor

    @property
    def error(self) -> float:
        """Mean absolute difference; NaN where too few pixels are compared."""
        return float(self.difference.abs().mean()) if len(self.difference) >= _MIN_PIXELS else float("nan")


class FrameComparer:
    """Compares an avatar in any pose with the frames of a track."""

    def __init__(self, avatar: Avatar, track: Track, seen: Tensor | None) -> None:
        """Prepare a track.

        Args:
            avatar: of the person, on the CPU.
            track: with pictures, on the CPU.
            seen: (H, W) bool, the pixels of the crop that may be used; None for all.
        """
        head = avatar.head
        self._gaussians, self._camera, self._seen = avatar.gaussians, track.camera, seen
        pictures = track.require_pictures()
        self._images, self._mattes, self._segments = pictures.images, pictures.mattes, pictures.segments
        identity = head.identity(track.params.shape, avatar.vertex_offsets)
        self._deformer = Deformer(head, avatar.layout, identity, avatar.residual)
        self._faces = head.faces.numpy().astype(np.int32)
        # The model's neck bends where the track has no parameter, and the parts below are not the head's.
        self._head_faces = ~head.part_faces(*head.available_parts("neck"))

    def target(self, frame: int, size: int) -> Target:
        """A frame scaled to ``size`` pixels."""
        usable = _scaled(self._mattes[frame], size) > _SOLID
        if self._segments is not None:
            classes = self._segments[frame]
            other = _scaled(((classes == BODY_SKIN) | (classes == CLOTHES)).byte() * 255, size)
            usable &= _dilated(other) < 1.0 - _SOLID
        if self._seen is not None:
            # The gradient at a pixel uses its neighbours, which must be usable too.
            usable &= _dilated(1.0 - _scaled(self._seen.byte() * 255, size)) == 0.0
        return Target(_scaled(self._images[frame], size), usable)

    def compare(self, params: HeadParams, target: Target) -> Comparison:
        """Render the avatar with the parameters of one frame and compare it with the frame."""
        size = len(target.image)
        camera = self._camera.resized(size, size)
        posed = self._deformer.pose(params)
        world = self._deformer.to_world(self._gaussians, posed)
        color, alpha, _ = rasterize_view(world, camera, eps2d=screen_blur(size / self._camera.width))
        image = color / alpha.clamp_min(0.5)
        mesh = rasterize_mesh(
            camera.to_camera(posed.vertices).numpy(), self._faces, camera.intrinsics.numpy(), size, size
        )
        face = torch.from_numpy(mesh.face).long()
        chosen = target.usable & (alpha[..., 0] > _SOLID) & (face >= 0)
        chosen &= self._head_faces[face.clamp_min(0)]
        gain = _exposure(image[chosen], target.image[chosen])
        gradient = _gradient(0.5 * (gain * image + target.image))
        return Comparison(
            camera,
            posed.vertices,
            face[chosen],
            torch.from_numpy(mesh.bary)[chosen],
            gain * image[chosen] - target.image[chosen],
            gradient[chosen],
        )


def _exposure(rendered: Tensor, target: Tensor) -> Tensor:
    """(3,) gains that fit rendered colours (M, 3) to the target's; outliers are down-weighted."""
    gain = torch.ones(3)
    for _ in range(2):
        weight = 1.0 / ((gain * rendered - target).abs().mean(-1, keepdim=True) + 2.0 * MIN_NOISE)
        product = (weight * rendered * target).sum(0)
        gain = (product / (weight * rendered.square()).sum(0).clamp_min(1e-6)).clamp(0.5, 2.0)
    return gain


def _gradient(image: Tensor) -> Tensor:
    """Central differences (H, W, C, 2) of a picture (H, W, C), per pixel to the right and down; 0 on its border."""
    right, down = torch.zeros_like(image), torch.zeros_like(image)
    right[:, 1:-1] = 0.5 * (image[:, 2:] - image[:, :-2])
    down[1:-1] = 0.5 * (image[2:] - image[:-2])
    return torch.stack([right, down], -1)


def _scaled(pixels: Tensor, size: int) -> Tensor:
    """(H, W) or (H, W, C) uint8 as float in [0, 1], averaged down to a width and height of ``size``."""
    planes = pixels.reshape(*pixels.shape[:2], -1).movedim(-1, 0)[None].float()
    if size != pixels.shape[0]:
        planes = torch.nn.functional.interpolate(planes, (size, size), mode="area")
    return (planes[0].movedim(0, -1) / 255.0).reshape(size, size, *pixels.shape[2:])


def _dilated(values: Tensor) -> Tensor:
    """(H, W): the largest value of each pixel and its eight neighbours."""
    return torch.nn.functional.max_pool2d(values[None, None], 3, 1, 1)[0, 0]
