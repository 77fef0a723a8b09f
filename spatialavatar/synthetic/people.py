"""The skin of openly licensed people: photos to the albedo of all texels, without the photo's light and hair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.spatial import cKDTree

from spatialavatar.errors import InputError, SpatialAvatarError
from spatialavatar.examples import portraits
from spatialavatar.files import atomic_output
from spatialavatar.generator.completion.complete import complete
from spatialavatar.generator.contours import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from spatialavatar.generator.evidence import PhotoEvidence, observe, pool
from spatialavatar.generator.numerics import LUMA, bilinear, smoothstep
from spatialavatar.generator.silhouette import fit_silhouette
from spatialavatar.generator.sources import source_views
from spatialavatar.generator.texel_tables import EYES
from spatialavatar.media import is_image, read_image
from spatialavatar.progress import Progress, no_progress
from spatialavatar.synthetic.anatomy import OUTSIDE, Anatomy, anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.light import harmonics
from spatialavatar.tracking import track_photo

MIN_SKIN_TEXELS: Final = 4000
"""Well-seen texels of skin that a photo must show."""

_LIGHT_RIDGE: Final = 0.02
"""Penalty per texel on the directional part of the photo's light; a face shows half of all normals only."""

_BORDER_ROUNDS: Final = 6
"""Averaging rounds over neighbours that keep the border of the seen skin out of it."""

_WAVES: Final = 300
"""Radial functions that describe the smooth part of the skin."""

_WAVE_WIDTH: Final = 0.020
"""Standard deviation of each of them, metres."""

_WAVE_RIDGE: Final = 20.0
"""Penalty, in texels, on each of them; it lets the smooth part return to the median tone away from the seen skin."""

_PLAIN_DETAIL: Final = 0.12
"""Largest detail of skin away from brows, eyes, nose and mouth; beyond it are strands of hair and their shadows."""

_FEATURE_RADIUS: Final = 0.011
"""Metres around their landmarks that belong to them."""

_BROWS: Final = (336, 296, 334, 293, 300, 285, 295, 282, 283, 276, 107, 66, 105, 63, 70, 55, 65, 52, 53, 46)
_NOSE_AND_MOUTH: Final = (1, 2, 4, 98, 327, 64, 294, 61, 291, 0, 17, 37, 267, 84, 314)
_FEATURES: Final = (*LEFT_EYE, *RIGHT_EYE, *INNER_LIPS, *_BROWS, *_NOSE_AND_MOUTH)
"""Landmarks of brows, eyes, nose and mouth."""

_KEPT_SMOOTH: Final = 0.35
"""Share of the smooth part's even half that is kept: cheeks are redder, but light is not symmetric."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person's skin and shape.

    Attributes:
        name: of the photo, without its folder.
        shape: (S,) float32 coefficients.
        albedo: (N, 3) sRGB of every texel under even white light of brightness 1, without hair on it.
        tone: (3,) median of its well-seen skin.
    """

    name: str
    shape: Array
    albedo: Array
    tone: Array


@lru_cache(maxsize=1)
def example_people() -> tuple[Person, ...]:
    """The people of the installed example portraits.

    Raises:
        MissingAssetError: none is installed.
    """
    found = tuple(person_of(path) for path in portraits().values())
    if not found:
        raise InputError("This installation contains no example portraits; give a folder of photos.")
    return found


