"""One picture of an avatar at once: on the processor, in this process."""

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
    """An avatar to be shown at rest.

    Attributes:
        avatar: an avatar file.
        size: width and height in pixels.
    """

    avatar: str
    size: int = 512


def still_picture(request: StillRequest) -> bytes:
    """A WebP with alpha of the avatar, facing the viewer.

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
