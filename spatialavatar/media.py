"""Reading photos, reading and writing video.

Pictures are (H, W, 3) uint8 sRGB arrays everywhere. Video goes through the ffmpeg program that imageio-ffmpeg carries,
one frame at a time, so that memory does not grow with length.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import secrets
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError

from spatialavatar import provenance
from spatialavatar.errors import InputError, OutputError

MIN_SIDE: Final = 64
"""Pictures with a shorter side than this are refused."""
MAX_SIDE: Final = 4096
"""Photos with a longer side than this are scaled down when read."""

_MAX_PIXELS: Final = 100_000_000  # decoded at full size: 300 MB
_MAX_JPEG_PIXELS: Final = 1_600_000_000  # decoded at an eighth of the size
# Formats that decode in this process; not, for instance, EPS, which would start another program on the file.
_PHOTO_FORMATS: Final = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
_VIDEO_SUFFIXES: Final = (".mp4", ".m4v", ".mov", ".mkv")
_PathLike = str | os.PathLike[str]


def read_image(path: _PathLike, max_side: int = MAX_SIDE) -> np.ndarray:
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
    path = _existing_file(path, "photo")
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


def is_image(path: _PathLike) -> bool:
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
    if width * height > (_MAX_JPEG_PIXELS if scalable else _MAX_PIXELS):
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


class VideoReader:
    """A video as a stream of frames at a constant rate. Iterating starts from the beginning, as often as wanted.

    Rotation metadata and non-square pixels are applied; a variable frame rate becomes the mean one by repeating or
    dropping frames.

    Attributes:
        path: the file.
        fps: frames per second of the stream.
        size: width, height of the frames, pixels.
        duration: seconds, as the file says; 0 where it does not.
        frame_count_estimate: what ``duration`` promises; the stream itself is the truth.
        has_audio: whether there is a sound track.
        warnings: plain sentences about what was wrong with the file; filled while iterating.
    """

    def __init__(self, path: _PathLike, max_side: int | None = None, max_fps: float = 60.0) -> None:
        """Open a video and look at its first frame.

        Args:
            path: the file.
            max_side: larger frames are scaled down to this many pixels on the longer side; None keeps them.
            max_fps: faster videos are thinned to this rate.

        Raises:
            InputError: where the file is missing, no video, damaged from the start, or without frames.
        """
        self.path = _existing_file(path, "video")
        self._max_side = max_side
        self.warnings: list[str] = []
        command = [*_input_arguments(self.path), "-frames:v", "1", *self._output_arguments(None)]
        result = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        facts = _parse_facts(result.stderr.decode("utf-8", errors="replace"))
        if not facts.has_video:
            kind = "holds sound but no pictures" if facts.has_audio else "is not a video that can be read"
            raise InputError(f"The file {self.path.name} {kind}; give an MP4, MOV, MKV or WebM video.")
        frame = _read_frame(io.BytesIO(result.stdout))
        if frame is None:
            raise InputError(f"The video {self.path.name} holds no readable frame; save or download it again.")
        self.size: tuple[int, int] = (frame.shape[1], frame.shape[0])
        if min(self.size) < MIN_SIDE:
            raise InputError(
                f"The video {self.path.name} is only {self.size[0]} x {self.size[1]} pixels; give one of at least "
                f"{MIN_SIDE} x {MIN_SIDE}."
            )
        self._rate = min(facts.rate, Fraction(max_fps).limit_denominator(1001))
        self.fps = float(self._rate)
        self.duration = facts.duration
        self.frame_count_estimate = max(1, round(self.duration * self.fps))
        self.has_audio = facts.has_audio

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 sRGB frames.

        Raises:
            InputError: where decoding breaks off before the first frame.
        """
        command = [*_input_arguments(self.path, "error"), *self._output_arguments(self._rate)]
        count = 0
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=1 << 20
            )
            try:
                assert process.stdout is not None
                while (frame := _read_frame(process.stdout)) is not None:
                    count += 1
                    yield frame
                process.wait()
                log.seek(0)
                complaints = log.read(4096)
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        if count == 0:
            raise InputError(f"The video {self.path.name} holds no readable frame; save or download it again.")
        self._note_missing(count, bool(complaints) or process.returncode != 0)

    def _note_missing(self, count: int, complained: bool) -> None:
        """Warn where the stream was shorter than promised, or damaged on the way."""
        seconds = count / self.fps
        if self.duration - seconds > max(0.5, 0.05 * self.duration):
            sentence = (
                f"The video {self.path.name} is damaged: only the first {seconds:.1f} of {self.duration:.1f} seconds "
                "could be read."
            )
        elif complained:
            sentence = f"The video {self.path.name} is damaged in places; the frames that could be read are used."
        else:
            return
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _output_arguments(self, rate: Fraction | None) -> list[str]:
        """Frames as a stream of PPM pictures: each carries its own size, after rotation and scaling."""
        filters = [] if rate is None else [f"fps={rate.numerator}/{rate.denominator}"]
        filters += ["scale=round(iw*sar):ih:flags=bicubic+accurate_rnd+full_chroma_int", "setsar=1"]
        if self._max_side is not None:
            side = int(self._max_side)
            filters.append(f"scale='min(iw,{side})':'min(ih,{side})':force_original_aspect_ratio=decrease:flags=area")
        return ["-map", "0:v:0", "-an", "-vf", ",".join(filters), "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]


class PictureSequence:
    """Pictures in order, read as if they were a video. Iterating starts from the beginning, as often as wanted.

    Attributes:
        path: the folder of the first picture.
        fps: frames per second, as given.
        size: width, height of the first picture that can be read, pixels; the others are scaled to it.
        frame_count_estimate: their number.
        damaged: indices of pictures that could not be read; they repeat the one before (at the start, the first good
            one). Filled while iterating.
        warnings: plain sentences about them; filled while iterating.
    """

    def __init__(self, pictures: Sequence[_PathLike], fps: float = 25.0, max_side: int | None = None) -> None:
        """Look at the first picture.

        Args:
            pictures: the files.
            fps: frames per second they were taken at.
            max_side: larger pictures are scaled down to this many pixels on the longer side; None keeps them.

        Raises:
            InputError: there are none, or none can be read.
        """
        self._pictures = [Path(picture) for picture in pictures]
        self._max_side = max_side or MAX_SIDE
        if not self._pictures:
            raise InputError("There are no pictures to read; give a folder that holds some.")
        self.path = self._pictures[0].parent
        self.fps = fps
        self.frame_count_estimate = len(self._pictures)
        self.damaged: set[int] = set()
        self.warnings: list[str] = []
        self._first_good = self._find_good()
        self.size: tuple[int, int] = (self._first_good.shape[1], self._first_good.shape[0])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 sRGB frames, all of one size."""
        last = self._first_good
        for index, path in enumerate(self._pictures):
            try:
                picture = Image.fromarray(read_image(path, self._max_side))
                last = np.array(picture.resize(self.size) if picture.size != self.size else picture)
            except InputError as error:
                if index not in self.damaged:
                    self.damaged.add(index)
                    self.warnings.append(str(error))
            yield last

    def _find_good(self) -> np.ndarray:
        for path in self._pictures:
            with contextlib.suppress(InputError):
                return read_image(path, self._max_side)
        raise InputError(f"None of the {len(self._pictures)} pictures in {self.path} can be read; copy them again.")


class VideoWriter:
    """A video file written frame by frame: H.264, 4:2:0, BT.709, playable everywhere.

    The file appears under its name only when it is complete; on failure nothing is left behind. Use it as a context
    manager.
    """

    def __init__(
        self,
        path: _PathLike,
        size: tuple[int, int],
        fps: float,
        audio_from: _PathLike | None = None,
        crf: int = 18,
        synthetic: bool = False,
    ) -> None:
        """Start writing.

        Args:
            path: the file to make; mp4, m4v, mov or mkv.
            size: width, height of the frames, pixels.
            fps: frames per second.
            audio_from: a file whose sound track (if it has one) is kept, from its start, as long as there are frames.
            crf: x264's constant rate factor: 0 is lossless, 18 looks like it, 28 is small.
            synthetic: the frames are renderings of a person, and the file's metadata say so.

        Raises:
            OutputError: where the file cannot be written there.
            InputError: where ``audio_from`` is missing, or the frame rate is not a positive number.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in _VIDEO_SUFFIXES:
            raise OutputError(f"A video cannot be written to {self.path.name}; give a name that ends in .mp4.")
        if not (math.isfinite(fps) and fps > 0):
            raise InputError(f"A video cannot have {fps} frames per second; give a positive number.")
        check_writable(self.path)
        self.size = (int(size[0]), int(size[1]))
        self.frame_count = 0
        self._partial = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(4)}{self.path.suffix}")
        self._sound = None if audio_from is None else _sound_of(_existing_file(audio_from, "sound file"))
        width, height = self.size
        self._rate = rate = Fraction(fps).limit_denominator(1001)
        to_yuv = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
        tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
        # fmt: off
        command = [
            _ffmpeg(), "-hide_banner", "-v", "error", "-y",
            "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}",
            "-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0",
            "-vf", f"pad=ceil(iw/2)*2:ceil(ih/2)*2,{to_yuv},format=yuv420p,{tags}",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", str(int(crf)),
            *(provenance.ffmpeg_arguments() if synthetic else ()),
            "-movflags", "+faststart", f"file:{self._partial}",
        ]
        # fmt: on
        self._synthetic = synthetic
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close() and _abort()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)

    def write(self, frame: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 sRGB frame.

        Raises:
            InputError: where the frame has another size or type.
            OutputError: where writing fails, for instance because the disk is full.
        """
        if frame.shape != (self.size[1], self.size[0], 3) or frame.dtype != np.uint8:
            raise InputError(
                f"A frame must be ({self.size[1]}, {self.size[0]}, 3) uint8, not {frame.shape} {frame.dtype}."
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except (BrokenPipeError, ValueError) as error:  # ValueError: closed before
            reason = self._abort()
            raise OutputError(f"The video {self.path} cannot be written{reason}; check the disk.") from error
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: where that fails or no frame was written.
        """
        if self._log.closed:
            return
        if self.frame_count == 0:
            self._abort()
            raise OutputError(f"The video {self.path} would be empty: no frame was written to it.")
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait() != 0:
            reason = self._abort()
            raise OutputError(f"The video {self.path} cannot be written{reason}; check the disk.")
        if self._sound is not None:
            self._add_sound(self._sound)
        self._log.close()
        try:
            if self._synthetic:
                provenance.add_xmp(self._partial)
            os.replace(self._partial, self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise OutputError(
                f"The video {self.path} cannot be written ({error.strerror}); check the folder."
            ) from error

    def _add_sound(self, sound: Path) -> None:
        """Put the sound beside the finished pictures, padded with silence or cut to their exact length.

        In one pass with the encoding, the length would hang on which stream happens to be ahead when the frames end.
        """
        whole = self._partial.with_name(f".{self.path.stem}.{secrets.token_hex(4)}{self.path.suffix}")
        seconds = float(self.frame_count / self._rate)
        # fmt: off
        command = [
            _ffmpeg(), "-hide_banner", "-v", "error", "-y", "-i", f"file:{self._partial}",
            "-protocol_whitelist", "file,pipe", "-i", f"file:{sound}", "-map", "0:v", "-map", "1:a:0",
            "-map_metadata", "0",
            "-c:v", "copy", "-c:a", "aac", "-b:a", "160k", "-af", "apad", "-t", f"{seconds:.6f}",
            "-movflags", "+faststart", f"file:{whole}",
        ]
        # fmt: on
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log, check=False
        )
        if done.returncode != 0:
            whole.unlink(missing_ok=True)
            reason = self._abort()
            raise OutputError(f"The video {self.path} cannot be given its sound{reason}; check the disk.")
        os.replace(whole, self._partial)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

    def _abort(self) -> str:
        """Stop and leave nothing behind; the encoder's last complaint, in brackets, for the error message."""
        if self._log.closed:
            return ""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", errors="replace").strip().splitlines()
        self._log.close()
        self._partial.unlink(missing_ok=True)
        return f" ({lines[-1].strip()})" if lines else ""


def check_writable(path: _PathLike) -> None:
    """Make sure that a file can be created at ``path``, before any work is done for it.

    Raises:
        OutputError: where the folder is missing or closed to us, or ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"The output {path} is a folder; give a file name.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it or write elsewhere.")
    probe = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError("the file is write-protected")
    except OSError as error:
        raise OutputError(
            f"The output {path} cannot be written ({error.strerror or error}); write elsewhere."
        ) from error


@dataclass(frozen=True)
class _VideoFacts:
    """What ffmpeg says about a file when it opens it."""

    has_video: bool
    has_audio: bool
    rate: Fraction
    duration: float


def _parse_facts(log: str) -> _VideoFacts:
    """Read the stream description that ffmpeg prints of its input."""
    log = log.split("Output #0")[0]
    video = re.search(r"Stream #0.*: Video: .*", log)
    rate = Fraction(25)
    if video is not None:
        # The mean rate first; "tbr" is the container's guess, the only one there is for some streams.
        found = re.search(r"([\d.]+)(k?) fps", video[0]) or re.search(r"([\d.]+)(k?) tbr", video[0])
        if found is not None and float(found[1]) > 0:
            rate = _exact_rate(float(found[1]) * (1000 if found[2] else 1))
    duration = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", log)
    seconds = sum(float(v) * f for v, f in zip(duration.groups(), (3600, 60, 1))) if duration else 0.0
    return _VideoFacts(video is not None, re.search(r"Stream #0.*: Audio: ", log) is not None, rate, seconds)


def _exact_rate(printed: float) -> Fraction:
    """The rate behind a printed one, which is rounded to two digits: 29.97 stands for 30000/1001."""
    whole = round(printed)
    for exact in (Fraction(whole), Fraction(whole * 1000, 1001)):
        if abs(float(exact) - printed) < 0.006:
            return exact
    return Fraction(printed).limit_denominator(1000)


def _read_frame(stream: IO[bytes]) -> np.ndarray | None:
    """One binary PPM picture of a stream; None at its end, also where the last one is cut."""
    magic, size, depth = stream.readline(), stream.readline(), stream.readline()
    if magic != b"P6\n" or depth != b"255\n":
        return None
    width, height = map(int, size.split())
    data = stream.read(width * height * 3)
    if len(data) < width * height * 3:
        return None
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(height, width, 3)


def _input_arguments(path: Path, verbosity: str = "info") -> list[str]:
    """Open a local file and nothing else, whatever the file refers to."""
    # fmt: off
    return [
        _ffmpeg(), "-hide_banner", "-nostdin", "-v", verbosity, "-protocol_whitelist", "file,pipe",
        "-i", f"file:{path}",
    ]
    # fmt: on


def _sound_of(path: Path) -> Path | None:
    """The path itself where the file has a sound track."""
    probe = subprocess.run(_input_arguments(path), capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return path if _parse_facts(probe.stderr.decode("utf-8", errors="replace")).has_audio else None


_ffmpeg_lock = threading.Lock()


def _ffmpeg() -> str:
    """The ffmpeg program."""
    import imageio_ffmpeg

    with _ffmpeg_lock:
        return str(imageio_ffmpeg.get_ffmpeg_exe())


def _existing_file(path: _PathLike, kind: str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {kind}; give a file.")
    if not path.is_file():
        raise InputError(f"There is no {kind} at {path}; check the name.")
    return path
