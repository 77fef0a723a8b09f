"""Evaluation on held-out people: the base and the corrected base compared with the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.evaluation.evaluator import as_pixels
from spatialavatar.generator.network import CorrectionNetwork, UVFeature
from spatialavatar.generator.network.heads import FRONTAL, expression_code, harmonic_encoding
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.metrics import Lpips, psnr
from spatialavatar.provenance import save_png
from spatialavatar.records import HeadParams
from spatialavatar.training.examples import Example, Examples, Target, least_similar_view, resized, turned_by
from spatialavatar.training.shards import Person
from spatialavatar.training.step import corrected, encoded, rendered

TURNS = (-40.0, 40.0)
"""Rotations of a person from the target's pose in the sheets, degrees."""

SHEET_ROWS = 8


@dataclass(frozen=True)
class HeldOutScores:
    """Scores on held-out people; means over the views of a person first, then over people.

    Attributes:
        people: scores by name: ``lpips`` and ``psnr`` of the corrected base, ``base_lpips`` and ``base_psnr``.
        failed: reasons why people could not be evaluated, by name.
    """

    people: dict[str, dict[str, float]]
    failed: dict[str, str]

    def summary(self) -> dict[str, Any]:
        """Return the means, and the number of people whose LPIPS is better than the base's."""
        rows = list(self.people.values())
        names = ("lpips", "base_lpips", "psnr", "base_psnr")
        means = {name: round(fmean(row[name] for row in rows), 4) for name in names} if rows else {}
        better = sum(row["lpips"] < row["base_lpips"] for row in rows)
        return {**means, "people": len(rows), "better": better}


class HeldOut:
    """Evaluates networks on held-out people; each example is prepared once."""

    def __init__(
        self, examples: Examples, people: Sequence[Person], head: HeadModel, layout: UVLayout, views: int
    ) -> None:
        """Store the people; the source of each evaluated view is the person's least similar view.

        Args:
            examples: prepares the examples.
            people: held out; people with a single view are ignored.
            head: the head model, on the device of the network.
            layout: on the same device.
            views: largest number of evaluated views per person, evenly spaced.
        """
        self._examples = examples
        self._people = sorted((p for p in people if len(p.views) > 1), key=lambda person: person.name)
        self._head, self._layout, self._views = head, layout, views
        self._lpips = Lpips().to(head.device)
        self._prepared: dict[tuple[str, int], Example] = {}

    def evaluate(self, network: CorrectionNetwork, sheet: Path | None = None) -> HeldOutScores:
        """Compare on a white background, and draw a sheet of the first people.

        Args:
            network: on the device of the head.
            sheet: PNG to write: source, target, base, corrected base, and both rotated to either side.
        """
        people: dict[str, dict[str, float]] = {}
        failed: dict[str, str] = {}
        rows = []
        for person in self._people:
            scores = []
            for number in self._chosen(person):
                try:
                    example = self._example(person, number)
                except (OSError, MemoryError):
                    raise
                except Exception as error:  # bad data of one person must not end the evaluation
                    failed[person.name] = str(error)
                    continue
                score, pictures = self._compare(
                    network, example.to(self._head.device), len(rows) < SHEET_ROWS and not scores
                )
                scores.append(score)
                if pictures:
                    rows.append(torch.cat(pictures, 1))
            if scores:
                people[person.name] = {name: fmean(score[name] for score in scores) for name in scores[0]}
        if sheet is not None and rows:
            save_png(sheet, as_pixels(torch.cat(rows)))
        return HeldOutScores(people, failed)

    def _chosen(self, person: Person) -> list[int]:
        count = len(person.views)
        return np.linspace(0, count - 1, min(self._views, count)).round().astype(int).tolist()

    def _example(self, person: Person, number: int) -> Example:
        key = (person.name, number)
        if key not in self._prepared:
            source = least_similar_view(person, number)
            self._prepared[key] = self._examples.example(person, [source], [person.views[number]], None)
        return self._prepared[key]

    @torch.no_grad()
    def _compare(
        self, network: CorrectionNetwork, example: Example, drawn: bool
    ) -> tuple[dict[str, float], list[Tensor]]:
        (target,) = example.targets
        ((_, feature),) = encoded(network, [example])
        base = self._of_base(example, target, target.params)
        ours = self._of_network(network, feature, example, target, target.params)
        score = {
            "lpips": self._lpips(ours, target.image),
            "base_lpips": self._lpips(base, target.image),
            "psnr": psnr(ours, target.image, target.region),
            "base_psnr": psnr(base, target.image, target.region),
        }
        if not drawn:
            return score, []
        source = example.inputs.images[0, 0]
        columns = [resized(source, len(target.image)).movedim(0, -1), target.image, base, ours]
        for degrees in TURNS:
            turned = turned_by(target.params, degrees)
            free = target.replace(region=torch.ones_like(target.region))
            columns += [
                self._of_base(example, free, turned),
                self._of_network(network, feature, example, free, turned),
            ]
        return score, columns

    def _of_network(
        self, network: CorrectionNetwork, feature: UVFeature, example: Example, target: Target, params: HeadParams
    ) -> Tensor:
        # As in an avatar, whose Gaussians are decoded once, for a head that faces the camera.
        view = harmonic_encoding(feature.values.new_tensor([FRONTAL]))
        output = network.decode(feature, view, expression_code(params))
        _, image, alpha = corrected(example, output, self._head, self._layout, params, target.camera)
        return target.shown(image, alpha).clamp(0.0, 1.0)

    def _of_base(self, example: Example, target: Target, params: HeadParams) -> Tensor:
        image, alpha = rendered(example, example.base, self._head, self._layout, params, target.camera)
        return target.shown(image, alpha).clamp(0.0, 1.0)
