"""Sizes of the prior's network and constants of its use; a saved model stores them."""

from __future__ import annotations

from dataclasses import dataclass

from spatialavatar.errors import InputError
from spatialavatar.generator.settings import Checked, setting


@dataclass(frozen=True)
class PriorConfig(Checked):
    """Sizes of the network, and constants of its use.

    Attributes:
        channels: of the four levels.
        side_azimuth: degrees from the face's middle from which the prior replaces the mirror and the smooth fill on the
            face, and from which on fully. The core of the face keeps the seen colours.
        forehead: metres above the eyes' centres from which, and from which on fully, the same holds for the forehead.
        seen: visibilities from which a texel's own colour takes the place of the prior's, and from which on fully.
        facing: cosines of the angle to a camera from which, and from which on fully, scalp and neck keep what the rules
            complete, seen or not.
        contrast: least and greatest standard deviation of the log brightness from strand to strand.
        stretch: length of a Gaussian on unseen hair along its strand, relative to its texel.
    """

    channels: tuple[int, int, int, int] = (24, 48, 128, 240)
    side_azimuth: tuple[float, float] = setting((39.0, 54.0), "degrees", 0.0, 180.0)
    forehead: tuple[float, float] = setting((0.052, 0.062), "m", 0.0, 0.5)
    seen: tuple[float, float] = setting((0.05, 0.2), "1", 0.0, 1.0)
    facing: tuple[float, float] = setting((0.0, 0.15), "cosine", -1.0, 1.0)
    contrast: tuple[float, float] = setting((0.05, 0.2), "1", 0.0, 1.0)
    stretch: float = setting(2.0, "1", 1.0, 10.0)

    def __post_init__(self) -> None:
        """Check all fields.

        Raises:
            InputError: a value is of the wrong type or out of range.
        """
        super().__post_init__()
        sizes = self.channels
        if len(sizes) != 4 or any(type(size) is not int or not 1 <= size <= 1024 for size in sizes):
            raise InputError(f"PriorConfig.channels is {sizes!r}; give four whole numbers from 1 to 1024.")
