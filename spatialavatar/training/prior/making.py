"""Samples of synthetic heads and of photos of real people."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spatialavatar.errors import SpatialAvatarError
from spatialavatar.files import make_folder
from spatialavatar.generator.numerics import Pixels, smoothstep
from spatialavatar.generator.prior.applying import observe_outline
from spatialavatar.generator.prior.observation import Observation, Outline, Seen, observation
from spatialavatar.generator.prior.sphere import SphereGrid, blur_around, sphere_grid
from spatialavatar.generator.sources import SourceView, source_views
from spatialavatar.generator.surface import TexelSurface
from spatialavatar.media import is_image, read_image
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.synthetic import Person, example_people, read_people, synthesize
from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.tracking import track_photos
from spatialavatar.training.prior.pictures import fitted_shape, picture
from spatialavatar.training.prior.samples import Truth, write_sample
from spatialavatar.training.prior.truth import WholeTruth, true_maps, whole_truth

_SURE = (0.4, 1.0)
"""Visibility of a real photo between which its colours become truth."""

_HAIRY = (0.2, 0.8)


@dataclass(frozen=True, eq=False)
class SampleGrids:
    """What all samples of one head model share.

    Attributes:
        surface: the texels, with the constants of the base.
        sphere: their map.
    """

    surface: TexelSurface
    sphere: SphereGrid

    @classmethod
    def of(cls, surface: TexelSurface) -> SampleGrids:
        """With the map of the surface's head."""
        return cls(surface, sphere_grid(surface.head, surface.layout))


def head_sample(grids: SampleGrids, whole: WholeTruth, views: Sequence[SourceView]) -> tuple[Observation, Truth]:
    """One to four pictures of a synthetic head, as ``generate`` would see them, and the truth."""
    observed = observe_outline(grids.surface, grids.sphere, views)
    return observed.observation, true_maps(grids.sphere, observed.fit, whole, grids.surface.config.silhouette)


def make_head_samples(grids: SampleGrids, people: Sequence[Person], number: int, folder: Path) -> list[Path]:
    """Write the samples of one synthetic head: three pictures, for every eighth head two of them together too.

    Samples that are there are not made again; the same number and people give the same samples.

    Args:
        grids: shared tables.
        people: whose skin the heads have.
        number: of the head: its seed.
        folder: of the samples.
    """
    names = ["a", "b", "c"] + (["ab"] if number % 8 == 0 else [])
    paths = {name: folder / f"head-{number:06d}-{name}.npz" for name in names}
    if all(path.is_file() for path in paths.values()):
        return []
    head = synthesize(number, people)
    draw = np.random.default_rng([number, 31])
    shape = fitted_shape(head, draw)
    drawn = head.gaussians()
    whole = whole_truth(grids.surface, grids.sphere, head)
    pictures = {name: picture(head, drawn, shape, draw) for name in ("a", "b", "c")}
    for name, path in paths.items():
        views = sorted((pictures[one] for one in name), key=lambda view: view.key)
        write_sample(path, *head_sample(grids, whole, views))
    return list(paths.values())


def make_photo_samples(grids: SampleGrids, photo: Path, masks: int, folder: Path) -> list[Path]:
    """Write samples of a real person of whom parts are hidden; those that are there are not made again.

    Args:
        grids: shared tables.
        photo: the picture.
        masks: number of samples; each hides a different part.
        folder: of the samples.

    Raises:
        InputError: the picture cannot be read.
        NoFaceError: it shows no usable face.
    """
    paths = [folder / f"photo-{photo.stem}-{number}.npz" for number in range(masks)]
    if all(path.is_file() for path in paths):
        return []
    tracks = track_photos([read_image(photo)], grids.surface.head, around=False)
    whole = photo_observation(grids, source_views(tracks, grids.surface.head))
    for number, path in enumerate(paths):
        draw = np.random.default_rng([zlib.crc32(photo.stem.encode()), number])
        mask = shown_from(grids, float(draw.uniform(-80.0, 80.0)), float(draw.uniform(-15.0, 25.0)))
        write_sample(path, *masked_sample(whole, mask))
    return paths


