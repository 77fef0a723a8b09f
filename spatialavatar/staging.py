"""Where a driven avatar is shown: on its own, in the photo it was made from, or transparent; and its background."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageColor
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.head_in_photo import HeadInPhoto
from spatialavatar.media import read_image
from spatialavatar.photo_scene import MAX_SCENE_SIDE, PhotoScene
from spatialavatar.records import Camera, HeadParams, as_uint8_image
from spatialavatar.render import render

SceneKind = Literal["plain", "photo", "transparent"]
SCENES: Final[tuple[SceneKind, ...]] = get_args(SceneKind)

BLUR: Final = "blur"
"""The background that is the photo's own, out of focus."""

Background = tuple[float, float, float] | str | Path
"""An sRGB colour in [0, 1], "blur", or the path of a picture."""

WHITE: Final = (1.0, 1.0, 1.0)
_BLUR_SIGMA: Final = 0.02  # of the longer side
_WINDOW: Final = 1.3  # side of the part of the photo that is rendered, over that of the avatar's square
_EDGE_ALPHA: Final = 1 / 255


class Stage(Protocol):
    """Renders the frames of one drive."""

    def frame(self, params: HeadParams) -> NDArray[np.uint8]:
        """One frame (H, W, 3), or (H, W, 4) with straight alpha, sRGB."""
        ...


class PlainStage:
    """The avatar on its own before a colour or a picture."""

    def __init__(self, avatar: Avatar, camera: Camera, background: Background = WHITE) -> None:
        """Prepare the background.

        Raises:
            InputError: the background cannot be read, or is the photo's, which the avatar does not have.
        """
        check_background(background, avatar)
        self._avatar, self._camera = avatar, camera
        self._identity = avatar.identity()
        self._colour = self._picture = None
        if isinstance(background, tuple):
            self._colour = torch.tensor(background, dtype=torch.float32, device=avatar.shape.device)
        else:
            size = (camera.width, camera.height)
            self._picture = _backdrop(background, size, avatar.scene).astype(np.float32)

    def frame(self, params: HeadParams) -> NDArray[np.uint8]:
        """One frame (H, W, 3)."""
        image, alpha = render(self._avatar.pose(params, self._identity), self._camera, background=self._colour)
        if self._picture is None:
            return as_uint8_image(image)
        return _over(image, alpha, self._picture)


