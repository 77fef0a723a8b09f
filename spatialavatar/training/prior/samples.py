"""A training sample of the prior: what photos show of a head, and the whole head, on the sphere's map."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.files import atomic_output
from spatialavatar.generator.numerics import Pixels
from spatialavatar.generator.prior.observation import HULLS, Observation
from spatialavatar.generator.prior.sphere import COLUMNS, ROWS

_CHANNELS: Final = {
    "colors": 3,
    "visibility": 0,
    "hair": 0,
    "height": 0,
    "rim_weight": 0,
    "rim_height": 0,
    "hull": HULLS,
    "hair_fill": 3,
    "skin_fill": 3,
    "hair_seen": 0,
    "true_colors": 3,
    "true_hair": 0,
    "true_height": 0,
    "true_direction": 2,
    "known": 0,
    "shaped": 0,
}
"""Maps of a file with their channels; 0 for a map without that axis."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Maps (ROWS, COLUMNS[, C]), float32.

    Attributes:
        colors: (..., 3) sRGB of the outer surface.
        hair: in [0, 1], hair mask.
        height: metres of the outer surface over the fitted smooth head.
        direction: (..., 2) of ``network.Prediction``; 0 where there is no hair.
        known: in [0, 1], weight of colours and hair.
        shaped: 1 where height and direction are known, else 0.
    """

    colors: Pixels
    hair: Pixels
    height: Pixels
    direction: Pixels
    known: Pixels
    shaped: Pixels


def write_sample(path: Path, seen: Observation, truth: Truth) -> None:
    """Write a sample, in half precision; the file appears whole or not at all."""
    maps = {**seen.arrays(), **{_true_name(name): value for name, value in vars(truth).items()}}
    half = {name: np.nan_to_num(value).astype(np.float16) for name, value in maps.items()}
    with atomic_output(path) as place, place.open("wb") as file:
        np.savez_compressed(file, **half)


def read_sample(path: Path) -> dict[str, np.ndarray]:
    """The maps of a sample by name, float16; those of the truth are ``true_...``, ``known`` and ``shaped``.

    Raises:
        FormatError: the file is damaged or is not a sample.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            maps = {name: file[name] for name in _CHANNELS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path} is not a sample of the prior's training or is damaged; delete it.") from error
    for name, channels in _CHANNELS.items():
        shape = (ROWS, COLUMNS, channels) if channels else (ROWS, COLUMNS)
        if maps[name].shape != shape or maps[name].dtype != np.float16:
            raise FormatError(f"{path} has a map {name} of another size; delete it and make it again.")
    return maps


def _true_name(name: str) -> str:
    return name if name in ("known", "shaped") else f"true_{name}"
