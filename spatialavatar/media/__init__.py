"""Reading photos, reading and writing video.

Pictures are (H, W, 3) uint8 sRGB arrays everywhere. Videos are decoded and encoded by the ffmpeg program that
imageio-ffmpeg carries, one frame at a time, so that memory does not grow with length.
"""

from spatialavatar.media.alpha import PictureWriter, alpha_writer, check_alpha_name
from spatialavatar.media.device import DeviceWriter, check_video_device
from spatialavatar.media.ffmpeg import ffmpeg_program
from spatialavatar.media.inspection import MediaInfo, inspect_media
from spatialavatar.media.limits import MAX_SIDE, MIN_SIDE
from spatialavatar.media.paths import check_writable
from spatialavatar.media.photos import is_animation, is_image, read_image
from spatialavatar.media.reader import VideoReader
from spatialavatar.media.sequence import PictureSequence
from spatialavatar.media.sound import SoundReader, has_sound, sound_seconds
from spatialavatar.media.writer import VideoWriter

__all__ = [
    "MAX_SIDE",
    "MIN_SIDE",
    "DeviceWriter",
    "MediaInfo",
    "PictureSequence",
    "PictureWriter",
    "SoundReader",
    "VideoReader",
    "VideoWriter",
    "alpha_writer",
    "check_alpha_name",
    "check_video_device",
    "check_writable",
    "ffmpeg_program",
    "has_sound",
    "inspect_media",
    "is_animation",
    "is_image",
    "read_image",
    "sound_seconds",
]
