"""Write the motion files of ``examples/motions/``: talk, look_around, expressions.

They are made from rules, not captured: visemes with coarticulation for speech, gaze that leads the head, blinks at the
times people blink. Random numbers come from a seed, so the files can be made again bit for bit.

    python scripts/make_motions.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.motion import Motion, write_motion

MOTIONS = Path(__file__).resolve().parents[1] / "examples" / "motions"
FPS = 25.0
GAZE_FULL = np.radians(30.0)  # gaze angle at weight 1 of an eyeLook unit
GAZE_LIMIT = np.radians(24.0)  # largest gaze angle in the head; the head follows beyond it

# ARKit weights of each viseme, and its dominance over its neighbours; closed lips have the highest.
VISEMES: dict[str, tuple[float, dict[str, float]]] = {
    "sil": (0.5, {}),
    "PP": (3.0, {"mouthPress": 0.35, "mouthRollLower": 0.22, "mouthRollUpper": 0.16}),
    "FF": (2.4, {"jawOpen": 0.04, "mouthRollLower": 0.40, "mouthUpperUp": 0.22}),
    "TH": (1.2, {"jawOpen": 0.12, "mouthLowerDown": 0.20, "mouthUpperUp": 0.08}),
    "DD": (1.0, {"jawOpen": 0.10, "mouthLowerDown": 0.22, "mouthUpperUp": 0.10}),
    "KK": (0.7, {"jawOpen": 0.14, "mouthLowerDown": 0.14, "mouthUpperUp": 0.06}),
    "CH": (1.5, {"jawOpen": 0.07, "mouthFunnel": 0.38, "mouthLowerDown": 0.12, "mouthUpperUp": 0.10}),
    "SS": (1.5, {"jawOpen": 0.03, "mouthStretch": 0.22, "mouthLowerDown": 0.22, "mouthUpperUp": 0.10}),
    "NN": (0.9, {"jawOpen": 0.08, "mouthLowerDown": 0.15, "mouthUpperUp": 0.05}),
    "RR": (1.1, {"jawOpen": 0.08, "mouthFunnel": 0.30, "mouthPucker": 0.12}),
    "WW": (1.9, {"jawOpen": 0.05, "mouthPucker": 0.55, "mouthFunnel": 0.15}),
    "AA": (1.0, {"jawOpen": 0.46, "mouthLowerDown": 0.26, "mouthUpperUp": 0.14}),
    "AH": (0.8, {"jawOpen": 0.26, "mouthLowerDown": 0.20, "mouthUpperUp": 0.10}),
    "EH": (
        0.9,
        {"jawOpen": 0.24, "mouthStretch": 0.16, "mouthSmile": 0.10, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12},
    ),
    "IY": (
        1.1,
        {"jawOpen": 0.09, "mouthStretch": 0.24, "mouthSmile": 0.20, "mouthLowerDown": 0.20, "mouthUpperUp": 0.12},
    ),
    "OH": (1.3, {"jawOpen": 0.26, "mouthFunnel": 0.40, "mouthPucker": 0.22}),
    "UW": (1.6, {"jawOpen": 0.09, "mouthPucker": 0.60, "mouthFunnel": 0.18}),
}

# "Hello. I was a photo a moment ago. Now I turn my head, and blink, and talk to you."
# Each sound: viseme, milliseconds, and * on the stressed vowels.
SPEECH = """
sil 700  KK 60 EH 80 NN 70 OH* 230  sil 420
AA* 130 IY 60  WW 60 AH 70 SS 70  AH 50  FF 90 OH* 150 DD 60 OH 110  AH 60  PP 80 OH* 140 PP 60 AH 50 NN 60 DD 50
AH 70 KK 60 OH* 240  sil 520
NN 70 AA* 160 UW 70  AA 110 IY 50  DD 70 RR* 150 NN 70  PP 70 AA 90 IY 50  KK 50 EH* 150 DD 80  sil 260
AH 60 NN 50 DD 40  PP 70 NN 60 IY* 110 NN 60 KK 70  sil 240
AH 60 NN 50 DD 40  DD 80 AA* 170 KK 90  DD 60 UW 70  IY 60 UW* 260  sil 900
"""

SIDED = ("mouthPress", "mouthUpperUp", "mouthLowerDown", "mouthStretch", "mouthSmile", "mouthFrown", "mouthDimple")
SIDED += ("browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide", "noseSneer")


class Canvas:
    """A motion under construction: T frames of weights and head pose, to which effects are added."""

    def __init__(self, seconds: float) -> None:
        self.times = np.arange(round(seconds * FPS)) / FPS
        self.weights = np.zeros((len(self.times), 52))
        self.rotation = np.zeros((len(self.times), 3))
        self.translation = np.zeros((len(self.times), 3))

    def add(self, units: Mapping[str, float], envelope: np.ndarray) -> None:
        """Add ``units`` times the (T,) ``envelope``; a name without a side goes to both sides."""
        for name, weight in units.items():
            for unit in (f"{name}Left", f"{name}Right") if name in SIDED else (name,):
                self.weights[:, ARKIT_INDEX[unit]] += weight * envelope

    def blink(self, when: float, strength: float = 1.0) -> None:
        """A blink: shut in about 110 ms, a moment closed, open again in twice that."""
        closing = smooth_step((self.times - when + 0.11) / 0.11)
        opening = smooth_step((self.times - when - 0.05) / 0.17)
        envelope = strength * closing * (1.0 - opening)
        for unit in ("eyeBlinkLeft", "eyeBlinkRight"):
            column = self.weights[:, ARKIT_INDEX[unit]]
            np.maximum(column, envelope, out=column)

    def look(self, yaw: np.ndarray, pitch: np.ndarray) -> None:
        """Turn the eyes in the head: (T,) yaw to the subject's left and (T,) pitch upwards, radians."""
        left, up = (
            np.clip(yaw, -GAZE_LIMIT, GAZE_LIMIT) / GAZE_FULL,
            np.clip(pitch, -GAZE_LIMIT, GAZE_LIMIT) / GAZE_FULL,
        )
        for unit, envelope in (
            ("eyeLookOutLeft", left),
            ("eyeLookInRight", left),
            ("eyeLookInLeft", -left),
            ("eyeLookOutRight", -left),
            ("eyeLookUpLeft", up),
            ("eyeLookUpRight", up),
            ("eyeLookDownLeft", -up),
            ("eyeLookDownRight", -up),
        ):
            self.weights[:, ARKIT_INDEX[unit]] += np.maximum(envelope, 0.0)
        # The upper lids move with the eyeballs.
        self.add({"eyeBlink": 0.45}, np.maximum(-up, 0.0))
        self.add({"eyeWide": 0.35}, np.maximum(up, 0.0))

    def sway(self, rng: np.random.Generator, degrees: float) -> None:
        """The slow drift of an unconstrained head: a few incommensurate sines per axis, 0 at both ends."""
        fade = smooth_step(self.times / 0.8) * smooth_step((self.times[-1] - self.times) / 0.8)
        for axis, share in ((0, 0.7), (1, 1.0), (2, 0.6)):
            drift = sum(
                np.sin(2.0 * np.pi * (self.times * rate + rng.uniform())) * size
                for rate, size in ((0.17, 0.5), (0.31, 0.35), (0.53, 0.15))
            )
            self.rotation[:, axis] += np.radians(degrees) * share * drift * fade
        self.translation[:, 0] += 0.004 * np.sin(2.0 * np.pi * 0.19 * self.times) * fade

    def motion(self, title: str) -> Motion:
        """The finished motion, weights held to [0, 1]."""
        return Motion(
            weights=torch.from_numpy(np.clip(self.weights, 0.0, 1.0)).float(),
            rotation=torch.from_numpy(self.rotation).float(),
            translation=torch.from_numpy(self.translation).float(),
            fps=FPS,
            title=title,
        )


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and between them the minimum-jerk curve of a hand, a lid or a head."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def pulse(times: np.ndarray, start: float, stop: float, attack: float = 0.28, release: float = 0.4) -> np.ndarray:
    """(T,) rises to 1 after ``start`` and is back at 0 at ``stop``."""
    return smooth_step((times - start) / attack) * (1.0 - smooth_step((times - stop + release) / release))


