"""Reading photos as (H, W, 3) uint8 sRGB arrays."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError

from spatialavatar.errors import InputError, install_extra
from spatialavatar.media.limits import MAX_COPIED_PIXELS, MAX_JPEG_PIXELS, MAX_PIXELS, MAX_SIDE, MIN_SIDE
from spatialavatar.media.paths import PathLike, existing_file

# Formats that decode in this process; not, for instance, EPS, which would start another program on the file.
_FORMATS: Final = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM", "HEIF")
_ANIMATED_FORMATS: Final = ("GIF", "WEBP", "PNG")  # the further pictures of a TIFF or an MPO are not a film
_COPIED_FORMATS: Final = ("WEBP", "AVIF", "JPEG2000")
_HEIF_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SRGB_GAMMA: Final = 1.0 / 2.2  # as PNG files declare it
_ROWS: Final = 256  # of a grey picture, converted at a time
_WHOLE_PIXELS: Final = MAX_SIDE * MAX_SIDE  # a larger picture is converted and scaled band by band
_BAND_PIXELS: Final = 1 << 22
_BANDS: Final = {  # the transposition of each EXIF orientation, and whether it takes columns, and whether from the end
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, False),
    3: (Image.Transpose.ROTATE_180, False, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False),
    6: (Image.Transpose.ROTATE_270, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, True, True),
}


def read_image(path: PathLike, max_side: int = MAX_SIDE) -> np.ndarray:
    """Read a photo the way a viewer shows it.

    The EXIF rotation is applied, an embedded colour profile or PNG gamma is converted to sRGB, transparency is laid
    over white, and grey, palette, 16-bit, float and CMYK pictures become RGB. Of an animation the first frame is taken.
    HEIC needs the extra ``heic``.

    Args:
        path: the file.
        max_side: longer pictures are scaled down to this many pixels on the longer side.

    Returns:
        (H, W, 3) uint8 sRGB.

    Raises:
        InputError: the file is missing, not a photo, damaged, too small, or too large to decode safely.
    """
    path = existing_file(path, "photo")
    with _guarded(path, f"The photo {path.name} is damaged or cut short; save or download it again."):
        with _open_photo(path) as photo:
            _check_size(photo, path)
            _draft(photo, path, max_side)
            photo.load()
            if photo.width * photo.height <= _WHOLE_PIXELS:
                picture = _to_srgb(ImageOps.exif_transpose(photo))
                picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
            else:
                picture = _scaled_in_bands(photo, max_side)
        return np.array(picture)


def is_image(path: PathLike) -> bool:
    """Whether a file's content (not its name) is a photo, or an animation, that :func:`read_image` can open."""
    try:
        with _open_photo(Path(path)):
            return True
    except InputError:
        return False


def is_animation(path: PathLike) -> bool:
    """Whether a file is a GIF, WebP or PNG with more than one frame, which can be read as a video."""
    path = Path(path)
    try:
        with _guarded(path, ""), _open_photo(path) as photo:
            return photo.format in _ANIMATED_FORMATS and bool(getattr(photo, "is_animated", False))
    except InputError:
        return False


def photo_size(path: PathLike) -> tuple[int, int]:
    """Width and height of a photo, as stored, after the check that it can be read; only its header is read.

    Raises:
        InputError: as :func:`read_image`, as far as the header shows it.
    """
    path = existing_file(path, "photo")
    with _open_photo(path) as photo:
        _check_size(photo, path)
        return photo.size


