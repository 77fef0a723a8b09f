"""The prior's training run. A step depends on the configuration, the samples and its number alone.

So an interrupted run goes on bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import atomic_output, make_folder
from spatialavatar.generator import SpatialAvatar
from spatialavatar.generator.prior.head_prior import constant_maps
from spatialavatar.generator.prior.network import Prediction, PriorNetwork, features_of, interpret, mirrored
from spatialavatar.generator.prior.sphere import sphere_grid
from spatialavatar.generator.prior.weights import PRIOR_FILE, load_prior, save_prior
from spatialavatar.progress import Progress, no_progress
from spatialavatar.training.prior.config import PriorTrainingConfig
from spatialavatar.training.prior.losses import prior_losses, total_loss
from spatialavatar.training.prior.samples import read_sample

CHECKPOINT: Final = "checkpoint.pt"
LOG: Final = "log.jsonl"
MODEL: Final = "model"
_HEAD_SAMPLE: Final = re.compile(r"head-(\d+)-\w+\.npz")
_PHOTO_SAMPLE: Final = re.compile(r"photo-.+\.npz")
_OUTLINE: Final = ("rim_weight", "rim_height", "height")

Maps = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainedPrior:
    """The result of a run.

    Attributes:
        model: folder of the model with the averaged network as its prior.
        steps: completed steps.
        samples: number of samples trained on.
        verdict: scores on held-out heads.
    """

    model: Path
    steps: int
    samples: int
    verdict: dict[str, float]


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Names of samples by use.

    Attributes:
        heads: synthetic heads to train on.
        photos: photos to train on.
        held_out: synthetic heads to evaluate.
    """

    heads: tuple[Path, ...]
    photos: tuple[Path, ...]
    held_out: tuple[Path, ...]

    @classmethod
    def find(cls, folder: Path, held_out: int) -> SampleSet:
        """The samples of a folder; every ``held_out``-th head is kept out.

        Raises:
            InputError: there are no samples of heads.
        """
        heads, photos, out = [], [], []
        for path in sorted(folder.glob("*.npz")):
            found = _HEAD_SAMPLE.fullmatch(path.name)
            if found:
                (out if int(found[1]) % held_out == 0 else heads).append(path)
            elif _PHOTO_SAMPLE.fullmatch(path.name):
                photos.append(path)
        if not heads or not out:
            raise InputError(f"{folder} holds too few samples of heads; make some with spatialavatar prior-samples.")
        return cls(tuple(heads), tuple(photos), tuple(out))

    def digest(self) -> str:
        """Hash of the names."""
        names = [path.name for group in (self.heads, self.photos, self.held_out) for path in group]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


def train_prior(config: PriorTrainingConfig, model: SpatialAvatar, progress: Progress | None = None) -> TrainedPrior:
    """Train, or continue the run in ``config.out``.

    Args:
        config: of the run.
        model: the generator that the prior is for; samples are made with the head and layout of the default one.
        progress: called with (fraction, message).

    Raises:
        InputError: there are no samples, or ``config.out`` contains another run.
        FormatError: a sample or the checkpoint is damaged.
    """
    return _Run(config, model, progress or no_progress).run()


