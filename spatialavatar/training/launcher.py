"""The training run: one process on a CPU or a GPU, or many under ``accelerate launch``.

A step depends on the configuration, the shards and its number alone. An interrupted run therefore continues as if it
had not stopped, and any number of processes that divides the batch computes the same run, up to rounding.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spatialavatar.avatar import default_head
from spatialavatar.errors import FormatError, InputError, missing_extra
from spatialavatar.files import atomic_output, make_folder, write_text
from spatialavatar.generator import GeneratorConfig, SpatialAvatar
from spatialavatar.generator.network import CorrectionNetwork, load_network
from spatialavatar.head import HeadModel, UVLayout, build_layout, load_head
from spatialavatar.progress import Progress, no_progress
from spatialavatar.training.config import TrainingConfig
from spatialavatar.training.examples import Example, ExampleConfig, Examples
from spatialavatar.training.held_out import HeldOut
from spatialavatar.training.journal import HELD_OUT, LOG, REDRAWN, Journal, read_lines
from spatialavatar.training.optimisation import Anchor, parameter_groups
from spatialavatar.training.shards import People, Person
from spatialavatar.training.step import TrainingStep

CHECKPOINT: Final = "checkpoint.pt"
MODEL: Final = "model"
LEFT_OUT: Final = "left_out.json"
_OPTIMISERS: Final = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Attributes:
        model: folder of the model with the averaged network.
        steps: completed steps.
        people: number of people trained on.
        left_out: reasons why other people were not used, by shard and name.
        redrawn: number of draws that were replaced; :data:`REDRAWN` lists the reasons.
        verdict: the last scores on held-out people (``held_out.HeldOutScores.summary``), or None.
    """

    model: Path
    steps: int
    people: int
    left_out: dict[str, str]
    redrawn: int
    verdict: dict[str, Any] | None


def train(config: TrainingConfig, progress: Progress | None = None) -> Trained:
    """Train, or continue the run in ``config.out``.

    Args:
        config: of the run.
        progress: called with (fraction, message), in the first process only.

    Raises:
        InputError: no person can be trained on, or ``config.out`` contains another run.
        MissingAssetError: ``accelerate`` is not installed, or the start network does not exist.
        FormatError: the checkpoint or the start network is damaged or has other sizes.
    """
    return _Run(config, progress or no_progress).run()


