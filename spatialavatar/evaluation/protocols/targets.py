"""Comparing avatars with the frames of a tracked recording."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.errors import NoFaceError
from spatialavatar.evaluation import metrics
from spatialavatar.evaluation.cutting import crop_of, cut_frames
from spatialavatar.evaluation.datasets import Clip, Recording
from spatialavatar.evaluation.judge import Judge
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import Source
from spatialavatar.progress import Progress
from spatialavatar.records import Track
from spatialavatar.render import render

_ASPECT_FRAMES: Final = 8  # in which the Gaussians' aspect ratio is measured


@dataclass(frozen=True)
class Targets:
    """Frames that avatars are compared with.

    Attributes:
        recording: whose frames they are.
        track: of the recording, whose motion drives the avatars.
        frames: that are measured, increasing.
        notes: sentences about the clip.
        identity: (128,) embedding that the renders are compared with instead of pictures; None compares pictures.
    """

    recording: Recording
    track: Track
    frames: Sequence[int]
    notes: Sequence[str]
    identity: np.ndarray | None = None


def measurable_frames(
    track: Track, frames: Sequence[int], bench: Bench, damaged: set[int]
) -> tuple[list[int], list[str]]:
    """The frames that are measured, and notes on those that cannot be.

    Args:
        track: of the recording.
        frames: candidates, increasing; every n-th of them is wanted (``config.stride``).
        bench: the run.
        damaged: frames that could not be read.

    Raises:
        NoFaceError: no frame is left.
    """
    wanted = list(frames)[:: bench.config.stride]
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
    judge = Judge(bench.networks, bench.config.region)
    focal, white = float(track.camera.intrinsics[0, 0]), torch.ones(3)
    identities = {name: source.avatar.identity() for name, source in avatars.items()}
    with bench.comparison(clip, track.fps, targets.identity) as comparison:
        for index, image, matte, segments in cut_frames(
            targets.recording, frames, lambda frame: crop_of(track, frame), bench.networks, progress
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
    source = _frames_text(first.frames)
    return clip_result(clip, results, targets.notes, fps=track.fps, frames=len(track), source=source)


def _frames_text(frames: Sequence[int]) -> str:
    return f"frame{'s' * (len(frames) > 1)} {', '.join(map(str, frames))}"


def _jitter(avatar: Avatar, track: Track) -> float:
    """Jitter of the avatar's projected landmarks in the track's motion, pixels."""
    crop = track.require_crop()
    vertices = avatar.head.vertices(track.params.replace(shape=avatar.shape))
    same_shot = torch.ones(len(track), dtype=torch.bool)
    same_shot[1:] = (crop[1:] == crop[:-1]).all(1)  # a cut spoils the frame after it
    return metrics.jitter(track.camera.project(avatar.head.landmarks(vertices)), same_shot & (track.confidence > 0))


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