def moves(times: np.ndarray, targets: Sequence[tuple[float, float]], duration: Callable[[float], float]) -> np.ndarray:
    """(T,) path through (start time, value) targets from 0; ``duration`` gives a move's seconds from its size."""
    path, last = np.zeros_like(times), 0.0
    for start, value in targets:
        path += (value - last) * smooth_step((times - start) / duration(abs(value - last)))
        last = value
    return path


def talk() -> Motion:
    """A sentence with visemes, stress on brows and head, blinks between phrases."""
    rng = np.random.default_rng(20260615)
    tokens = SPEECH.split()
    sounds = [
        (tokens[i].rstrip("*"), float(tokens[i + 1]) / 1000.0, "*" in tokens[i]) for i in range(0, len(tokens), 2)
    ]
    canvas = Canvas(sum(seconds for _, seconds, _ in sounds))
    times = canvas.times

    # Coarticulation after Cohen and Massaro: every sound has a dominance that decays to both sides of its middle, and
    # the mouth at each moment is the dominance-weighted mean of all of them.
    total = np.full_like(times, 1e-9)
    shares: list[tuple[dict[str, float], np.ndarray]] = []
    start, pauses = 0.0, []
    for viseme, seconds, stressed in sounds:
        firmness, units = VISEMES[viseme]
        middle = start + seconds / 2
        reach = seconds * 0.42 + 0.012
        dominance = firmness * np.exp(
            -(np.abs(np.maximum(np.abs(times - middle) - seconds * 0.15, 0.0) / reach) ** 1.6)
        )
        gain = 1.15 if stressed else 0.92
        shares.append(({name: weight * gain for name, weight in units.items()}, dominance))
        total += dominance
        if viseme == "sil":
            pauses.append((start, start + seconds))
        if stressed:
            emphasis = pulse(times, middle - 0.16, middle + 0.34, 0.16, 0.3) * rng.uniform(0.5, 1.0)
            canvas.add({"browInnerUp": 0.20, "browOuterUp": 0.16}, emphasis)
            canvas.rotation[:, 0] += np.radians(2.2) * emphasis
        start += seconds
    for units, dominance in shares:
        canvas.add(units, dominance / total)

    canvas.sway(rng, 3.4)
    phrases = ((0.7, 3.0), (-1.0, 4.0), (1.0, 6.0))
    canvas.rotation[:, 1] += moves(
        times, [(0.5, np.radians(5)), (1.5, np.radians(-4)), (4.0, np.radians(6)), (7.0, 0.0)], lambda size: 0.7 + size
    )
    canvas.rotation[:, 2] += sum(np.radians(1.8) * side * pulse(times, at, at + 1.8, 0.6, 0.8) for side, at in phrases)
    canvas.look(-canvas.rotation[:, 1] * 0.9, canvas.rotation[:, 0] * 0.9)  # the eyes stay on the listener
    canvas.add({"mouthSmile": 0.30, "cheekSquint": 0.16}, pulse(times, pauses[-1][0] - 0.1, times[-1] + 0.04, 0.5, 0.5))
    canvas.add({"mouthSmile": 0.14}, pulse(times, 0.1, times[-1] - 0.2, 0.6, 0.6))
    for begin, _ in pauses[1:-1:2]:
        canvas.blink(begin + 0.12)
    canvas.blink(0.35)
    canvas.blink(pauses[-1][0] + 0.25)
    return canvas.motion("talk")