class _Run:
    """The state of a run."""

    def __init__(self, config: PriorTrainingConfig, model: SpatialAvatar, progress: Progress) -> None:
        self.config, self.model, self.progress = config, model, progress
        head, layout = model.head, model.layout
        self.out = Path(config.out)
        self.samples = SampleSet.find(Path(config.samples), config.held_out)
        self.cache: dict[Path, Maps] = {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.constants = constant_maps(head, layout).to(self.device)
        self.area = torch.from_numpy(sphere_grid(head, layout).area).float().to(self.device)
        torch.manual_seed(config.seed)  # of the network's initial weights
        network = PriorNetwork(config.network)
        if config.start:
            network.load_state_dict(load_prior(config.start, config.network, head, layout).network.state_dict())
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.rate, weight_decay=config.decay, betas=(0.9, 0.95)
        )
        self.facts = f"{config.facts()}\n{self.samples.digest()}"
        self.done = 0

    def run(self) -> TrainedPrior:
        make_folder(self.out)
        self._resume()
        sums: dict[str, float] = {}
        started = time.perf_counter()
        verdict: dict[str, float] = {}
        while self.done < self.config.iterations:
            for name, value in self._step().items():
                sums[name] = sums.get(name, 0.0) + value
            self.done += 1
            last = self.done == self.config.iterations
            if self.done % self.config.log_every == 0 or last:
                steps = (self.done - 1) % self.config.log_every + 1
                means = {name: round(value / steps, 5) for name, value in sums.items()}
                seconds = round((time.perf_counter() - started) / steps, 4)
                self._log({"step": self.done, "seconds": seconds, **means})
                self.progress(self.done / self.config.iterations, f"Step {self.done}: loss {means['loss']:.4f}")
                sums, started = {}, time.perf_counter()
            if last or (self.config.eval_every and self.done % self.config.eval_every == 0):
                verdict = self.evaluate()
                self._log({"step": self.done, "held_out": verdict})
            if self.done % self.config.save_every == 0 or last:
                self._save()
        verdict = verdict or self.evaluate()
        trained = load_prior(self.out / PRIOR_FILE, self.config.network, self.model.head, self.model.layout)
        self.model.with_prior(trained).save_pretrained(self.out / MODEL)
        return TrainedPrior(self.out / MODEL, self.done, len(self.samples.heads), verdict)

    def _step(self) -> dict[str, float]:
        """One optimiser step; returns its loss and terms."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate_at(self.done)
        maps = self._batch(self.done)
        self.network.train()
        terms = self._terms(self.network, maps)
        loss = total_loss(terms, self.config.weights)
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            self.average.update_parameters(self.network)
        return {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}

    def _terms(self, network: torch.nn.Module, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            outputs = network(features_of(maps, self.constants))
        found = interpret(outputs.float(), maps["hair_fill"], maps["skin_fill"])
        return prior_losses(found, maps, self.area, self.constants[-1], self.config.weights)

    def _batch(self, step: int) -> dict[str, Tensor]:
        """The samples of a step, by its number alone."""
        draw = np.random.default_rng([self.config.seed, step])
        maps = []
        for _ in range(self.config.batch):
            real = bool(self.samples.photos) and draw.random() < self.config.photos
            paths = self.samples.photos if real else self.samples.heads
            one = {name: value[None] for name, value in self._tensors(paths[int(draw.integers(len(paths)))]).items()}
            if draw.random() < self.config.without_outline:
                one = {name: torch.zeros_like(value) if name in _OUTLINE else value for name, value in one.items()}
            maps.append(mirrored(one) if draw.random() < 0.5 else one)
        return {name: torch.cat([one[name] for one in maps]).float().to(self.device) for name in maps[0]}

    def _tensors(self, path: Path) -> dict[str, Tensor]:
        if path not in self.cache:
            self.cache[path] = read_sample(path)
        named = {"true_direction": "direction"}
        return {named.get(name, name): torch.from_numpy(value) for name, value in self.cache[path].items()}

    def evaluate(self) -> dict[str, float]:
        """Mean errors of the averaged network on the held-out heads where nothing is seen, and those without it.

        ``height`` and ``outline`` are millimetres (of the network, of the outline's fit); ``color`` and ``fill`` are
        sRGB (of the network, of the fills); ``hair`` is the share of cells whose class is right.
        """
        network, rows = self.average.module.eval(), []
        for path in self.samples.held_out:
            maps = {name: value[None].float().to(self.device) for name, value in self._tensors(path).items()}
            with torch.inference_mode():
                outputs = network(features_of(maps, self.constants))
                found = interpret(outputs, maps["hair_fill"], maps["skin_fill"])
            rows.append(_errors(found, maps, self.area, self.constants[-1]))
        return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}

    def _log(self, facts: dict[str, Any]) -> None:
        with (self.out / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    def _save(self) -> None:
        state = {
            "facts": self.facts,
            "done": self.done,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with atomic_output(self.out / CHECKPOINT) as place:
            torch.save(state, place)
        save_prior(self.average.module.cpu(), self.out / PRIOR_FILE, self.model.head, self.model.layout)
        self.average.module.to(self.device)

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            facts = state["facts"]
        except Exception as error:  # every exception of a damaged pickle
            raise FormatError(f"{path} is damaged; remove it to start again.") from error
        if facts != self.facts:
            raise InputError(
                f"{self.out} contains another run: its configuration or its samples differ; choose another folder, or "
                "set start to its weights."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = int(state["done"])
        lines = [line for line in _lines(self.out / LOG) if json.loads(line)["step"] <= self.done]
        with atomic_output(self.out / LOG) as place:
            place.write_text("".join(lines), encoding="utf-8")


def _lines(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else ()


def _errors(found: Prediction, maps: dict[str, Tensor], area: Tensor, mobility: Tensor) -> dict[str, float]:
    """Errors of one sample (B = 1) on unseen cells."""
    unseen = area * (1.0 - maps["visibility"][0])
    free = unseen * mobility
    truth, height, hairy = maps["true_colors"][0], maps["true_height"][0], maps["true_hair"][0] > 0.5
    # An optimistic reference: the fills use the true mask.
    fill = torch.where(hairy[..., None], maps["hair_fill"][0], maps["skin_fill"][0])
    return {
        "height": 1e3 * _mean((found.height[0] - height).abs(), free),
        "outline": 1e3 * _mean((maps["height"][0] - height).abs(), free),
        "color": _mean((found.colors[0] - truth).abs().mean(-1), unseen),
        "fill": _mean((fill - truth).abs().mean(-1), unseen),
        "hair": _mean(((found.hair_logit[0] > 0) == hairy).float(), unseen),
        "direction": _mean((found.direction[0] - maps["direction"][0]).abs().mean(-1), unseen * hairy),
    }


def _mean(values: Tensor, weight: Tensor) -> float:
    return float((values * weight).sum() / weight.sum().clamp_min(1e-6))
