"""The work behind the page and the endpoints, as module-level functions on plain values.

On ZeroGPU a decorated function runs in a forked process with a GPU: its arguments and results are pickled, and the
requested time counts against the visitor's quota. So only functions that use a GPU are decorated, and each requests the
time that its work takes. Photos and videos are tracked before, in the main process; the track is passed as a file.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spaces
from PIL import Image

from spatialavatar.app.checks import MAX_VIDEO_SECONDS, too_long
from spatialavatar.app.requests import (
    EXPORTS,
    DriveRequest,
    ExportRequest,
    GenerateRequest,
    RefineRequest,
    Speech,
    TrackRequest,
)
from spatialavatar.app.steps import Report, Step, Steps, steps_of
from spatialavatar.app.still import StillRequest, still_picture
from spatialavatar.app.where import add_notice
from spatialavatar.avatar import Avatar
from spatialavatar.diagnostics import avatar_facts
from spatialavatar.driving import DriveConfig, drive
from spatialavatar.errors import InputError
from spatialavatar.export import save_glb, save_html, save_ply, save_splat, save_spz
from spatialavatar.hub import weights_dir
from spatialavatar.motion import is_motion_file, read_motion, write_motion
from spatialavatar.pipeline import default_model, generate
from spatialavatar.progress import part
from spatialavatar.provenance import save_png
from spatialavatar.records import Track
from spatialavatar.refinement import RefineConfig, WarmUp, aligned_heads, aligned_heads_path, refine
from spatialavatar.refinement.report import write_preview
from spatialavatar.render import best_device, warmup
from spatialavatar.speaking import rested_track
from spatialavatar.speech import speech_motion, utterance_motion
from spatialavatar.speech.synthesis import synthesise
from spatialavatar.staging import photo_side, read_background
from spatialavatar.tracking import load_track, save_track, track, track_video
from spatialavatar.tracking.overlay import draw

_AVATAR = EXPORTS["avatar"]
_SAVERS = {
    "ply": save_ply,
    "splat": save_splat,
    "spz": save_spz,
    "glb": save_glb,
    "html": save_html,
    "speaking_html": partial(save_html, speech=True),
}
_MAX_FRAMES = round(60 * MAX_VIDEO_SECONDS)
_PREVIEW_SECONDS = 0.7
_GPU_START = 15.0  # seconds to fork, to acquire the GPU and to compile kernels
_GPU_FRAME = 0.02  # seconds to render and encode a frame of 512 x 512
_GPU_ITERATION = 0.04  # seconds of a refinement step at 512 x 512
_GPU_LONGEST = 120.0  # a visitor who is not signed in has two minutes a day


@dataclass(frozen=True)
class Backend:
    """The work; each function yields steps, the last of which names the written files.

    The last two return at once, on the CPU.
    """

    generate: Callable[[GenerateRequest], Steps]
    refine: Callable[[RefineRequest], Steps]
    drive: Callable[[DriveRequest], Steps]
    track: Callable[[TrackRequest], Steps]
    export: Callable[[ExportRequest], Steps]
    avatar_facts: Callable[[str], dict[str, Any]] = avatar_facts
    still: Callable[[StillRequest], bytes] = still_picture


def default_backend() -> Backend:
    """The backend of this package."""
    return Backend(generate_steps, refine_steps, drive_steps, track_steps, export_steps)


def load_models() -> None:
    """Load what every call needs, before the first visitor and before ZeroGPU packs and forks the process.

    The environment variables ``MODEL_ID`` and ``MODEL_REVISION`` choose other weights than those that ship. Where they
    cannot be fetched, the app starts with those that ship and shows a notice to its visitors.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights_dir()
    if caught:
        wanted = os.environ.get("MODEL_ID", "that was requested")
        add_notice(f"The model {wanted} could not be fetched, so the app uses the one that ships with it.")
    default_model()
    warmup()


# -- in the main process ----------------------------------------------------------------------------------------------


def generate_steps(request: GenerateRequest) -> Steps:
    """Photos to an ``avatar`` file and its ``preview``; on the way, ``seen_0`` ... show the faces that were found."""

    def work(report: Report) -> None:
        def tracked(tracks: Sequence[Track]) -> None:
            files = {f"seen_{i}": _save_seen(track, request.folder, f"seen_{i}.jpg") for i, track in enumerate(tracks)}
            report(0.5, "Found the face", files, photos=[list(track.warnings) for track in tracks])

        avatar = generate(
            list(request.photos), scene=request.scene, bust=request.bust, progress=report, tracked=tracked
        )
        report(1.0, "Done", _results(avatar, request.folder), warnings=list(avatar.info.get("warnings", ())))

    yield from steps_of(work)


def track_steps(request: TrackRequest) -> Steps:
    """A photo or a video to its ``motion``."""

    def work(report: Report) -> None:
        found = track(request.source, default_model().head, progress=report)
        path = Path(request.folder) / f"motion.{request.form}"
        if request.form == "safetensors":
            save_track(found.without_pictures(), path)
        else:
            write_motion(found, path)
        held = int((found.confidence <= 0).sum())
        facts = {"frames": len(found), "fps": found.fps, "held": held, "warnings": list(found.warnings)}
        report(1.0, "Done", {"motion": str(path)}, **facts)

    yield from steps_of(work)


