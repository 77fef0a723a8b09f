"""Stage 2: per-subject refinement that keeps the layout (method section 3)."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import build_layout
from spatialavatar.records import Camera, Gaussians, Track, as_uint8_image
from spatialavatar.refinement.checkpoint import (
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    run_id,
    save_checkpoint,
)
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.deformation import Deformer, TriangleCarriers
from spatialavatar.refinement.frames import FrameSource, camera_of, check_track, reference_frame, split_frames
from spatialavatar.refinement.joint_adam import JointAdam
from spatialavatar.refinement.losses import compare
from spatialavatar.refinement.near_side import NearSide
from spatialavatar.refinement.parameters import FAMILIES, FORM, Attributes
from spatialavatar.refinement.rest_shape import RestShape
from spatialavatar.refinement.shape_control import aspect_penalty, clamp_scales
from spatialavatar.refinement.tuning import FrameTuning
from spatialavatar.refinement.turned_views import beside, inner_difference
from spatialavatar.refinement.visibility import clearly_seen, solid
from spatialavatar.render import rasterize_view, render

PREVIEWS = (0, 100, 300, 500, 1000, 2000, 4000, 6000, 8000)
"""Iterations after which a step carries a preview, as does the last."""

_CHECKPOINT_SECONDS = 15.0
_SMOOTH_EVERY = 4
_GATE_FRAMES = 24
_GATE_RIM = 3.0  # pixels of 512 inside the matte's edge that do not count as seeing
_GATE_SHARE = (0.05, 0.3)


@dataclass(frozen=True)
class RefineStep:
    """One step of a refinement.

    Attributes:
        iteration: how many steps have been made; the first is 0, or after a checkpoint the one that follows it.
        fraction: of the whole run, in [0, 1].
        preview: (H, W, 3) uint8 picture of the reference frame over white, now and then; otherwise None.
    """

    iteration: int
    fraction: float
    preview: np.ndarray | None
    _terms: dict[str, Tensor]
    _run: _Run

    @property
    def losses(self) -> dict[str, float]:
        """The loss's terms by name, before their weights, of this step's frame; empty at the start."""
        return {name: float(value) for name, value in self._terms.items()}

    @property
    def avatar(self) -> Avatar:
        """The refined avatar as it is now: ask for it before taking the next step."""
        return self._run.avatar()


def refine(
    avatar: Avatar,
    track: Track,
    config: RefineConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
    backend: str = "auto",
) -> Generator[RefineStep, None, None]:
    """Refine an avatar on a tracked video: same head, same layout, same number of Gaussians, better attributes.

    The work is done as the result is iterated over; stopping early (``close()`` of the iterator) leaves a checkpoint.
    The input avatar is never changed. The refined avatar takes over the video's head shape, which was fitted to many
    frames, and the video's reference frame.

    Args:
        avatar: where to start.
        track: T frames with pictures and mattes, tracked with the avatar's head model.
        config: constants.
        checkpoint: a file to continue from, where it exists, and to write every 15 seconds and at the end.
        minutes: a time budget; the learning rates then reach their end with whichever ends first, steps or time.
        seed: of the frames' order and the backgrounds.
        backend: of the rasteriser.

    Raises:
        FormatError: the track belongs to another head model, the avatar to another layout, or the checkpoint to
            another run.
        InputError: the track has no pictures, too few frames, or shows nothing.
        OutputError: the checkpoint cannot be written.
    """
    if minutes is not None and not minutes > 0:
        raise InputError(f"The time budget is {minutes} minutes; give a positive number.")
    run = _Run(avatar, track, config or RefineConfig(), seed, minutes, backend)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        run.restore(path)
    return _steps(run, path)


def _steps(run: _Run, checkpoint: Path | None) -> Generator[RefineStep, None, None]:
    saved, at = run.iteration, run.seconds
    if run.iteration == 0 or run.finished:
        yield run.describe({}, preview=True)
    try:
        while not run.finished:
            terms = run.step()
            if checkpoint is not None and run.seconds > at + _CHECKPOINT_SECONDS:
                run.save(checkpoint)
                saved, at = run.iteration, run.seconds
            yield run.describe(terms, preview=run.finished or run.iteration in PREVIEWS)
    finally:
        # A step that was interrupted half-way is no state to go on from; the last checkpoint is.
        if checkpoint is not None and saved != run.iteration and run.whole:
            run.save(checkpoint)


def screen_blur(scale: float) -> float:
    """The variance, in pixels squared, that is added on screen when frames are compared at ``scale`` of their size.

    The rasteriser adds 0.3 at full size. Of a render scaled down with its frame that leaves 0.3 scale^2, and averaging
    over squares of pixels adds (1 - scale^2) / 12. With 0.3 at every size, Gaussians that were refined at half the size
    would count on a blur that full size does not give them, and show as dots and ragged rims.
    """
    return 0.3 * scale**2 + max(0.0, 1.0 - scale**2) / 12.0


def on_track(avatar: Avatar, track: Track, frame: int) -> Avatar:
    """The avatar on the track's head shape, with one of the track's frames as its reference."""
    return dataclasses.replace(avatar, shape=track.params.shape, reference=track.params[frame], camera=track.camera)


class _Run:
    """The state of one refinement.

    Attributes:
        iteration: steps made.
        seconds: that they took, over all sittings.
        whole: false while a step is half made.
    """

    def __init__(
        self, avatar: Avatar, track: Track, config: RefineConfig, seed: int, minutes: float | None, backend: str
    ) -> None:
        self._split = split_frames(track, config.holdout)
        check_track(track, avatar.head, self._split)
        if build_layout(avatar.head, avatar.layout.resolution).id != avatar.layout.id:
            raise FormatError("The avatar was made with another UV layout than its head model's; make it again.")
        self._id = run_id(avatar, track, config, seed)
        self._config, self._track, self._backend, self._seed = config, track, backend, seed
        self._generator = torch.Generator().manual_seed(seed)
        jaw = track.params.jaw[self._split.training.to(track.params.jaw.device)]
        self._reference = int(self._split.training[reference_frame(jaw, self._generator)])
        self._start = on_track(avatar, track, self._reference)
        device = avatar.gaussians.means.device
        sizes = (config.size, config.size // 2, config.size // 4)
        self._camera = {size: camera_of(track, size).to(device) for size in sizes}
        identity = self._start.identity()
        self._residual = None if avatar.residual is None else avatar.residual.copied(config.residual_rate > 0.0)
        self._deformer = Deformer(avatar.head, avatar.layout, identity, self._residual)
        self._source = FrameSource(track, avatar.head)
        self._attributes = Attributes(avatar.gaussians, self._color_gate())
        self._joint = FORM if config.joint_steps else ()
        self._single = tuple(name for name in FAMILIES if name not in self._joint)
        self._optimiser = torch.optim.Adam(self._attributes.groups(config, self._single), fused=True)
        self._joint_optimiser = JointAdam(self._attributes.groups(config, self._joint)) if self._joint else None
        self._tuning = FrameTuning(track.params, config)
        self._frame_optimiser = torch.optim.SparseAdam(self._tuning.groups()) if self._tuning.tensors else None
        self._shape = RestShape(avatar.head, config.shape_smoothness) if config.shape_share > 0.0 else None
        self._shape_optimiser = None
        if self._shape is not None:
            group = {"params": [self._shape.tensors["u"]], "lr": config.shape_rate, "base": config.shape_rate}
            self._shape_optimiser = torch.optim.Adam([group])
        self._residual_optimiser = None
        if self._residual is not None and config.residual_rate > 0.0:
            rates = {"lr": config.residual_rate, "base": config.residual_rate}
            groups = [{"params": [tensor], **rates} for tensor in self._residual.weights().values()]
            self._residual_optimiser = torch.optim.Adam(groups)
        self._near_side = None
        if config.far_side is not None:
            self._near_side = NearSide(self._start.head, self._start.layout, config.far_side)
        self._rest = identity.vertices
        self._scale_bounds = self._local_scale_bounds()
        self._budget = math.inf if minutes is None else 60.0 * minutes
        self.iteration, self.seconds, self.whole = 0, 0.0, True

    @torch.no_grad()
    def _color_gate(self) -> Tensor | None:
        """(N,) how squarely the best of some training frames shows each Gaussian; None where all are free."""
        if self._config.color_gate is None:
            return None
        training, count = self._split.training, min(_GATE_FRAMES, len(self._split.training))
        camera = self._camera[self._config.size]
        gates = []
        for frame in training[torch.linspace(0, len(training) - 1, count).round().long()].tolist():
            carriers = self._deformer.frame(self._track.params[frame], frame)
            view = self._source.view(frame, carriers.vertices, self._config.size, whole=True)
            inside = solid((view.matte * 255.0).round().byte(), _GATE_RIM * camera.width / 512).to(view.weight)
            world = self._deformer.carry(self._start.gaussians, carriers)
            normals = self._deformer.normals(carriers)
            gates.append(
                clearly_seen(world, normals, camera, inside * view.weight, _GATE_SHARE, self._config.color_gate)
            )
        return torch.stack(gates).amax(0)

    def _local_scale_bounds(self) -> tuple[Tensor, Tensor]:
        """The range of log scales (N, 1) in each Gaussian's triangle units."""
        frame = self._deformer.frame(self._start.head.neutral())
        unit = frame.scale[self._start.layout.faces, None].clamp_min(1e-9).log()
        low, high = self._config.scale_range
        return math.log(low) - unit, math.log(high) - unit

    # -- progress -----------------------------------------------------------------------------------------------------

    @property
    def fraction(self) -> float:
        """How much of the run is done: of its steps or of its time, whichever is more."""
        return min(1.0, max(self.iteration / self._config.iterations, self.seconds / self._budget))

    @property
    def finished(self) -> bool:
        """Whether the steps or the time are used up."""
        return self.fraction >= 1.0

    def cosine(self) -> float:
        """The one global schedule: from 1 to ``final_rate`` along half a cosine."""
        final = self._config.final_rate
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * self.fraction))

    # -- one step -----------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """Draw frames and a background, render, compare, move; returns the loss's terms."""
        started = time.monotonic()
        self.whole = False
        self._set_rates()
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
        local = self._attributes.gaussians()
        terms: dict[str, Tensor] = {}
        for _ in range(self._config.batch):
            for name, value in self._terms_of_frame(local).items():
                terms[name] = terms.get(name, 0.0) + value / self._config.batch
        self._total(terms).backward()
        if self.scales_frozen:
            self._attributes.tensors["scale"].grad = None
        for optimiser in self._optimisers:
            optimiser.step()
        if self._config.color_pull > 0.0:
            self._attributes.pull_colors(self._config.color_pull * self.cosine())
        if self._config.color_smoothing > 0.0 and self.iteration % _SMOOTH_EVERY == 0:
            share = _SMOOTH_EVERY * self._config.color_smoothing * self.cosine()
            self._attributes.smooth_colors(min(share, 1.0), self._start.layout)
        self._constrain()
        shaping = self.shaping
        self.iteration += 1
        if shaping and not self.shaping:
            self._settle_shape()
        self.seconds += time.monotonic() - started
        self.whole = True
        return {name: value.detach() for name, value in terms.items()}

    @property
    def scales_frozen(self) -> bool:
        """The scale-freeze warm-up."""
        return self.iteration < self._config.short_of(self._config.scale_freeze)

    @property
    def shaping(self) -> bool:
        """Whether the rest head moves."""
        return self._shape is not None and self.iteration < self._config.shape_share * self._config.iterations

    @torch.no_grad()
    def _settle_shape(self) -> None:
        """Freeze the rest head as it is now."""
        assert self._shape is not None
        self._deformer.set_rest(self._rest + self._shape.displacement())
        self._source.forget_regions()

    @property
    def _optimisers(self) -> list[torch.optim.Optimizer]:
        return [optimiser for _, optimiser, _ in self._named_optimisers()]

    def _set_rates(self) -> None:
        share = self.cosine() * self._config.rate_share
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * share

    def _terms_of_frame(self, local: Gaussians) -> dict[str, Tensor]:
        """The terms of the loss on one random frame."""
        config = self._config
        draw = torch.randint(len(self._split.training), (), generator=self._generator)
        frame = int(self._split.training[draw])
        size = config.size // 2 if self.fraction < config.progressive else config.size
        terms: dict[str, Tensor] = {}
        displaced = None
        if self._shape is not None and self.shaping:
            displaced = self._shape.displacement()
            terms["shape"] = (100.0 * displaced).square().sum(-1).mean()
        carriers = self._deformer.frame(
            self._tuning.params(self._track.params, frame), None if self._tuning.moves_heads else frame, displaced
        )
        view = self._source.view(frame, carriers.vertices, size, edge_weight=config.edge_weight)
        world = self._deformer.carry(local, carriers)
        camera = view.window(self._camera[size])
        color, alpha, info = self._rasterize(self._near(world, carriers, camera), camera, size)
        exposed = self._tuning.expose(color, frame)
        l1, ssim = compare(exposed, alpha[..., 0], view.image, view.matte, view.weight, self._background())
        # Outside the window both are background: no difference, and a mean over the whole frame all the same.
        share = camera.width * camera.height / size**2
        terms |= {"l1": share * l1, "ssim": share * ssim}
        if config.aspect_weight > 0.0 and self.iteration >= config.short_of(config.aspect_start):
            seen = (info["radii"][0] > 0).all(-1).nonzero().squeeze(-1)
            if config.aspect_share < 1.0:
                start = torch.randint(round(1.0 / config.aspect_share), (), generator=self._generator)
                seen = seen[int(start) :: round(1.0 / config.aspect_share)]
            shapes = world.means, world.quats, world.scales
            terms["aspect"] = aspect_penalty(*shapes, seen, camera, config.aspect_limit)
        if config.turned_weight > 0.0 and self.iteration % config.turned_every == 0:
            terms["turned"] = self._turned(world, carriers, size // 2)
        prior = self._tuning.prior(frame)
        if prior is not None:
            terms["prior"] = prior
        return terms

    def _turned(self, world: Gaussians, carriers: TriangleCarriers, size: int) -> Tensor:
        """How the refined form differs from the start's, in the same colours, from a random side."""
        camera = beside(
            self._camera[size], carriers.vertices.detach().mean(0), self._config.turned_reach, self._generator
        )
        with torch.no_grad():
            first = self._deformer.carry(self._attributes.initial_form(), carriers)
            expected, cover, _ = self._rasterize(self._near(first, carriers, camera, mouth=False), camera, size)
        color, alpha, _ = self._rasterize(self._near(world, carriers, camera), camera, size)
        return inner_difference(color, alpha, expected, cover)

    def _near(self, world: Gaussians, carriers: TriangleCarriers, camera: Camera, mouth: bool = True) -> Gaussians:
        """What of the Gaussians takes part in a comparison."""
        return world if self._near_side is None else self._near_side(world, carriers, camera, mouth=mouth)

    def _rasterize(self, world: Gaussians, camera: Camera, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Colour (H, W, C) and alpha (H, W, 1) of a window of pictures of ``size``, and the rasteriser's facts."""
        blur = screen_blur(size / self._track.camera.width)
        return rasterize_view(world, camera, eps2d=blur, backend=self._backend)  # type: ignore[arg-type]

    def _background(self) -> Tensor:
        """One random colour (3,), which both sides are laid over."""
        device = self._attributes.tensors["color"].device
        if not self._config.random_background:
            return torch.full((3,), 0.5, device=device)
        return torch.rand(3, generator=self._generator).to(device)

    def _total(self, terms: dict[str, Tensor]) -> Tensor:
        config = self._config
        weights = {
            "l1": config.l1_weight,
            "ssim": config.ssim_weight,
            "aspect": config.aspect_weight,
            "shape": config.shape_pull,
            "turned": config.turned_weight,
            "prior": 1.0,
        }
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    @torch.no_grad()
    def _constrain(self) -> None:
        """The hard limits after a step: colours, and from the end of the warm-up on scales."""
        tensors = self._attributes.tensors
        tensors["color"].clamp_(0.0, 1.0)
        if self._config.clamp_scales and not self.scales_frozen:
            tensors["scale"].copy_(clamp_scales(tensors["scale"], *self._scale_bounds, self._config.scale_spread))

    # -- what others see ----------------------------------------------------------------------------------------------

    def avatar(self) -> Avatar:
        """The avatar of this moment."""
        gaussians = self._attributes.snapshot()
        gaussians.check()
        refined = {"iterations": self.iteration, "frames": len(self._split.training), "seed": self._seed}
        offsets = self._start.vertex_offsets
        if self._shape is not None:
            with torch.no_grad():
                moved = self._shape.displacement()
            offsets = moved if offsets is None else offsets + moved
        return dataclasses.replace(
            self._start,
            gaussians=gaussians,
            vertex_offsets=offsets,
            residual=None if self._residual is None else self._residual.copied(),
            info={**self._start.info, "refined": refined},
        )

    def describe(self, terms: dict[str, Tensor], preview: bool) -> RefineStep:
        """The step just made."""
        picture = self._preview() if preview else None
        return RefineStep(self.iteration, self.fraction, picture, terms, self)

    @torch.no_grad()
    def _preview(self) -> np.ndarray:
        """The reference frame over white."""
        carriers = self._deformer.frame(
            self._track.params[self._reference],
            self._reference,
            self._shape.displacement() if self._shape is not None and self.shaping else None,
        )
        world = self._deformer.carry(self._attributes.gaussians(), carriers)
        image, _ = render(world, self._camera[self._config.size], (1.0, 1.0, 1.0), self._backend)  # type: ignore[arg-type]
        return as_uint8_image(image)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the state."""
        tensors = {f"attribute.{name}": value for name, value in self._attributes.tensors.items()}
        tensors |= {f"shape.{name}": value for name, value in (self._shape.tensors if self._shape else {}).items()}
        tensors |= {f"tuning.{name}": value for name, value in self._tuning.tensors.items()}
        tensors |= {
            f"residual.{name}": value for name, value in (self._residual.weights() if self._residual else {}).items()
        }
        for prefix, optimiser, names in self._named_optimisers():
            tensors |= optimiser_tensors(prefix, optimiser, names)
        tensors["generator"] = self._generator.get_state()
        save_checkpoint(path, tensors, {"run": self._id, "iteration": self.iteration, "seconds": self.seconds})

    def restore(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        tensors, facts = load_checkpoint(path, self._id)
        with torch.no_grad():
            own = {"attribute": self._attributes.tensors, "tuning": self._tuning.tensors}
            own["shape"] = self._shape.tensors if self._shape is not None else {}
            own["residual"] = self._residual.weights() if self._residual is not None else {}
            for prefix, values in own.items():
                for name, value in values.items():
                    value.copy_(tensors[f"{prefix}.{name}"])
        for prefix, optimiser, names in self._named_optimisers():
            restore_optimiser(prefix, optimiser, names, tensors)
        self._generator.set_state(tensors["generator"])
        self.iteration, self.seconds = int(facts["iteration"]), float(facts["seconds"])
        if self._shape is not None and not self.shaping:
            self._settle_shape()

    def _named_optimisers(self) -> Iterator[tuple[str, torch.optim.Optimizer, list[str]]]:
        yield "adam", self._optimiser, list(self._single)
        if self._joint_optimiser is not None:
            yield "joint", self._joint_optimiser, list(self._joint)
        if self._frame_optimiser is not None:
            yield "frames", self._frame_optimiser, list(self._tuning.tensors)
        if self._residual is not None and self._residual_optimiser is not None:
            yield "residual", self._residual_optimiser, list(self._residual.weights())
        if self._shape is not None and self._shape_optimiser is not None:
            yield "shape", self._shape_optimiser, list(self._shape.tensors)
