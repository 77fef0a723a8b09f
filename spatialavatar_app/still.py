"""One picture of an avatar at once: on the processor, in this process, so that a slider can be felt."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from spatialavatar import Avatar, DriveConfig
from spatialavatar.driving import drive_still
from spatialavatar.motion import Motion
from spatialavatar_app.steps import for_people

_CACHED = 4  # avatars, each of some ten megabytes


@dataclass(frozen=True)
class StillRequest:
    """An avatar and a face to make.

    Attributes:
        avatar: an avatar file.
        face: what ``Motion.held`` takes.
        size: width and height in pixels.
    """

    avatar: str
    face: dict[str, Any]
    size: int = 512


def still_picture(request: StillRequest) -> bytes:
    """A WebP with alpha of the avatar with that face.

    Raises:
        gr.Error: with the sentence of the error, where the file is no avatar.
    """
    try:
        avatar = _loaded(request.avatar, Path(request.avatar).stat().st_mtime_ns)
        track = Motion.held(**request.face).to_track(avatar.head)
        pixels = drive_still(avatar, track, DriveConfig(smoothing=0.0, size=request.size))
    except Exception as error:
        raise for_people(error) from error
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "webp", quality=88, method=2)
    return encoded.getvalue()


@lru_cache(maxsize=_CACHED)
def _loaded(path: str, _written: int) -> Avatar:
    """The avatar in a file, as it was written at that time."""
    return Avatar.load(path)
