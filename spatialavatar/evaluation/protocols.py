"""What is made from what, and measured against what: the protocols of the field's papers.

* ``self``: an avatar of the clip's first frame that shows a face; all later frames are its targets. With more sources,
  the others lie evenly over the clip, and are no targets.
* ``cross``: the same avatar, driven by the next clip of the set (the last by the first); no picture to compare with.
* ``k-source``: photos of one person; each is a target once, with 1, 2, ... of the others as sources.
* ``refined``: the avatar of the first frame, refined on the training part; targets are the held-out part: what the set
  itself holds out, else the last 350 frames of clips of 1,000 frames or more, else the last fifth. No frame of it is
  looked at before, the identity is fitted on the training part. The same avatar before refinement stands beside it.
* ``multi-view``: an avatar of the first frame of one camera or several; targets are the other, calibrated cameras at
  every time step. The head's pose and expression come from the first source camera.

An avatar is driven by the tracked pose and expression of the target frame, fitted with the avatar's identity; nothing
else of a target is used. Frames in which the tracker finds no face are not measured, and are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.evaluation import metrics
from spatialavatar.evaluation.comparison import Comparison
from spatialavatar.evaluation.cutting import crop_of, cut_frames, with_pictures
from spatialavatar.evaluation.datasets import Calibration, Clip
from spatialavatar.evaluation.judge import REGIONS, Judge, without_beyond
from spatialavatar.evaluation.rig import (
    cropped_camera,
    first_picture,
    landmarks_in,
    metric_scale,
    posed_by_calibration,
    relative_camera,
)
from spatialavatar.generator import SpatialAvatar
from spatialavatar.head import HeadModel
from spatialavatar.media import PictureSequence, read_image
from spatialavatar.progress import Progress, part
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.render import render
from spatialavatar.tracking import track_photo, track_photos, track_video
from spatialavatar.tracking.fit import Observations, fit_landmarks
from spatialavatar.tracking.framing import Crop, crop_around
from spatialavatar.tracking.networks import Networks

_LONG_CLIP: Final = 1000
_LONG_HOLDOUT: Final = 350
_HOLDOUT: Final = 0.2
_FIRST_FRAMES: Final = 50  # a face must be seen in one of so many
_ASPECT_FRAMES: Final = 8
_MAX_SOURCES: Final = 4


@dataclass(frozen=True)
class BenchConfig:
    """What a run measures; two runs with equal configurations and code give equal figures.

    Attributes:
        protocol: one of :data:`PROTOCOLS`.
        region: "head" or "full", see :mod:`spatialavatar.evaluation.judge`.
        stride: every n-th target frame is measured.
        sources: self: so many frames; multi-view: so many source cameras.
        iterations: refined: steps.
        train_frames: refined: at most so many frames, evenly spaced over the training part.
        seed: of the refinement.
    """

    protocol: str
    region: str = "head"
    stride: int = 1
    sources: int = 1
    iterations: int = 10_000
    train_frames: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InputError(f"There is no protocol {self.protocol!r}; give one of {', '.join(PROTOCOLS)}.")
        if self.region not in REGIONS:
            raise InputError(f"There is no region {self.region!r}; give one of {', '.join(REGIONS)}.")
        if self.stride < 1 or self.iterations < 1 or self.train_frames < 8:
            raise InputError("The stride and the iterations must be at least 1, the training frames at least 8.")
        if not 1 <= self.sources <= _MAX_SOURCES:
            raise InputError(f"There are 1 to {_MAX_SOURCES} sources; you gave {self.sources}.")


@dataclass(frozen=True)
class Bench:
    """What a process needs to measure clips.

    Attributes:
        config: of the run.
        model: makes the avatars.
        networks: the tracker's.
        folder: where a clip's video and picture go.
    """

    config: BenchConfig
    model: SpatialAvatar
    networks: Networks
    folder: Path

    @property
    def head(self) -> HeadModel:
        """The head model that everything stands on."""
        return self.model.head

    def comparison(self, clip: Clip, fps: float, identity: np.ndarray | None = None) -> Comparison:
        """Start comparing a clip's frames."""
        judge = Judge(self.networks, self.config.region)
        return Comparison(judge, self.head, self.folder, clip.file_name, fps / self.config.stride, identity)


