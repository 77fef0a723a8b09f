"""The 52 face units, made symmetric and repaired where the sculpt does not suit this head."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from open_head import eyes
from open_head.lips import Lips
from spatialavatar.head.arkit import mirrored_name

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Units = dict[str, Floats]

# Units that press the lips into each other on purpose, and those that open them; the rest keep a shut mouth shut.
_PRESSING = ("mouthClose", "mouthRoll", "mouthPress", "mouthShrugLower")
_OPENING = ("mouthFunnel", "mouthLowerDown", "mouthUpperUp", "mouthShrugUpper", "jawOpen")
_CREASED = ("mouthSmile", "mouthDimple")  # sculpted with a sharp vertical fold in the cheek
_FOLD_START, _FOLD_END = 0.004, 0.011  # distance from the lips over which a creased unit is softened
_FOLD_PASSES = 40
# A smile is sculpted to lift the mouth so far, its middle and the chin above all, that it would bare gums, not teeth:
# the share of the lift that is kept, how much less of it in the middle, and how far that reaches sideways in metres.
_SMILE_LIFT, _SMILE_MIDDLE, _SMILE_REACH = 0.82, 0.35, 0.015


def symmetric(units: Units, twin: Ints) -> Units:
    """Units whose left and right versions are exact mirror images of each other."""
    return {n: 0.5 * (d + units[mirrored_name(n)][twin] * [-1, 1, 1]) for n, d in units.items()}


def with_tidy_lips(units: Units, lips: Lips) -> Units:
    """Units that neither push one lip through the other nor part the lips unless they are meant to.

    ``mouthClose`` is made to shut what ``jawOpen`` opens: the two are only ever used together.
    """
    result = {
        name: lips.limited(offsets, shut=name.startswith(_PRESSING), opened=name.startswith(_OPENING))
        for name, offsets in units.items()
    }
    both = units["jawOpen"] + units["mouthClose"]
    result["mouthClose"] = lips.limited(both, shut=False, opened=False) - result["jawOpen"]
    return result


def softened(units: Units, template: Floats, lip_vertices: Ints, smoothing: sp.csr_matrix) -> Units:
    """Units without the sharp folds that some draw in the cheeks, and smiles that lift the corners of the mouth.

    Args:
        units: offsets (V, 3) by name.
        template: (V, 3) skin.
        lip_vertices: the lips, which are left as they are.
        smoothing: (V, V) averaging over neighbours.
    """
    distance = cKDTree(template[lip_vertices]).query(template)[0]
    share = np.clip((distance - _FOLD_START) / (_FOLD_END - _FOLD_START), 0, 1)[:, None]
    result = dict(units)
    for name, offsets in units.items():
        if name.startswith(_CREASED):
            smooth = offsets
            for _ in range(_FOLD_PASSES):
                smooth = smoothing @ smooth
            result[name] = offsets + share * (smooth - offsets)
        if name.startswith("mouthSmile"):
            middle = _SMILE_MIDDLE * np.exp(-((template[:, 0] / _SMILE_REACH) ** 2))
            result[name][:, 1] *= _SMILE_LIFT * (1 - middle)
    return result


def fit_lids(units: Units, rest: Floats, lids: tuple[eyes.Lids, ...], centres: tuple[Floats, ...]) -> Units:
    """Units whose blinks shut, and whose lids stay outside the eyeballs.

    Args:
        units: offsets (V, 3) by name.
        rest: (V, 3) head with seated lids.
        lids: of the left and of the right eye.
        centres: (3,) of the two eyeballs.
    """
    result = {}
    for name, offsets in units.items():
        for side, own, centre in zip(("Left", "Right"), lids, centres, strict=True):
            if name == f"eyeBlink{side}":
                offsets = eyes.close_lids(offsets, rest, own, centre)
            elif np.abs(offsets[own.rows]).max() > 1e-5:
                offsets = eyes.seat(rest + offsets, rest, own, centre) - rest
        result[name] = offsets
    return result
