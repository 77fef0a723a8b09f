"""From visemes to ARKit weights: each viseme's targets, blended by dominance functions.

The model is that of Cohen and Massaro (1993), "Modeling coarticulation in synthetic visual speech": each segment has a
target for each articulator and a dominance that decays with the time from the segment; the value of an articulator is
the mean of the targets weighted by dominance. Lips of p, b, m dominate the closing of the lips, rounded vowels dominate
the rounding, and consonants that need the jaw dominate the jaw; other sounds take the values of their neighbours. The
dominances are evaluated on shares of visemes, so that known phoneme times and a network's probabilities take the same
path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.speech.visemes import VISEMES

REACH: Final = 2
"""Frames before and after its own that a frame depends on."""

ARTICULATORS: Final = (
    *("jaw", "close", "press", "roll_lower", "roll_upper", "funnel", "pucker"),
    *("stretch", "smile", "lower_down", "upper_up", "tongue"),
)
"""Names of the articulators, in the order of every (..., 12) array."""
_INDEX: Final = {name: index for index, name in enumerate(ARTICULATORS)}
JAW: Final = _INDEX["jaw"]
CLOSE: Final = _INDEX["close"]
_LIPS: Final = VISEMES.index("PP")

# Targets of each viseme; unlisted weights are 0.
_TARGETS: Final[dict[str, dict[str, float]]] = {
    "sil": {},
    "PP": {"jaw": 0.02, "close": 1.0, "press": 0.35, "roll_lower": 0.25, "roll_upper": 0.2},
    "FF": {"jaw": 0.06, "roll_lower": 0.75, "upper_up": 0.25},
    "TH": {"jaw": 0.2, "tongue": 0.35, "lower_down": 0.25, "upper_up": 0.1},
    "DD": {"jaw": 0.16, "lower_down": 0.3, "upper_up": 0.12, "stretch": 0.1},
    "kk": {"jaw": 0.24, "lower_down": 0.2, "upper_up": 0.1},
    "CH": {"jaw": 0.12, "funnel": 0.65, "pucker": 0.3, "lower_down": 0.25, "upper_up": 0.2},
    "SS": {"jaw": 0.07, "lower_down": 0.4, "upper_up": 0.2, "stretch": 0.25, "smile": 0.1},
    "nn": {"jaw": 0.18, "lower_down": 0.25, "upper_up": 0.1},
    "RR": {"jaw": 0.18, "funnel": 0.3, "pucker": 0.1, "lower_down": 0.2, "upper_up": 0.1},
    "aa": {"jaw": 0.75, "lower_down": 0.25, "upper_up": 0.15},
    "E": {"jaw": 0.45, "stretch": 0.3, "smile": 0.15, "lower_down": 0.3, "upper_up": 0.15},
    "I": {"jaw": 0.24, "stretch": 0.4, "smile": 0.3, "lower_down": 0.3, "upper_up": 0.15},
    "O": {"jaw": 0.5, "funnel": 0.55, "pucker": 0.35},
    "U": {"jaw": 0.14, "funnel": 0.25, "pucker": 0.9},
}


@dataclass(frozen=True)
class _Group:
    """Dominance of visemes over some articulators.

    Attributes:
        articulators: their names.
        decay: of the dominance with the time from the segment: its constant, frames of 20 ms.
        dominance: of visemes; that of others is 1.
    """

    articulators: tuple[str, ...]
    decay: float
    dominance: dict[str, float]


_GROUPS: Final = (
    _Group(
        ("jaw",),
        1.6,
        {"sil": 0.7, "PP": 2.5, "FF": 2.5, "SS": 2.0, "CH": 2.0, "DD": 0.8, "nn": 0.6, "kk": 0.4, "RR": 0.6}
        | {"aa": 1.5, "E": 1.3, "O": 1.3},
    ),
    _Group(("close", "press", "roll_lower", "roll_upper"), 0.6, {"PP": 10.0, "FF": 8.0}),
    _Group(
        ("funnel", "pucker"),
        3.0,
        {"sil": 0.6, "PP": 0.4, "FF": 0.8, "DD": 0.3, "kk": 0.3, "nn": 0.3, "SS": 0.5, "TH": 0.5}
        | {"CH": 2.5, "RR": 0.8, "aa": 1.2, "E": 1.2, "I": 1.5, "O": 3.0, "U": 3.5},
    ),
    _Group(
        ("stretch", "smile", "lower_down", "upper_up", "tongue"),
        1.6,
        {"PP": 2.0, "FF": 2.0, "kk": 0.5, "DD": 0.7, "nn": 0.6, "I": 1.6, "E": 1.3, "O": 2.0, "U": 2.5, "CH": 1.5},
    ),
)

QUIET_JAW: Final = 0.6
"""Share of its target to which the jaw opens in the quietest speech."""
LOUD_JAW: Final = 1.15
"""As ``QUIET_JAW``, in the loudest speech."""


@dataclass(frozen=True)
class Tables:
    """Linear filters from shares of visemes to weighted targets and to dominances.

    Attributes:
        targets, dominances: (2 REACH + 1, 15, 12): from a frame at each offset, earliest first.
    """

    targets: Any
    dominances: Any


def _tables() -> Tables:
    offsets = np.abs(np.arange(-REACH, REACH + 1))
    dominances = np.zeros((len(offsets), len(VISEMES), len(ARTICULATORS)), np.float32)
    for group in _GROUPS:
        decay = np.exp(-offsets / group.decay)
        strength = np.array([group.dominance.get(name, 1.0) for name in VISEMES])
        for name in group.articulators:
            dominances[:, :, _INDEX[name]] = decay[:, None] * strength
    targets = np.array([[_TARGETS[viseme].get(name, 0.0) for name in ARTICULATORS] for viseme in VISEMES])
    return Tables((dominances * targets).astype(np.float32), dominances)


TABLES: Final = _tables()


def articulate(shares: Any, loudness: Any, tables: Tables = TABLES) -> Any:
    """Positions of the articulators. NumPy arrays and torch tensors give the same.

    Args:
        shares: (..., T + 2 REACH, 15) shares of visemes, which sum to 1; REACH frames more on each side.
        loudness: (..., T + 2 REACH) in [0, 1], 1 for the loudest speech.
        tables: as arrays of the same kind as ``shares``.

    Returns:
        (..., T, 12) positions of ``ARTICULATORS``, 0 to 1.
    """
    count = shares.shape[-2] - 2 * REACH
    weighted: Any = 0.0
    total: Any = 0.0
    level: Any = 0.0
    for offset in range(2 * REACH + 1):
        part = shares[..., offset : offset + count, :]
        weighted = weighted + part @ tables.targets[offset]
        total = total + part @ tables.dominances[offset]
        level = level + loudness[..., offset : offset + count] / (2 * REACH + 1)
    blended: Any = weighted / total
    gain = QUIET_JAW + (LOUD_JAW - QUIET_JAW) * level.clip(0.0, 1.0)
    # Closed lips are opened by the jaw only.
    open_share = 1.0 - blended[..., CLOSE : CLOSE + 1]
    factors = gain[..., None] * tables_like(JAW_ROW, blended) + tables_like(1.0 - JAW_ROW, blended)
    held = open_share * tables_like(OPENING_ROW, blended) + tables_like(1.0 - OPENING_ROW, blended)
    return (blended * factors * held).clip(0.0, 1.0)


NO_CLOSURE: Final = 0.2
"""Probability of p, b or m up to which :func:`drop_uncertain_closures` drops them."""
FULL_CLOSURE: Final = 0.4
"""Probability from which it keeps them whole."""


def drop_uncertain_closures(probabilities: np.ndarray) -> np.ndarray:
    """Shares (T, 15) for :func:`articulate` from a network's probabilities (T, 15), without uncertain closures.

    The lips dominate so strongly that a probability of 0.2 would close them, and a needless closure looks worse
    than one that stays half open. The share goes to the other visemes.
    """
    lips = probabilities[:, _LIPS]
    kept = lips * ((lips - NO_CLOSURE) / (FULL_CLOSURE - NO_CLOSURE)).clip(0.0, 1.0)
    shares = probabilities * ((1.0 - kept) / (1.0 - lips).clip(1e-6))[:, None]
    shares[:, _LIPS] = kept
    return shares.astype(np.float32)


def _row(*names: str) -> np.ndarray:
    return np.array([float(name in names) for name in ARTICULATORS], np.float32)


JAW_ROW: Final = _row("jaw")
"""(12,) 1 for the articulators that loudness scales."""
OPENING_ROW: Final = _row("jaw", "lower_down", "upper_up", "funnel", "stretch", "tongue")
"""(12,) 1 for those that closed lips hold."""


def tables_like(row: np.ndarray, like: Any) -> Any:
    """A row of constants as the kind of array that ``like`` is."""
    return row if isinstance(like, np.ndarray) else like.new_tensor(row)


# The ARKit units that each articulator moves, and by how much.
_UNITS: Final[dict[str, dict[str, float]]] = {
    "jaw": {"jawOpen": 0.8},
    "close": {"mouthClose": 0.06},
    "press": {"mouthPressLeft": 1.0, "mouthPressRight": 1.0},
    "roll_lower": {"mouthRollLower": 1.0},
    "roll_upper": {"mouthRollUpper": 1.0},
    "funnel": {"mouthFunnel": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "stretch": {"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0},
    "smile": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    "lower_down": {"mouthLowerDownLeft": 1.0, "mouthLowerDownRight": 1.0},
    "upper_up": {"mouthUpperUpLeft": 1.0, "mouthUpperUpRight": 1.0},
    "tongue": {"tongueOut": 1.0},
}


def _unit_matrix() -> np.ndarray:
    matrix = np.zeros((len(ARTICULATORS), len(ARKIT_52)), np.float32)
    for name, units in _UNITS.items():
        for unit, amount in units.items():
            matrix[_INDEX[name], ARKIT_INDEX[unit]] = amount
    return matrix


UNIT_MATRIX: Final = _unit_matrix()
"""(12, 52) ARKit weights of each articulator at position 1."""


def arkit_weights(positions: np.ndarray) -> np.ndarray:
    """ARKit weights (..., 52) float32 of positions (..., 12) of the articulators."""
    return np.asarray(positions, np.float32) @ UNIT_MATRIX
