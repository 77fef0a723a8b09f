"""Strand texture of unseen hair: noise filtered along the predicted directions (line integral convolution)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from spatialavatar.generator.numerics import LUMA, Floats, Mask, Pixels, bilinear, smoothstep
from spatialavatar.generator.prior.fills import OFFSET
from spatialavatar.generator.prior.sphere import SphereGrid, blur_around, frames

_FINE: Final = 2
"""Pixels of the strands' picture per cell of the map, along one side."""

_STEP: Final = 0.0025
"""Metres of a step along a strand."""

_LENGTH: Final = 0.03
"""Metres over which a strand keeps its brightness, where hair is straight."""

_STRAND: Final = 0.5
"""Pixels, deviation of the blur of the noise that becomes strands. Texels are wider than a pixel: finer noise would
differ from texel to texel along a strand, too."""

_LOCK: Final = 3.5
"""Pixels, deviation of the noise that becomes locks."""

_BLURRED: Final = 2.2
"""Contrast of straight strands on the texels relative to that in a render, where stretched Gaussians overlap."""

_LIT: Final = (50.0, 95.0)
"""Percentiles of brightness between which seen hair counts as lit; above is gloss."""

_LIT_LIMIT: Final = 0.55
"""Greatest log ratio of the lit colour to the colour that it replaces."""

_FILL_SHARE: Final = 0.5
"""Share of the log ratio between the median of the clearly seen hair and the fill that is made up: with all of it, the
backs of 081, 100 and 122 of the London faces are lighter than the hair in front."""

_TINT_SHARE: Final = 0.5
"""Share of the change of hue with brightness that is painted: some of it is the light's."""

_TINT_LIMITS: Final = (0.6, 1.5)

_CURLED: Final = 0.3
"""Length of strands in curly hair relative to straight hair."""

_TURN: Final = 1.2
"""Radians, deviation of the directions of curly hair."""

_CURL: Final = 3.0
"""Pixels, size of a curl."""

_MIN_SEEN: Final = 40
"""Cells that must show hair before its contrast is measured."""

_MIN_TEXELS: Final = 100
"""Texels that must show hair before its hues are measured."""

_BROAD: Final = 4.0
"""Cells, deviation of the blur that separates locks from the shading of the head."""

_COHERENT: Final = (0.3, 0.5)
"""Coherence of the seen hair's edges at which it is curly, and straight."""

_LOCK_SHARE: Final = 0.5
"""Share of the seen hair's contrast between locks that is painted: some of it is gloss."""

_LOCK_LIMITS: Final = (0.04, 0.09)


@dataclass(frozen=True)
class HairTexture:
    """How uneven the hair is.

    Attributes:
        strands: standard deviation of the log brightness from strand to strand.
        locks: the same from lock to lock.
        curl: in [0, 1]; 0 is straight.
        tint: log red, green and blue per unit of log brightness: bright strands have another hue than dark ones.
        lit: log ratios of the lit hair's colour to the fill of unseen hair.
    """

    strands: float = 0.045
    locks: float = 0.05
    curl: float = 0.0
    tint: tuple[float, ...] = (1.0, 1.0, 1.0)
    lit: tuple[float, ...] = (0.0, 0.0, 0.0)


def strand_shade(sphere: SphereGrid, points: Floats, direction: Floats, texture: HairTexture, seed: int) -> Floats:
    """(N,) log brightness of mean about 0 that varies across the strands and hardly along them.

    Args:
        sphere: the map.
        points: (N, 3) texels on the person's head, metres.
        direction: (ROWS, COLUMNS, 2) of ``network.Prediction``.
        texture: of the hair.
        seed: of the noise.
    """
    axes = frames(sphere, points)
    angle = _enlarged(direction)
    across, down = (np.maximum(_enlarged(length) / _FINE, 2e-4) for length in (axes.across_length, axes.down_length))
    noise, turns = np.random.default_rng(seed).standard_normal((2, *across.shape)).astype(np.float32)
    bend = blur_around(turns, _CURL)
    half = 0.5 * np.arctan2(angle[..., 1], angle[..., 0]) + _TURN * texture.curl * bend / bend.std()
    move = np.stack([np.cos(half) * _STEP / across, np.sin(half) * _STEP / down], -1).astype(np.float32)
    length = _LENGTH * (1.0 - (1.0 - _CURLED) * texture.curl)
    strands = _smear(blur_around(noise, _STRAND), move, length)
    locks = _smear(blur_around(noise, _LOCK), move, 1.5 * length)
    contrast = texture.strands * (texture.curl + (1.0 - texture.curl) * _BLURRED)
    picture = contrast * strands / strands.std() + texture.locks * (locks - locks.mean()) / locks.std()
    wide = np.concatenate([picture[:, -1:], picture, picture[:, :1]], 1).astype(np.float32)
    row, column = (sphere.positions * _FINE).T
    return bilinear(wide, np.stack([column + 1.0, row], 1))