def export_steps(request: ExportRequest) -> Steps:
    """An avatar to files, each named by its form."""

    def work(report: Report) -> None:
        report(0.0, "Reading the avatar")
        avatar = Avatar.load(request.avatar)
        files = {}
        for index, form in enumerate(request.forms):
            report(0.5 + 0.5 * index / len(request.forms), "Writing the file")
            path = Path(request.folder) / EXPORTS[form]
            if form == "png":
                save_png(path, avatar.preview())
            elif form == "avatar":
                avatar.save(path)
            elif form == "card":
                path.write_text(avatar.card(), encoding="utf-8")
            elif form == "view":
                save_ply(avatar, path, for_viewer=True)
            else:
                _SAVERS[form](avatar, path)
            files[form] = str(path)
        report(1.0, "Done", files, gaussians=len(avatar.gaussians))

    yield from steps_of(work)


def drive_steps(request: DriveRequest) -> Steps:
    """An avatar file and a motion or a speech to a ``video``: the motion is made here, frames are rendered on a GPU."""
    if request.speech is not None:
        yield from _speech_steps(request, request.speech)
        return
    is_file = is_motion_file(request.motion)
    is_track = not is_file and Path(request.motion).suffix.lower() == ".safetensors"
    share = 0.05 if is_file or is_track else 0.5
    tracked = Path(request.folder) / "motion.safetensors"

    def read(report: Report) -> None:
        head = Avatar.load(request.avatar).head
        looking = part(report, 0.0, share)
        if is_file:
            motion = read_motion(request.motion, head)
        elif is_track:
            motion = load_track(request.motion)
        else:
            motion = track_video(request.motion, head, max_frames=_MAX_FRAMES, progress=looking)
        if len(motion) > _MAX_FRAMES:
            raise InputError(f"The motion has {len(motion)} frames; give one of at most {_MAX_FRAMES}.")
        save_track(motion.without_pictures(), tracked)
        report(share, "Rendering", frames=len(motion))

    frames = 0
    for step in steps_of(read):
        frames = step.facts.get("frames", frames)
        yield step
    sound = None if is_file or is_track else request.motion
    yield from render_steps(request, str(tracked), sound, frames, share)


def _speech_steps(request: DriveRequest, speech: Speech) -> Steps:
    """As :func:`drive_steps`, for an avatar that speaks."""
    tracked, share = Path(request.folder) / "motion.safetensors", 0.1
    sound, frames, notes = speech.audio or str(Path(request.folder) / "speech.wav"), 0, ()

    def hear(report: Report) -> None:
        report(0.0, "Reading the text" if speech.audio is None else "Listening")
        head = Avatar.load(request.avatar).head
        if speech.audio is None:
            utterance, said = synthesise(speech.text, speech.voice)
            if sentence := too_long(utterance.seconds):
                raise InputError(sentence)
            utterance.save(Path(sound))
            motion = utterance_motion(utterance, liveliness=speech.liveliness)
        else:
            motion = speech_motion(sound, liveliness=speech.liveliness, progress=part(report, 0.0, share))
            said = motion.warnings
        save_track(rested_track(motion, head), tracked)
        report(share, "Rendering", frames=len(motion), notes=said)

    with closing(steps_of(hear)) as hearing:
        for step in hearing:
            frames, notes = step.facts.get("frames", frames), step.facts.get("notes", notes)
            yield Step(step.fraction, step.message, step.files)
    with closing(render_steps(request, str(tracked), sound, frames, share)) as rendering:
        for step in rendering:
            facts = dict(step.facts)
            if "warnings" in facts:
                facts["warnings"] = [*notes, *facts["warnings"]]
            yield Step(step.fraction, step.message, step.files, facts)


def refine_steps(request: RefineRequest) -> Steps:
    """An avatar and a video of the person to a better ``avatar`` and its ``preview``."""
    tracked = Path(request.folder) / "pictures.safetensors"
    share = 0.4

    def look(report: Report) -> None:
        avatar = Avatar.load(request.avatar)
        looking, laying = part(report, 0.0, 0.6 * share), part(report, 0.6 * share, share)
        found = track_video(request.video, avatar.head, with_images=True, max_frames=request.frames, progress=looking)
        heads = None if request.checkpoint is None else aligned_heads_path(Path(request.checkpoint))
        warm_up = WarmUp.before(request.iterations, 0.0)
        found, _ = aligned_heads(avatar, found, heads, warm_up=warm_up, progress=laying)
        save_track(found, tracked)

    yield from steps_of(look)
    yield from optimise_steps(request, str(tracked), share)


# -- on a GPU -------------------------------------------------------------------------------------------------------


def render_seconds(request: DriveRequest, tracked: str, sound: str | None, frames: int, start: float) -> int:
    """Seconds of GPU time for :func:`render_steps`."""
    return _gpu_seconds(frames * _GPU_FRAME * max(0.5, (request.size / 512) ** 2))


