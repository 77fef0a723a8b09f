"""Protocol ``k-source``: photos of one person; each is a target once, with 1, 2, ... of the others as sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.evaluation.comparison import Comparison, RenderedFrame, TargetFrame
from spatialavatar.evaluation.cutting import crop_of
from spatialavatar.evaluation.datasets import MAX_PHOTOS, Clip
from spatialavatar.evaluation.evaluator import Evaluator, without_beyond
from spatialavatar.evaluation.protocols.config import MAX_SOURCES, Bench
from spatialavatar.evaluation.protocols.targets import clip_result
from spatialavatar.media import read_image
from spatialavatar.progress import Progress
from spatialavatar.records import Track
from spatialavatar.tracking import track_photo, track_photos
from spatialavatar.tracking.fit import Observations, fit_landmarks


def k_source(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one set of photos; see the module."""
    photos = clip.pictures
    if not 2 <= len(photos) <= MAX_PHOTOS:
        raise InputError(f"{clip.name} is not a set of 2 to {MAX_PHOTOS} photos, which the protocol k-source needs.")
    images = [read_image(path) for path in photos]
    targets: dict[int, Track] = {}
    notes = []
    for index, (path, image) in enumerate(zip(photos, images)):
        try:
            targets[index] = track_photo(image, bench.head, name=path.name, networks=bench.networks)
        except InputError as error:
            notes.append(str(error))
    good = list(targets)
    if len(good) < 2:
        raise NoFaceError(f"Fewer than two photos of {clip.name} show a usable face.")
    notes.append("Each target's exposure is matched by one gain per colour channel: photos of a series differ.")
    with bench.comparison(clip, 0.0) as comparison:
        for done, index in enumerate(good):
            progress(done / len(good), f"{clip.name}: photo {done + 1} of {len(good)}")
            others = [good[(done + step) % len(good)] for step in range(1, len(good))]
            size = (images[index].shape[1], images[index].shape[0])
            _compare_photo(comparison, bench, photos[index].name, targets[index], size, [images[i] for i in others])
        results = comparison.finish()
    return clip_result(clip, results, notes, fps=0.0, frames=len(photos), source="the photos after the target, in turn")


def _compare_photo(
    comparison: Comparison,
    bench: Bench,
    name: str,
    track: Track,
    size: tuple[int, int],
    sources: Sequence[np.ndarray],
) -> None:
    """Compare one photo with avatars of 1, 2, ... others.

    Args:
        comparison: of the set.
        bench: the run.
        name: of the photo.
        track: of the photo.
        size: width and height of the photo, pixels.
        sources: the other photos, in the order in which they become sources.
    """
    pictures, evidence = track.require_pictures(), track.require_evidence()
    landmarks = evidence.require_landmarks()
    evaluator = Evaluator(bench.networks, bench.config.region)
    focal = float(track.camera.intrinsics[0, 0])
    segments = without_beyond(pictures.require_segments()[0].numpy(), crop_of(track), size)
    target = evaluator.target(pictures.images[0].numpy(), pictures.mattes[0].numpy(), segments, landmarks[0].numpy())
    renders, shape = {}, track.params.shape
    for count in range(1, min(len(sources), MAX_SOURCES) + 1):
        tracks = track_photos(list(sources[:count]), bench.head, networks=bench.networks)
        avatar = bench.model.generate(tracks, polish=bench.config.polish)
        observed = Observations(
            landmarks, evidence.blendshapes, track.camera.intrinsics[:2, 2], track.camera.intrinsics[:1, 0]
        )
        params = fit_landmarks(bench.head, observed, shape=avatar.shape).params
        image, alpha = avatar.render(params, track.camera)
        inner = (alpha > 0.5) & (target.person > 0.5)
        gain = target.image[inner].mean(0) / image[inner].mean(0).clamp_min(1e-3) if bool(inner.any()) else 1.0
        shown = (image * gain + (1.0 - alpha[..., None])).clamp(0.0, 1.0)
        renders[f"K = {count}"] = RenderedFrame(shown, alpha)
    comparison.add(TargetFrame(name, target, shape, focal), renders)
