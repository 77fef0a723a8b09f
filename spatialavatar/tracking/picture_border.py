"""Where a crop extends beyond the source picture although the person continues there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_REPEAT_TOLERANCE, _CUT_STEP = 2, 24  # grey levels
_BORDER_FRAMES = 8  # frames in which repeated borders are searched


def beyond_picture(images: Tensor, mattes: Tensor) -> np.ndarray:
    """(H, W) bool: where the crop extends beyond a border of the source picture that cuts the person off.

    The tracker repeats the picture's border there and marks it as background, but the person continues behind it.
    """
    few = torch.linspace(0, len(images) - 1, min(_BORDER_FRAMES, len(images))).long().to(images.device)
    pictures = images[few].cpu().numpy().astype(np.int16)
    person = (mattes[few] > 127).any(0).cpu().numpy()
    beyond = np.zeros(person.shape, bool)
    for turns in range(4):
        count = _repeated_rows(np.rot90(pictures, turns, (1, 2)), np.rot90(person, turns))
        if count:
            np.rot90(beyond, turns)[-count:] = True
    return beyond


def _repeated_rows(images: np.ndarray, person: np.ndarray) -> int:
    """Number of last rows of pictures (T, H, W, 3) that repeat a row that cuts a person (H, W) off; 0 if none do."""
    differs = np.asarray((np.abs(images - images[:, -1:]) > _REPEAT_TOLERANCE).any((0, 2, 3)))
    first = int(differs.nonzero()[0][-1]) + 1 if differs.any() else 0
    if not 2 < first < len(differs) - 2 or person[first + 2 :].any():
        return 0
    # A plain wall above the hair repeats itself too, but does not have the person's colours.
    cut = person[first - 2]
    step = np.abs(images[:, first - 2, cut] - images[:, -1, cut])
    return len(differs) - first if cut.any() and step.mean() < _CUT_STEP else 0
