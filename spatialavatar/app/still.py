"""One picture of an avatar, rendered at once on the CPU."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from spatialavatar import Avatar, DriveConfig
from spatialavatar.app.steps import for_people
from spatialavatar.driving import drive_still
from spatialavatar.motion import Motion


@dataclass(frozen=True)
class StillRequest:
    """An avatar to show with a neutral face.

    Attributes:
        avatar: an avatar file.
        size: width and height in pixels.
    """

    avatar: str
    size: int = 512


def still_picture(request: StillRequest) -> bytes:
    """Render the avatar from the front, as a WebP with alpha.

    Raises:
        gr.Error: with the sentence of the error, where the file is no avatar.
    """
    try:
        avatar = Avatar.load(request.avatar)
        track = Motion.held({}).to_track(avatar.head)
        pixels = drive_still(avatar, track, DriveConfig(smoothing=0.0, size=request.size))
    except Exception as error:
        raise for_people(error) from error
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "webp", quality=88, method=2)
    return encoded.getvalue()
