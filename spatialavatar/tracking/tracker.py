"""One function for photos and videos."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar.head import HeadModel, load_head
from spatialavatar.hub import weights_dir
from spatialavatar.media import is_animation, is_image, read_image
from spatialavatar.progress import Progress
from spatialavatar.records import Track
from spatialavatar.tracking.photos import track_photo
from spatialavatar.tracking.video import track_video

if TYPE_CHECKING:
    from spatialavatar.tracking.networks import Networks


def track(
    path: str | Path,
    head: HeadModel | None = None,
    *,
    with_images: bool = False,
    networks: Networks | None = None,
    progress: Progress | None = None,
) -> Track:
    """Track the person in a photo or a video; the content of the file decides which it is. An animation is a video.

    Args:
        path: the file.
        head: the head model; by default the one that ships with the package.
        with_images: also keep the pictures of a video's frames; those of a photo are always kept.
        networks: opened networks to reuse.
        progress: called with (fraction, message).

    Raises:
        InputError: the file cannot be read or used.
        NoFaceError: it shows no usable face.
    """
    path = Path(path)
    head = head or load_head(weights_dir() / "head")
    # A file that is named like a photo but is none raises the error for photos.
    claims_image = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    if path.is_file() and (is_image(path) or claims_image) and not is_animation(path):
        return track_photo(read_image(path), head, name=path.name, networks=networks, progress=progress)
    return track_video(path, head, with_images=with_images, networks=networks, progress=progress)
