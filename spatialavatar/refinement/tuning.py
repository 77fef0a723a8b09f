"""Ours, beyond the paper: what may differ from frame to frame without being the avatar's.

That is the tracker's error in pose and expression, and the camera's exposure. The corrections are thrown away with the
clip; they keep the avatar from averaging over what they explain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.records import HeadParams
from spatialavatar.refinement.config import RefineConfig

_ANGLES = ("rotation", "neck", "jaw", "eyes")


class FrameTuning:
    """Per-frame corrections, in units of how far they are expected to go; all zero at first.

    Attributes:
        tensors: by name; each is (T, C), and only the rows of the drawn frames get gradients.
    """

    def __init__(self, params: HeadParams, config: RefineConfig) -> None:
        """Make corrections for every frame of ``params``, of the kinds that ``config`` switches on."""
        self._config = config
        self.tensors: dict[str, Tensor] = {}
        count, device = len(params), params.expression.device
        if config.tune_frames:
            for name in ("expression", "translation", *_ANGLES):
                self.tensors[name] = torch.zeros_like(getattr(params, name)).requires_grad_()
        if config.exposure:
            self.tensors["gain"] = torch.zeros(count, 3, device=device).requires_grad_()

    @property
    def moves_heads(self) -> bool:
        """Whether poses change, so that a frame's deformation cannot be kept."""
        return self._config.tune_frames

    def params(self, tracked: HeadParams, frame: int) -> HeadParams:
        """The tracker's parameters of one frame, corrected."""
        one = tracked[frame]
        if not self._config.tune_frames:
            return one
        config = self._config
        sigma = {"expression": config.expression_sigma, "translation": config.translation_sigma}
        sigma |= dict.fromkeys(_ANGLES, config.angle_sigma)
        rows = self._rows(frame)
        return one.replace(**{name: getattr(one, name) + sigma[name] * rows[name] for name in sigma})

    def expose(self, rendered: Tensor, frame: int) -> Tensor:
        """A premultiplied render (H, W, 3) under the frame's exposure and white balance."""
        if "gain" not in self.tensors:
            return rendered
        return rendered * self._rows(frame)["gain"][0].exp()

    def prior(self, frame: int) -> Tensor | None:
        """The pull to the tracker's values and to equal exposure, or None where nothing is tuned."""
        if not self.tensors:
            return None
        rows = self._rows(frame)
        gain = rows.pop("gain", None)
        terms = [] if not rows else [self._config.tune_prior * torch.cat(list(rows.values()), -1).square().mean()]
        if gain is not None:
            terms.append(self._config.exposure_prior * gain.square().mean())
        return torch.stack(terms).sum()

    def groups(self) -> list[dict[str, object]]:
        """Parameter groups of a sparse Adam, each with the rate that the schedule multiplies."""
        rates = {
            name: self._config.exposure_rate if name == "gain" else self._config.tune_rate for name in self.tensors
        }
        return [{"params": [self.tensors[name]], "lr": rate, "base": rate} for name, rate in rates.items()]

    def _rows(self, frame: int) -> dict[str, Tensor]:
        """The corrections (1, C) of one frame; their gradients are sparse, so that no other frame's moments decay."""
        return {
            name: torch.nn.functional.embedding(torch.tensor([frame], device=t.device), t, sparse=True)
            for name, t in self.tensors.items()
        }
