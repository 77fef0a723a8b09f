"""Reading photos as (H, W, 3) uint8 sRGB arrays."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError

from spatialavatar.errors import InputError
from spatialavatar.media.limits import MAX_JPEG_PIXELS, MAX_PIXELS, MAX_SIDE, MIN_SIDE
from spatialavatar.media.paths import PathLike, existing_file

# Formats that decode in this process; not, for instance, EPS, which would start another program on the file.
_PHOTO_FORMATS: Final = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")


def read_image(path: PathLike, max_side: int = MAX_SIDE) -> np.ndarray:
    """Read a photo the way a person would see it.

    The EXIF rotation is applied, an embedded colour profile is converted to sRGB, transparency is laid over white, and
    grey, palette, 16-bit and CMYK pictures become RGB. Of an animation the first frame is taken.

    Args:
        path: the file.
        max_side: longer pictures are scaled down to this many pixels on the longer side.

    Returns:
        (H, W, 3) uint8 sRGB.

    Raises:
        InputError: where the file is missing, no picture, damaged, too small, or too large to decode safely.
    """
    path = existing_file(path, "photo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here instead
        with _open_photo(path) as photo:
            _check_photo_size(photo, path)
            photo.draft("RGB", (max_side, max_side)) if photo.mode == "RGB" else None  # JPEG decodes smaller, cheaply
            try:
                photo.load()
                picture = _to_srgb(ImageOps.exif_transpose(photo))
            except (OSError, SyntaxError, ValueError, EOFError) as error:
                raise InputError(
                    f"The photo {path.name} is damaged or cut short; save or download it again."
                ) from error
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(picture)


def is_image(path: PathLike) -> bool:
    """Whether a file's content (not its name) is a photo that :func:`read_image` knows."""
    try:
        with _open_photo(Path(path)):
            return True
    except (InputError, OSError):
        return False


def _open_photo(path: Path) -> ImageFile.ImageFile:
    Image.init()
    formats = [name for name in _PHOTO_FORMATS if name in Image.OPEN]
    try:
        return Image.open(path, formats=formats)  # type: ignore[return-value]
    except Image.DecompressionBombError as error:
        try:
            return JpegImagePlugin.JpegImageFile(path)  # decodes at an eighth of the size, so large ones are welcome
        except SyntaxError:
            raise InputError(f"The photo {path.name} has too many pixels to be read; scale it down first.") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(
            f"The file {path.name} is not a photo that can be read; give a JPEG, PNG, WebP or TIFF picture."
        ) from error


def _check_photo_size(photo: Image.Image, path: Path) -> None:
    width, height = photo.size
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"The photo {path.name} is only {width} x {height} pixels; give one of at least {MIN_SIDE} x {MIN_SIDE}."
        )
    # A progressive JPEG keeps every coefficient in memory, whatever the size it is decoded at.
    scalable = photo.format == "JPEG" and not photo.info.get("progressive")
    if width * height > (MAX_JPEG_PIXELS if scalable else MAX_PIXELS):
        raise InputError(
            f"The photo {path.name} is {width} x {height} pixels, too large to be read; scale it down to at most "
            f"{MAX_SIDE} pixels a side."
        )


def _to_srgb(photo: Image.Image) -> Image.Image:
    """Any mode to RGB, colours in sRGB, transparency over white."""
    profile = photo.info.get("icc_profile")
    if photo.mode.startswith("I") or photo.mode == "F":  # 16-bit grey has no 8-bit conversion that scales
        photo = Image.fromarray(_grey_to_8_bit(np.asarray(photo)))
    alpha = None
    if photo.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in photo.info:
        photo = photo.convert("RGBA")
        alpha = photo.getchannel("A")
        photo = photo.convert("RGB")
    elif photo.mode not in ("RGB", "L", "CMYK"):
        photo = photo.convert("RGB")
    rgb = _apply_profile(photo, profile) if profile else photo.convert("RGB")
    if alpha is not None:
        white = Image.new("RGB", rgb.size, "white")
        white.paste(rgb, mask=alpha)
        rgb = white
    return rgb


def _grey_to_8_bit(values: np.ndarray) -> np.ndarray:
    """16-bit, 32-bit or float grey to uint8; integers count as 16-bit, floats as [0, 1]."""
    levels = values.astype(np.float64)
    if not np.isfinite(levels).all():
        raise ValueError("not finite")
    full = 1.0 if values.dtype.kind == "f" and levels.max(initial=0.0) <= 1.0 else 65535.0
    return np.round(np.clip(levels / full, 0.0, 1.0) * 255.0).astype(np.uint8)


def _apply_profile(photo: Image.Image, profile: bytes) -> Image.Image:
    """Convert from an embedded ICC profile; a profile that is damaged or of another colour space is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(photo, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return photo.convert("RGB")
    return photo.convert("RGB") if converted is None else converted