def look_around() -> Motion:
    """Left, right, up, down, a circle: the eyes jump first, the head follows, and the gaze stays on its goal."""
    canvas = Canvas(10.4)
    times = canvas.times
    goals = [  # time, yaw to the subject's left, pitch upwards, degrees
        (0.5, 30, 0),
        (2.2, -30, 0),
        (4.2, 0, 15),
        (5.6, 0, -15),
        (6.9, 20, 10),
        (7.9, -20, 8),
        (9.2, 0, 0),
    ]

    def head_time(size: float) -> float:
        return 0.45 + 0.75 * size

    def eye_time(size: float) -> float:
        return 0.04 + 0.10 * size

    yaw = moves(times, [(t + 0.10, np.radians(y)) for t, y, _ in goals], head_time)
    pitch = moves(times, [(t + 0.10, np.radians(p)) for t, _, p in goals], head_time)
    gaze_yaw = moves(times, [(t, np.radians(y)) for t, y, _ in goals], eye_time)
    gaze_pitch = moves(times, [(t, np.radians(p)) for t, _, p in goals], eye_time)
    canvas.rotation[:, 1] += yaw
    canvas.rotation[:, 0] -= pitch  # a turn about +x lowers the chin
    canvas.rotation[:, 2] += 0.10 * yaw * np.cos(2.0 * np.pi * times / times[-1])
    canvas.look(gaze_yaw - yaw, gaze_pitch - pitch)
    canvas.sway(np.random.default_rng(20260616), 0.8)
    canvas.add({"browInnerUp": 0.35, "browOuterUp": 0.25}, pulse(times, 4.2, 5.6))
    canvas.add({"mouthSmile": 0.3, "cheekSquint": 0.15}, pulse(times, 8.6, times[-1], 0.6, 0.5))
    for when in (0.62, 2.32, 5.72, 8.02, 9.35):
        canvas.blink(when)
    return canvas.motion("look around")