def seen_texture(
    sphere: SphereGrid, colors: Floats, shown: Floats, limits: tuple[float, float], fill: Floats | None = None
) -> HairTexture:
    """Contrast and curl of the hair that is seen.

    Args:
        sphere: the map.
        colors: (N, 3) sRGB.
        shown: (N,) in [0, 1], where they show hair clearly.
        limits: least and greatest contrast of strands.
        fill: (3,) sRGB of unseen hair that ``lit`` corrects; None for the median of what is shown.
    """
    weight = sphere.gather(shown[:, None])[..., 0]
    luma = np.log(np.maximum(colors @ LUMA, 0.0) + OFFSET)
    cells = sphere.gather((luma * shown)[:, None])[..., 0] / np.maximum(weight, 1e-6)
    sure = (weight > 0.8).astype(np.float64)
    inside = (sure > 0.0) & (blur_around(sure, 2.0) > 0.9)
    tint, lit = _hues(colors[shown > 0.5], fill)
    if inside.sum() < _MIN_SEEN:
        return HairTexture(tint=tint, lit=lit)
    fine, broad = (blur_around(cells * sure, s) / np.maximum(blur_around(sure, s), 1e-3) for s in (1.0, _BROAD))
    # Texels are finer than cells, whose mean takes half of the contrast.
    strands = float(np.clip(1.4 * np.std((cells - fine)[inside]), *limits))
    locks = float(np.clip(_LOCK_SHARE * np.std((fine - broad)[inside]), *_LOCK_LIMITS))
    curl = 1.0 - float(smoothstep(np.array(_coherence(cells - broad, inside)), *_COHERENT))
    return HairTexture((1.0 + 0.5 * curl) * strands, (1.0 - 0.4 * curl) * locks, curl, tint, lit)


def _hues(colors: Floats, fill: Floats | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``tint`` and ``lit`` of a :class:`HairTexture`, from colours (M, 3) of hair; the defaults for few."""
    if len(colors) < _MIN_TEXELS:
        return HairTexture.tint, HairTexture.lit
    logs = np.log(np.maximum(colors, 0.0) + OFFSET)
    luma = np.log(np.maximum(colors @ LUMA, 0.0) + OFFSET)
    low, high = np.percentile(luma, _LIT)
    spread = luma - luma.mean()
    tint = ((logs - logs.mean(0)) * spread[:, None]).sum(0) / max(float((spread * spread).sum()), 1e-9)
    base = np.median(logs, axis=0)
    if fill is not None:
        # The fill also counts hair at the rim, which is dark even where the hair is light.
        base += _FILL_SHARE * (np.log(np.maximum(fill, 0.0) + OFFSET) - base)
    lit = logs[(luma >= low) & (luma <= high)].mean(0) - base
    tint = (1.0 + _TINT_SHARE * (tint - 1.0)).clip(*_TINT_LIMITS)
    return tuple(tint.tolist()), tuple(lit.clip(-_LIT_LIMIT, _LIT_LIMIT).tolist())


def _coherence(picture: Floats, inside: Mask) -> float:
    """In [0, 1], how far edges within 3 cells run in one direction, as the structure tensor measures it."""
    sideways, down = 0.5 * (np.roll(picture, -1, 1) - np.roll(picture, 1, 1)), np.gradient(picture, axis=0)
    products = (sideways * sideways, sideways * down, down * down)
    xx, xy, yy = (blur_around(product * inside, 3.0).astype(np.float64) for product in products)
    return float((np.hypot(xx - yy, 2.0 * xy) / np.maximum(xx + yy, 1e-9))[inside].mean())


def _enlarged(maps: Floats) -> Floats:
    """Maps at ``_FINE`` times the size; columns wrap around."""
    wide = np.concatenate([maps[:, -1:], maps, maps[:, :1]], 1).astype(np.float32)
    size = (wide.shape[1] * _FINE, wide.shape[0] * _FINE)
    return cv2.resize(wide, size, interpolation=cv2.INTER_LINEAR)[:, _FINE:-_FINE].astype(np.float64)


def _smear(noise: Pixels, move: Pixels, length: float) -> Pixels:
    """Weighted mean of noise along the line through each pixel; ``move`` (H, W, 2) pixels a step, sign free."""
    height, width = noise.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    steps = round(length / _STEP)
    total, weights = noise.astype(np.float32).copy(), 1.0
    # Wrapped so far that no line leaves the picture sideways; at the pole the steps are long.
    reach = width // 2
    wide_noise, wide_move = (np.take(m, np.arange(-reach, width + reach), axis=1, mode="wrap") for m in (noise, move))
    for sign in (1.0, -1.0):
        x, y = columns.astype(np.float32) + reach, rows.astype(np.float32)
        step = sign * move
        for number in range(steps):
            x, y = x + step[..., 0], y + step[..., 1]
            x = np.mod(x - reach, width).astype(np.float32) + reach
            here = cv2.remap(wide_move, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            forward = (here * step).sum(-1, keepdims=True)
            step = np.where(forward < 0.0, -here, here)
            weight = 1.0 - (number + 1) / (steps + 1)
            total += weight * cv2.remap(wide_noise, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weights += sum(1.0 - (number + 1) / (steps + 1) for number in range(steps))
    return np.asarray(total / weights, np.float32)
