"""Pixels of a track's frames as targets: picture, matte, and the pixels that a render of the head can match."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.records import BODY_SKIN, CLOTHES, Camera, Track
from spatialavatar.render.mesh import rasterize_mesh
from spatialavatar.tracking.picture_border import beyond_picture

_CLOTHES_MARGIN = 4 / 512  # share of the picture's width around clothes that is left out
_HAIR_REACH = 16 / 512  # share of the picture's width that hair may stand off the mesh


@dataclass(frozen=True, eq=False)
class View:
    """A window of one frame, in the form that a render is compared with.

    Attributes:
        box: x0, y0, x1, y1 of the window, pixels; outside there is background only.
        image: (H, W, 3) float32 sRGB.
        matte: (H, W) float32, 1 = person.
        weight: (H, W) float32, 1 on head and background, 0 where the head model has no surface (torso, clothes).
    """

    box: tuple[int, int, int, int]
    image: Tensor
    matte: Tensor
    weight: Tensor

    def window(self, camera: Camera) -> Camera:
        """The part of a camera of the whole frame that covers this window."""
        return camera.window(*self.box)


class FrameViews:
    """Views of a track's frames at any size up to the track's own."""

    def __init__(self, track: Track, head: HeadModel) -> None:
        """Keep the pictures of a track, which was made with ``head``."""
        pictures = track.require_pictures()
        self._images, self._mattes, self._segments = pictures.images, pictures.mattes, pictures.segments
        self._camera = track.camera.to("cpu")
        self._faces = head.faces.cpu().numpy().astype(np.int32)
        self._beyond = beyond_picture(self._images, self._mattes)
        self._weights: dict[int, Tensor] = {}
        self._boxes: dict[int, tuple[float, float, float, float]] = {}
        self._scaled: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def view(self, frame: int, vertices: Tensor, size: int, *, whole: bool = False) -> View:
        """One frame.

        Args:
            frame: its index.
            vertices: (V, 3) posed head, world; used at the first call for a frame only.
            size: width and height of the whole frame, pixels.
            whole: return the whole frame instead of the window around the head.
        """
        if frame not in self._weights:
            weight, self._boxes[frame] = self._head_region(frame, vertices)
            self._weights[frame] = weight.to(self._images.device)
        x0, y0, x1, y1 = (0.0, 0.0, 1.0, 1.0) if whole else self._boxes[frame]
        box = (int(x0 * size), int(y0 * size), math.ceil(x1 * size), math.ceil(y1 * size))
        x0, y0, x1, y1 = box
        image, matte, weight = (part[y0:y1, x0:x1].contiguous() / 255.0 for part in self._at_size(frame, size))
        return View(box, image, matte, weight)

    def _at_size(self, frame: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (H, W, 3), matte and weight (H, W) of a frame, uint8; cached where the size is not the track's."""
        parts = self._images[frame], self._mattes[frame], self._weights[frame]
        if size == len(parts[0]):
            return parts
        if (frame, size) not in self._scaled:
            planes = torch.cat([parts[0], parts[1][..., None], parts[2][..., None]], -1).movedim(-1, 0)[None]
            planes = torch.nn.functional.interpolate(planes.float(), (size, size), mode="area")[0]
            pixels = planes.round().byte()
            self._scaled[frame, size] = pixels[:3].movedim(0, -1).contiguous(), pixels[3], pixels[4]
        return self._scaled[frame, size]

    def _head_region(self, frame: int, vertices: Tensor) -> tuple[Tensor, tuple[float, float, float, float]]:
        """The pixels that a render of the head can match, (H, W) uint8, 255 or 0, and a box around the head.

        The box is in shares of the picture's width and height. Pixels of the person for which the head model has no
        surface (torso, clothes, long hair away from the head) are left out; otherwise Gaussians of the neck grow to
        cover shoulders.
        """
        camera = self._camera
        cover = rasterize_mesh(
            camera.to_camera(vertices.detach().cpu()).numpy(),
            self._faces,
            camera.intrinsics.numpy(),
            camera.width,
            camera.height,
        )
        surface = (cover.face >= 0).astype(np.uint8)
        reach = 2 * round(_HAIR_REACH * camera.width) + 1
        head = cv2.dilate(surface, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0
        if self._segments is not None:
            classes = self._segments[frame].cpu().numpy()
            # The neck may be wider than the mesh's, but not longer.
            beside = cv2.dilate(surface, np.ones((1, reach), np.uint8)) > 0
            # A pixel that is half clothes is left out, and segments end a little inside their object.
            margin = 2 * round(_CLOTHES_MARGIN * camera.width) + 1
            clothes = cv2.dilate((classes == CLOTHES).astype(np.uint8), np.ones((margin, margin), np.uint8)) > 0
            head = np.where(classes == BODY_SKIN, beside, head) & ~clothes
        background = self._mattes[frame].cpu().numpy() < 8
        region = (head | background) & ~self._beyond
        x, y, width, height = cv2.boundingRect(((region & ~background) | (surface > 0)).astype(np.uint8))
        edge = reach  # a stray Gaussian at this distance is still in the window, so that the loss moves it back
        box = (
            max(0, x - edge) / camera.width,
            max(0, y - edge) / camera.height,
            min(camera.width, x + width + edge) / camera.width,
            min(camera.height, y + height + edge) / camera.height,
        )
        return torch.from_numpy(region.astype(np.uint8) * 255), box
