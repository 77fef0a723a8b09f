"""A list of pictures read as if it were a video."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from spatialavatar.errors import InputError
from spatialavatar.media.limits import MAX_SIDE
from spatialavatar.media.paths import PathLike
from spatialavatar.media.photos import read_image


class PictureSequence:
    """Pictures in order, read as if they were a video. Iterating starts from the beginning, as often as wanted.

    Attributes:
        path: the folder of the first picture.
        fps: frames per second, as given.
        size: width, height of the first readable picture, pixels; the others are scaled into it and padded with black.
        frame_count_estimate: number of pictures.
        damaged: indices of pictures that cannot be read. The one before is repeated for them (at the start, the first
            readable one). Filled while iterating.
        warnings: sentences about damaged pictures; filled while iterating.
    """

    def __init__(self, pictures: Sequence[PathLike], fps: float = 25.0, max_side: int | None = None) -> None:
        """Read the first picture.

        Args:
            pictures: the files.
            fps: frames per second.
            max_side: larger pictures are scaled down to this many pixels on the longer side; None keeps them.

        Raises:
            InputError: the list is empty, or none of the files can be read.
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
                last = np.array(ImageOps.pad(picture, self.size) if picture.size != self.size else picture)
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