def shown_from(grids: SampleGrids, yaw: float, pitch: float) -> Pixels:
    """(ROWS, COLUMNS) in [0, 1], how squarely the map is seen from a direction, degrees, hair and all."""
    normals = blur_around(grids.sphere.gather(grids.surface.grid.normals), 2.0)
    a, b = np.radians(yaw), np.radians(pitch)
    towards = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
    return smoothstep(normals @ towards, 0.2, 0.55).astype(np.float32)


def photo_observation(grids: SampleGrids, views: Sequence[SourceView]) -> Observation:
    """Evidence from one to four photos of a real person."""
    return observe_outline(grids.surface, grids.sphere, views).observation


def masked_sample(whole: Observation, mask: Pixels) -> tuple[Observation, Truth]:
    """A real person of whom a part is hidden; the hidden part is the ground truth.

    Args:
        whole: evidence from the photos.
        mask: (ROWS, COLUMNS) visibility in another sample.
    """
    seen = Seen(whole.colors, np.minimum(whole.visibility, mask), whole.hair)
    flat = np.zeros_like(whole.height)
    truth = Truth(
        colors=whole.colors,
        hair=smoothstep(whole.hair, *_HAIRY).astype(np.float32),
        height=flat,
        direction=np.zeros((*flat.shape, 2), np.float32),
        known=smoothstep(whole.visibility, *_SURE).astype(np.float32),
        shaped=flat,
    )
    return observation(seen, replace(Outline.unknown(), hull=whole.hull)), truth


@dataclass(frozen=True)
class SampleConfig:
    """What samples are made.

    Attributes:
        out: folder of the samples; those that are there are kept.
        people: folder of photos under an open licence, one a person: their skin is that of the heads, and they are
            samples themselves. None takes the example portraits.
        heads: number of synthetic heads.
        first: number, and seed, of the first of them.
        masks: samples of each photo.
        shard: (i, n): make every n-th head and photo, from the i-th on, counted from 1.
    """

    out: Path
    people: Path | None = None
    heads: int = 1000
    first: int = 0
    masks: int = 4
    shard: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class MadeSamples:
    """The result.

    Attributes:
        made: number of new samples.
        left_out: reasons why heads or photos could not be used, by name.
    """

    made: int
    left_out: dict[str, str]


def make_samples(config: SampleConfig, progress: Progress | None = None) -> MadeSamples:
    """Make samples with the head, layout and constants of the default generator; a second run continues.

    Raises:
        InputError: the folder of people holds no usable photo.
        OutputError: a sample cannot be written.
    """
    report = progress or no_progress
    make_folder(config.out)
    grids = SampleGrids.of(anatomy().surface)
    index, count = config.shard
    photos: list[Path] = []
    people = list(example_people())
    if config.people is not None:
        people = read_people(config.people, config.out / "people", part(report, 0.0, 0.1))
        photos = sorted(path for path in config.people.iterdir() if path.is_file() and is_image(path))
        photos = photos[index - 1 :: count]
    numbers = list(range(config.first + index - 1, config.first + config.heads, count))
    # Photos among the heads, so that a part of the samples can be trained on.
    jobs: list[int | Path] = list(numbers)
    for done, path in enumerate(photos):
        jobs.insert(done + (done + 1) * len(numbers) // (len(photos) + 1), path)
    left_out: dict[str, str] = {}
    made = 0
    for done, job in enumerate(jobs):
        report(0.1 + 0.9 * done / len(jobs), f"Making samples {done + 1} of {len(jobs)}")
        try:
            if isinstance(job, int):
                made += len(make_head_samples(grids, people, job, config.out))
            else:
                made += len(make_photo_samples(grids, job, config.masks, config.out))
        except SpatialAvatarError as error:
            left_out[f"head {job}" if isinstance(job, int) else job.name] = str(error)
    return MadeSamples(made, left_out)
