"""Photos to an avatar in one call: tracking, then the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError
from spatialavatar.media import read_image
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.threads import one_torch_thread

if TYPE_CHECKING:
    from spatialavatar.generator import SpatialAvatar
    from spatialavatar.records import Track

MAX_PHOTOS = 4


def generate(
    photos: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray,
    *,
    model: SpatialAvatar | None = None,
    polish: int | None = None,
    bust: bool = True,
    scene: bool = True,
    prior: bool = True,
    progress: Progress | None = None,
    tracked: Callable[[Sequence[Track]], None] | None = None,
) -> Avatar:
    """Make an avatar from one to four photos of one person (method section 2, K = 1..4); their order does not matter.

    Args:
        photos: paths, or (H, W, 3) uint8 sRGB pictures.
        model: the generator; by default the one that ships with the package, loaded once per process.
        polish: steps of the polish, which fits the parts that the photos show to them; 0 switches it off, None takes
            the default of :class:`spatialavatar.refinement.polish.PolishConfig`.
        bust: add the torso, if a photo shows enough of it.
        scene: keep the photo nearest to a frontal pose with a closed mouth, without its head, so that the driven head
            can be put back into it; the avatar's file then contains the photo's background and body.
        prior: whether the model's prior of whole heads, where it has one, completes hair, sides and back.
        progress: called with (fraction, message).
        tracked: called with the photos' tracks, in the photos' order, once the faces are found, to display them.

    Raises:
        InputError: a photo cannot be read or used, or there are none or more than four.
        NoFaceError: a photo shows no usable face.
    """
    from spatialavatar.refinement.polish import PolishConfig
    from spatialavatar.scene_capture import capture_scene
    from spatialavatar.tracking import track_photos

    if polish is not None:
        PolishConfig(iterations=polish)  # refuses a wrong number before any work
    if isinstance(photos, (str, Path, np.ndarray)):
        photos = [photos]
    if not 1 <= len(photos) <= MAX_PHOTOS:
        raise InputError(f"An avatar is made from 1 to {MAX_PHOTOS} photos of one person; you gave {len(photos)}.")
    report = progress or no_progress
    report(0.0, "Loading the model")
    model = model or default_model()
    model = model if prior or model.prior is None else model.without_prior()
    report(0.05, "Reading the photos")
    # Names without folders: messages about a photo are stored in the avatar, which its owner may publish.
    names = [f"photo {i}" if isinstance(p, np.ndarray) else Path(p).name for i, p in enumerate(photos, 1)]
    images = [p if isinstance(p, np.ndarray) else read_image(p) for p in photos]
    report(0.1, "Finding the face")
    with one_torch_thread():
        tracks = track_photos(
            images,
            model.head,
            names=names,
            around=bust,
            progress=lambda fraction, message: report(0.1 + 0.4 * fraction, message),
        )
        if tracked is not None:
            tracked(tracks)
        avatar = model.generate(tracks, part(report, 0.5, 0.97 if scene else 1.0), polish=polish, bust=bust)
        if not scene:
            return avatar
        report(0.97, "Keeping the photo's background")
        return replace(avatar, scene=capture_scene(images, tracks, avatar))


@lru_cache(maxsize=1)
def default_model() -> SpatialAvatar:
    """The generator that ships with the package."""
    from spatialavatar.generator import SpatialAvatar
    from spatialavatar.hub import weights_dir

    return SpatialAvatar.from_pretrained(weights_dir())


def load_model(
    source: str | Path | None, *, revision: str | None = None, base: bool = False, prior: bool = True
) -> SpatialAvatar:
    """Load a generator.

    Args:
        source: a folder or a repository of the Hub; None for the model that ships with the package.
        revision: branch, tag or commit of the repository.
        base: whether to leave the model's network out.
        prior: whether to keep the model's prior of whole heads.

    Raises:
        MissingAssetError, FormatError: as :meth:`SpatialAvatar.from_pretrained`.
    """
    from spatialavatar.generator import SpatialAvatar

    model = default_model() if source is None else SpatialAvatar.from_pretrained(source, revision=revision)
    model = model.without_network() if base else model
    return model if prior or model.prior is None else model.without_prior()
