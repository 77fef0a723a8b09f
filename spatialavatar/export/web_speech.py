"""Speech of web pages: the network's weights and the constants of speech.js, for the page's binary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.speech.coarticulation import (
    ARTICULATORS,
    CLOSE,
    FULL_CLOSURE,
    JAW_ROW,
    LOUD_JAW,
    NO_CLOSURE,
    OPENING_ROW,
    QUIET_JAW,
    REACH,
    TABLES,
    UNIT_MATRIX,
)
from spatialavatar.speech.features import BANDS, FFT_SIZE, FLOOR, HOP, LEAD, MEL_FILTERS, SAMPLE_RATE, TAPER
from spatialavatar.speech.network import DELAY, DILATIONS, EPSILON, WIDTH, shipped_weights
from spatialavatar.speech.visemes import VISEME_RATE, VISEMES


def speech_description() -> dict[str, Any]:
    """The entry ``speech`` of the description: sizes and constants."""
    return {
        "rate": SAMPLE_RATE,
        "hop": HOP,
        "fft": FFT_SIZE,
        "lead": LEAD,
        "floor": FLOOR,
        "bands": BANDS,
        "width": WIDTH,
        "epsilon": EPSILON,
        "dilations": list(DILATIONS),
        "delay": DELAY,
        "visemes": len(VISEMES),
        "reach": REACH,
        "articulators": len(ARTICULATORS),
        "close": CLOSE,
        "lips": VISEMES.index("PP"),
        "noClosure": NO_CLOSURE,
        "fullClosure": FULL_CLOSURE,
        "quietJaw": QUIET_JAW,
        "loudJaw": LOUD_JAW,
        "frames": {"rate": VISEME_RATE, "count": len(ARKIT_52)},
    }


def speech_arrays() -> dict[str, NDArray[Any]]:
    """Arrays by name. The network's weights are float16, as they ship, so that the page computes with the same.

    Raises:
        MissingAssetError: they are not on disk and cannot be fetched.
        FormatError: their file is damaged.
    """
    arrays: dict[str, NDArray[Any]] = {
        f"speech_{name}": weight.astype("<f2") for name, weight in shipped_weights().items()
    }
    floats = {
        "filters": MEL_FILTERS,
        "taper": TAPER,
        "targets": TABLES.targets,
        "dominances": TABLES.dominances,
        "rows": np.stack([JAW_ROW, OPENING_ROW]),
        "units": UNIT_MATRIX,
    }
    return arrays | {f"speech_{name}": array.astype("<f4") for name, array in floats.items()}
