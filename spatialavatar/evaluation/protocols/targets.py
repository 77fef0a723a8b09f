"""Comparing avatars with the frames of a tracked recording."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.errors import NoFaceError
from spatialavatar.evaluation import metrics
from spatialavatar.evaluation.comparison import Comparison, RenderedFrame, TargetFrame
from spatialavatar.evaluation.cutting import crop_of, cut_frames
from spatialavatar.evaluation.datasets import Clip, Recording
from spatialavatar.evaluation.evaluator import Evaluator
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import Source
from spatialavatar.evaluation.transfer import group_scores, transfer, transfer_means
from spatialavatar.head import Identity
from spatialavatar.progress import Progress
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.render import render

_ASPECT_FRAMES: Final = 8  # in which the Gaussians' aspect ratio is measured


@dataclass(frozen=True, eq=False)
class Performance:
    """A motion of the avatar that is not the track's own, seen by its own camera.

    Attributes:
        params: T frames, those of the track.
        camera: 512 x 512 pixels.
    """

    params: HeadParams
    camera: Camera


@dataclass(frozen=True)
class Targets:
    """Frames that avatars are compared with.

    Attributes:
        recording: whose frames they are.
        track: of the recording, whose motion drives the avatars.
        frames: that are measured, increasing.
        notes: sentences about the clip.
        identity: (128,) embedding that the renders are compared with instead of pictures; None compares pictures.
        performances: by the name of their method, motions of methods that are not driven by the track as it is.
    """

    recording: Recording
    track: Track
    frames: Sequence[int]
    notes: Sequence[str]
    identity: np.ndarray | None = None
    performances: Mapping[str, Performance] = field(default_factory=dict)

    def performance(self, method: str) -> Performance:
        """Motion and camera of a method."""
        return self.performances.get(method) or Performance(self.track.params, self.track.camera)


def measurable_frames(
    track: Track, frames: Sequence[int], bench: Bench, damaged: set[int], least: int = 0
) -> tuple[list[int], list[str]]:
    """The frames that are measured, and notes on those that cannot be.

    Args:
        track: of the recording.
        frames: candidates, increasing; every n-th of them is wanted (``config.stride``).
        bench: the run.
        damaged: frames that could not be read.
        least: of fewer wanted frames than this, the stride is made smaller.

    Raises:
        NoFaceError: no frame is left.
    """
    stride = min(bench.config.stride, max(1, len(frames) // least)) if least else bench.config.stride
    wanted = list(frames)[::stride]
    chosen = [frame for frame in wanted if track.confidence[frame] > 0 and frame not in damaged]
    if not chosen:
        raise NoFaceError("None of the target frames shows a face that can be tracked.")
    notes = list(track.warnings)
    if len(chosen) < len(wanted):
        notes.append(f"{len(wanted) - len(chosen)} of {len(wanted)} target frames cannot be measured.")
    return chosen, notes


def compare(
    clip: Clip, bench: Bench, targets: Targets, avatars: Mapping[str, Source], progress: Progress
) -> dict[str, Any]:
    """Render every avatar in the frames of ``targets`` and compare; JSON-ready results of the clip.

    Args:
        clip: whose results they are.
        bench: the run.
        targets: frames to compare with.
        avatars: by the name of their method.
        progress: called with (fraction, message).
    """
    track, frames = targets.track, targets.frames
    landmarks = track.require_evidence().require_landmarks()
    evaluator = Evaluator(bench.networks, bench.config.region)
    focal = float(track.camera.intrinsics[0, 0])
    identities = {name: source.avatar.identity() for name, source in avatars.items()}
    with bench.comparison(clip, track.fps, targets.identity) as comparison:
        for index, image, matte, segments in cut_frames(
            targets.recording, frames, lambda frame: crop_of(track, frame), bench.networks, progress
        ):
            target = evaluator.target(image, matte, segments, landmarks[index].numpy())
            renders = {
                name: _rendered(source.avatar, targets, name, index, identities[name])
                for name, source in avatars.items()
            }
            comparison.add(TargetFrame(index, target, track.params.shape, focal), renders)
        whole_clip, transfers = {}, {}
        for name, source in avatars.items():
            transfers[name] = _transfer(track, comparison, name)
            whole_clip[name] = _whole_clip(source, targets, name) | transfer_means(transfers[name])
        results = comparison.finish(whole_clip)
    for name, figures in transfers.items():
        rounded = {g: {k: round(v, 6) for k, v in group.items()} for g, group in figures.items()}
        results["methods"][name]["transfer"] = rounded
    first = next(iter(avatars.values()))
    source = _frames_text(first.frames)
    return clip_result(clip, results, targets.notes, fps=track.fps, frames=len(track), source=source)


def _frames_text(frames: Sequence[int]) -> str:
    return f"frame{'s' * (len(frames) > 1)} {', '.join(map(str, frames))}"


def _rendered(avatar: Avatar, targets: Targets, method: str, index: int, identity: Identity) -> RenderedFrame:
    """The avatar in one frame of its method's motion, timed."""
    performance = targets.performance(method)
    started = time.perf_counter()
    with torch.inference_mode():
        posed = avatar.pose(avatar.with_torso(performance.params[index], identity=identity), identity)
        image, alpha = render(posed, performance.camera, torch.ones(3))
    took = 1000.0 * (time.perf_counter() - started)
    return RenderedFrame(image, alpha, took, own_view=method in targets.performances)


