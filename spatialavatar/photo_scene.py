"""The record of a scene: the photo that an avatar was made from, without its head.

The picture is the photo, in which the head is replaced by the background behind it; the body stays. The head of the
avatar covers its place. The picture and the matte of the body are kept as JPEG and PNG, as in the avatar's file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.picture_fill import fill
from spatialavatar.records import Camera, Record
from spatialavatar.tensor_files import Schema, TensorSpec, bounded

MAX_SCENE_SIDE: Final = 2048
"""Pixels of the longer side of a scene."""
MAX_SCENE_BYTES: Final = 4_000_000
"""Of the picture and the matte in an avatar's file, together."""

_QUALITIES: Final = (97, 94, 90, 85, 75)  # of the JPEG; the first that fits the budget
_MATTE_SHARE: Final = 0.25  # of the budget
_SOLID: Final = 0.02  # least matte of a pixel that shows some of the body
_REACH: Final = 0.006  # of the longer side: how far the body's colours reach beyond its matte


@dataclass(frozen=True, eq=False)
class PhotoScene(Record):
    """A photo without its head, and the place of the head in it.

    Attributes:
        picture: (K,) uint8, the bytes of a JPEG of (H, W) sRGB pixels, H and W even.
        body: (M,) uint8, the bytes of a PNG of (H, W) grey pixels: the matte of the body that is left, 255 = body.
        box: (4,) float32 x0, y0, x1, y1: the square of the avatar's camera in the picture, pixels; it may exceed it.
        tone: (3,) float32 mean sRGB colour of the photo's face, in [0, 1], that the avatar is matched to.
    """

    picture: Tensor
    body: Tensor
    box: Tensor
    tone: Tensor

    @classmethod
    def of(cls, picture: NDArray[np.uint8], body: NDArray[np.uint8], box: Tensor, tone: Tensor) -> PhotoScene:
        """Encode pictures (H, W, 3) and (H, W) within :data:`MAX_SCENE_BYTES`."""
        matte = _encoded(Image.fromarray(body), "PNG", optimize=True)
        if len(matte) > _MATTE_SHARE * MAX_SCENE_BYTES:  # soft edges of fine hair; eight levels are enough there
            matte = _encoded(Image.fromarray((body // 32 * 36).clip(0, 255).astype(np.uint8)), "PNG", optimize=True)
        photo = b""
        for quality in _QUALITIES:
            photo = _encoded(Image.fromarray(picture), "JPEG", quality=quality, subsampling=0)
            if len(photo) + len(matte) <= MAX_SCENE_BYTES:
                break
        return cls(_bytes(photo), _bytes(matte), box.float().cpu(), tone.float().cpu())

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        with Image.open(io.BytesIO(self.picture.cpu().numpy().tobytes()), formats=["JPEG"]) as opened:
            return opened.size

    @cached_property
    def plate(self) -> NDArray[np.uint8]:
        """(H, W, 3) sRGB: the photo without its head.

        Raises:
            FormatError: the bytes are damaged.
        """
        return _decoded(self.picture, "JPEG", "RGB")

    @cached_property
    def matte(self) -> NDArray[np.float32]:
        """(H, W) in [0, 1]: the body that is left in :attr:`plate`.

        Raises:
            FormatError: the bytes are damaged.
        """
        return _decoded(self.body, "PNG", "L").astype(np.float32) / 255.0

    @cached_property
    def background(self) -> NDArray[np.uint8]:
        """(H, W, 3) sRGB: the photo without the person."""
        reach = max(1, round(_REACH * max(self.size)))
        shown = (self.matte > _SOLID).astype(np.uint8)
        return fill(self.plate, cv2.dilate(shown, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) == 0)

    def body_colours(self) -> NDArray[np.float32]:
        """(H, W, 3) colours in [0, 255] of the body alone: without the background that shines through its edges."""
        matte = self.matte[..., None]
        behind = (1.0 - matte) * self.background
        return np.clip((self.plate - behind) / np.maximum(matte, 0.1), 0.0, 255.0).astype(np.float32)

    def camera(self, camera: Camera) -> Camera:
        """The camera of the whole picture.

        Args:
            camera: the avatar's, which sees :attr:`box`.
        """
        return whole_camera(camera, self.box, self.size)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, as the avatar's file stores them."""
        return {name: getattr(self, name) for name in SCENE_TENSORS}

    @staticmethod
    def schema(prefix: str) -> Schema:
        """The schema of :meth:`tensors` in an avatar's file, under names that begin with ``prefix``.

        The numbers of bytes are the named sizes of the two pictures.
        """
        return {
            f"{prefix}picture": TensorSpec((f"{prefix}picture",), ("U8",)),
            f"{prefix}body": TensorSpec((f"{prefix}body",), ("U8",)),
            f"{prefix}box": bounded(1e6, 4),
            f"{prefix}tone": TensorSpec((3,), low=0.0, high=1.0),
        }

    def faults(self) -> list[str]:
        """Faults that no schema shows, for messages: too many bytes, or pictures that cannot be or do not fit."""
        if len(self.picture) + len(self.body) > MAX_SCENE_BYTES:
            return ["has a scene of too many bytes"]
        try:
            sizes = {_size(self.picture, "JPEG", "RGB"), _size(self.body, "PNG", "L")}
        except FormatError:
            return ["has a scene whose pictures are damaged"]
        width, height = next(iter(sizes))
        if len(sizes) != 1 or not all(2 <= side <= MAX_SCENE_SIDE and side % 2 == 0 for side in (width, height)):
            return ["has a scene whose sizes cannot be"]
        x0, y0, x1, y1 = (float(value) for value in self.box)
        if not (x1 - x0 >= 8 and abs((y1 - y0) - (x1 - x0)) < 0.01 * (x1 - x0)):
            return ["has a scene whose box is not a square"]
        return []


SCENE_TENSORS: Final = tuple(field.name for field in fields(PhotoScene))


def whole_camera(camera: Camera, box: Tensor, size: tuple[int, int]) -> Camera:
    """The camera of a whole picture.

    Args:
        camera: of a square of it.
        box: (4,) x0, y0, x1, y1 of the square, pixels of the picture.
        size: width and height of the picture.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    square = camera.resized(1, 1).intrinsics.clone()  # of a picture of one pixel a side
    square[0] *= x1 - x0
    square[1] *= y1 - y0
    square[0, 2] += x0
    square[1, 2] += y0
    return Camera(square, camera.world_to_camera, *size)


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _bytes(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def _size(data: Tensor, kind: str, mode: str) -> tuple[int, int]:
    """The size that a picture's header states.

    Raises:
        FormatError: it is not a picture of this kind and mode.
    """
    try:
        with Image.open(io.BytesIO(data.cpu().numpy().tobytes()), formats=[kind]) as opened:
            if opened.mode != mode:
                raise ValueError(opened.mode)
            return opened.size
    except Exception as error:  # Pillow's readers raise their parsers' exceptions
        raise FormatError("The avatar's scene is damaged; make the avatar again.") from error


def _decoded(data: Tensor, kind: str, mode: str) -> NDArray[np.uint8]:
    """The pixels of a picture whose header was checked.

    Raises:
        FormatError: it is damaged.
    """
    _size(data, kind, mode)
    try:
        with Image.open(io.BytesIO(data.cpu().numpy().tobytes()), formats=[kind]) as opened:
            return np.array(opened)
    except Exception as error:
        raise FormatError("The avatar's scene is damaged; make the avatar again.") from error