def measure(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; JSON-ready results (docs/evaluation.md has the schema).

    Args:
        clip: which.
        bench: how.
        clips: the whole set, for the protocol that needs another clip.
        progress: called with (fraction, message).

    Raises:
        InputError: the clip cannot be read or is not fit for the protocol.
        NoFaceError: no face is seen.
    """
    if not clip.recordings:
        raise InputError(" ".join(clip.notes) or f"{clip.name} holds nothing that can be read.")
    return PROTOCOLS[bench.config.protocol](clip, bench, clips, progress)


# -- self and cross ---------------------------------------------------------------------------------------------------


def _self(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    source = _first_avatar(clip, bench) if bench.config.sources == 1 else _spread_avatar(clip, bench)
    reader = clip.recordings[0].open()
    track = track_video(
        reader, bench.head, shape=source.avatar.shape, networks=bench.networks, progress=part(progress, 0.0, 0.3)
    )
    later = [frame for frame in range(source.frames[0] + 1, len(track)) if frame not in source.frames]
    frames, notes = _targets(track, later, bench, _damaged(reader))
    return _compare(
        clip, bench, track, frames, {f"K = {bench.config.sources}": source}, part(progress, 0.3, 1.0), notes
    )


def _cross(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    usable = [other for other in clips if other.recordings]
    names = [other.name for other in usable]
    driver = usable[(names.index(clip.name) + 1) % len(usable)]
    if driver.name == clip.name:
        raise InputError("Cross-reenactment needs two clips; give a folder that holds more.")
    source = _first_avatar(clip, bench)
    face = Judge(bench.networks, "full").face(torch.from_numpy(source.picture.astype(np.float32) / 255.0))
    if face is None:
        raise NoFaceError(f"No face is found in the source of {clip.name} for its identity.")
    reader = driver.recordings[0].open()
    track = track_video(reader, bench.head, networks=bench.networks, progress=part(progress, 0.0, 0.3))
    frames, notes = _targets(track, range(len(track)), bench, _damaged(reader))
    notes.insert(0, f"Driven by {driver.name}.")
    rest = part(progress, 0.3, 1.0)
    return _compare(clip, bench, track, frames, {"K = 1": source}, rest, notes, driver, face.identity)


# -- refined ----------------------------------------------------------------------------------------------------------


def held_out_from(clip: Clip, count: int) -> int:
    """The first test frame of a clip of ``count`` frames."""
    if clip.held_out_from is not None and 0 < clip.held_out_from < count:
        return clip.held_out_from
    return count - _LONG_HOLDOUT if count >= _LONG_CLIP else round(count * (1.0 - _HOLDOUT))


def _refined(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    from spatialavatar.refinement import RefineConfig, refine

    source = _first_avatar(clip, bench)
    reader = clip.recordings[0].open()
    count = sum(1 for _ in reader)
    test = held_out_from(clip, count)
    training = track_video(
        reader, bench.head, max_frames=test, networks=bench.networks, progress=part(progress, 0.0, 0.1)
    )
    track = track_video(
        reader, bench.head, shape=training.params.shape, networks=bench.networks, progress=part(progress, 0.1, 0.2)
    )
    damaged = _damaged(reader)
    frames, notes = _targets(track, range(test, len(track)), bench, damaged)
    good = [i for i in range(test) if training.confidence[i] > 0 and i not in damaged]
    good = [
        good[i] for i in np.linspace(0, len(good) - 1, min(len(good), bench.config.train_frames)).round().astype(int)
    ]
    # The crop of the training part is its own: it was chosen without a look at the test part.
    learned = with_pictures(training, good, clip.recordings[0], bench.networks, part(progress, 0.2, 0.35))
    before = replace(
        source.avatar, shape=training.params.shape, reference=training.params[good[0]], camera=training.camera
    )
    config = RefineConfig(iterations=bench.config.iterations, holdout=0.0)
    started = time.perf_counter()
    report = part(progress, 0.35, 0.7)
    step = None
    for step in refine(source.avatar, learned, config, seed=bench.config.seed):
        report(step.fraction, f"Refining on {len(good)} frames")
    assert step is not None
    seconds = time.perf_counter() - started
    avatars = {
        "K = 1": replace(source, avatar=before),
        "refined": replace(source, avatar=step.avatar, seconds=source.seconds + seconds),
    }
    notes.append(
        f"Held out: frames {test} to {len(track) - 1}; refined on {len(good)} of the {test} before them, "
        f"{bench.config.iterations} steps."
    )
    return _compare(clip, bench, track, frames, avatars, part(progress, 0.7, 1.0), notes)


# -- k-source ---------------------------------------------------------------------------------------------------------


def _k_source(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    from spatialavatar.evaluation.datasets import MAX_PHOTOS

    photos = clip.pictures
    if not 2 <= len(photos) <= MAX_PHOTOS:
        raise InputError(f"{clip.name} is no set of 2 to {MAX_PHOTOS} photos, which the protocol k-source needs.")
    images = [read_image(path) for path in photos]
    targets, notes = [], []
    for path, image in zip(photos, images):
        try:
            targets.append(track_photo(image, bench.head, name=path.name, networks=bench.networks))
        except InputError as error:
            targets.append(None)
            notes.append(str(error))
    good = [index for index, target in enumerate(targets) if target is not None]
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
    return _result(clip, results, notes, fps=0.0, frames=len(photos), source="the photos after the target, in turn")


def _compare_photo(
    comparison: Comparison,
    bench: Bench,
    name: str,
    track: Track | None,
    size: tuple[int, int],
    sources: Sequence[np.ndarray],
) -> None:
    """One photo as the target of avatars of 1, 2, ... others."""
    assert track is not None
    pictures, evidence = track.require_pictures(), track.require_evidence()
    landmarks = evidence.require_landmarks()
    judge = Judge(bench.networks, bench.config.region)
    focal = float(track.camera.intrinsics[0, 0])
    segments = without_beyond(pictures.require_segments()[0].numpy(), crop_of(track), size)
    target = judge.target(pictures.images[0].numpy(), pictures.mattes[0].numpy(), segments, landmarks[0].numpy())
    renders, shape = {}, track.params.shape
    for count in range(1, min(len(sources), _MAX_SOURCES) + 1):
        avatar = bench.model.generate(
            track_photos(list(sources[:count]), bench.head, networks=bench.networks), polish=0
        )
        observed = Observations(
            landmarks, evidence.blendshapes, track.camera.intrinsics[:2, 2], track.camera.intrinsics[:1, 0]
        )
        params = fit_landmarks(bench.head, observed, shape=avatar.shape).params
        image, alpha = avatar.render(params, track.camera)
        inner = (alpha > 0.5) & (target.person > 0.5)
        gain = target.image[inner].mean(0) / image[inner].mean(0).clamp_min(1e-3) if bool(inner.any()) else 1.0
        renders[f"K = {count}"] = (image * gain + (1.0 - alpha[..., None])).clamp(0.0, 1.0)
    comparison.add(name, target, renders, shape, focal)


# -- multi-view -------------------------------------------------------------------------------------------------------


def _multi_view(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    usable = [recording for recording in clip.recordings if recording.calibration is not None]
    held_out = {r.name for r in usable if r.name in clip.held_out_cameras}
    if not held_out:  # every fourth camera, or all but the source's
        held_out = {r.name for r in usable[3::4]} or {r.name for r in usable[1:]}
    apart = [recording for recording in usable if recording.name in held_out]
    trained = [recording for recording in usable if recording.name not in held_out]
    sources = trained[: bench.config.sources]
    if not sources or not apart:
        raise InputError(f"{clip.name} has no two calibrated cameras, which the protocol multi-view needs.")
    avatar, seconds = _avatar_of([first_picture(recording) for recording in sources], bench)
    main = sources[0]
    assert main.calibration is not None
    track, params = posed_by_calibration(main, avatar.shape, bench.head, bench.networks, part(progress, 0.0, 0.3))
    scale = metric_scale(main, apart, params[0], bench.head, bench.networks)
    frames, notes = _targets(track, range(len(track)), bench, set())
    notes.append(
        f"Source: {', '.join(r.name for r in sources)}; targets: {', '.join(r.name for r in apart)}. The calibration's "
        f"distances are multiplied by {scale:.3f}, which fits the landmarks best: a photo does not tell a head's size."
    )
    judge = Judge(bench.networks, bench.config.region)
    with bench.comparison(clip, 0.0) as comparison:
        for done, recording in enumerate(apart):
            assert recording.calibration is not None
            world = relative_camera(main.calibration, recording.calibration, scale)
            report = part(progress, 0.3 + 0.7 * done / len(apart), 0.3 + 0.7 * (done + 1) / len(apart))
            views = {i: _view(bench.head, params[i], world, recording.calibration) for i in frames}
            cuts = cut_frames(recording, frames, lambda i, views=views: views[i][0], bench.networks, report)
            for index, image, matte, segments in cuts:
                _, camera, points = views[index]
                target = judge.target(image, matte, segments, points)
                render, _ = avatar.render(params[index], camera, torch.ones(3))
                focal = float(camera.intrinsics[0, 0])
                comparison.add(
                    f"{recording.name}/{index}", target, {f"K = {len(sources)}": render}, avatar.shape, focal
                )
        results = comparison.finish({f"K = {len(sources)}": {"avatar_seconds": seconds}})
    return _result(clip, results, notes, fps=track.fps, frames=len(track), source=f"camera {main.name}, first frame")


def _view(
    head: HeadModel, params: HeadParams, world: Tensor, calibration: Calibration
) -> tuple[Crop, Camera, np.ndarray]:
    """The crop around the head as it must appear in a calibrated camera, that crop's camera, and its landmarks."""
    points = landmarks_in(calibration, world, head, params)[0]
    crop = crop_around(points)
    return crop, cropped_camera(calibration, world, crop), crop.to_crop(points)


# -- shared -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """An avatar and where it came from."""

    avatar: Avatar
    frames: tuple[int, ...]
    seconds: float
    picture: np.ndarray


def _first_avatar(clip: Clip, bench: Bench) -> _Source:
    """The avatar of the first frame that shows a usable face."""
    reason: Exception | None = None
    for index, picture in enumerate(clip.recordings[0].open()):
        if index >= _FIRST_FRAMES:
            break
        try:
            avatar, seconds = _avatar_of([picture], bench)
            return _Source(avatar, (index,), seconds, picture)
        except InputError as error:
            reason = error
    raise NoFaceError(f"The first {_FIRST_FRAMES} frames of {clip.name} show no usable face: {reason}")


def _spread_avatar(clip: Clip, bench: Bench) -> _Source:
    """The avatar of as many frames as the configuration has sources, the first of each equal part with a face."""
    recording, count = clip.recordings[0], bench.config.sources
    length = sum(1 for _ in recording.open())
    starts = [round(length * number / count) for number in range(count)]
    found: dict[int, tuple[int, np.ndarray]] = {}
    for index, picture in enumerate(recording.open()):
        part_of = max(number for number, start in enumerate(starts) if index >= start)
        near = index - starts[part_of] < _FIRST_FRAMES
        if near and part_of not in found and bench.networks.landmarker.locate(picture) is not None:
            found[part_of] = (index, picture)
        if len(found) == count:
            break
    if len(found) < count:
        raise NoFaceError(f"{clip.name} shows no {count} frames with a face, evenly over its length.")
    frames, pictures = zip(*(found[number] for number in range(count)))
    avatar, seconds = _avatar_of(pictures, bench)
    return _Source(avatar, frames, seconds, pictures[0])


def _avatar_of(pictures: Sequence[np.ndarray], bench: Bench) -> tuple[Avatar, float]:
    """An avatar and the seconds it took."""
    started = time.perf_counter()
    names = [f"source {number}" for number in range(1, len(pictures) + 1)]
    avatar = bench.model.generate(
        track_photos(list(pictures), bench.head, names=names, networks=bench.networks), polish=0
    )
    return avatar, time.perf_counter() - started


def _damaged(reader: Any) -> set[int]:
    return reader.damaged if isinstance(reader, PictureSequence) else set()


def _targets(track: Track, frames: Sequence[int], bench: Bench, damaged: set[int]) -> tuple[list[int], list[str]]:
    """The frames that are measured, and sentences about those that cannot be."""
    wanted = list(frames)[:: bench.config.stride]
    chosen = [frame for frame in wanted if track.confidence[frame] > 0 and frame not in damaged]
    if not chosen:
        raise NoFaceError("None of the target frames shows a face that can be tracked.")
    notes = list(track.warnings)
    if len(chosen) < len(wanted):
        notes.append(f"{len(wanted) - len(chosen)} of {len(wanted)} target frames cannot be measured.")
    return chosen, notes


def _compare(
    clip: Clip,
    bench: Bench,
    track: Track,
    frames: Sequence[int],
    avatars: Mapping[str, _Source],
    progress: Progress,
    notes: list[str],
    driver: Clip | None = None,
    identity: np.ndarray | None = None,
) -> dict[str, Any]:
    """Render every avatar in the chosen frames of a track and compare."""
    landmarks = track.require_evidence().require_landmarks()
    judge = Judge(bench.networks, bench.config.region)
    focal, white = float(track.camera.intrinsics[0, 0]), torch.ones(3)
    identities = {name: source.avatar.identity() for name, source in avatars.items()}
    recording = (driver or clip).recordings[0]
    with bench.comparison(clip, track.fps, identity) as comparison:
        for index, image, matte, segments in cut_frames(
            recording, frames, lambda frame: crop_of(track, frame), bench.networks, progress
        ):
            target = judge.target(image, matte, segments, landmarks[index].numpy())
            renders, took = {}, {}
            for name, source in avatars.items():
                started = time.perf_counter()
                with torch.inference_mode():
                    posed = source.avatar.pose(track.params[index], identities[name])
                    renders[name], _ = render(posed, track.camera, white)
                took[name] = 1000.0 * (time.perf_counter() - started)
            comparison.add(index, target, renders, track.params.shape, focal, took)
        few = [frames[i] for i in np.linspace(0, len(frames) - 1, min(_ASPECT_FRAMES, len(frames))).round().astype(int)]
        results = comparison.finish(
            {
                name: {
                    "jitter": _jitter(source.avatar, track),
                    "aspect": max(metrics.screen_aspect(source.avatar, track.params[i], track.camera) for i in few),
                    "avatar_seconds": source.seconds,
                }
                for name, source in avatars.items()
            }
        )
    first = next(iter(avatars.values()))
    return _result(clip, results, notes, fps=track.fps, frames=len(track), source=_named(first.frames))


def _named(frames: Sequence[int]) -> str:
    return f"frame{'s' * (len(frames) > 1)} {', '.join(map(str, frames))}"


def _jitter(avatar: Avatar, track: Track) -> float:
    """Jitter of the avatar's landmarks as the track moves them, in the picture."""
    crop = track.require_crop()
    vertices = avatar.head.vertices(track.params.replace(shape=avatar.shape))
    same_shot = torch.ones(len(track), dtype=torch.bool)
    same_shot[1:] = (crop[1:] == crop[:-1]).all(1)  # a cut spoils the frame after it
    return metrics.jitter(track.camera.project(avatar.head.landmarks(vertices)), same_shot & (track.confidence > 0))


def _result(
    clip: Clip, results: dict[str, Any], notes: Sequence[str], *, fps: float, frames: int, source: str
) -> dict[str, Any]:
    return {
        "clip": clip.name,
        "status": "measured",
        "notes": [*clip.notes, *notes],
        "source": source,
        "fps": round(fps, 3),
        "frames": frames,
        **results,
    }


PROTOCOLS: Final[dict[str, Callable[[Clip, Bench, Sequence[Clip], Progress], dict[str, Any]]]] = {
    "self": _self,
    "cross": _cross,
    "k-source": _k_source,
    "refined": _refined,
    "multi-view": _multi_view,
}