def read_people(folder: str | Path, cache: str | Path, progress: Progress | None = None) -> list[Person]:
    """The people of a folder of photos, one photo each; photos that cannot be used are left out.

    Args:
        folder: of photos with a licence that allows it; the caller is responsible for that.
        cache: folder in which each person's skin is kept, so that a photo is read once.
        progress: called with (fraction, message).

    Raises:
        InputError: there is no such folder, or no photo in it can be used.
        OutputError: the cache cannot be written.
    """
    folder, report = Path(folder), progress or no_progress
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give a folder of photos of faces.")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_image(path))
    people = []
    for done, path in enumerate(paths):
        report(done / len(paths), f"Reading the skin of photo {done + 1} of {len(paths)}")
        stored, refused = Path(cache) / f"{path.stem}.safetensors", Path(cache) / f"{path.stem}.txt"
        if stored.is_file():
            people.append(_load(stored))
        elif not refused.is_file():
            try:
                person = person_of(path)
            except SpatialAvatarError as error:
                with atomic_output(refused) as temporary:
                    temporary.write_text(f"{error}\n", encoding="utf-8")
            else:
                _save(person, stored)
                people.append(person)
    if not people:
        raise InputError(f"No photo in {folder} shows a usable face; give a folder of photos of faces.")
    return people


def person_of(path: Path) -> Person:
    """The skin and shape of the person in a photo.

    Raises:
        InputError: the photo cannot be read, or shows too little skin.
        NoFaceError: it shows no usable face.
    """
    facts = anatomy()
    surface = facts.surface
    track = track_photo(read_image(path), surface.head, name=path.name)
    views = source_views([track], surface.head)
    photo = observe(surface, views[0], fit_silhouette(surface.head, views, surface.config.silhouette))
    colors = complete(surface, [photo], pool([photo])).colors
    seen = _seen_skin(facts, photo)
    if (seen > 0.5).sum() < MIN_SKIN_TEXELS:
        raise InputError(f"{path.name} shows too little of the face; use a frontal photo without a covered face.")
    light = photo_light(facts, surface.grid.normals, photo.colors, seen)
    return _person(facts, path.stem, track.params.shape.numpy(), colors / light, seen)


def _person(facts: Anatomy, name: str, shape: Array, lit: Array, seen: Array) -> Person:
    """Fill skin that the photo does not show; eyes and mouth keep the colours of the base.

    The logarithm is split into a smooth part and detail. What remains of the photo's light is smooth and one-sided, so
    only the smooth part's even half is kept, and the detail of the better seen side.
    """
    surface = facts.surface
    twin, skin = surface.tables.twin, surface.mask(*OUTSIDE)
    values = np.log(lit.clip(0.02, 1.5))
    tone = np.median(values[(seen > 0.5) & surface.mask("face")], 0)
    smooth = tone + _smooth_part(facts, values - tone, seen)
    detail = (values - smooth) * smoothstep(seen, 0.1, 0.7)[:, None]
    plain = _away_from_features(facts)[:, None]
    detail = np.where(plain, detail.clip(-_PLAIN_DETAIL, _PLAIN_DETAIL), detail)
    share = smoothstep(seen[twin] - seen, 0.0, 0.5)[:, None]
    detail = (1.0 - share) * detail + share * detail[twin]
    filled = tone + _KEPT_SMOOTH * (0.5 * (smooth + smooth[twin]) - tone) + detail
    rims = np.maximum(surface.tables.lid, surface.tables.lash) > 0.1
    painted = (skin & ~rims & ~surface.mask("lips"))[:, None]
    albedo = np.exp(np.where(painted, filled, values)).clip(0.0, 1.2)
    return Person(name, shape.astype(np.float32), albedo.astype(np.float32), np.exp(tone))


def _away_from_features(facts: Anatomy) -> Array:
    """(N,) bool: texels of plain skin."""
    landmarks = facts.mesh.landmarks(478)[list(_FEATURES)]
    return cKDTree(landmarks).query(facts.surface.grid.points)[0] > _FEATURE_RADIUS


def _smooth_part(facts: Anatomy, values: Array, weight: Array) -> Array:
    """Smooth field (N, C) that explains ``values`` (N, C) where ``weight`` (N,) is large and decays to 0 elsewhere."""
    waves = _waves(facts)
    weighted = waves * weight[:, None]
    normal = weighted.T @ waves + _WAVE_RIDGE * np.eye(waves.shape[1])
    return waves @ np.linalg.solve(normal, weighted.T @ values)


