"""Hair styles: what varies between them, and a random one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

Tail = Literal["none", "bun", "tail", "braid"]
Fringe = Literal["none", "straight", "side", "curtain"]


@dataclass(frozen=True)
class HairStyle:
    """One way to wear hair; lengths in metres.

    Attributes:
        name: of the style.
        top: length on the crown.
        side: length at the temples and above the ears.
        back: length at the nape.
        taper: share of the length that is left at the hairline; 1 keeps it whole.
        lift: how far strands stand off the skin at the root; 0 lies flat.
        gravity: pull downwards, relative to the stiffness of the strand.
        cling: how strongly strands follow the combed direction near the skin.
        volume: greatest thickness of the layer of hair.
        curl: radius of the curls.
        wave: length of one turn of a curl along the strand.
        parting: x of the parting; None for none.
        sweep: combed forward (positive) or back (negative) on the top.
        sideways: combed to the subject's left (positive) or right.
        fringe: hair over the forehead.
        recede: how far the hairline has gone back, 0 to 1; 2 is a bald crown.
        thinning: share of hair that is missing on the crown.
        tie: where the hair is tied, as (y, z); None for loose hair.
        tail: what becomes of it behind the tie.
        tucked: behind which ears: 0 none, 1 the left, 2 the right, 3 both.
        clump: how much strands gather into locks, 0 to 1.
        frizz: deviation of single strands at their tips.
        strands: number of strands.
        steps: points of a strand.
        radius: standard deviation of a strand's cross-section at the root.
    """

    name: str
    top: float = 0.05
    side: float = 0.03
    back: float = 0.04
    taper: float = 1.0
    lift: float = 0.5
    gravity: float = 0.12
    cling: float = 0.35
    volume: float = 0.012
    curl: float = 0.0
    wave: float = 0.04
    parting: float | None = None
    sweep: float = 0.0
    sideways: float = 0.0
    fringe: Fringe = "none"
    recede: float = 0.0
    thinning: float = 0.0
    tie: tuple[float, float] | None = None
    tail: Tail = "none"
    tucked: int = 0
    clump: float = 0.35
    frizz: float = 0.0015
    strands: int = 9000
    steps: int = 20
    radius: float = 0.00042


STYLES: Final = (
    "buzz",
    "crop",
    "side part",
    "slick back",
    "quiff",
    "short curls",
    "pixie",
    "bob",
    "shaggy",
    "long straight",
    "long wavy",
    "long curly",
    "tucked",
    "afro",
    "bun",
    "tail",
    "braid",
    "receding",
    "bald",
)
"""Names of the styles; each is drawn equally often."""


def sample_style(rng: np.random.Generator, name: str | None = None) -> HairStyle:
    """A random style.

    Args:
        rng: the source of randomness.
        name: one of :data:`STYLES`; None draws one.
    """
    name = name or str(rng.choice(STYLES))
    u = rng.uniform
    side = float(rng.choice([-1.0, 1.0]))
    parting = side * u(0.0, 0.035)
    slight = max(0.0, float(rng.normal(0.0, 0.25)))
    style = HairStyle(name, recede=min(slight, 0.7))
    if name == "buzz":
        length = u(0.003, 0.012)
        return replace(
            style,
            top=length,
            side=length * u(0.4, 1),
            back=length * u(0.5, 1),
            lift=1.0,
            gravity=0.0,
            volume=0.002,
            clump=0.0,
            frizz=0.0006,
            strands=16000,
            steps=4,
            radius=0.00034,
            thinning=u(0, 0.3),
        )
    if name == "crop":
        return replace(
            style,
            top=u(0.02, 0.05),
            side=u(0.008, 0.02),
            back=u(0.01, 0.02),
            taper=u(0.3, 0.7),
            lift=u(0.3, 0.8),
            sweep=u(-0.2, 1.0),
            sideways=side * u(0, 0.5),
            gravity=0.08,
            volume=u(0.005, 0.012),
            clump=u(0.1, 0.35),
            strands=12000,
            steps=12,
        )
    if name == "side part":
        return replace(
            style,
            top=u(0.06, 0.10),
            side=u(0.015, 0.035),
            back=u(0.015, 0.035),
            taper=u(0.3, 0.8),
            lift=u(0.2, 0.6),
            parting=side * u(0.025, 0.045),
            sideways=-side * u(0.6, 1.2),
            sweep=u(-0.5, 0.2),
            gravity=u(0.06, 0.12),
            volume=u(0.008, 0.018),
            cling=0.5,
            strands=11000,
            steps=16,
        )
    if name == "slick back":
        return replace(
            style,
            top=u(0.07, 0.12),
            side=u(0.04, 0.07),
            back=u(0.025, 0.045),
            taper=0.5,
            lift=u(0.1, 0.4),
            sweep=u(-2.2, -1.4),
            gravity=u(0.04, 0.1),
            volume=u(0.004, 0.012),
            cling=0.7,
            clump=u(0.2, 0.45),
            strands=11000,
            steps=18,
        )
    if name == "quiff":
        return replace(
            style,
            top=u(0.06, 0.10),
            side=u(0.01, 0.03),
            back=u(0.012, 0.03),
            taper=0.4,
            lift=u(0.9, 1.5),
            sweep=u(-1.2, -0.5),
            sideways=side * u(0, 0.4),
            gravity=u(0.02, 0.06),
            volume=u(0.012, 0.022),
            cling=0.3,
            clump=u(0.2, 0.4),
            strands=11000,
            steps=16,
        )
    if name == "short curls":
        return replace(
            style,
            top=u(0.04, 0.08),
            side=u(0.02, 0.045),
            back=u(0.02, 0.045),
            lift=u(0.6, 1.0),
            sweep=u(-0.2, 0.6),
            gravity=0.05,
            volume=u(0.008, 0.016),
            curl=u(0.003, 0.006),
            wave=u(0.018, 0.03),
            clump=u(0.5, 0.75),
            frizz=0.002,
            strands=11000,
            steps=22,
        )
    if name == "pixie":
        return replace(
            style,
            top=u(0.05, 0.09),
            side=u(0.035, 0.06),
            back=u(0.025, 0.045),
            lift=u(0.2, 0.5),
            sweep=u(0.0, 0.8),
            sideways=side * u(0.4, 1.0),
            gravity=u(0.1, 0.2),
            volume=u(0.008, 0.015),
            taper=0.7,
            strands=11000,
            fringe=_fringe(rng, ("side", "none")),
            steps=16,
        )
    if name == "bob":
        return replace(
            style,
            top=u(0.19, 0.25),
            side=u(0.13, 0.19),
            back=u(0.09, 0.15),
            lift=u(0.1, 0.4),
            gravity=u(0.22, 0.4),
            volume=u(0.008, 0.020),
            parting=parting,
            fringe=_fringe(rng),
            clump=u(0.2, 0.5),
            recede=0.0,
            steps=26,
            curl=u(0.0, 0.003),
            wave=u(0.05, 0.09),
            tucked=int(rng.choice([0, 0, 1, 2])),
            strands=9500,
        )
    if name == "shaggy":
        return replace(
            style,
            top=u(0.09, 0.15),
            side=u(0.08, 0.13),
            back=u(0.09, 0.14),
            lift=u(0.3, 0.8),
            gravity=u(0.12, 0.28),
            volume=u(0.012, 0.024),
            parting=parting if rng.random() < 0.4 else None,
            sweep=u(-0.4, 0.4),
            sideways=side * u(0, 0.6),
            curl=u(0.002, 0.006),
            wave=u(0.03, 0.07),
            frizz=0.004,
            clump=u(0.4, 0.7),
            fringe=_fringe(rng, ("none", "none", "side")),
            steps=24,
        )
    if name == "afro":
        length = u(0.025, 0.085)
        return replace(
            style,
            top=length,
            side=length * u(0.6, 1.0),
            back=length * u(0.7, 1.0),
            lift=2.0,
            gravity=0.0,
            cling=0.0,
            volume=0.004,
            curl=u(0.002, 0.0035),
            wave=u(0.008, 0.014),
            frizz=0.002,
            clump=0.0,
            strands=14000,
            steps=20,
        )
    if name in ("bun", "tail", "braid"):
        return replace(
            style,
            tie=(u(0.0, 0.10), -0.085),
            tail=name,
            volume=u(0.003, 0.010),
            lift=0.1,
            recede=0.3 * style.recede,
            clump=u(0.2, 0.5),
            fringe=_fringe(rng, ("none", "none", "none", "curtain", "straight")),
            steps=20,
        )
    if name == "receding":
        base = sample_style(rng, str(rng.choice(["crop", "side part", "slick back", "buzz"])))
        return replace(base, name="receding", recede=u(0.6, 1.1), thinning=u(0.3, 0.9), top=base.top * u(0.6, 1.0))
    if name == "bald":
        length = u(0.003, 0.013)
        return replace(
            style,
            top=length,
            side=length,
            back=length,
            taper=0.5,
            lift=0.6,
            gravity=0.05,
            volume=0.003,
            recede=2.0,
            thinning=1.0,
            clump=0.0,
            strands=9000,
            steps=6,
            radius=0.00036,
        )
    long = replace(
        style,
        top=u(0.28, 0.42),
        side=u(0.24, 0.38),
        back=u(0.24, 0.36),
        lift=u(0.1, 0.4),
        gravity=u(0.25, 0.5),
        volume=u(0.008, 0.020),
        parting=parting,
        sweep=u(-0.5, 0.0),
        fringe=_fringe(rng),
        recede=0.0,
        steps=34,
        clump=u(0.25, 0.5),
    )
    if name == "tucked":
        return replace(long, tucked=int(rng.choice([1, 2, 3, 3])), fringe=_fringe(rng, ("none", "none", "curtain")))
    if name == "long wavy":
        return replace(long, curl=u(0.003, 0.008), wave=u(0.06, 0.10), clump=u(0.45, 0.7), volume=u(0.012, 0.024))
    if name == "long curly":
        return replace(
            long,
            curl=u(0.005, 0.010),
            wave=u(0.025, 0.045),
            clump=u(0.75, 0.9),
            volume=u(0.018, 0.036),
            lift=u(0.4, 0.8),
            gravity=u(0.15, 0.3),
            frizz=0.0016,
            steps=48,
            top=u(0.2, 0.32),
            side=u(0.18, 0.28),
            back=u(0.2, 0.28),
            strands=8000,
        )
    return long


def _fringe(
    rng: np.random.Generator, among: tuple[Fringe, ...] = ("none", "none", "straight", "side", "curtain")
) -> Fringe:
    return among[int(rng.integers(len(among)))]
