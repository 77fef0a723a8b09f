"""One picture of an avatar, rendered at once on the CPU."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from spatialavatar import Avatar, DriveConfig
from spatialavatar.app.steps import for_people
from spatialavatar.driving import drive_still
from spatialavatar.motion import Motion
from spatialavatar.staging import SceneKind
from spatialavatar.tensor_files import TensorFile


@dataclass(frozen=True)
class StillRequest:
    """An avatar to show with a neutral face.

    Attributes:
        avatar: an avatar file.
        size: width and height in pixels; in the photo, its longer side.
        scene: "plain" for the avatar on its own, "photo" for its head in the photo that it was made from.
    """

    avatar: str
    size: int = 512
    scene: SceneKind = "plain"


def keeps_photo(avatar: str) -> bool:
    """Whether an avatar file keeps the photo that it was made from; only its header is read.

    Raises:
        gr.Error: the file is not an avatar.
    """
    try:
        return "scene.picture" in TensorFile(avatar, "This is not an avatar file, or it is damaged.").entries
    except Exception as error:
        raise for_people(error) from error


def still_picture(request: StillRequest) -> bytes:
    """Render the avatar, as a WebP: from the front with alpha, or in its photo.

    Raises:
        gr.Error: with the sentence of the error, where the file is not an avatar.
    """
    try:
        avatar = Avatar.load(request.avatar)
        track = Motion.held({}).to_track(avatar.head)
        pixels = drive_still(avatar, track, DriveConfig(smoothing=0.0, size=request.size, scene=request.scene))
    except Exception as error:
        raise for_people(error) from error
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "webp", quality=88, method=2)
    return encoded.getvalue()