@lru_cache(maxsize=1)
def _waves(facts: Anatomy) -> Array:
    """(N, waves) radial functions around texels that are spread over the outside of the head."""
    points = facts.surface.grid.points
    outside = np.flatnonzero(facts.outside)
    chosen, distance = [outside[0]], np.full(len(outside), np.inf)
    for _ in range(_WAVES - 1):
        distance = np.minimum(distance, ((points[outside] - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(outside[distance.argmax()])
    squared = ((points**2).sum(1)[:, None] + (points[chosen] ** 2).sum(1) - 2.0 * points @ points[chosen].T).clip(0.0)
    return np.exp(-0.5 * squared / _WAVE_WIDTH**2)


def _seen_skin(facts: Anatomy, photo: PhotoEvidence) -> Array:
    """(N,) in [0, 1], how surely a texel of the photo shows skin."""
    surface = facts.surface
    shown = smoothstep(photo.weight, 0.4, 0.9) * facts.outside
    for cover in (photo.view.hair(), photo.view.clothes()):
        if cover is not None:
            shown = shown * (1.0 - smoothstep(bilinear(cover, photo.warp.pixels), 0.05, 0.25))
    shown = shown * ~surface.mask("neck", "scalp")  # collars and the edge of the hair
    wide = shown
    for _ in range(_BORDER_ROUNDS):
        wide = wide[surface.tables.neighbours].mean(1)
    return shown * smoothstep(wide, 0.75, 0.97)


def photo_light(facts: Anatomy, normals: Array, colors: Array, seen: Array) -> Array:
    """The photo's light (N, 3) relative to its mean on the skin, by the spherical harmonics that explain the skin best.

    Args:
        facts: of the head.
        normals: (N, 3) unit.
        colors: (N, 3) of the photo.
        seen: (N,) in [0, 1], share of skin.
    """
    used = (seen > 0.5) & facts.surface.mask("face") & ~facts.surface.mask(*EYES)
    basis = harmonics(normals)
    luma = np.log((colors @ LUMA).clip(0.02, None))
    weight = np.ones(int(used.sum()))
    coefficients = np.zeros(basis.shape[1])
    for _ in range(4):  # brows, lips and shadows are outliers
        weighted = basis[used] * weight[:, None]
        ridge = _LIGHT_RIDGE * len(weight) * np.diag([0.0, *[1.0] * (basis.shape[1] - 1)])
        coefficients = np.linalg.solve(basis[used].T @ weighted + ridge, weighted.T @ luma[used])
        error = np.abs(luma[used] - basis[used] @ coefficients)
        weight = 1.0 / np.maximum(1.0, error / max(float(np.median(error)), 1e-6)) ** 2
    field = basis @ coefficients
    return np.exp((field - np.average(field[used], weights=weight)).clip(-0.5, 0.4))[:, None] * np.ones(3)


def blend(first: Person, second: Person, share: float) -> Person:
    """A person between two: ``share`` in [0, 1] of the second's skin detail and shape."""
    tones = np.log(first.tone), np.log(second.tone)
    details = [np.log(p.albedo.clip(0.02, None)) - tone for p, tone in zip((first, second), tones)]
    tone = np.exp((1.0 - share) * tones[0] + share * tones[1])
    albedo = tone * np.exp((1.0 - share) * details[0] + share * details[1])
    shape = (1.0 - share) * first.shape + share * second.shape
    return Person(f"{first.name}+{second.name}", shape.astype(np.float32), albedo.astype(np.float32), tone)


def _save(person: Person, path: Path) -> None:
    with atomic_output(path) as temporary:
        arrays = {"shape": person.shape, "albedo": person.albedo.astype(np.float16), "tone": person.tone}
        save_file(arrays, temporary, {"name": person.name})


def _load(path: Path) -> Person:
    arrays = load_file(path)
    return Person(path.stem, arrays["shape"], arrays["albedo"].astype(np.float32), arrays["tone"])
