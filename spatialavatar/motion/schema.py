"""Limits of a motion file: number of frames, and the type, width and range of every field.

Every reader of this package sends its values through :meth:`Field.read`, so a wrong file is refused in one sentence
that names the file and the field, before the values reach a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_52

MAX_FRAMES: Final = 150_000
"""Frames of one motion: 100 minutes at 25 frames per second."""
MAX_VALUES: Final = 20_000_000
"""Numbers that one motion file may state or expand to (80 MB as float32): 118 a frame for ``MAX_FRAMES`` frames."""
MAX_TEXT_BYTES: Final = 256 * 1024**2
"""Size of a JSON or CSV file."""
MAX_RATE: Final = 500.0
"""Frames per second of the fastest cameras that record motion; the slowest rate is 1."""


@dataclass(frozen=True)
class Field:
    """The schema of one field of a motion.

    Attributes:
        name: as messages call it.
        width: numbers of one frame; None allows any number from 1.
        limit: largest magnitude of a plausible value.
        unit: a clause that states the unit, for the message about a value beyond ``limit``.
    """

    name: str
    width: int | None
    limit: float
    unit: str

    def read(self, value: Any, owner: str, count: int | None = None, width: int | None = None) -> np.ndarray:
        """Values of a file as a checked float32 array.

        Args:
            value: an array, or nested lists as JSON has them.
            owner: what messages call the file.
            count: frames that there must be; None allows any number from 1.
            width: numbers of one frame, where the file states it.

        Returns:
            (T, width) float32.

        Raises:
            FormatError: the values are not numbers, or have the wrong shape.
            InputError: a value is not finite, or beyond ``limit``.
        """
        width = self.width if width is None else width
        array = as_numbers(value)
        good = array is not None and array.ndim == 2 and len(array) > 0 and array.shape[1] > 0
        if array is None or not good or (width and array.shape[1] != width) or (count and len(array) != count):
            found = "" if array is None else f" but has shape {tuple(array.shape)}"
            raise FormatError(
                f'The "{self.name}" of {owner} must be {count or "at least one"} frames of '
                f"{width or 'at least one'} numbers each{found}; export the motion again."
            )
        if len(array) > MAX_FRAMES:
            raise InputError(f"{owner} has {len(array)} frames; split it into motions of at most {MAX_FRAMES}.")
        self.check(array, owner)
        return array.astype(np.float32)

    def check(self, array: np.ndarray, owner: str) -> None:
        """Check the range of ``array``, of any shape.

        Raises:
            InputError: a value is not finite, or beyond ``limit``.
        """
        if not np.isfinite(array).all():
            raise InputError(f"The {self.name} of {owner} has values that are not finite; export the motion again.")
        largest = float(np.abs(array).max(initial=0.0))
        if largest > self.limit:
            raise InputError(f"The {self.name} of {owner} reaches {largest:g}, which is not plausible: {self.unit}.")


WEIGHTS: Final = Field("weights", len(ARKIT_52), 2.0, "ARKit weights go from 0 to 1, not to 100")
ROTATION: Final = Field("rotation", 3, 2 * math.pi, "rotations are axis-angle vectors in radians, not in degrees")
TRANSLATION: Final = Field(
    "translation", 3, 5.0, "translations are metres from the resting place, not centimetres or world positions"
)
NEUTRAL: Final = Field("neutral", len(ARKIT_52), 2.0, WEIGHTS.unit)
NEUTRAL_ROTATION: Final = Field("neutral_rotation", 3, 2 * math.pi, ROTATION.unit)
HEAD_ANGLES: Final = Field("head angles", 3, 3.15, "HeadYaw, HeadPitch and HeadRoll are radians, not degrees")


def as_numbers(value: Any) -> np.ndarray | None:
    """``value`` as an array of integers or real numbers; None where it is anything else, such as text or ragged."""
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return array if array.dtype.kind in "fiu" else None


def check_rate(fps: Any, owner: str) -> float:
    """``fps`` as a plausible frame rate.

    Raises:
        InputError: it is not a number, or not plausible.
    """
    number = not isinstance(fps, bool) and isinstance(fps, (int, float))
    if not number or not 1.0 <= fps <= MAX_RATE:  # comparisons of integers of any size, and of NaN, are safe
        shown = f"{fps:g}" if number and abs(fps) < 1e300 else "a text" if isinstance(fps, str) else "no number"
        raise InputError(
            f"The frame rate of {owner} is {shown}; a motion has from 1 to {MAX_RATE:g} frames per second."
        )
    return float(fps)


def check_size(frames: int, values: int, owner: str) -> None:
    """Check the size of a motion, before memory is allocated for it.

    Raises:
        InputError: it is over ``MAX_FRAMES`` or ``MAX_VALUES``.
    """
    if frames > MAX_FRAMES or values > MAX_VALUES:
        raise InputError(
            f"{owner} expands to {frames} frames; split it into motions of at most {MAX_FRAMES} frames and "
            f"{MAX_VALUES} numbers."
        )
