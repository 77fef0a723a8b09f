"""The viseme network: a causal convolutional network, evaluated in NumPy as the sound arrives.

Every block adds to its input what a dilated convolution of three past frames and a second linear layer compute from the
input scaled to unit power. Frame ``t`` of the output describes frame ``t - DELAY`` of the sound, so the network hears a
little of what follows. ``scripts/train_speech.py`` trains it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from spatialavatar.hub.weights import asset
from spatialavatar.speech.features import FEATURE_COUNT
from spatialavatar.speech.visemes import VISEMES
from spatialavatar.tensor_files import TensorFile, bounded

DELAY: Final = 3
"""Frames of 20 ms by which the output lags behind the input."""
DILATIONS: Final = (1, 2, 4, 8, 16, 1)
"""Frames between the taps of each block's convolution."""
WIDTH: Final = 128
"""Channels of each block."""
OUTPUTS: Final = len(VISEMES) + 2
"""Outputs of a frame: logits of the visemes, logit of voicing, loudness."""
WEIGHTS_NAME: Final = "speech/network.safetensors"
"""The file in the weights folder."""
EPSILON: Final = 1e-5
"""Added to the power by which a block's input is divided."""


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's weights."""
    shapes: dict[str, tuple[int, ...]] = {"input.weight": (FEATURE_COUNT, WIDTH), "input.bias": (WIDTH,)}
    for block in range(len(DILATIONS)):
        shapes |= {
            f"blocks.{block}.past.weight": (3, WIDTH, WIDTH),
            f"blocks.{block}.past.bias": (WIDTH,),
            f"blocks.{block}.mix.weight": (WIDTH, WIDTH),
            f"blocks.{block}.mix.bias": (WIDTH,),
        }
    return shapes | {"output.weight": (WIDTH, OUTPUTS), "output.bias": (OUTPUTS,)}


@dataclass(frozen=True)
class Heard:
    """Output of the network for T frames of 20 ms.

    Attributes:
        visemes: (T, 15) float32 probabilities in the order of ``VISEMES``.
        voicing: (T,) float32 probability that the vocal folds vibrate.
        loudness: (T,) float32 in [0, 1]: 0 is 40 dB below the loudest speech of the voice, 1 is that speech.
    """

    visemes: np.ndarray
    voicing: np.ndarray
    loudness: np.ndarray

    def __len__(self) -> int:
        return len(self.visemes)


class SpeechNetwork:
    """The network with its state: call :meth:`push` with consecutive feature frames."""

    def __init__(self, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """Start at silence.

        Args:
            weights: arrays by the names of :func:`weight_shapes`; None for those that ship.

        Raises:
            MissingAssetError: the shipped weights are not on disk and cannot be fetched.
            FormatError: their file is damaged.
        """
        self._weights = shipped_weights() if weights is None else weights
        self._past = [np.zeros((2 * dilation, WIDTH), np.float32) for dilation in DILATIONS]

    def push(self, features: np.ndarray) -> Heard:
        """The output for T new feature frames (T, 80); its frame ``t`` describes the input ``DELAY`` frames before."""
        weights = self._weights
        x = features @ weights["input.weight"] + weights["input.bias"]
        for block, dilation in enumerate(DILATIONS):
            name = f"blocks.{block}"
            scaled = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
            padded = np.concatenate([self._past[block], scaled])
            self._past[block] = padded[len(padded) - 2 * dilation :]
            taps = weights[f"{name}.past.weight"]
            hidden = sum(padded[tap * dilation : tap * dilation + len(x)] @ taps[tap] for tap in range(3))
            hidden = np.maximum(hidden + weights[f"{name}.past.bias"], 0.0)
            x = x + hidden @ weights[f"{name}.mix.weight"] + weights[f"{name}.mix.bias"]
        scaled = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
        out = scaled @ weights["output.weight"] + weights["output.bias"]
        count = len(VISEMES)
        powers = np.exp(out[:, :count] - out[:, :count].max(-1, keepdims=True)) if len(out) else out[:, :count]
        with np.errstate(over="ignore"):
            voicing = 1.0 / (1.0 + np.exp(-out[:, count]))
        return Heard(powers / powers.sum(-1, keepdims=True), voicing, out[:, count + 1].clip(0.0, 1.0))


@functools.lru_cache(maxsize=1)
def shipped_weights() -> dict[str, np.ndarray]:
    """The weights that ship, as float32.

    Raises:
        MissingAssetError: they are not on disk and cannot be fetched.
        FormatError: their file is damaged.
    """
    return load_weights(asset(WEIGHTS_NAME))


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights in a file that ``scripts/train_speech.py`` wrote, as float32.

    Raises:
        FormatError: the file is damaged.
    """
    file = TensorFile(path, f"The speech network {path.name} is damaged; clone the repository again.")
    tensors = file.read({name: bounded(1e4, *shape) for name, shape in weight_shapes().items()})
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}
