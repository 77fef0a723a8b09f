"""Writing videos with transparency: WebM (VP9), QuickTime (ProRes 4444), or PNG pictures in a folder or a ZIP file."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import numpy as np

from spatialavatar import provenance
from spatialavatar.errors import InputError, OutputError
from spatialavatar.media.paths import PathLike, check_writable
from spatialavatar.media.writer import TO_YUV, VideoWriter, check_frame

_WEBM, _PRORES, _ZIP = ".webm", ".mov", ".zip"
_SUFFIXES: Final = (_WEBM, _PRORES, _ZIP)
_COMPRESSION: Final = 3  # of PNG: near the size of the default at a third of its time


class AlphaVideoWriter(VideoWriter):
    """As :class:`VideoWriter`, of (H, W, 4) frames with straight alpha: VP9 in .webm, ProRes 4444 in .mov."""

    _channels = 4

    def _check_suffix(self) -> None:
        check_alpha_name(self.path)

    def _encoder(self, crf: int) -> list[str]:
        tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
        # fmt: off
        if self.path.suffix.lower() == _PRORES:
            return [
                "-vf", f"{TO_YUV},format=yuva444p10le,{tags}",
                "-c:v", "prores_ks", "-profile:v", "4444", "-vendor", "apl0", "-alpha_bits", "16",
            ]
        return [
            "-vf", f"pad=ceil(iw/2)*2:ceil(ih/2)*2:color=black@0,{TO_YUV},format=yuva420p,{tags}",
            # Alternate reference frames and alpha exclude each other in libvpx.
            "-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-crf", str(int(crf)), "-b:v", "0",
            "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-threads", "2",
        ]
        # fmt: on


class PictureWriter:
    """Frames as PNG pictures, frame_00001.png and so on, in a new folder or a ZIP file; used like a VideoWriter.

    Attributes:
        path: the folder or file to make; it appears whole or not at all.
        size: width, height of the frames, pixels.
        frame_count: frames written so far.
        warnings: plain sentences.
    """

    def __init__(self, path: PathLike, size: tuple[int, int], audio_from: PathLike | None = None) -> None:
        """Start writing.

        Args:
            path: a name that ends in .zip, or a folder that does not exist or is empty.
            size: width, height of the frames, pixels.
            audio_from: a file with sound; pictures have none, which becomes a warning.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = Path(path)
        check_alpha_name(self.path)
        self.size = (int(size[0]), int(size[1]))
        self.frame_count = 0
        self.warnings = ["Pictures have no sound; give a name that ends in .webm or .mov."] if audio_from else []
        self._partial = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(4)}{self.path.suffix}")
        self._archive: zipfile.ZipFile | None = None
        try:
            if self.path.suffix.lower() == _ZIP:
                self._archive = zipfile.ZipFile(self._partial, "w", zipfile.ZIP_STORED)
            else:
                self._partial.mkdir()
        except OSError as error:
            raise self._failure(error) from error

    def write(self, frame: np.ndarray) -> None:
        """Append one (H, W, 4) uint8 sRGB frame with straight alpha.

        Raises:
            InputError: the frame has the wrong size or type.
            OutputError: writing fails, for instance because the disk is full.
        """
        check_frame(frame, self.size, 4)
        try:
            with self._entry(f"frame_{self.frame_count + 1:05d}.png") as file:
                provenance.write_png(file, frame, _COMPRESSION)
        except (OSError, ValueError) as error:  # ValueError: closed before
            self._abort()
            raise self._failure(error) from error
        self.frame_count += 1

    def _entry(self, name: str) -> IO[bytes]:
        if self._archive is not None:
            return self._archive.open(name, "w")
        return (self._partial / name).open("wb")

    def close(self) -> None:
        """Move the pictures to their place.

        Raises:
            OutputError: that fails, or no frame was written.
        """
        if self.frame_count == 0:
            self._abort()
            raise OutputError(f"{self.path} would be empty: no frame was written to it.")
        try:
            if self._archive is not None:
                self._archive.close()
            elif self.path.is_dir():
                self.path.rmdir()  # empty: check_alpha_name
            os.replace(self._partial, self.path)
        except OSError as error:
            self._abort()
            raise self._failure(error) from error

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

    def _abort(self) -> None:
        """Delete what was written."""
        if self._archive is not None:
            self._archive.close()
            self._partial.unlink(missing_ok=True)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _failure(self, error: Exception) -> OutputError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return OutputError(f"The pictures {self.path} cannot be written ({reason}); check the folder and the disk.")


def alpha_writer(
    path: PathLike, size: tuple[int, int], fps: float, audio_from: PathLike | None = None
) -> AlphaVideoWriter | PictureWriter:
    """The writer that a name's suffix selects: .webm, .mov, .zip, or none for a folder of PNG pictures.

    Args:
        path: the file or folder to make.
        size: width, height of the frames, pixels.
        fps: frames per second.
        audio_from: a file whose sound track is added.

    Raises:
        OutputError: the suffix is not supported, or the file cannot be written.
        InputError: ``audio_from`` cannot be read, or the frame rate is not a positive number.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"A video cannot have {fps} frames per second; give a positive number.")
    if Path(path).suffix.lower() in (_WEBM, _PRORES):
        return AlphaVideoWriter(path, size, fps, audio_from, synthetic=True)
    return PictureWriter(path, size, audio_from)


def check_alpha_name(path: PathLike) -> None:
    """Refuse a place where no video with transparency can be written.

    Raises:
        OutputError: the suffix is not supported, the folder is not empty, or the path cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix and suffix not in _SUFFIXES:
        raise OutputError(
            f"A transparent video cannot be written to {path.name}; give a name that ends in .webm, .mov or .zip, or "
            "one without an ending for a folder of PNG pictures."
        )
    if not suffix and path.is_dir():
        if any(path.iterdir()):
            raise OutputError(f"The folder {path} is not empty; give another name for the pictures.")
        return
    check_writable(path)