def optimise_seconds(request: RefineRequest, tracked: str, start: float) -> int:
    """Seconds of GPU time for :func:`optimise_steps`."""
    return _gpu_seconds(request.iterations * _GPU_ITERATION * max(0.5, (request.size / 512) ** 2))


def _gpu_seconds(work: float) -> int:
    return math.ceil(min(_GPU_START + work, _GPU_LONGEST))


@spaces.GPU(duration=render_seconds)
def render_steps(request: DriveRequest, tracked: str, sound: str | None, frames: int, start: float) -> Steps:
    """Render the ``video`` of a drive; on the way, ``preview`` is the current frame about every 0.7 seconds.

    Args:
        request: the drive.
        tracked: the saved track to follow.
        sound: a file whose sound track is copied.
        frames: number of frames of the track.
        start: share of the work that is already done.
    """

    def work(report: Report) -> None:
        avatar = Avatar.load(request.avatar)
        avatar = avatar if request.bust or request.scene == "photo" else avatar.without_bust()
        config = DriveConfig(
            strength=request.strength,
            relative=request.relative,
            smoothing=request.smoothing,
            size=photo_side(avatar, request.size) if request.scene == "photo" else request.size,
            head_pose=request.head_pose,
            parts=request.parts,
            scene=request.scene,
            background=read_background(request.background) if request.background else None,
        )
        out = Path(request.folder) / ("driven.webm" if request.scene == "transparent" else "driven.mp4")
        motion = load_track(tracked)
        Path(tracked).unlink()
        at, due = (start, "Rendering"), time.monotonic()

        def progress(fraction: float, message: str) -> None:
            nonlocal at
            at = fraction, message
            report(fraction, message)

        def watch(frame: np.ndarray) -> None:
            nonlocal due
            if time.monotonic() >= due:
                preview = Path(request.folder) / "frame.jpg"
                picture = Image.fromarray(frame)
                shown = Image.new("RGB", picture.size, "white")
                shown.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
                shown.save(preview, quality=80)
                report(*at, {"preview": str(preview)})
                due = time.monotonic() + _PREVIEW_SECONDS

        done = drive(avatar, motion, out, config, audio=sound, progress=part(progress, start, 1.0), watch=watch)
        facts = {"frames": done.frames, "fps": done.fps, "held": done.held, "warnings": list(done.warnings)}
        report(1.0, "Done", {"video": str(done.path)}, **facts)

    yield from steps_of(work)


@spaces.GPU(duration=optimise_seconds)
def optimise_steps(request: RefineRequest, tracked: str, start: float) -> Steps:
    """Refine an avatar on a tracked video.

    Args:
        request: the refinement.
        tracked: the saved track with its pictures.
        start: share of the work that is already done.
    """

    def work(report: Report) -> None:
        folder = Path(request.folder)
        device = best_device()
        avatar, found = Avatar.load(request.avatar), load_track(tracked)
        config = RefineConfig(iterations=request.iterations, size=request.size, holdout=0.0)
        minutes = request.minutes
        if device.type == "cuda":  # ZeroGPU ends a call when its time is up, so the run ends before
            borrowed = 0.8 * optimise_seconds(request, tracked, start) / 60.0
            minutes = borrowed if minutes is None else min(minutes, borrowed)
        steps = refine(avatar.to(device), found.to(device), config, checkpoint=request.checkpoint, minutes=minutes)
        with closing(steps):
            for step in steps:
                files, facts = {}, {}
                if step.preview is not None:
                    better = step.avatar.to("cpu")
                    files = {"preview": str(write_preview(folder, step)), "avatar": str(better.save(folder / _AVATAR))}
                if step.iteration % 10 == 0 or files:
                    facts = {"iteration": step.iteration, "losses": step.losses}
                fraction = min(start + (1.0 - start) * step.fraction, 0.99)
                report(fraction, f"Refining, step {step.iteration} of {config.iterations}", files, **facts)
            better = step.avatar.to("cpu")
        if request.checkpoint is not None:
            Path(request.checkpoint).unlink(missing_ok=True)
            aligned_heads_path(Path(request.checkpoint)).unlink(missing_ok=True)
        facts = {"iterations": step.iteration, "frames": len(found), "warnings": list(found.warnings)}
        report(1.0, "Done", _results(better, folder), **facts)

    yield from steps_of(work)


def _results(avatar: Avatar, folder: str | Path) -> dict[str, str]:
    """Write the files that the page and the endpoints return for a new avatar: the avatar and a picture."""
    preview = save_png(Path(folder) / "preview.png", avatar.preview())
    return {"avatar": str(avatar.save(Path(folder) / _AVATAR)), "preview": str(preview)}


def _save_seen(track: Track, folder: str, name: str) -> str:
    """Write a tracked photo with the outlines of the face drawn on it."""
    path = Path(folder) / name
    image, landmarks = track.require_pictures().images[0], track.require_evidence().require_landmarks()[0]
    Image.fromarray(draw(image.numpy(), landmarks.numpy())).save(path, quality=85)
    return str(path)
