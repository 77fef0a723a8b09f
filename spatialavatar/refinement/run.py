"""The state of one refinement: schedule, families, one step, snapshots and checkpoints."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError
from spatialavatar.head import build_layout
from spatialavatar.records import HeadParams, Track, as_uint8_image
from spatialavatar.refinement.anti_spike import clamp_scales
from spatialavatar.refinement.attributes import Attributes
from spatialavatar.refinement.checkpoint import Checkpoint, run_id
from spatialavatar.refinement.clip import Clip
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.expression_bases import ExpressionBases, ExpressionInputs
from spatialavatar.refinement.families import families_of
from spatialavatar.refinement.frames import check_track, reference_frame, split_frames, with_track_shape
from spatialavatar.refinement.objective import Objective
from spatialavatar.render import render
from spatialavatar.residual import ExpressionResidual

_SMOOTH_EVERY = 4  # steps between two smoothings of the colours; each has the strength of four
_SMOOTH_BASES_EVERY = 8  # likewise, of the bases, which are six times as large


class RefinementRun:
    """The state of one refinement.

    Attributes:
        iteration: steps made.
        seconds: time that they took, over all sittings.
        consistent: False while a step is in progress; a state that was interrupted there cannot be continued.
    """

    def __init__(
        self, avatar: Avatar, track: Track, config: RefineConfig, seed: int = 0, minutes: float | None = None
    ) -> None:
        """Prepare a run.

        Args:
            avatar: initial avatar; it is not changed.
            track: T frames with pictures and mattes, tracked with the avatar's head model.
            config: constants.
            seed: of the order of the frames and of the backgrounds.
            minutes: time budget; None for no limit.

        Raises:
            FormatError: the track belongs to another head model, or the avatar to another layout.
            InputError: the track has no pictures, too few frames, or is black.
        """
        self._split = split_frames(track, config.holdout)
        check_track(track, avatar.head, self._split)
        if build_layout(avatar.head, avatar.layout.resolution).id != avatar.layout.id:
            raise FormatError("The avatar was made with another UV layout than its head model's; make it again.")
        self._input, self._track, self._config, self._seed, self._minutes = avatar, track, config, seed, minutes
        self._generator = torch.Generator().manual_seed(seed)
        training = self._split.training
        params = track.params[training.to(track.params.jaw.device)]
        self._reference = int(training[reference_frame(params.jaw, self._generator)])
        self._start = with_track_shape(avatar, track, self._reference)
        residual = avatar.residual
        self._residual = None if residual is None else residual.copied(config.rates.residual > 0.0)
        self._clip = Clip(self._start, track, self._residual, config.backend)
        gate = self._clip.color_gate(self._start.gaussians, training, config.size, config.colors.gate)
        self._attributes = Attributes(avatar.gaussians, gate)
        self._bases = self._expression_bases(params, gate)
        self._families = families_of(self._attributes, self._residual, config, self._bases)
        self._objective = Objective(self._clip, self._start, training, config, self._generator)
        self._scale_bounds = self._clip.local_scale_bounds(self._start, config.anti_spike.scale_range)
        self.iteration, self.seconds, self.consistent = 0, 0.0, True

    def _expression_bases(self, params: HeadParams, gate: Tensor | None) -> ExpressionBases | None:
        """The bases at no change; None where they are switched off, or the clip has one expression only."""
        config, start = self._config.bases, self._start
        if config.inputs == 0:
            return None
        inputs = ExpressionInputs(params, start.head, config.inputs, skull=config.skull)
        if len(inputs.low) == 0:
            return None
        bases = ExpressionBases(inputs, start, gate)
        self._clip.add_bases(bases)
        return bases

    @property
    def fraction(self) -> float:
        """Share of the run that is done: of its steps or of its time, whichever is more."""
        budget = math.inf if self._minutes is None else 60.0 * self._minutes
        return min(1.0, max(self.iteration / self._config.iterations, self.seconds / budget))

    @property
    def finished(self) -> bool:
        """Whether the steps or the time are used up."""
        return self.fraction >= 1.0

    def schedule(self) -> float:
        """The global factor on learning rates: from 1 to ``final_share`` along half a cosine."""
        final = self._config.rates.final_share
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * self.fraction))

    def step(self) -> dict[str, Tensor]:
        """Take one step: draw, render, compare, move, constrain; returns the terms of the loss, detached."""
        started = time.monotonic()
        self.consistent = False
        for family in self._families:
            family.zero_grad()
        terms = self._objective.terms(self._attributes, self.iteration)
        self._objective.total(terms).backward()
        schedule = self.schedule()
        for family in self._families:
            family.step(self.iteration, schedule * self._config.rate_factor)
        self._constrain(schedule)
        self.iteration += 1
        self.seconds += time.monotonic() - started
        self.consistent = True
        return {name: value.detach() for name, value in terms.items()}

    @torch.no_grad()
    def _constrain(self, schedule: float) -> None:
        """The changes after an optimiser's step: pull and smooth colours, clamp colours and scales."""
        colors, spikes, tensors = self._config.colors, self._config.anti_spike, self._attributes.tensors
        if colors.pull > 0.0:
            self._attributes.pull_colors(colors.pull * schedule)
        if colors.smoothing > 0.0 and self.iteration % _SMOOTH_EVERY == 0:
            share = _SMOOTH_EVERY * colors.smoothing * schedule
            self._attributes.smooth_colors(min(share, 1.0), self._start.layout)
        tensors["color"].clamp_(0.0, 1.0)
        if self._bases is not None:
            self._bases.pull(self._config.bases.pull * schedule)
            if self._config.bases.smoothing > 0.0 and self.iteration % _SMOOTH_BASES_EVERY == 2:
                share = _SMOOTH_BASES_EVERY * self._config.bases.smoothing * schedule
                self._bases.smooth(min(share, 1.0), self._start.layout)
        frozen = self.iteration < self._config.scaled_start(spikes.scale_freeze)
        if spikes.clamp and not frozen:
            tensors["scale"].copy_(clamp_scales(tensors["scale"], *self._scale_bounds, spikes.max_spread))

    def avatar(self) -> Avatar:
        """A copy of the current avatar."""
        gaussians = self._attributes.snapshot()
        gaussians.check()
        refined = {"iterations": self.iteration, "frames": len(self._split.training), "seed": self._seed}
        return dataclasses.replace(
            self._start,
            gaussians=gaussians,
            residual=self._snapshot_of_residual(),
            info={**self._start.info, "refined": refined},
        )

    def _snapshot_of_residual(self) -> ExpressionResidual | None:
        """The avatar's own residual with the learned changes; None where it has neither."""
        own = None if self._residual is None else self._residual.copied()
        return own if self._bases is None else self._bases.residual(own)

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """(H, W, 3) uint8 render of the reference frame over white."""
        world = self._clip.to_world(self._attributes.gaussians(), self._clip.pose(self._reference))
        camera, backend = self._clip.camera(self._config.size), self._config.backend
        image, _ = render(world, camera, (1.0, 1.0, 1.0), backend)
        return as_uint8_image(image)

    def id(self) -> str:
        """The :func:`run_id` of this run."""
        return run_id(self._input, self._track, self._config, self._seed, self._minutes)

    def checkpoint(self, run: str) -> Checkpoint:
        """The current state, under the id ``run``."""
        tensors = {name: value for family in self._families for name, value in family.state().items()}
        tensors["generator"] = self._generator.get_state()
        return Checkpoint(run, self.iteration, self.seconds, tensors)

    def restore(self, path: Path, run: str) -> None:
        """Continue from the checkpoint of the run with the id ``run``.

        Raises:
            FormatError: the file is damaged, or belongs to a different run or release.
        """
        required, optional = {"generator": self._generator.get_state()}, {}
        for family in self._families:
            values, moments = family.expected_state()
            required |= values
            optional |= moments
        stored = Checkpoint.load(path, run, required, optional)
        for family in self._families:
            family.load_state(stored.tensors)
        self._generator.set_state(stored.tensors["generator"])
        self.iteration, self.seconds = stored.iteration, stored.seconds
