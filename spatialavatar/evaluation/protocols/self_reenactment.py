"""Protocol ``self``: an avatar of the clip's first frame that shows a face; all later frames are its targets.

With more sources, the others lie evenly over the clip, and are not targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.protocols.config import Bench
from spatialavatar.evaluation.protocols.sources import damaged_frames, first_avatar, spread_avatar
from spatialavatar.evaluation.protocols.targets import Targets, compare, measurable_frames
from spatialavatar.progress import Progress, part
from spatialavatar.tracking import track_video


def self_reenactment(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; see the module."""
    source = first_avatar(clip, bench) if bench.config.sources == 1 else spread_avatar(clip, bench)
    reader = clip.recordings[0].open()
    track = track_video(
        reader, bench.head, shape=source.avatar.shape, networks=bench.networks, progress=part(progress, 0.0, 0.3)
    )
    later = [frame for frame in range(source.frames[0] + 1, len(track)) if frame not in source.frames]
    frames, notes = measurable_frames(track, later, bench, damaged_frames(reader))
    targets = Targets(clip.recordings[0], track, frames, notes)
    return compare(clip, bench, targets, {f"K = {bench.config.sources}": source}, part(progress, 0.3, 1.0))
