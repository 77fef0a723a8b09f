"""LAM-A2E, the speech network of LAM, as an ONNX file that the user downloads.

The file is ``wav2arkit_cpu.onnx`` (with its ``.data`` beside it) of the Hub's ``myned-ai/wav2arkit_cpu``, Apache-2.0,
made from the weights of LAM_Audio2Expression. Input ``audio_waveform`` (1, N) of 16 kHz, not normalised; output
``blendshapes`` (1, T, 52) at 30 frames a second, in the order of ``ARKIT_52``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from spatialavatar.errors import FormatError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.windows import MAX_WINDOW, Graph, WindowListener

INPUT: Final = "audio_waveform"
OUTPUT: Final = "blendshapes"

_AFTER: Final = 3200  # samples of a window after its group: the network looks both ways
_BEFORE: Final = 16_000


class LamListener(WindowListener):
    """Runs LAM-A2E on windows of 1.6 seconds, of which 0.4 are new; a frame is complete after at most 0.6 seconds."""

    rate = 30.0
    hop = 6400
    group = 12

    def __init__(self, path: Path) -> None:
        """Open the network.

        Raises:
            MissingAssetError: the file or onnxruntime is missing.
            FormatError: the file is a different network.
        """
        self._graph = Graph(path, (INPUT,), "LAM-A2E (wav2arkit_cpu.onnx)")
        fixed = self._graph.shapes[INPUT][-1]  # exports for browsers take windows of one length only
        self.size = fixed if isinstance(fixed, int) else _BEFORE + int(self.hop) + _AFTER
        if not self.hop + _AFTER <= self.size <= MAX_WINDOW:
            raise FormatError(f"The network {path.name} takes {self.size} samples; give one for 9,600 samples or more.")
        self.before = self.size - int(self.hop) - _AFTER
        super().__init__()
        self.hear(np.zeros(self.size, np.float32))  # checks the model's output shape before any work

    def hear(self, window: np.ndarray) -> np.ndarray:
        """Weights (12, 52) of a window."""
        found = self._graph.run(OUTPUT, {INPUT: window[None]})
        wanted = round(self.size / SAMPLE_RATE * self.rate)
        if found.ndim != 3 or found.shape[2] != len(ARKIT_52) or abs(found.shape[1] - wanted) > 2:
            raise FormatError(f"The network's output has shape {found.shape}; LAM-A2E gives (1, {wanted}, 52).")
        first = min(round(self.before / SAMPLE_RATE * self.rate), found.shape[1] - self.group)
        return found[0, first : first + self.group].clip(0.0, 1.0)
