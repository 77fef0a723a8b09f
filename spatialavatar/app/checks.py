"""Checks of the values of a call, before it queues: types, counts, sizes, ranges. Each returns a sentence or None.

Programs send any value, so the checks take any value. They read headers and count packets, and decode nothing; whether
a file shows a face is found by the work itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from spatialavatar.app.steps import plain
from spatialavatar.avatar import AVATAR_FORMAT, default_head
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.media import inspect_media, sound_seconds
from spatialavatar.media.inspection import MediaKind
from spatialavatar.motion import check_motion_format, is_motion_file
from spatialavatar.pipeline import MAX_PHOTOS
from spatialavatar.speech.synthesis import VOICES, is_voice_name, missing_synthesiser
from spatialavatar.staging import BLUR, is_colour
from spatialavatar.tensor_files import TensorFile
from spatialavatar.tracking.io import TRACK_FORMAT

MEGABYTE: Final = 1_000_000
MAX_PHOTO_BYTES: Final = 40 * MEGABYTE
MAX_AVATAR_BYTES: Final = 100 * MEGABYTE
MAX_MOTION_BYTES: Final = 50 * MEGABYTE
MAX_VIDEO_BYTES: Final = 200 * MEGABYTE
MAX_VIDEO_SECONDS: Final = 60.0
MAX_SOUND_BYTES: Final = 100 * MEGABYTE
MAX_SPEECH_LETTERS: Final = 1000
"""Characters of a text, about a minute of speech."""
MIN_REFINE_FRAMES, MAX_REFINE_FRAMES = 40, 300
MIN_REFINE_ITERATIONS, MAX_REFINE_ITERATIONS = 20, 5000
MAX_REFINE_MINUTES: Final = 10.0
"""A refinement that a program requests ends after this time, since others wait."""
SIZES: Final = (256, 512, 768)
REFINE_SIZES: Final = (256, 512)
TRACK_FORMATS: Final = ("json", "csv", "safetensors")


def photo_count(photos: Any) -> str | None:
    """One to four photos, as they were sent; none of them is looked at."""
    if isinstance(photos, str) or not isinstance(photos, Sequence) or not photos:
        return f"Give 1 to {MAX_PHOTOS} photos of one person."
    if len(photos) > MAX_PHOTOS:
        return f"Give 1 to {MAX_PHOTOS} photos of one person; these are {len(photos)}."
    return None


def photos(paths: Any) -> str | None:
    """One to four photos."""
    if complaint := photo_count(paths):
        return complaint
    for path in paths:
        if complaint := _file(path, "photo", MAX_PHOTO_BYTES):
            return complaint
        if complaint := _media(path, "photo"):
            return complaint
    return None


def avatar(path: Any) -> str | None:
    """An avatar file."""
    if path is None:
        return "Make an avatar first, or give an avatar file."
    if complaint := _file(path, "avatar file", MAX_AVATAR_BYTES):
        return complaint
    if _safetensors_format(path) != AVATAR_FORMAT:
        return f"The file {_name(path)} is not an avatar; give a .safetensors file that was made here."
    return None


def video(path: Any) -> str | None:
    """A video of at most a minute."""
    if complaint := _file(path, "video", MAX_VIDEO_BYTES):
        return complaint
    return _media(path, "video")


def motion(path: Any) -> str | None:
    """A video, a motion file or a saved track."""
    if complaint := _file(path, "motion", MAX_VIDEO_BYTES):
        return complaint
    track = Path(path).suffix.lower() == ".safetensors"
    if not track and not is_motion_file(path):
        return video(path)
    try:
        head = default_head()
        check_motion_format(path, head.id, head.is_flame)
    except SpatialAvatarError as error:
        return str(error)
    if complaint := _file(path, "motion", MAX_MOTION_BYTES):
        return complaint
    if track and _safetensors_format(path) != TRACK_FORMAT:
        return f"The file {_name(path)} is not a saved track; give a video, a .json or .csv motion, or a saved track."
    return None


def picture_or_video(path: Any) -> str | None:
    """A photo or a video."""
    return _file(path, "photo or video", MAX_VIDEO_BYTES) or _media(path, "photo", "video")


def picture(path: Any) -> str | None:
    """A picture."""
    return _file(path, "picture", MAX_PHOTO_BYTES) or _media(path, "photo")


def sound(path: Any) -> str | None:
    """A file with at most a minute of sound."""
    if complaint := _file(path, "sound file", MAX_SOUND_BYTES):
        return complaint
    try:
        seconds = sound_seconds(path)
    except SpatialAvatarError as error:
        return str(error)
    return too_long(seconds)


def too_long(seconds: float) -> str | None:
    """Speech of at most a minute."""
    if seconds <= MAX_VIDEO_SECONDS + 0.5:  # a codec's last packet is longer than its sound
        return None
    return f"The speech is {seconds:.0f} seconds long; give at most {MAX_VIDEO_SECONDS:.0f} seconds."


def speech_text(value: Any) -> str | None:
    """A text to speak; empty for none."""
    if not isinstance(value, str):
        return "The text must be a text."
    if value == "":
        return None
    if not value.strip():
        return "There is no text to say; give some words."
    if len(value) > MAX_SPEECH_LETTERS:
        return f"The text has {len(value)} characters; give at most {MAX_SPEECH_LETTERS}, about a minute of speech."
    return missing_synthesiser()


def voice(value: Any) -> str | None:
    """A voice of a synthesiser; an empty text is the default one."""
    if isinstance(value, str) and (value == "" or is_voice_name(value)):
        return None
    names = list(VOICES.values())
    return f"The voice must be one such as {names[0]}, {names[3]} or {names[-1]}."


def number(value: Any, name: str, low: float, high: float, whole: bool = False) -> str | None:
    """A number within bounds."""
    kind = "a whole number" if whole else "a number"
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The comparison refuses NaN, infinity, and integers too large for a float, on which math.isfinite fails.
    if not good or not low <= value <= high or (whole and value != int(value)):
        return f"The {name} must be {kind} from {low:g} to {high:g}."
    return None


def choice(value: Any, name: str, options: Sequence[Any]) -> str | None:
    """One of some values."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value not in options:
        return f"The {name} must be one of {', '.join(str(option) for option in options)}."
    return None


