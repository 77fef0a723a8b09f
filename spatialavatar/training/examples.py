"""Training examples: the network's inputs and the base of a person, and the target pictures of the losses.

The draws of an example depend on the seed, the step and the example's number in the whole batch alone: neither on the
number of processes that share the batch nor on earlier draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spatialavatar.errors import InputError
from spatialavatar.evaluation.evaluator import head_region
from spatialavatar.generator.base import build_base
from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.network import NetworkInputs, network_inputs
from spatialavatar.head import HeadModel, UVLayout, to_world
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.records import Camera, Gaussians, HeadParams, Record, Track, as_float_image
from spatialavatar.render import render
from spatialavatar.tensor_files import read_tensors, write_tensors
from spatialavatar.training.optimisation import Phase
from spatialavatar.training.sampling import SourceSampler, draw_count, draw_views, temperature
from spatialavatar.training.shards import People, Person, View

ATTEMPTS: Final = 20
"""Largest number of draws for one example; a draw with bad data is replaced by the next."""

TURN: Final = 90.0
"""Largest rotation of targets that show the base, degrees to either side, uniform."""

_BEYOND: Final = 255  # in the classes: no picture
_OVERVIEW: Final = 128  # pixels a side of the render that locates a window


@dataclass(frozen=True)
class Target(Record):
    """A target picture of the losses.

    Attributes:
        params: one frame.
        camera: of the picture.
        image: (S, S, 3) the person over ``background``, and ``background`` outside ``region``.
        region: (S, S) weight of each pixel.
        background: (3,) colour.
        box: (4,) the face: x0, y0, x1, y1, pixels.
    """

    params: HeadParams
    camera: Camera
    image: Tensor
    region: Tensor
    background: Tensor
    box: Tensor

    def shown(self, image: Tensor, alpha: Tensor) -> Tensor:
        """Composite a render (S, S, 3), premultiplied by its alpha (S, S), over the background within the region."""
        share = self.region[..., None]
        return (image + (1.0 - alpha[..., None]) * self.background) * share + self.background * (1.0 - share)


@dataclass(frozen=True)
class Example(Record):
    """One example: the sources and the targets of one person.

    Attributes:
        name: of the person.
        inputs: of the network (B = 1).
        base: N local Gaussians, built from the sources.
        offsets: (V, 3) vertex offsets of the base, for hair, metres in head space.
        targets: of the same person.
        seed: of the random numbers in the losses.
        redrawn: reasons why earlier draws were replaced.
    """

    name: str
    inputs: NetworkInputs
    base: Gaussians
    offsets: Tensor
    targets: tuple[Target, ...]
    seed: int
    redrawn: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Example:
        """Return a copy on ``device``."""
        return replace(super().to(device), targets=tuple(target.to(device) for target in self.targets))

    def tinted(self, gain: Tensor) -> Example:
        """Return the example under another light: every colour times ``gain`` (3,), at most 1.

        The base of tinted photos is the tinted base, because its colours are weighted means of theirs.
        """
        inputs, known = self.inputs, self.inputs.known
        return replace(
            self,
            inputs=inputs.replace(
                images=inputs.images * gain[:, None, None],
                known=torch.cat([known[..., :3] * gain, known[..., 3:6] * gain, known[..., 6:]], -1),
            ),
            base=self.base.replace(colors=self.base.colors * gain),
            targets=tuple(
                target.replace(image=target.image * gain, background=target.background * gain)
                for target in self.targets
            ),
        )


@dataclass(frozen=True)
class ExampleConfig:
    """Sizes and augmentation of examples; see also :class:`spatialavatar.training.config.TrainingConfig`.

    Attributes:
        size: pixels a side of the targets.
        image_size: pixels a side of the network's input pictures.
        zoom: largest random enlargement of a target; 1 is the whole picture.
        tint: largest random reduction of a colour channel, as a share; 0 is none.
        turned: share of targets that are renders of the base from a random side.
        base: constants of the base.
        targets: largest number per example; they share one base.
        seed: of the run.
        cache: folder for computed bases, useful for people with few views; or None.
    """

    size: int
    image_size: int
    zoom: float = 1.0
    tint: float = 0.0
    turned: float = 0.0
    base: BaseConfig = field(default_factory=BaseConfig)
    targets: int = 1
    seed: int = 0
    cache: Path | None = None


class Examples(torch.utils.data.Dataset):
    """The examples of a whole run, by number: example ``n`` is number ``n % batch`` of step ``n // batch``."""

    def __init__(
        self,
        people: People,
        chosen: Sequence[Person],
        phase: Phase,
        head: HeadModel,
        layout: UVLayout,
        config: ExampleConfig,
    ) -> None:
        """Store the people and the constants.

        Args:
            people: reads the pictures.
            chosen: the people to draw, all with equal probability.
            phase: length, batch and share of cross-camera draws.
            head: the head model.
            layout: of the Gaussians.
            config: sizes and augmentation.
        """
        self._people, self._chosen, self._phase = people, list(chosen), phase
        self._head, self._layout, self._config = head, layout, config

    def __len__(self) -> int:
        return self._phase.iterations * self._phase.batch

    def __getitem__(self, number: int) -> Example:
        """Draw, read and prepare an example; a draw with bad data is replaced.

        Raises:
            InputError: every draw had bad data.
        """
        step, place = divmod(number, self._phase.batch)
        count = draw_count(_generator(self._config.seed, step))  # one count per step: one batch
        redrawn: list[str] = []
        for attempt in range(ATTEMPTS):
            generator = _generator(self._config.seed, step, place, attempt)
            person = self._chosen[int(torch.randint(len(self._chosen), (), generator=generator))]
            try:
                sources, targets = draw(person, self._phase, step, count, self._config.targets, generator)
                example = self.example(person, sources, targets, generator)
            except (OSError, MemoryError):
                raise  # a fault of the machine, not of the data
            except Exception as error:  # bad data of one person must not end the run
                redrawn.append(f"{person.name}: {error}")
            else:
                return replace(example, redrawn=tuple(redrawn))
        raise InputError(f"Of {ATTEMPTS} people drawn none could be used; the last: {redrawn[-1]}")

    def example(
        self, person: Person, sources: Sequence[View], targets: Sequence[View], generator: torch.Generator | None
    ) -> Example:
        """Prepare an example of the given views.

        Args:
            person: the person.
            sources: views from which the base is built.
            targets: views of the target pictures.
            generator: of the backgrounds and of the example's seed; None for white and 0, for evaluation.

        Raises:
            InputError: no base can be built from the sources.
            FormatError: a picture is damaged.
        """
        inputs, base, offsets = self._base(person, sources)
        shown = []
        for track in (self._people.view(person, view) for view in targets):
            if generator and self._config.turned and float(torch.rand((), generator=generator)) < self._config.turned:
                shown.append(self._turned_base(base, offsets, track.params, track.camera, generator))
            else:
                shown.append(self._target(track, generator))
        seed = 0 if generator is None else int(torch.randint(2**31, (), generator=generator))
        example = Example(person.name, inputs, base, offsets, tuple(shown), seed)
        if generator is None or not self._config.tint:
            return example
        return example.tinted(1.0 - self._config.tint * torch.rand(3, generator=generator))

    def _base(self, person: Person, sources: Sequence[View]) -> tuple[NetworkInputs, Gaussians, Tensor]:
        views = sorted((view.track, view.frame) for view in sources)
        config, shard = self._config, person.shard.resolve()
        key = f"{shard} {person.key} {views} {self._layout.id} {config.image_size} {config.base}"
        path = config.cache and config.cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
        if path and path.is_file():
            return _unpacked(read_tensors(path, f"The base that is kept in {path} is damaged; delete the file.")[0])
        tracks = [self._people.view(person, View(*view)) for view in views]
        made = build_base(self._head, self._layout, tracks, config.base)
        result = (network_inputs(made, config.image_size), made.gaussians, made.vertex_offsets)
        if path:
            write_tensors(path, _packed(*result), {})
        return result

    def _target(self, track: Track, generator: torch.Generator | None) -> Target:
        pictures = track.require_pictures()
        background = torch.ones(3) if generator is None else torch.rand(3, generator=generator)
        vertices = self._head.vertices(track.params)
        points = track.camera.project(self._head.landmarks(vertices, max(self._head.landmark_embeddings)))[0]
        region = torch.ones(pictures.images.shape[1:3])
        if pictures.segments is not None:
            classes = pictures.segments[0].numpy()
            region = torch.from_numpy((head_region(classes, points.numpy()) & (classes != _BEYOND)).astype(np.float32))
        share = (as_float_image(pictures.mattes[0]) * region)[..., None]
        image = as_float_image(pictures.images[0]) * share + background * (1.0 - share)
        x, y, side = (
            (0, 0, track.camera.width) if generator is None else window(share[..., 0], self._config.zoom, generator)
        )
        size, corner = self._config.size, points.new_tensor([x, y])
        image, region = image[y : y + side, x : x + side], region[y : y + side, x : x + side]
        return Target(
            params=track.params,
            camera=track.camera.window(x, y, x + side, y + side).resized(size, size),
            image=resized(image.movedim(-1, 0), size).movedim(0, -1),
            region=resized(region[None], size)[0],
            background=background,
            box=torch.cat([points.min(0).values - corner, points.max(0).values - corner]) * (size / side),
        )

    @torch.no_grad()
    def _turned_base(
        self, base: Gaussians, offsets: Tensor, params: HeadParams, camera: Camera, generator: torch.Generator
    ) -> Target:
        """Render the base with a target's expression from a random side."""
        params = turned_by(params, TURN * (2.0 * float(torch.rand((), generator=generator)) - 1.0))
        vertices = self._head.vertices(params, offsets)
        world = to_world(base, self._head, self._layout, vertices[0])
        overview = camera.resized(_OVERVIEW, _OVERVIEW)
        x, y, side = window(render(world, overview)[1], self._config.zoom, generator)
        close = overview.window(x, y, x + side, y + side).resized(self._config.size, self._config.size)
        image, alpha = render(world, close)
        background = torch.rand(3, generator=generator)
        points = close.project(self._head.landmarks(vertices, max(self._head.landmark_embeddings)))[0]
        return Target(
            params=params,
            camera=close,
            image=(image + (1.0 - alpha[..., None]) * background).clamp(0.0, 1.0),
            region=torch.ones_like(alpha),
            background=background,
            box=torch.cat([points.min(0).values, points.max(0).values]),
        )