class TransparentStage:
    """The avatar over nothing."""

    def __init__(self, avatar: Avatar, camera: Camera) -> None:
        self._avatar, self._camera = avatar, camera
        self._identity = avatar.identity()

    def frame(self, params: HeadParams) -> NDArray[np.uint8]:
        """One frame (H, W, 4) with straight alpha.

        Transparent pixels continue the colours of the avatar's edge, since codecs mix the colours of neighbours.
        """
        image, alpha = render(self._avatar.pose(params, self._identity), self._camera)
        premultiplied, cover = image.cpu().numpy(), alpha.cpu().numpy()
        straight = premultiplied / np.maximum(cover, _EDGE_ALPHA)[..., None]
        faint = cover < 16 * _EDGE_ALPHA
        reach = 2 * max(2, self._camera.height // 64) + 1
        weight = cv2.blur(cover, (reach, reach))
        around = cv2.blur(premultiplied, (reach, reach)) / np.maximum(weight, 1e-6)[..., None]
        straight = np.where((faint & (weight > 1e-4))[..., None], around, straight)
        levels = np.concatenate([straight, cover[..., None]], -1)
        return (np.clip(levels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


class PhotoStage:
    """The avatar's head in the photo it was made from, whose body stays still."""

    def __init__(self, avatar: Avatar, camera: Camera, background: Background | None = None) -> None:
        """Prepare the photo.

        Args:
            avatar: the avatar.
            camera: of the whole picture, as :func:`photo_camera` returns it.
            background: what replaces the photo's background; None keeps it.

        Raises:
            InputError: the avatar has no scene, or the background cannot be read.
            FormatError: the scene is damaged.
        """
        scene = require_scene(avatar)
        size = (camera.width, camera.height)
        if background is None:
            self._plate = _resized(scene.plate, size)
        else:
            behind = _backdrop(background, size, scene).astype(np.float32)
            matte = _resized(scene.matte, size)[..., None]
            body = _resized(scene.body_colours(), size)
            self._plate = np.round(matte * body + (1.0 - matte) * behind).astype(np.uint8)
        x0, y0, x1, y1 = _window(scene, size)
        self._rows, self._columns = slice(y0, y1), slice(x0, x1)
        self._part = self._plate[self._rows, self._columns].astype(np.float32)
        self._camera = camera.window(x0, y0, x1, y1)
        # An avatar refined on a video has the light of the video; the face takes the mean colour of the photo's.
        body = _resized(scene.matte, size)[self._rows, self._columns]
        self._head = HeadInPhoto(avatar, scene.tone, self._camera, body)

    def frame(self, params: HeadParams) -> NDArray[np.uint8]:
        """One frame (H, W, 3)."""
        image, _ = render(self._head.gaussians(params), self._camera)
        frame = self._plate.copy()
        frame[self._rows, self._columns] = _over(image[..., :3], image[..., 3], self._part)
        return frame


def require_scene(avatar: Avatar) -> PhotoScene:
    """The avatar's scene.

    Raises:
        InputError: it has none.
    """
    if avatar.scene is None:
        raise InputError(
            "The avatar does not keep the photo's background; make it again from its photo, without --no-scene, or "
            "show it on its own: --scene plain."
        )
    return avatar.scene


def photo_camera(avatar: Avatar, size: int | None = None) -> Camera:
    """The camera of the photo that the avatar was made from, in the photo's own aspect.

    Args:
        avatar: with a scene.
        size: longer side in pixels, even; None is the scene's own. The other side is rounded to an even number.

    Raises:
        InputError: the avatar has no scene.
    """
    scene = require_scene(avatar)
    camera = scene.camera(avatar.camera)
    if size is None:
        return camera
    scale = size / max(scene.size)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in scene.size)
    return camera.resized(width, height)


def is_background(value: object) -> bool:
    """Whether a value is a colour, or a text or path that can name a background."""
    if isinstance(value, tuple):
        return len(value) == 3 and all(0.0 <= c <= 1.0 for c in value)
    return isinstance(value, (str, Path)) and str(value) != ""


def photo_side(avatar: Avatar, shorter: int) -> int:
    """The longer side of a picture in the photo's aspect whose shorter side has ``shorter`` pixels; even, at most 2048.

    Raises:
        InputError: the avatar has no scene.
    """
    width, height = require_scene(avatar).size
    return min(MAX_SCENE_SIDE, 2 * round(shorter * max(width, height) / min(width, height) / 2))


def check_background(background: Background | None, avatar: Avatar) -> None:
    """Refuse, before any work, a background that the avatar does not have or a file that does not exist.

    Raises:
        InputError: there is one.
    """
    if background == BLUR and avatar.scene is None:
        raise InputError(
            "The avatar does not keep the photo's background, so it cannot be blurred; give a colour or a picture."
        )
    if isinstance(background, (str, Path)) and background != BLUR and not Path(background).is_file():
        raise InputError(f"There is no picture at {background}; give a colour, blur, or the path of a picture.")


def read_background(text: str) -> Background:
    """The background that a text names: "blur", the path of a picture, or a colour such as white or #336699.

    Raises:
        InputError: it is none of them.
    """
    if text == BLUR:
        return text
    if is_colour(text):
        red, green, blue = ImageColor.getrgb(text)[:3]
        return red / 255, green / 255, blue / 255
    if Path(text).suffix or Path(text).is_file():
        return Path(text)
    raise InputError(
        f"{text[:60]!r} is neither a colour nor a file; give a colour such as white or #336699, blur, or a picture."
    )


def is_colour(text: str) -> bool:
    """Whether a text is a colour's name or its value, such as #336699."""
    try:
        ImageColor.getrgb(text)
    except ValueError:
        return False
    return True


def _backdrop(background: Background, size: tuple[int, int], scene: PhotoScene | None) -> NDArray[np.uint8]:
    """(H, W, 3): a background that fills a picture of ``size`` (width, height)."""
    width, height = size
    if isinstance(background, tuple):
        colour = np.round(np.array(background) * 255.0).astype(np.uint8)
        return np.broadcast_to(colour, (height, width, 3)).copy()
    if background == BLUR:
        assert scene is not None, "check_background"
        picture = _covering(scene.background, size)
        return cv2.GaussianBlur(picture, (0, 0), _BLUR_SIGMA * max(size))
    return _covering(read_image(background), size)


def _covering(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of a picture in the aspect of ``size``, resized to it."""
    height, width = picture.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    inner = min(width, round(size[0] / scale)), min(height, round(size[1] / scale))
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    return _resized(picture[y : y + inner[1], x : x + inner[0]], size)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture at ``size`` (width, height)."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    shrinks = size[0] < picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _window(scene: PhotoScene, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1: the part of the picture around the head, whole pixels of a picture of ``size``."""
    scale = size[0] / scene.size[0]
    x0, y0, x1, y1 = (float(value) * scale for value in scene.box)
    more = 0.5 * (_WINDOW - 1.0) * (x1 - x0)
    left, top = max(0, int(x0 - more)), max(0, int(y0 - more))
    return left, top, min(size[0], int(x1 + more) + 1), min(size[1], int(y1 + more) + 1)


def _over(image: Tensor, alpha: Tensor, behind: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Premultiplied colours (H, W, 3) with alpha (H, W) over a picture (H, W, 3) of levels in [0, 255]."""
    levels = image.cpu().numpy() * 255.0 + (1.0 - alpha.cpu().numpy())[..., None] * behind
    return (np.clip(levels, 0.0, 255.0) + 0.5).astype(np.uint8)
