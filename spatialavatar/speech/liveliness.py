"""Motion of the face other than the lips: head, brows, blinks and gaze, in speech and between sentences.

All of it is random and seeded: the same seed, frame rate and speech give the same motion, however the frames are asked
for. Rates and durations are those of people: 17 blinks a minute at rest and 26 in conversation (Bentivoglio et al.,
1997), lids that close in a third of a blink's time, nods and brows on stressed syllables (Munhall et al., 2004), gaze
that returns to the listener from aversions of about a second (Ho, Foulsham and Kingstone, 2015). Eyes turn against the
head, so that the gaze stays on the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from spatialavatar.errors import InputError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX

MAX_LIVELINESS: Final = 1.0

# Eye rotation of an ARKit gaze unit at weight 1, degrees; the shipped head has these.
_SIDEWAYS, _UP, _DOWN = 35.0, 25.0, 30.0

_STRESSED: Final = 0.6  # standard deviations from which a syllable gets an accent
_APART: Final = 0.28  # seconds between accents at least
_PAUSE: Final = 0.25  # seconds without sound after which a phrase has ended
_SWAY: Final = ((1.5, 0.11), (0.9, 0.23), (0.5, 0.41))  # degrees and Hz of the slow sway's waves


@dataclass
class _Move:
    """A value that rises to ``height`` and falls again, or stays (``fall`` infinite).

    Attributes:
        start, rise, hold, fall: seconds.
        height: of the value.
    """

    start: float
    rise: float
    hold: float
    fall: float
    height: float

    def at(self, time: float) -> float:
        since = time - self.start
        if since <= 0.0:
            return 0.0
        up = _smooth(since / self.rise)
        down = _smooth((since - self.rise - self.hold) / self.fall) if math.isfinite(self.fall) else 0.0
        return self.height * up * (1.0 - down)

    def over(self, time: float) -> bool:
        return time > self.start + self.rise + self.hold + self.fall


@dataclass
class _Shift:
    """A value that changes from one place to another.

    Attributes:
        start, seconds: of the change.
        source, target: places.
    """

    start: float = 0.0
    seconds: float = 1.0
    source: np.ndarray = field(default_factory=lambda: np.zeros(2))
    target: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def at(self, time: float) -> np.ndarray:
        return self.source + (self.target - self.source) * _smooth((time - self.start) / self.seconds)

    def to(self, target: np.ndarray, start: float, seconds: float) -> _Shift:
        return _Shift(start, seconds, self.at(start), target)


class Liveliness:
    """Frames of head, brows, lids and eyes, one after the other.

    Attributes:
        fps: frames per second.
        amount: 0 (nothing moves) to 1.
    """

    def __init__(self, fps: float = 25.0, amount: float = 1.0, seed: int = 0) -> None:
        """Start at rest, looking at the viewer.

        Args:
            fps: frames per second, 1 to 240.
            amount: of the motion, 0 to 1; it scales head, brows and gaze. Blinks are whole wherever it is above 0.
            seed: of all random draws.

        Raises:
            InputError: a number is out of range.
        """
        if not 1.0 <= fps <= 240.0:
            raise InputError(f"The frame rate is {fps}; give a number from 1 to 240.")
        if not 0.0 <= amount <= MAX_LIVELINESS:
            raise InputError(f"The liveliness is {amount}; give a number from 0 (still) to 1.")
        self.fps, self.amount = fps, amount
        self._random = np.random.default_rng(seed)
        self._phases = self._random.uniform(0.0, 2.0 * math.pi, (3, len(_SWAY)))
        self._index = 0
        self._speaking = 0.0  # smoothed share of speech in the last half second
        self._silent = 1e9  # seconds since the last sound
        self._accented = -1e9  # time of the last accent
        self._stress_before = 0.0
        self._nods: list[_Move] = []
        self._brows: list[_Move] = []
        self._blinks: list[_Move] = []
        self._next_blink = float(self._random.uniform(0.8, 3.0))
        self._posture = _Shift()
        self._next_posture = float(self._random.uniform(2.0, 5.0))
        self._gaze = _Shift()
        self._aversion_ends = -1.0
        self._next_aversion = float(self._random.uniform(3.0, 7.0))
        self._next_jump = float(self._random.uniform(0.3, 1.0))

    def frames(self, prosody: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next frames.

        Args:
            prosody: (T, 2), one row a frame: whether there is speech, and stress, as :class:`Prosody` gives them;
                zeros between sentences.

        Returns:
            (T, 52) float32 weights in the order of ``ARKIT_52``, and (T, 3) float32 head rotations, axis-angle in
            radians.
        """
        weights = np.zeros((len(prosody), len(ARKIT_52)), np.float32)
        rotation = np.zeros((len(prosody), 3), np.float32)
        if self.amount == 0.0:
            self._index += len(prosody)
            return weights, rotation
        for row, (speech, stress) in enumerate(prosody.tolist()):
            self._frame(weights[row], rotation[row], bool(speech), stress)
        return weights, rotation

    # -- one frame ----------------------------------------------------------------------------------------------------

    def _frame(self, weights: np.ndarray, rotation: np.ndarray, speech: bool, stress: float) -> None:
        time = (self._index + 0.5) / self.fps
        self._index += 1
        self._hear(time, speech, stress)
        pitch, yaw, roll = self._head(time)
        rotation[:] = np.radians([pitch, yaw, roll])
        raised = self.amount * sum(move.at(time) for move in self._brows)
        for name, share in (("browInnerUp", 1.0), ("browOuterUpLeft", 0.7), ("browOuterUpRight", 0.7)):
            weights[ARKIT_INDEX[name]] = share * raised
        gaze = self._eyes(time)
        self._look(weights, float(gaze[0]) - yaw, float(gaze[1]) + pitch)
        closed = min(1.0, max((move.at(time) for move in self._lids(time)), default=0.0))
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            weights[ARKIT_INDEX[name]] = closed
        for moves in (self._nods, self._brows, self._blinks):
            moves[:] = [move for move in moves if not move.over(time)]

    def _hear(self, time: float, speech: bool, stress: float) -> None:
        """Follow the speech, and place nods and brows on its stressed syllables."""
        step = 1.0 / self.fps
        self._speaking += (float(speech) - self._speaking) * min(1.0, step / 0.5)
        ended = not speech and self._silent < _PAUSE <= self._silent + step
        self._silent = 0.0 if speech else self._silent + step
        rising = stress > _STRESSED >= self._stress_before
        self._stress_before = stress
        if ended and self._random.random() < 0.4:
            self._next_blink = min(self._next_blink, time)
        if not rising or time - self._accented < _APART:
            return
        self._accented = time
        strength = min(1.0, stress / 2.0)
        nod, brow, height = self._random.random(3)
        if nod < 0.75:
            self._nods.append(_Move(time - step, 0.12, 0.04, 0.28, (1.0 + 2.5 * height) * (0.4 + 0.6 * strength)))
        if brow < 0.25 + 0.45 * strength:
            self._brows.append(_Move(time - step, 0.12, 0.1, 0.35, (0.15 + 0.3 * height) * (0.4 + 0.6 * strength)))

    def _head(self, time: float) -> tuple[float, float, float]:
        """Pitch (down is positive), yaw (to the person's left) and roll of the head, degrees."""
        if time >= self._next_posture:
            place = self._random.normal(0.0, (1.2, 3.2))
            seconds = float(self._random.uniform(0.6, 1.1))
            self._posture = self._posture.to(place.clip(-6.0, 6.0), time, seconds)
            self._next_posture = time + float(self._random.uniform(2.5, 6.5)) / (1.0 + 0.6 * self._speaking)
        sway = [
            sum(size * math.sin(2.0 * math.pi * hertz * time + phase) for (size, hertz), phase in zip(_SWAY, phases))
            for phases in self._phases
        ]
        size = 0.55 + 0.65 * self._speaking
        pitch, yaw = self._posture.at(time)
        nod = sum(move.at(time) for move in self._nods)
        start = _smooth(time / 0.6)  # the first frame is the resting head
        return (
            self.amount * (start * (0.6 * size * sway[0] + float(pitch)) + nod),
            self.amount * start * (size * sway[1] + float(yaw)),
            self.amount * start * (0.5 * size * sway[2] - 0.25 * float(yaw)),
        )

    def _eyes(self, time: float) -> np.ndarray:
        """Where the eyes look, (2,) degrees from the viewer: to the person's left, and up."""
        if time >= self._next_aversion:
            side = float(self._random.choice((-1.0, 1.0)))
            across, up, seconds = self._random.uniform((4.0, -3.0, 0.5), (9.0, 4.0, 1.5))
            self._gaze = self._gaze.to(self.amount * np.array([side * across, up]), time, 0.05)
            self._aversion_ends = time + float(seconds)
            self._next_aversion = time + float(seconds + self._random.uniform(3.0, 9.0) / (1.0 + 0.5 * self._speaking))
            if self._random.random() < 0.4:  # people often blink as they look away
                self._next_blink = min(self._next_blink, time)
        elif 0.0 <= self._aversion_ends <= time:
            self._gaze = self._gaze.to(np.zeros(2), time, 0.05)
            self._aversion_ends = -1.0
        elif time >= self._next_jump:
            jump = self.amount * self._random.normal(0.0, 0.35, 2).clip(-0.8, 0.8)
            around = self._gaze.target if self._aversion_ends >= 0.0 else np.zeros(2)
            self._gaze = self._gaze.to(around + jump, time, 0.03)
            self._next_jump = time + float(self._random.uniform(0.35, 1.2))
        return self._gaze.at(time)

    def _lids(self, time: float) -> list[_Move]:
        if time >= self._next_blink:
            seconds = float(self._random.uniform(0.22, 0.34))
            self._blinks.append(_Move(time - 0.5 / self.fps, 0.33 * seconds, 0.03, 0.67 * seconds, 1.0))
            rate = 13.5 + 8.0 * self._speaking  # a minute, to which those at pauses and aversions add
            wait = 60.0 / rate * float(self._random.lognormal(-0.15, 0.55))
            self._next_blink = time + (0.3 if self._random.random() < 0.08 else max(0.7, wait))
        return self._blinks

    def _look(self, weights: np.ndarray, left: float, up: float) -> None:
        """Turn both eyes by degrees to the person's left and up."""
        across = abs(left) / _SIDEWAYS
        for name in ("eyeLookOutLeft", "eyeLookInRight") if left > 0 else ("eyeLookInLeft", "eyeLookOutRight"):
            weights[ARKIT_INDEX[name]] = min(1.0, across)
        away = min(1.0, up / _UP if up > 0 else -up / _DOWN)
        for side in ("Left", "Right"):
            weights[ARKIT_INDEX[f"eyeLook{'Up' if up > 0 else 'Down'}{side}"]] = away


def _smooth(share: float) -> float:
    share = min(1.0, max(0.0, share))
    return share * share * (3.0 - 2.0 * share)
