"""Protocol ``cross``: the avatar of one clip, driven by the next clip of the set (the last by the first).

There is no picture to compare with: identity is compared with the source, and the expression's transfer is measured.
The avatar is driven twice: by the driver's parameters as they are (``K = 1``), and relative to the driver's neutral in
a portrait view, as :func:`spatialavatar.driving.drive` does by default (``relative``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from spatialavatar.driving import DriveConfig, avatar_gains, retarget
from spatialavatar.errors import InputError, NoFaceError
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.evaluator import Evaluator
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import damaged_frames, first_avatar
from spatialavatar.evaluation.protocols.targets import Performance, Targets, compare, measurable_frames
from spatialavatar.progress import Progress, part
from spatialavatar.tracking import track_video

_RELATIVE: Final = "relative"


def cross_reenactment(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; see the module."""
    usable = [other for other in clips if other.recordings]
    names = [other.name for other in usable]
    driver = usable[(names.index(clip.name) + 1) % len(usable)]
    if driver.name == clip.name:
        raise InputError("Cross-reenactment needs two clips; give a folder that holds more.")
    source = first_avatar(clip, bench)
    face = Evaluator(bench.networks, "full").face(torch.from_numpy(source.picture.astype(np.float32) / 255.0))
    if face is None:
        raise NoFaceError(f"No face is found in the source of {clip.name} for its identity.")
    reader = driver.recordings[0].open()
    track = track_video(reader, bench.head, networks=bench.networks, progress=part(progress, 0.0, 0.3))
    frames, notes = measurable_frames(track, range(len(track)), bench, damaged_frames(reader))
    notes.insert(0, f"Driven by {driver.name}.")
    gains = avatar_gains(source.avatar, track, bench.networks.landmarker)
    relative = Performance(*retarget(track, source.avatar, DriveConfig(), gains))
    targets = Targets(driver.recordings[0], track, frames, notes, face.identity, {_RELATIVE: relative})
    return compare(clip, bench, targets, {"K = 1": source, _RELATIVE: source}, part(progress, 0.3, 1.0))