def _whole_clip(source: Source, targets: Targets, method: str) -> dict[str, float]:
    """The figures of a method that belong to no single frame."""
    performance, frames = targets.performance(method), targets.frames
    few = [frames[i] for i in np.linspace(0, len(frames) - 1, min(_ASPECT_FRAMES, len(frames))).round().astype(int)]
    return {
        "jitter": _jitter(source.avatar, targets.track, performance),
        "aspect": max(metrics.screen_aspect(source.avatar, performance.params[i], performance.camera) for i in few),
        "avatar_seconds": source.seconds,
    }


def _transfer(track: Track, comparison: Comparison, method: str) -> dict[str, dict[str, float]]:
    """The expression transfer from the track's scores to those of a method's renders."""
    evidence = track.require_evidence()
    driver = group_scores(evidence.blendshapes.numpy(), evidence.require_landmarks().numpy())
    found = [(frame, face) for frame, face in comparison.faces(method) if isinstance(frame, int)]
    if not found:
        return {}
    scores, points = (np.stack([getattr(face, name) for _, face in found]) for name in ("blendshapes", "points"))
    return transfer(driver, (track.confidence > 0).numpy(), group_scores(scores, points), [frame for frame, _ in found])


def _jitter(avatar: Avatar, track: Track, performance: Performance) -> float:
    """Jitter of the avatar's projected landmarks in a motion, pixels."""
    crop = track.require_crop()
    vertices = avatar.head.vertices(performance.params.replace(shape=avatar.shape))
    same_shot = torch.ones(len(track), dtype=torch.bool)
    same_shot[1:] = (crop[1:] == crop[:-1]).all(1)  # a cut spoils the frame after it
    landmarks = performance.camera.project(avatar.head.landmarks(vertices))
    return metrics.jitter(landmarks, same_shot & (track.confidence > 0))


def clip_result(
    clip: Clip, results: dict[str, Any], notes: Sequence[str], *, fps: float, frames: int, source: str
) -> dict[str, Any]:
    """The content of a clip's file.

    Args:
        clip: that was measured.
        results: by method.
        notes: on this clip.
        fps: of the target; 0 for photos.
        frames: of the target.
        source: what the avatar was generated from.
    """
    return {
        "clip": clip.name,
        "status": "measured",
        "notes": [*clip.notes, *notes],
        "source": source,
        "fps": round(fps, 3),
        "frames": frames,
        **results,
    }