def background(value: Any) -> str | None:
    """A colour, "blur" or an empty text; no path, which would be one of this machine."""
    if isinstance(value, str) and (value in ("", BLUR) or is_colour(value)):
        return None
    return "The background must be a colour such as white or #336699, or blur."


def consent(value: Any) -> str | None:
    """The caller confirms that every person shown agrees."""
    if value is True:
        return None
    return "Set consent to true to confirm that every person shown has agreed to this use, or is you."


def flag(value: Any, name: str) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else f"Give true or false for {name}."


def _name(path: Any) -> str:
    return plain(Path(path).name)


def _file(path: Any, kind: str, most: int) -> str | None:
    if not isinstance(path, str) or not path:
        return f"Give {'an' if kind[0] in 'aeiou' else 'a'} {kind}."
    file = Path(path)
    try:
        size = file.stat().st_size if file.is_file() else None
    except (OSError, ValueError):
        size = None
    if size is None:
        return f"The {kind} is not here (any more), or cannot be fetched; upload it again."
    if size == 0:
        return f"The file {_name(path)} is empty; give another {kind}."
    if size > most:
        return f"The file {_name(path)} has {size // MEGABYTE} MB; a {kind} may have at most {most // MEGABYTE} MB."
    return None


def _media(path: str, *kinds: MediaKind) -> str | None:
    try:
        seconds = inspect_media(path, kinds).seconds
    except SpatialAvatarError as error:
        return str(error)
    if seconds > MAX_VIDEO_SECONDS:
        return f"The video is {seconds:.0f} seconds long; give one of at most {MAX_VIDEO_SECONDS:.0f} seconds."
    return None


def _safetensors_format(path: str) -> str | None:
    """The format that the header of one of our files names; None for other files. Only the header is read."""
    try:
        file = TensorFile(path, "")
    except SpatialAvatarError:
        return None
    found = file.metadata.get("format") or file.header.get("format")
    return found if isinstance(found, str) else None