@contextlib.contextmanager
def _guarded(path: Path, sentence: str) -> Iterator[None]:
    """Run Pillow's work on a file inside this block: every exception becomes an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked here; damage that causes only a warning is accepted
            yield
    except InputError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise InputError(f"The photo {path.name} has too many pixels to be read; scale it down first.") from error
    except Exception as error:  # Pillow's readers raise their parsers' exceptions: ValueError, KeyError, RuntimeError
        raise InputError(sentence) from error


def _open_photo(path: Path) -> ImageFile.ImageFile:
    """Read the header of a photo.

    Raises:
        InputError: the file is not a photo of an allowed format.
    """
    sentence = f"The file {path.name} is not a photo that can be read; give a JPEG, PNG, WebP or TIFF picture."
    with _guarded(path, sentence):
        _register_heif()
        Image.init()
        formats = [name for name in _FORMATS if name in Image.OPEN]
        try:
            return Image.open(path, formats=formats)  # type: ignore[return-value]
        except Image.DecompressionBombError as error:
            try:
                return JpegImagePlugin.JpegImageFile(
                    path
                )  # decodes at an eighth of the size, so large ones are welcome
            except SyntaxError:
                raise error from None
        except UnidentifiedImageError as error:
            if "HEIF" not in formats and _is_heif(path):
                raise InputError(
                    f"The photo {path.name} is HEIC; save it as JPEG, or, {install_extra('heic')}."
                ) from error
            raise
    raise AssertionError("unreachable")


def _register_heif() -> None:
    """Let Pillow open HEIC, where pillow-heif is installed.

    It is an extra and not in the base, because its wheels contain a GPL library (x265).
    """
    if "HEIF" not in Image.OPEN and importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _check_size(photo: Image.Image, path: Path) -> None:
    """Check the sizes in the header against the limits."""
    width, height = photo.size
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"The photo {path.name} is only {width} x {height} pixels; give one of at least {MIN_SIDE} x {MIN_SIDE}."
        )
    longer = max(width, height)
    if longer > MAX_SIDE and min(width, height) * MAX_SIDE < MIN_SIDE * longer:
        raise InputError(
            f"The photo {path.name} is {width} x {height} pixels, too narrow: scaled to {MAX_SIDE} pixels a side, its "
            f"shorter side has less than {MIN_SIDE}; crop it to the face."
        )
    # A progressive JPEG keeps every coefficient in memory at every decoding size.
    scalable = photo.format == "JPEG" and not photo.info.get("progressive")
    most = MAX_JPEG_PIXELS if scalable else MAX_COPIED_PIXELS if photo.format in _COPIED_FORMATS else MAX_PIXELS
    if width * height > most:
        raise _too_large(path, photo.size)


def _draft(photo: ImageFile.ImageFile, path: Path, max_side: int) -> None:
    """Decode a JPEG of any mode at a half, a quarter or an eighth of its size, to save memory."""
    if photo.format not in ("JPEG", "MPO"):
        return
    full = photo.size
    side = (max_side, max_side)
    if full[0] * full[1] > MAX_PIXELS:  # as small as the longer side allows
        scale = max_side / max(full)
        side = (max(1, int(full[0] * scale)), max(1, int(full[1] * scale)))
    photo.draft(photo.mode, side)
    if photo.size[0] * photo.size[1] > MAX_PIXELS:
        raise _too_large(path, full)


def _too_large(path: Path, size: tuple[int, int]) -> InputError:
    return InputError(
        f"The photo {path.name} is {size[0]} x {size[1]} pixels, too large to be read; scale it down to at most "
        f"{MAX_SIDE} pixels a side."
    )


def _scaled_in_bands(photo: Image.Image, max_side: int) -> Image.Image:
    """The upright picture in sRGB, scaled to fit ``max_side``, with no second copy of the photo at its full size."""
    transpose, columns, reverse = _BANDS.get(photo.getexif().get(ExifTags.Base.Orientation, 1), (None, False, False))
    width, height = reversed(photo.size) if columns else photo.size
    scale = max(1.0, max(width, height) / max_side)
    size = max(1, round(width / scale)), max(1, round(height / scale))
    step = height / size[1]
    margin = math.ceil(3.0 * step) + 1  # Lanczos' support on either side
    full = _grey_range(photo) if photo.mode == "F" else 65535.0
    out = Image.new("RGB", size)
    rows = max(1, int(_BAND_PIXELS / (width * step)))
    for top in range(0, size[1], rows):
        bottom = min(top + rows, size[1])
        first, last = max(0, int(top * step) - margin), min(height, math.ceil(bottom * step) + margin)
        low, high = (height - last, height - first) if reverse else (first, last)
        band = photo.crop((low, 0, high, photo.height) if columns else (0, low, photo.width, high))
        band = _to_srgb(band.transpose(transpose) if transpose is not None else band, full)
        box = (0.0, top * step - first, width, min(bottom * step, height) - first)
        out.paste(band.resize((size[0], bottom - top), Image.Resampling.LANCZOS, box, reducing_gap=3.0), (0, top))
    return out


def _to_srgb(photo: Image.Image, full: float | None = None) -> Image.Image:
    """Any mode to RGB, colours in sRGB, transparency over white.

    Args:
        photo: the picture, or a band of it.
        full: white of a grey picture of more than 8 bits; by default that of its range.
    """
    profile, gamma = photo.info.get("icc_profile"), photo.info.get("gamma")
    if "srgb" in photo.info:  # a PNG that declares itself sRGB repeats that as a gamma for old readers
        gamma = None
    if photo.mode.startswith("I") or photo.mode == "F":  # 16-bit grey has no 8-bit conversion that scales
        photo = Image.fromarray(_grey_to_8_bit(np.asarray(photo), full))
    alpha = None
    if photo.mode in ("LA", "La") and "transparency" not in photo.info:
        alpha = photo.convert("LA").getchannel("A")
        photo = photo.convert("LA").getchannel("L")
    elif photo.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in photo.info:
        photo = photo.convert("RGBA")
        alpha = photo.getchannel("A")
        photo = photo.convert("RGB")
    elif photo.mode not in ("RGB", "L", "CMYK"):
        photo = photo.convert("RGB")
    rgb = _apply_profile(photo, profile) if profile else _apply_gamma(photo.convert("RGB"), gamma)
    if alpha is not None:
        white = Image.new("RGB", rgb.size, "white")
        white.paste(rgb, mask=alpha)
        rgb = white
    return rgb


def _white(largest: float) -> float:
    """What counts as white in float grey: 1, 255 or 65535, the narrowest that contains ``largest``."""
    return 1.0 if largest <= 1.0 else 255.0 if largest <= 255.0 else 65535.0


def _grey_range(photo: Image.Image) -> float:
    """White of a picture of float grey, which is read in parts."""
    parts = range(0, photo.height, max(1, _BAND_PIXELS // photo.width))
    bands = (photo.crop((0, top, photo.width, min(top + parts.step, photo.height))) for top in parts)
    return _white(max(float(np.asarray(band).max(initial=0)) for band in bands))


def _grey_to_8_bit(values: np.ndarray, full: float | None = None) -> np.ndarray:
    """16-bit, 32-bit or float grey to uint8.

    Integers count as 16-bit. Floats count as [0, 1], [0, 255] or [0, 65535], the narrowest that contains them, unless
    ``full`` states their white.
    """
    largest = float(values.max(initial=0))
    if not np.isfinite(largest) or not np.isfinite(float(values.min(initial=0))):
        raise ValueError("not finite")
    if full is None:
        full = _white(largest) if values.dtype.kind == "f" else 65535.0
    out = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):  # in parts: float64 of a large picture is gigabytes
        levels = values[top : top + _ROWS].astype(np.float64)
        out[top : top + _ROWS] = np.round(np.clip(levels / full, 0.0, 1.0) * 255.0)
    return out


def _apply_profile(photo: Image.Image, profile: bytes) -> Image.Image:
    """Convert from an embedded ICC profile; it is ignored if damaged or of a different colour space."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(photo, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return photo.convert("RGB")
    return photo.convert("RGB") if converted is None else converted


def _apply_gamma(photo: Image.Image, gamma: float | None) -> Image.Image:
    """Convert RGB that is stored as light to the power of ``gamma`` (PNG's gAMA) to sRGB."""
    if gamma is None or not 0.1 <= gamma <= 2.0 or abs(gamma - _SRGB_GAMMA) < 0.01:
        return photo
    light = (np.arange(256) / 255.0) ** (1.0 / gamma)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1.0 / 2.4) - 0.055)
    return photo.point(np.round(255.0 * srgb).astype(int).tolist() * 3)
