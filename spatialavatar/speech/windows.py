"""Speech networks that read windows of sound, and their ONNX graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final

import numpy as np

from spatialavatar.errors import FormatError, MissingAssetError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.speech.features import SAMPLE_RATE


class WindowListener(ABC):
    """Computes consecutive groups of frames, each from one window of sound whose place depends on the group only.

    Attributes:
        rate: frames per second of the weights.
        hop: samples between two windows.
        before: samples of a window before its group's first frame begins.
        size: samples of a window.
        group: frames of a group, which last ``hop`` samples.
    """

    rate: float
    hop: float
    before: int
    size: int
    group: int

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._buffer = np.zeros(self.before, np.float32)  # sound from the next window's first sample on
        self._offset = -self.before  # index of the buffer's first sample in the sound
        self._groups = self._samples = self._frames = 0

    @abstractmethod
    def hear(self, window: np.ndarray) -> np.ndarray:
        """Weights (group, 52) float32 of a window (size,) float32."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Weights (T, 52) float32 of the frames that the new samples complete."""
        self._samples += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        found = [np.zeros((0, len(ARKIT_52)), np.float32)]
        while True:
            start = round(self._groups * self.hop) - self.before - self._offset
            if start + self.size > len(self._buffer):
                break
            found.append(self.hear(self._buffer[start : start + self.size]))
            self._buffer, self._offset = self._buffer[start:], self._offset + start
            self._groups += 1
        frames = np.concatenate(found)
        self._frames += len(frames)
        return frames

    def finish(self) -> np.ndarray:
        """The frames that remain at the end of the sound; the next sound starts anew."""
        missing = int(np.ceil(self._samples / SAMPLE_RATE * self.rate - 1e-9)) - self._frames
        frames = np.zeros((0, len(ARKIT_52)), np.float32)
        while len(frames) < missing:
            frames = np.concatenate([frames, self.push(np.zeros(self.size, np.float32))])
        self._begin()
        return frames[: max(0, missing)]


class Graph:
    """An ONNX graph on the CPU whose inputs and output have known names."""

    def __init__(self, path: Path, inputs: tuple[str, ...], what: str) -> None:
        """Open.

        Args:
            path: the file.
            inputs: names of its inputs, in any order.
            what: the network's name, for messages.

        Raises:
            MissingAssetError: the file or onnxruntime is missing.
            FormatError: the file is not a graph, or has other inputs.
        """
        if not path.is_file():
            raise MissingAssetError(f"The file {path} is missing; download {what} (docs/guide/speech.md).")
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingAssetError("The package onnxruntime is missing; run pip install onnxruntime.") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions share no public base class
            raise FormatError(
                f"The file {path.name} is not a network that can be run; download {what} again."
            ) from error
        self._session, self._name, self._what = session, path.name, what
        self.shapes = {found.name: found.shape for found in session.get_inputs()}
        if set(self.shapes) != set(inputs):
            raise FormatError(
                f"The network {path.name} has the inputs {', '.join(sorted(self.shapes))} and not "
                f"{', '.join(sorted(inputs))}; give the file of {what}."
            )

    def run(self, output: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The output of a name, float32.

        Raises:
            FormatError: the graph has no such output, or does not accept inputs of these shapes.
        """
        try:
            found: Any = self._session.run([output], inputs)[0]
        except Exception as error:  # the runtime's own exceptions share no public base class
            raise FormatError(f"The network {self._name} cannot be run as {self._what}; give its own file.") from error
        return np.nan_to_num(np.asarray(found, np.float32))


MAX_WINDOW: Final = 60 * SAMPLE_RATE
"""Samples of the largest window that a graph may ask for."""