class _Run:
    """The state of a run in one process."""

    def __init__(self, config: TrainingConfig, progress: Progress) -> None:
        self.config, self.phase, self.out = config, config.phase, Path(config.out)
        self.accelerator = _accelerator(config)
        self.main = bool(self.accelerator.is_main_process)
        self.progress = progress if self.main else no_progress
        self.local = self._local_batch()
        self.head, self.layout = self._head_and_layout()
        self.people = People(config.shards, self.head.id, least=1 if config.alone else 2)
        self.trained_people, self.held_out_people = split_people(self.people.people, config.held_out)
        shown = [(person.name, person.kind, person.frames) for person in self.people.people]
        self.facts = f"{config.facts()}\n{hashlib.sha256(repr(shown).encode()).hexdigest()}"
        torch.manual_seed(config.seed)  # of the network's initial weights
        if config.start:
            network = load_network(config.start, config.network, self.head, self.layout)
        else:
            network = CorrectionNetwork(config.network, self.head, self.layout)
        step = TrainingStep(
            network, *self._on_device(), self.phase.weights, self.phase.precision, self.phase.regularised
        )
        groups = parameter_groups(network, self.phase.rate, self.phase.encoder_decay)
        self.rates = [group["lr"] for group in groups]
        self.step, self.optimiser = self.accelerator.prepare(step, _OPTIMISERS[self.phase.optimiser](groups))
        self.network: CorrectionNetwork = self.accelerator.unwrap_model(self.step).network
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.anchor = Anchor(self.network) if self.phase.anchor else None
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.done = 0
        self.skipped_steps = 0

    def run(self) -> Trained:
        """Compute all remaining steps."""
        if self.main:
            make_folder(self.out)
            write_text(self.out / LEFT_OUT, json.dumps(self.people.skipped, indent=1, ensure_ascii=False))
        self._resume()
        journal = Journal(self.out, self.done, self.config.trackio) if self.main else None
        held_out = self._held_out() if self.main and self.held_out_people and self.config.eval_every else None
        verdict = None
        self.step.train()
        started, window = time.perf_counter(), _Window()
        for examples in self._batches():
            self._note_redrawn(examples)
            norm = self._learn(examples, window)
            self.done += 1
            last = self.done == self.phase.iterations
            if self.done % self.config.log_every == 0 or last:
                facts = {
                    **window.means(self.accelerator),
                    "norm": norm,
                    "rate": self.optimiser.param_groups[-1]["lr"],
                    "seconds": round((time.perf_counter() - started) / window.steps, 3),
                    "skipped_steps": self.skipped_steps,
                }
                if journal:
                    journal.write(LOG, self.done, facts)
                self.progress(self.done / self.phase.iterations, f"Step {self.done}: loss {facts['loss']:.3f}")
                started, window = time.perf_counter(), _Window()
            if held_out and journal and (self.done % self.config.eval_every == 0 or last):
                paused = time.perf_counter()
                found = held_out.evaluate(self.average.module, self.out / f"sheet-{self.done:07d}.png")
                verdict = found.summary()
                self._save_model()
                journal.write(HELD_OUT, self.done, {**verdict, "each": found.people, "failed": found.failed})
                started += time.perf_counter() - paused
            if self.main and (self.done % self.config.save_every == 0 or last):
                self._save()
        if self.main:
            self._save_model()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        if journal:
            journal.close()
        redrawn = len(read_lines(self.out / REDRAWN))
        return Trained(self.out / MODEL, self.done, len(self.trained_people), self.people.skipped, redrawn, verdict)

    # -- one step -----------------------------------------------------------------------------------------------------

    def _learn(self, examples: Sequence[Example], window: _Window) -> float:
        """Run one step: forward, backward, optimiser. Return the norm of the gradient before clipping."""
        factor = self.phase.rate_factor(self.done)
        for group, rate in zip(self.optimiser.param_groups, self.rates):
            group["lr"] = rate * factor
        size = self.config.micro_batch
        starts = range(0, len(examples), size)
        for start in starts:
            chunk = [example.to(self.accelerator.device) for example in examples[start : start + size]]
            more = start != starts[-1]
            with self.accelerator.no_sync(self.step) if more else nullcontext():
                loss, terms = self.step(chunk)
                self.accelerator.backward(loss / self.local)
            window.add(loss.detach() / self.local, {name: value / self.local for name, value in terms.items()})
        window.steps += 1
        if self.anchor:
            pull = torch.autograd.grad(self.phase.anchor * self.anchor.penalty(), self.parameters)
            for parameter, gradient in zip(self.parameters, pull):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.phase.clip))
        if norm < float("inf"):  # else NaN or overflow, in all processes alike, because they share the gradient
            self.optimiser.step()
            self.average.update_parameters(self.network)
        else:
            self.skipped_steps += 1
        self.optimiser.zero_grad()
        return norm

    def _batches(self) -> Iterator[list[Example]]:
        """Iterate over this process's examples of each remaining step."""
        rank, count, batch = self.accelerator.process_index, self.accelerator.num_processes, self.phase.batch
        numbers = (
            step * batch + place
            for step in range(self.done, self.phase.iterations)
            for place in range(rank, batch, count)
        )
        loader = torch.utils.data.DataLoader(
            self._examples(),
            sampler=numbers,
            batch_size=None,
            num_workers=self.config.workers,
            # A forked worker would inherit locks of threads that it does not have.
            multiprocessing_context="spawn" if self.config.workers else None,
        )
        mine: list[Example] = []
        for example in loader:
            mine.append(example)
            if len(mine) == self.local:
                yield mine
                mine = []

    def _note_redrawn(self, examples: Sequence[Example]) -> None:
        """Append the reasons of replaced draws to one file, shared by all processes."""
        lines = [
            json.dumps({"step": self.done + 1, "reason": reason}, ensure_ascii=False) + "\n"
            for example in examples
            for reason in example.redrawn
        ]
        if lines:
            with open(self.out / REDRAWN, "a", encoding="utf-8") as file:
                file.write("".join(lines))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _local_batch(self) -> int:
        batch, processes = self.phase.batch, self.accelerator.num_processes
        if batch % processes:
            raise InputError(f"A batch of {batch} cannot be shared by {processes} processes; choose a multiple.")
        return batch // processes

    def _head_and_layout(self) -> tuple[HeadModel, UVLayout]:
        head = load_head(Path(self.config.head)) if self.config.head else default_head()
        return head, build_layout(head, self.config.resolution)

    def _on_device(self) -> tuple[HeadModel, UVLayout]:
        return self.head.to(self.accelerator.device), self.layout.to(self.accelerator.device)

    def _examples(self) -> Examples:
        config = self.config
        return Examples(
            self.people,
            self.trained_people,
            self.phase,
            self.head,
            self.layout,
            ExampleConfig(
                size=config.size,
                image_size=config.network.image_size,
                zoom=config.zoom,
                tint=config.tint,
                turned=config.turned,
                base=config.base,
                targets=config.targets,
                seed=config.seed,
                cache=Path(config.cache) if config.cache else None,
            ),
        )

    def _held_out(self) -> HeldOut:
        return HeldOut(self._examples(), self.held_out_people, *self._on_device(), self.config.eval_views)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        state = {
            "facts": self.facts,
            "step": self.done,
            "skipped_steps": self.skipped_steps,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with atomic_output(self.out / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _save_model(self) -> None:
        """Save the averaged network as a model for ``generate``."""
        config = GeneratorConfig(resolution=self.config.resolution, base=self.config.base, network=self.config.network)
        SpatialAvatar(config, self.head, network=self.average.module).save_pretrained(self.out / MODEL)

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        except Exception as error:  # torch, pickle and zip raise different types
            raise FormatError(f"The checkpoint {path} is damaged ({error}); remove it to start again.") from error
        if state["facts"] != self.facts:
            raise InputError(
                f"{self.out} holds a run of another configuration or of other shards; choose another folder for out."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.skipped_steps = state["step"], state["skipped_steps"]


class _Window:
    """Sums of the loss and its terms since the last log line."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        for name, value in {"loss": loss, **terms}.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def means(self, accelerator: Any) -> dict[str, float]:
        """Return the means over steps and processes."""
        names = sorted(self._sums)
        values = accelerator.reduce(torch.stack([self._sums[name] for name in names]), "mean") / self.steps
        return dict(zip(names, values.tolist()))


def split_people(people: Sequence[Person], patterns: Sequence[str]) -> tuple[list[Person], list[Person]]:
    """Split people into those to train on and those held out.

    Args:
        people: all people of the shards.
        patterns: name patterns of held-out people.

    Raises:
        InputError: no person is left to train on, or a pattern matches no one.
    """
    useless = [pattern for pattern in patterns if not fnmatch.filter([person.name for person in people], pattern)]
    if useless:
        raise InputError(f"No person in the shards is named {', '.join(useless)}; correct held_out.")
    held_out = [p for p in people if any(fnmatch.fnmatch(p.name, pattern) for pattern in patterns)]
    trained = [person for person in people if person not in held_out]
    if not trained:
        raise InputError("All people in the shards are held out; leave some to train on.")
    return trained, held_out


def _accelerator(config: TrainingConfig) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise missing_extra("Training", "train") from error
    # A trained transformer has parameters (of masks) without a gradient.
    stray = config.network.encoder.kind == "transformers" and not config.network.encoder.frozen
    return Accelerator(
        mixed_precision="no",  # TrainingStep lowers the precision of the network, not of the losses
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=stray),
            InitProcessGroupKwargs(timeout=timedelta(hours=2)),  # the others wait during an evaluation
        ],
    )
