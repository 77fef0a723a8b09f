"""Meaning of the indices of the two landmark sets: the 478 points of the landmark network, and the 68 of iBUG.

Left and right are the subject's own. Sources: the published contours of MediaPipe's face mesh; the 68-point mark-up of
300-W (Sagonas et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from spatialavatar.errors import InputError

# fmt: off
FACE_OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"""Forehead, temples and jaw line, clockwise in the picture from the top."""

# Each lid from the outer corner to the inner one, corners included.
UPPER_LID_RIGHT: Final = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LOWER_LID_RIGHT: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133)
UPPER_LID_LEFT: Final = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LOWER_LID_LEFT: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362)
IRIS_RIGHT: Final = (468, 469, 470, 471, 472)
IRIS_LEFT: Final = (473, 474, 475, 476, 477)
"""Centre first, then four points around the iris."""

BROW_RIGHT: Final = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
BROW_LEFT: Final = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)

# Each lip edge from the right corner of the mouth to the left one, corners included.
UPPER_LIP_OUTER: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_LIP_INNER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

NOSE: Final = (1, 2, 4, 5, 6, 19, 94, 97, 98, 168, 195, 197, 326, 327)

IBUG_68: Final = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw line, right to left
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 81, 13, 311, 308, 402, 14, 178,  # inner lips
)
"""The dense landmark nearest in meaning to each of the 68."""
# fmt: on


@dataclass(frozen=True)
class LandmarkSet:
    """The points of a set that the fit uses: all on features, a third of those between them, which add little.

    Attributes:
        used: indices of the points that are fitted; all indices below but the eye corners' are into these.
        weights: (used,) relative weight of each point.
        pairs: index pairs whose difference is fitted, too. It determines the opening of lids and lips and the gaze,
            independently of an offset between the landmarks of this face and those of the head.
        pair_weights: (P,) weight of a pair relative to its points.
        outer_eye_corners: right, left, indices into all points.
        iris_right: the right iris; empty if the set has none.
        iris_left: the same for the left.
    """

    used: tuple[int, ...]
    weights: Tensor
    pairs: tuple[tuple[int, int], ...]
    pair_weights: Tensor
    outer_eye_corners: tuple[int, int]
    iris_right: tuple[int, ...] = ()
    iris_left: tuple[int, ...] = ()


@lru_cache(maxsize=2)
def landmark_set(count: int) -> LandmarkSet:
    """The set of ``count`` points.

    Raises:
        InputError: there is no such set.
    """
    if count == 478:
        return _dense()
    if count == 68:
        return _ibug()
    raise InputError(f"There is no landmark set of {count} points; use 478 or 68.")


def _dense() -> LandmarkSet:
    weights = torch.zeros(478)
    weights[::3] = 1.5
    weights[list(FACE_OVAL)] = 0.3
    for indices, weight in (
        ((*BROW_RIGHT, *BROW_LEFT), 1.0),
        (NOSE, 1.0),
        ((*UPPER_LIP_OUTER, *LOWER_LIP_OUTER), 1.2),
        ((*UPPER_LIP_INNER, *LOWER_LIP_INNER), 2.0),
        ((*UPPER_LID_RIGHT, *LOWER_LID_RIGHT, *UPPER_LID_LEFT, *LOWER_LID_LEFT), 1.5),
        ((*IRIS_RIGHT, *IRIS_LEFT), 1.5),
    ):
        weights[list(indices)] = weight
    lips = len(UPPER_LIP_INNER) - 2
    gaps = [
        *zip(UPPER_LIP_INNER[1:-1], LOWER_LIP_INNER[1:-1]),
        *zip(UPPER_LID_RIGHT[1:-1], LOWER_LID_RIGHT[1:-1]),
        *zip(UPPER_LID_LEFT[1:-1], LOWER_LID_LEFT[1:-1]),
    ]
    gaze = [(IRIS_RIGHT[0], corner) for corner in (33, 133)] + [(IRIS_LEFT[0], corner) for corner in (263, 362)]
    used = weights.nonzero().squeeze(1)
    place = {index: position for position, index in enumerate(used.tolist())}
    return LandmarkSet(
        used=tuple(used.tolist()),
        weights=weights[used],
        pairs=tuple((place[a], place[b]) for a, b in (*gaps, *gaze)),
        pair_weights=torch.tensor([8.0] * lips + [3.0] * (len(gaps) + len(gaze) - lips)),
        outer_eye_corners=(33, 263),
        iris_right=tuple(place[index] for index in IRIS_RIGHT),
        iris_left=tuple(place[index] for index in IRIS_LEFT),
    )


def _ibug() -> LandmarkSet:
    weights = torch.ones(68)
    weights[:17] = 0.4
    gaps = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
    return LandmarkSet(
        used=tuple(range(68)),
        weights=weights,
        pairs=gaps,
        pair_weights=torch.full((len(gaps),), 3.0),
        outer_eye_corners=(36, 45),
    )
