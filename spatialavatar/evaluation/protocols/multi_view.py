"""Protocol ``multi-view``: an avatar of the first frame of one camera or several of a calibrated rig.

Targets are the other cameras at every time step. The head's pose and expression come from the first source camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.evaluation.comparison import RenderedFrame, TargetFrame
from spatialavatar.evaluation.cutting import cut_frames
from spatialavatar.evaluation.datasets import Calibration, Clip
from spatialavatar.evaluation.evaluator import Evaluator
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import avatar_of
from spatialavatar.evaluation.protocols.targets import clip_result, measurable_frames
from spatialavatar.evaluation.rig import (
    cropped_camera,
    first_picture,
    landmarks_in,
    metric_scale,
    posed_by_calibration,
    relative_camera,
)
from spatialavatar.head import HeadModel
from spatialavatar.progress import Progress, part
from spatialavatar.records import Camera, HeadParams
from spatialavatar.tracking.framing import Crop, crop_around


def multi_view(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; see the module."""
    usable = [recording for recording in clip.recordings if recording.calibration is not None]
    held_out = {r.name for r in usable if r.name in clip.held_out_cameras}
    if not held_out:  # every fourth camera, or all but the source's
        held_out = {r.name for r in usable[3::4]} or {r.name for r in usable[1:]}
    apart = [recording for recording in usable if recording.name in held_out]
    trained = [recording for recording in usable if recording.name not in held_out]
    sources = trained[: bench.config.sources]
    if not sources or not apart:
        raise InputError(f"{clip.name} has no two calibrated cameras, which the protocol multi-view needs.")
    avatar, seconds = avatar_of([first_picture(recording) for recording in sources], bench)
    main = sources[0]
    track, params = posed_by_calibration(main, avatar.shape, bench.head, bench.networks, part(progress, 0.0, 0.3))
    scale = metric_scale(main, apart, params[0], bench.head, bench.networks)
    frames, notes = measurable_frames(track, range(len(track)), bench, set())
    notes.append(
        f"Source: {', '.join(r.name for r in sources)}; targets: {', '.join(r.name for r in apart)}. The calibration's "
        f"distances are multiplied by {scale:.3f}, which fits the landmarks best: a photo does not tell a head's size."
    )
    evaluator = Evaluator(bench.networks, bench.config.region)
    with bench.comparison(clip, 0.0) as comparison:
        for done, recording in enumerate(apart):
            world = relative_camera(main.require_calibration(), recording.require_calibration(), scale)
            report = part(progress, 0.3 + 0.7 * done / len(apart), 0.3 + 0.7 * (done + 1) / len(apart))
            views = {i: _view(bench.head, params[i], world, recording.require_calibration()) for i in frames}
            cuts = cut_frames(recording, frames, lambda i, views=views: views[i][0], bench.networks, report)
            for index, image, matte, segments in cuts:
                _, camera, points = views[index]
                target = evaluator.target(image, matte, segments, points)
                render = RenderedFrame(*avatar.render(params[index], camera, torch.ones(3)))
                focal = float(camera.intrinsics[0, 0])
                wanted = TargetFrame(f"{recording.name}/{index}", target, avatar.shape, focal)
                comparison.add(wanted, {f"K = {len(sources)}": render})
        results = comparison.finish({f"K = {len(sources)}": {"avatar_seconds": seconds}})
    return clip_result(
        clip, results, notes, fps=track.fps, frames=len(track), source=f"camera {main.name}, first frame"
    )


def _view(
    head: HeadModel, params: HeadParams, world: Tensor, calibration: Calibration
) -> tuple[Crop, Camera, np.ndarray]:
    """The crop around the head as it must appear in a calibrated camera, that crop's camera, and its landmarks."""
    points = landmarks_in(calibration, world, head, params)[0]
    crop = crop_around(points)
    return crop, cropped_camera(calibration, world, crop), crop.to_crop(points)
