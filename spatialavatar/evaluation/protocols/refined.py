"""Protocol ``refined``: the avatar of the first frame, refined on the training part; targets are the held-out part.

The held-out part is what the set itself holds out, else the last 350 frames of clips of 1,000 frames or more, else the
last fifth. It has no influence on the training: the identity is fitted on the training part. The same avatar before
refinement is measured too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from spatialavatar.evaluation.cutting import with_pictures
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import damaged_frames, first_avatar
from spatialavatar.evaluation.protocols.targets import Targets, compare, measurable_frames
from spatialavatar.progress import Progress, part
from spatialavatar.refinement import RefineConfig, refine
from spatialavatar.tracking import track_video

_LONG_CLIP: Final = 1000
_LONG_HOLDOUT: Final = 350
_HOLDOUT: Final = 0.2


def held_out_from(clip: Clip, count: int) -> int:
    """The first test frame of a clip of ``count`` frames."""
    if clip.held_out_from is not None and 0 < clip.held_out_from < count:
        return clip.held_out_from
    return count - _LONG_HOLDOUT if count >= _LONG_CLIP else round(count * (1.0 - _HOLDOUT))


def refined(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; see the module."""
    source = first_avatar(clip, bench)
    reader = clip.recordings[0].open()
    count = sum(1 for _ in reader)
    test = held_out_from(clip, count)
    training = track_video(
        reader, bench.head, max_frames=test, networks=bench.networks, progress=part(progress, 0.0, 0.1)
    )
    track = track_video(
        reader, bench.head, shape=training.params.shape, networks=bench.networks, progress=part(progress, 0.1, 0.2)
    )
    damaged = damaged_frames(reader)
    frames, notes = measurable_frames(track, range(test, len(track)), bench, damaged)
    good = [i for i in range(test) if training.confidence[i] > 0 and i not in damaged]
    good = [
        good[i] for i in np.linspace(0, len(good) - 1, min(len(good), bench.config.train_frames)).round().astype(int)
    ]
    # The crop of the training part is its own: the test part has no influence on it.
    learned = with_pictures(training, good, clip.recordings[0], bench.networks, part(progress, 0.2, 0.35))
    before = replace(
        source.avatar, shape=training.params.shape, reference=training.params[good[0]], camera=training.camera
    )
    config = RefineConfig(iterations=bench.config.iterations, holdout=0.0)
    started = time.perf_counter()
    report = part(progress, 0.35, 0.7)
    after = source.avatar
    for step in refine(source.avatar, learned, config, seed=bench.config.seed):
        report(step.fraction, f"Refining on {len(good)} frames")
        after = step.avatar
    seconds = time.perf_counter() - started
    avatars = {
        "K = 1": replace(source, avatar=before),
        "refined": replace(source, avatar=after, seconds=source.seconds + seconds),
    }
    notes.append(
        f"Held out: frames {test} to {len(track) - 1}; refined on {len(good)} of the {test} before them, "
        f"{bench.config.iterations} steps."
    )
    return compare(clip, bench, Targets(clip.recordings[0], track, frames, notes), avatars, part(progress, 0.7, 1.0))