EXPRESSIONS: tuple[tuple[str, dict[str, float], tuple[float, float, float]], ...] = (
    (
        "smile",
        {
            "mouthSmile": 0.85,
            "cheekSquint": 0.55,
            "eyeSquint": 0.25,
            "mouthUpperUp": 0.30,
            "mouthDimple": 0.20,
            "jawOpen": 0.06,
        },
        (2.0, 5.0, 3.0),
    ),
    (
        "surprise",
        {"browInnerUp": 0.9, "browOuterUp": 0.85, "eyeWide": 0.75, "jawOpen": 0.50, "mouthFunnel": 0.15},
        (-4.0, 0.0, 0.0),
    ),
    ("pucker", {"mouthPucker": 0.95, "mouthFunnel": 0.10, "eyeSquint": 0.10}, (2.0, -6.0, -3.0)),
    (
        "frown",
        {"browDown": 0.85, "mouthFrown": 0.75, "mouthShrugLower": 0.40, "eyeSquint": 0.30, "mouthPress": 0.15},
        (5.0, 0.0, 0.0),
    ),
    (
        "wink",
        {
            "eyeBlinkLeft": 1.0,
            "cheekSquintLeft": 0.70,
            "mouthSmileLeft": 0.60,
            "mouthSmileRight": 0.20,
            "browDownLeft": 0.25,
        },
        (1.0, 4.0, 6.0),
    ),
    ("jaw open", {"jawOpen": 0.90, "mouthLowerDown": 0.30, "mouthUpperUp": 0.15}, (-5.0, 0.0, 0.0)),
    (
        "sneer",
        {"noseSneer": 0.80, "mouthUpperUp": 0.45, "browDown": 0.45, "eyeSquint": 0.40, "mouthFrown": 0.2},
        (2.0, -5.0, 0.0),
    ),
    ("cheeks", {"cheekPuff": 0.85, "mouthPress": 0.35, "browInnerUp": 0.15}, (0.0, 3.0, -2.0)),
    ("mouth aside", {"mouthLeft": 0.75, "jawLeft": 0.35, "mouthPress": 0.2, "browOuterUpRight": 0.55}, (0.0, 7.0, 4.0)),
)


def expressions() -> Motion:
    """One expression after the other, each held for a moment, each with the head movement that goes with it."""
    each, lead = 1.36, 0.4
    canvas = Canvas(lead + each * len(EXPRESSIONS) + 0.4)
    canvas.sway(np.random.default_rng(20260617), 1.2)
    for index, (_, units, degrees) in enumerate(EXPRESSIONS):
        start = lead + each * index
        envelope = pulse(canvas.times, start, start + each, 0.30, 0.36)
        canvas.add(units, envelope)
        canvas.rotation += np.radians(degrees) * envelope[:, None]
        if index % 3 == 2:  # between expressions, and not into the wink
            canvas.blink(start + each)
    return canvas.motion("expressions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=MOTIONS, help="folder for the files")
    folder = parser.parse_args().output
    for make in (talk, look_around, expressions):
        write_motion(make(), folder / f"{make.__name__}.json")


if __name__ == "__main__":
    main()
