"""Smoothing of motion: the one-euro filter, causal for live frames and zero-phase for clips, and a sharp low-pass.

One-euro: Casiez, Roussel and Vogel, "1 Euro Filter", CHI 2012. A first-order low-pass whose cut-off rises with the
speed of the signal: jitter is removed from slow motion, fast motion keeps its edges. Each channel has its own cut-off.

The low-pass is the Whittaker-Henderson smoother (Eilers, "A Perfect Smoother", Analytical Chemistry 2003): the signal
that minimises the squared third differences plus the squared distance to the input. It removes motion that is faster
than a head can move, and needs the whole clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_quat, quat_to_matrix

_ORDER = 3  # of the differences that the low-pass penalises


@dataclass(frozen=True)
class OneEuro:
    """Settings of the filter.

    Attributes:
        min_cutoff: cut-off of a signal at rest, Hz; lower removes more jitter; one number, or one of each channel.
        beta: Hz of cut-off gained per unit a second of speed; higher lags less; one number, or one of each channel.
        derivative_cutoff: cut-off of the speed estimate, Hz.
    """

    min_cutoff: float | Tensor = 1.5
    beta: float | Tensor = 1.0
    derivative_cutoff: float = 3.0


class OneEuroFilter:
    """The causal filter, one value at a time; each channel is filtered separately."""

    def __init__(self, fps: float, settings: OneEuro | None = None) -> None:
        """Prepare for the first value.

        Args:
            fps: frames per second of the signal.
            settings: see :class:`OneEuro`.

        Raises:
            InputError: the frame rate is not positive.
        """
        if not fps > 0:
            raise InputError(f"A signal at {fps} frames per second cannot be smoothed; give a positive rate.")
        self.settings = settings or OneEuro()
        self.fps = fps
        self._value: Tensor | None = None
        self._speed: Tensor | None = None

    def reset(self) -> None:
        """Discard the state: the next value passes unchanged."""
        self._value = self._speed = None

    def __call__(self, value: Tensor) -> Tensor:
        """Filter the next value (...,), the same shape every time."""
        last, speed = self._value, self._speed
        if last is None or speed is None:
            self._value, self._speed = value.clone(), torch.zeros_like(value)
            return value.clone()
        speed = speed + self._share(self.settings.derivative_cutoff) * ((value - last) * self.fps - speed)
        cutoff = self.settings.min_cutoff + self.settings.beta * speed.abs()
        smooth = last + self._share(cutoff) * (value - last)
        self._value, self._speed = smooth, speed
        return smooth.clone()

    def _share(self, cutoff: Tensor | float) -> Tensor | float:
        """Fraction of a step that a low-pass of ``cutoff`` Hz passes in one frame."""
        step = 2.0 * math.pi * cutoff / self.fps
        return step / (step + 1.0)


def one_euro(
    values: Tensor,
    fps: float,
    min_cutoff: float = 1.5,
    beta: float = 1.0,
    derivative_cutoff: float = 3.0,
    zero_phase: bool = False,
) -> Tensor:
    """Filter a signal along its first axis.

    Args:
        values: (T, ...) one value per frame.
        fps: frames per second.
        min_cutoff: see :class:`OneEuro`.
        beta: see :class:`OneEuro`.
        derivative_cutoff: see :class:`OneEuro`.
        zero_phase: average the forward and the backward filter, so that nothing lags; needs the whole clip.

    Returns:
        (T, ...) smoothed values.

    Raises:
        InputError: the frame rate is not positive.
    """
    settings = OneEuro(min_cutoff, beta, derivative_cutoff)
    forward = _filtered(values, fps, settings)
    if not zero_phase:
        return forward
    return 0.5 * (forward + _filtered(values.flip(0), fps, settings).flip(0))


def one_euro_rotations(
    rotations: Tensor,
    fps: float,
    min_cutoff: float = 1.5,
    beta: float = 1.0,
    derivative_cutoff: float = 3.0,
    zero_phase: bool = False,
) -> Tensor:
    """Filter axis-angle vectors (T, 3) as rotations, so that a turn through 180 degrees does not jump.

    The filter runs on unit quaternions of continuous sign, doubled so that ``beta`` is in Hz per radian a second; for
    the other arguments see :func:`one_euro`.
    """
    quats = _continuous(matrix_to_quat(axis_angle_to_matrix(rotations)))
    smooth = 0.5 * one_euro(2.0 * quats, fps, min_cutoff, beta, derivative_cutoff, zero_phase)
    return matrix_to_axis_angle(quat_to_matrix(smooth))


def low_pass(values: Tensor, fps: float, cutoff: float) -> Tensor:
    """Remove motion above ``cutoff`` Hz from a signal (T, ...), without lag; the gain at the cut-off is one half.

    A constant, a straight line and a parabola pass unchanged, up to the ends of the clip.

    Raises:
        InputError: the frame rate is not positive.
    """
    if not fps > 0:
        raise InputError(f"A signal at {fps} frames per second cannot be smoothed; give a positive rate.")
    count = len(values)
    if count <= _ORDER or cutoff >= 0.5 * fps:
        return values.clone()
    stiffness = (2.0 * math.sin(math.pi * cutoff / fps)) ** (-2 * _ORDER)
    difference = np.poly1d([1.0, -1.0]) ** _ORDER
    # Lower bands of I + stiffness D'D, D the matrix of third differences.
    bands = np.zeros((_ORDER + 1, count))
    bands[0] = 1.0
    for band in range(_ORDER + 1):
        products = difference.c[: _ORDER + 1 - band] * difference.c[band:]
        for shift, product in enumerate(products):
            bands[band, shift : shift + count - _ORDER] += stiffness * product
    flat = values.detach().double().reshape(count, -1).numpy()
    return torch.from_numpy(solveh_banded(bands, flat, lower=True)).to(values.dtype).reshape(values.shape)


def low_pass_rotations(rotations: Tensor, fps: float, cutoff: float) -> Tensor:
    """:func:`low_pass` for axis-angle vectors (T, 3) as rotations."""
    quats = low_pass(_continuous(matrix_to_quat(axis_angle_to_matrix(rotations))), fps, cutoff)
    return matrix_to_axis_angle(quat_to_matrix(torch.nn.functional.normalize(quats, dim=-1)))


def _filtered(values: Tensor, fps: float, settings: OneEuro) -> Tensor:
    """The causal filter over a whole signal (T, ...)."""
    one_by_one = OneEuroFilter(fps, settings)
    return torch.stack([one_by_one(value) for value in values]) if len(values) else values.clone()


def _continuous(quats: Tensor) -> Tensor:
    """(T, 4) quaternions with signs chosen so that neighbours are in the same half-space."""
    if len(quats) < 2:
        return quats
    flips = torch.where((quats[1:] * quats[:-1]).sum(-1) < 0, -1.0, 1.0).to(quats.dtype).cumprod(0)
    return torch.cat([quats[:1], quats[1:] * flips[:, None]])
