"""The check of an uploaded, untrusted file, before any other work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from spatialavatar.errors import InputError
from spatialavatar.media.limits import MIN_SIDE
from spatialavatar.media.paths import PathLike, existing_file
from spatialavatar.media.photos import is_animation, is_image, photo_size
from spatialavatar.media.probe import count_packets, probe_video

MediaKind = Literal["photo", "video"]
MEDIA_KINDS: Final[tuple[MediaKind, ...]] = ("photo", "video")


@dataclass(frozen=True)
class MediaInfo:
    """What an uploaded file is.

    Attributes:
        kind: "photo" or "video"; an animation (GIF, WebP, PNG) counts as a video where videos are accepted.
        size: width, height as stored, before rotation; pixels.
        seconds: duration of the pictures, counted, not the one that the header declares; 0 for a photo.
        frames: number of stored frames; 1 for a photo.
        has_audio: whether there is a sound track.
    """

    kind: MediaKind
    size: tuple[int, int]
    seconds: float
    frames: int
    has_audio: bool


def inspect_media(path: PathLike, kinds: Collection[MediaKind] = MEDIA_KINDS) -> MediaInfo:
    """Decide whether an upload may be used as a photo or a video, and measure how long it is.

    Nothing is decoded, and nothing that the file refers to is opened. The cost of a photo is its header: about a
    millisecond. The cost of a video is two ffmpeg processes, one for the header (about 50 ms) and one that reads the
    packets of the whole file (about 0.2 s per 100 MB), and a few megabytes of memory, independent of the frame size.
    Each process ends after ``limits.PROBE_SECONDS``. The size of the file in bytes is the caller's to check.

    Args:
        path: the file; its name does not matter.
        kinds: accepted kinds of media.

    Raises:
        InputError: the file is neither; or it is damaged, too small, too large, or a list that refers to other files.
    """
    path = existing_file(path, " or ".join(kinds))
    if "video" not in kinds:
        return MediaInfo("photo", photo_size(path), 0.0, 1, False)
    if is_image(path) and not is_animation(path):
        if "photo" in kinds:
            return MediaInfo("photo", photo_size(path), 0.0, 1, False)
        raise InputError(f"The file {path.name} is a photo, not a video; give an MP4, MOV, MKV or WebM video.")
    facts, video = probe_video(path)
    if min(video.size) < MIN_SIDE:
        raise InputError(
            f"The video {path.name} is only {video.size[0]} x {video.size[1]} pixels; give one of at least "
            f"{MIN_SIDE} x {MIN_SIDE}."
        )
    length = count_packets(path, (video.index,)).get(video.index)
    if length is None:
        raise InputError(f"The video {path.name} holds no readable frame; save or download it again.")
    return MediaInfo("video", video.size, length.video_seconds(video), length.packets, facts.audio_index is not None)
