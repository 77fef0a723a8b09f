"""A stand-in for the tracker's networks, which shows them an animated puppet."""

from __future__ import annotations

import numpy as np
import torch

from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import Camera
from spatialavatar.tracking.landmarker import FaceLandmarks


class Puppeteer:
    """A stand-in for the networks: landmarks and scores of an animated puppet; None in hidden frames."""

    def __init__(
        self, head: HeadModel, jaw: torch.Tensor, smile: float | torch.Tensor = 0.0, hidden: range = range(0)
    ) -> None:
        count = len(jaw)
        shape = torch.tensor([0.8, -0.5, 0.3, 0.0, 0.6, -0.2, 0.1, 0.4])
        expression = torch.zeros(count, head.expression_count)
        expression[:, 0] = smile
        params = head.neutral(count).replace(
            shape=shape,
            expression=expression,
            translation=torch.tensor([[0.0, 0.0, -0.7]]).repeat(count, 1),
            jaw=torch.stack([0.3 * jaw, 0 * jaw, 0 * jaw], 1),
        )
        self._points = Camera.frontal().project(head.landmarks(head.vertices(params), 478)).numpy()
        self._scores = torch.zeros(count, 52)
        self._scores[:, ARKIT_INDEX["jawOpen"]] = jaw
        self._scores[:, ARKIT_INDEX["mouthSmileLeft"]] = smile
        self._hidden, self._next = hidden, 0
        self.landmarker = self

    def track(self, frame: np.ndarray, previous: FaceLandmarks | None) -> FaceLandmarks | None:
        index, self._next = self._next, self._next + 1
        if index in self._hidden:
            return None
        points = np.concatenate([self._points[index], np.zeros((478, 1))], 1).astype(np.float32)
        return FaceLandmarks(points, 1.0, self._scores[index].numpy())
