"""Identity space: plausible heads drawn from the package's targets, and their principal components."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open_head.source import Source

Floats = NDArray[np.float64]

# Folders of local targets, with the standard deviation of their weights. Beyond .15 independent local targets add up
# to heads that nobody has; the nose's already break the nostrils there.
_LOCAL = {
    "head": 0.14,
    "forehead": 0.14,
    "eyebrows": 0.17,
    "eyes": 0.15,
    "nose": 0.13,
    "mouth": 0.15,
    "cheek": 0.17,
    "chin": 0.17,
    "ears": 0.17,
    "neck": 0.10,
    "asym": 0.13,
}
_SKIPPED = ("head-trans-", "head-angle-", "neck-trans-", "asymm-", "measure-", "cleft", "pointed", "ear-shape-square")
_OPPOSITES = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)
_ASYMMETRY = 0.3  # standard deviation of left minus right, relative to the common part


@dataclass(frozen=True)
class Sampler:
    """Draws heads as weights over targets.

    Attributes:
        names: K target names, ``folder/name``.
        draw: ``draw(rng, count)`` gives (count, K) weights.
    """

    names: list[str]
    draw: Callable[[np.random.Generator, int], Floats]


def make_sampler(source: Source) -> Sampler:
    """A sampler over sex, age, ancestry, muscle, weight and the local targets of the head."""
    macros = _macro_names()
    sliders = _local_sliders(source)
    names = macros + [name for slider in sliders for side in slider.sides for name in side if name]
    column = {name: i for i, name in enumerate(names)}

    def draw(rng: np.random.Generator, count: int) -> Floats:
        weights = np.zeros((count, len(names)))
        weights[:, : len(macros)] = _draw_macros(rng, count)
        for slider in sliders:
            common = rng.normal(0, slider.sigma, count)
            for low, high in slider.sides:
                value = common
                if len(slider.sides) > 1:
                    value = common + rng.normal(0, _ASYMMETRY * slider.sigma, count)
                if low:
                    weights[:, column[low]] = np.maximum(-value, 0)
                    weights[:, column[high]] = np.maximum(value, 0)
                else:
                    weights[:, column[high]] = np.maximum(value, 0)
        return weights

    return Sampler(names, draw)


@dataclass(frozen=True)
class _Slider:
    """One local change: for each side of the head, the target below zero ("" for none) and the one above."""

    sides: list[tuple[str, str]]
    sigma: float


def _local_sliders(source: Source) -> list[_Slider]:
    grouped: dict[str, _Slider] = {}
    for folder, sigma in _LOCAL.items():
        names = source.target_names(folder)
        for name in names:
            if any(skipped in name for skipped in _SKIPPED):
                continue
            low, high = "", name
            for negative, positive in _OPPOSITES:
                if name.endswith(negative) and name.removesuffix(negative) + positive in names:
                    break  # the positive twin brings this one along
                if name.endswith(positive) and name.removesuffix(positive) + negative in names:
                    low, high = name.removesuffix(positive) + negative, name
                    break
            else:
                negative = ""
            if negative and name.endswith(negative):
                continue
            if folder == "asym":
                if name.endswith("-r"):
                    continue
                low, high = name.removesuffix("-l") + "-r", name
            side_less = name[2:] if name.startswith(("l-", "r-")) else name
            slider = grouped.setdefault(f"{folder}/{side_less}", _Slider([], sigma))
            slider.sides.append((f"{folder}/{low}" if low else "", f"{folder}/{high}"))
    return list(grouped.values())


_RACES = ("african", "asian", "caucasian")
_SEXES = ("female", "male")
_AGES = ("child", "young", "old")
_MUSCLES = ("minmuscle", "averagemuscle", "maxmuscle")
_WEIGHTS = ("minweight", "averageweight", "maxweight")


def _macro_names() -> list[str]:
    by_race = [f"{race}-{sex}-{age}" for race, sex, age in itertools.product(_RACES, _SEXES, _AGES)]
    by_build = [
        f"universal-{sex}-{age}-{muscle}-{weight}"
        for sex, age, muscle, weight in itertools.product(_SEXES, _AGES, _MUSCLES, _WEIGHTS)
    ]
    return [f"macrodetails/{name}" for name in by_race + by_build]


def _draw_macros(rng: np.random.Generator, count: int) -> Floats:
    """(count, K) products of the attributes' weights, in the order of :func:`_macro_names`."""
    male = rng.beta(0.7, 0.7, count)
    sex = np.stack([1 - male, male], 1)
    old = np.where(rng.random(count) < 0.85, 0.75 * rng.beta(1.0, 2.0, count), 0.0)
    child = np.where(old == 0, rng.uniform(0, 0.6, count), 0.0)
    age = np.stack([child, 1 - child - old, old], 1)
    race = rng.dirichlet([0.6] * 3, count)
    muscle = _three_anchors(np.clip(rng.normal(0.5, 0.18, count), 0, 1))
    weight = _three_anchors(np.clip(rng.normal(0.45, 0.2, count), 0, 1))
    by_race = np.einsum("nr,ns,na->nrsa", race, sex, age).reshape(count, -1)
    by_build = np.einsum("ns,na,nm,nw->nsamw", sex, age, muscle, weight).reshape(count, -1)
    return np.concatenate([by_race, by_build], 1)


def _three_anchors(value: Floats) -> Floats:
    """(N, 3) linear interpolation weights between anchors at 0, .5 and 1."""
    return np.maximum(1 - np.abs(value[:, None] * 2 - np.array([0.0, 1.0, 2.0])), 0)


def align(samples: Floats, reference: Floats, weights: Floats) -> Floats:
    """Samples (N, V, 3) moved rigidly (no scaling) onto ``reference`` (V, 3), weighted by ``weights`` (V,)."""
    w = weights / weights.sum()
    centre = w @ reference
    centres = np.einsum("v,nvk->nk", w, samples)
    moved = samples - centres[:, None]
    covariance = np.einsum("v,nvi,vj->nij", w, moved, reference - centre)
    u, _, vt = np.linalg.svd(covariance)
    u[:, :, -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return moved @ (u @ vt) + centre


def principal_components(samples: Floats, weights: Floats, count: int) -> tuple[Floats, Floats, float]:
    """Mean (V, 3), basis (count, V, 3) in metres per standard deviation, and the share of variance it keeps.

    Args:
        samples: (N, V, 3) heads.
        weights: (V,) importance of each vertex (its area).
        count: number of components.
    """
    mean = samples.mean(0)
    root = np.sqrt(weights / weights.sum())[:, None]
    data = ((samples - mean) * root).reshape(len(samples), -1).astype(np.float32)
    values, vectors = np.linalg.eigh((data @ data.T).astype(np.float64))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    basis = np.einsum("nk,nvc->kvc", vectors, samples - mean) / np.sqrt(len(samples) - 1)
    peak = np.abs(basis.reshape(count, -1)).argmax(1)
    signs = np.sign(basis.reshape(count, -1)[np.arange(count), peak])
    kept = float(values.sum() / np.square(data, dtype=np.float64).sum())
    return mean, basis * signs[:, None, None], kept