def turned_by(params: HeadParams, degrees: float) -> HeadParams:
    """Rotate the head in place about the vertical axis of the world."""
    turn = axis_angle_to_matrix(torch.tensor([[0.0, np.deg2rad(degrees), 0.0]]).to(params.rotation))
    return params.replace(rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(params.rotation)))


def window(share: Tensor, zoom: float, generator: torch.Generator) -> tuple[int, int, int]:
    """Draw a random square window of a square picture around a pixel of the person.

    Args:
        share: (S, S) coverage of each pixel by the person.
        zoom: the window's side is the picture's divided by a uniform number from 1 to this.
        generator: of random numbers.

    Returns:
        x and y of the corner, and the side, pixels.
    """
    whole = len(share)
    if zoom == 1.0:
        return 0, 0, whole
    side = round(whole / (1.0 + (zoom - 1.0) * float(torch.rand((), generator=generator))))
    places = (share > 0.5).nonzero()
    centre = (
        places[int(torch.randint(len(places), (), generator=generator))].tolist() if len(places) else [whole // 2] * 2
    )
    y, x = (min(max(middle - side // 2, 0), whole - side) for middle in centre)
    return x, y, side


def draw(
    person: Person, phase: Phase, step: int, count: int, targets: int, generator: torch.Generator
) -> tuple[list[View], list[View]]:
    """Draw up to ``count`` sources and up to ``targets`` targets of a person (method section 2).

    The only view of a person is source and target at once.
    """
    views = person.views
    if person.kind == "cameras" and phase.cross_camera is not None:
        cameras, instants = len(person.frames), person.frames[0]
        count = max(1, min(count, cameras - 1, instants - 1))
        places = draw_views(cameras, instants, count, generator, phase.cross_camera)
        chosen = [View(camera, instant) for camera, instant in places]
        sources, target = chosen[:-1], chosen[-1]
        rest = [view for view in views if view not in chosen]
    elif len(views) == 1:
        return views, views
    else:
        number = int(torch.randint(len(views), (), generator=generator))
        sampler = SourceSampler(person.directions, person.expressions)
        heat = temperature(step, phase.iterations)
        numbers = sampler.draw(number, min(count, len(views) - 1), heat, generator)
        sources, target = [views[one] for one in numbers], views[number]
        rest = [view for index, view in enumerate(views) if index != number and index not in numbers]
    more = torch.randperm(len(rest), generator=generator)[: targets - 1].tolist()
    return sources, [target, *[rest[index] for index in more]]


def least_similar_view(person: Person, target: int) -> View:
    """Return the view of a person that is least similar to view ``target``, or the only view."""
    unlike = SourceSampler(person.directions, person.expressions).dissimilarity(target)
    if len(unlike) > 1:
        unlike[target] = -torch.inf
    return person.views[int(unlike.argmax())]


def _generator(*numbers: int) -> torch.Generator:
    """Return a generator seeded by all of the numbers and by their count."""
    state = np.random.SeedSequence([len(numbers), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def resized(picture: Tensor, size: int) -> Tensor:
    """Resize a picture (C, H, W) to ``size`` pixels a side."""
    if picture.shape[-2:] == (size, size):
        return picture
    scaled = functional.interpolate(picture[None], (size, size), mode="bilinear", antialias=True)
    return scaled[0].clamp(0.0, 1.0)


def _packed(inputs: NetworkInputs, base: Gaussians, offsets: Tensor) -> dict[str, Tensor]:
    values: dict[str, Any] = {f"inputs.{name}": value for name, value in vars(inputs).items()}
    values |= {f"base.{one.name}": getattr(base, one.name) for one in fields(base) if one.name != "space"}
    return {**values, "offsets": offsets}


def _unpacked(tensors: dict[str, Tensor]) -> tuple[NetworkInputs, Gaussians, Tensor]:
    def of(group: str) -> dict[str, Tensor]:
        return {name.removeprefix(group): value for name, value in tensors.items() if name.startswith(group)}

    return NetworkInputs(**of("inputs.")), Gaussians(**of("base.")), tensors["offsets"]
