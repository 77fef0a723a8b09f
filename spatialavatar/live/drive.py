"""Drive an avatar with a stream of motion: every frame as soon as it arrives, without a queue."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, FrameRenderer, picture_size, require_opaque
from spatialavatar.errors import InputError
from spatialavatar.live.outputs import RATE, VirtualCamera, opened
from spatialavatar.live.poses import StreamPoses
from spatialavatar.progress import Progress, no_progress
from spatialavatar.provenance import marked
from spatialavatar.render import best_device
from spatialavatar.streams import MotionFrame, MotionReceiver, StreamCounts
from spatialavatar.streams.frames import rest_frame

_KEPT: Final = 10_000  # of the newest latencies and rendering times


@dataclass(frozen=True)
class StreamReport:
    """The result of a drive by a stream.

    Attributes:
        path: the video or the device; None where it was shown in a window.
        frames: pictures that were rendered.
        held: those for which the sender had no face, so that they hold the pose before.
        counts: what arrived.
        seconds: how long it took.
        rendering: median rendering time of a picture, seconds.
        latency: median time from the arrival of a packet to its picture, seconds.
    """

    path: Path | None
    frames: int
    held: int
    counts: StreamCounts
    seconds: float
    rendering: float
    latency: float


def drive_stream(
    avatar: Avatar,
    receiver: MotionReceiver,
    out: str | Path | VirtualCamera | None = None,
    config: DriveConfig | None = None,
    *,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> StreamReport:
    """Render ``avatar`` with the motion of the stream.

    It ends after ``seconds``, on an interrupt, or with the window. Before the first frame the avatar rests; while no
    frame comes, it holds the last one.

    Args:
        avatar: the avatar.
        receiver: an entered :class:`~spatialavatar.streams.MotionReceiver`.
        out: the mp4 to write, or a :class:`VirtualCamera`; None shows a window, which Esc closes.
        config: how the performance is transferred; smoothing has no effect.
        seconds: when to stop.
        progress: called with (fraction, message).

    Raises:
        InputError: no motion came, or there is no ``out`` and this machine opens no windows.
        OutputError: ``out`` cannot be written.
    """
    config, report = config or DriveConfig(), progress or no_progress
    require_opaque(config)
    avatar = avatar.to(best_device())
    poses = StreamPoses(avatar.head, receiver.address.protocol.from_camera)

    def rendered(frame: MotionFrame, at: float) -> np.ndarray:
        track = poses.track(frame, at).to(avatar.shape.device)
        picture = renderer.frame(track)
        return marked(picture) if config.mark else picture

    renderer = FrameRenderer(avatar, config)
    resting = StreamPoses(avatar.head, from_camera=False).track(rest_frame(), 0.0).to(avatar.shape.device)
    picture = renderer.frame(resting)  # compiles the renderer before the first frame comes
    picture = marked(picture) if config.mark else picture
    times: dict[str, list[float]] = {"render": [], "latency": []}
    count, held, start = 0, 0, time.perf_counter()
    with opened(out, picture_size(avatar, config)) as show:
        try:
            for arrival in receiver.arrivals(1.0 / RATE):
                at = time.perf_counter() - start
                if seconds is not None and at >= seconds:
                    break
                if arrival is not None:
                    begun = time.perf_counter()
                    picture = rendered(arrival.frame, arrival.at)
                    count += 1
                    held += not arrival.frame.seen
                    times["render"].append(time.perf_counter() - begun)
                    times["latency"].append(time.perf_counter() - arrival.at)
                    for values in times.values():
                        del values[:-_KEPT]
                if not show(picture, at):
                    break
                word = "Receiving" if count else f"Waiting for motion at {receiver.address}"
                report(min(1.0, at / seconds) if seconds else 0.0, f"{word}, second {at:.0f}")
        except KeyboardInterrupt:
            pass  # the way to end it; the frames so far are kept
        counts = receiver.counts
        if not count:
            raise InputError(_silence(receiver, counts))
    path = out.path if isinstance(out, VirtualCamera) else None if out is None else Path(out)
    median = {name: float(np.median(values)) for name, values in times.items()}
    spent = time.perf_counter() - start
    return StreamReport(path, count, held, counts, spent, median["render"], median["latency"])


def _silence(receiver: MotionReceiver, counts: StreamCounts) -> str:
    address = receiver.address
    if counts.damaged:
        return (
            f"{counts.damaged} packets came to {address}, none of which is {address.protocol.title}; choose the "
            "protocol that the sender speaks."
        )
    return (
        f"No motion came to {address}; let the sender use this machine's address and port {address.port}, and listen "
        f"at {address.scheme}://0.0.0.0:{address.port} for one in the network."
    )
