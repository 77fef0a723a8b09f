"""The command ``live``: an avatar as a page that follows a camera, a stream or a motion file, for OBS."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_number
from spatialavatar.cli.output import Outcome
from spatialavatar.cli.process import print_error
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

if TYPE_CHECKING:
    from spatialavatar.head import HeadModel
    from spatialavatar.streams import MotionFrame

_QUERY = "?motion&transparent"


def declare(commands: Commands) -> None:
    """Add the command of this module."""
    command = commands.add(
        "Make it move",
        "live",
        _live,
        "Serve an avatar's page that follows a webcam or a stream, for OBS",
        "live me.safetensors --motion webcam",
    )
    command.add_argument("avatar", type=Path, metavar="AVATAR", help="an avatar's file, or you/name on the Hub")
    command.add_argument(
        "--motion",
        required=True,
        help="webcam (webcam:1: second camera), a stream such as osc://:39539 (docs/guide/live.md), or a motion file "
        "of ARKit units, which is repeated",
    )
    command.add_argument("--host", default="127.0.0.1", help="the interface that serves, default: %(default)s")
    add_number(command, "--port", Limits(1, 65535), "the port, default: %(default)s", 8765)
    command.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let the pages of this origin read the motion too, such as https://example.org; may be repeated",
    )
    add_number(command, "--seconds", Limits(0.1, 86_400, whole=False), "how long to serve, default: until Ctrl-C")


def _live(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.avatar import Avatar
    from spatialavatar.export.html import html_page
    from spatialavatar.live.messages import encode_message
    from spatialavatar.live.server import LiveServer, ServerPlace

    place = ServerPlace(options.host, int(options.port), tuple(options.allow_origin))
    _check_motion(options.motion)
    avatar = Avatar.from_pretrained(options.avatar)
    with LiveServer(html_page(avatar, streams="'self'"), place) as server:
        address = place.address() + _QUERY
        frames, start, at = 0, time.perf_counter(), 0.0
        if not options.quiet:
            print_error(f"Open {address} in a browser, or as a browser source in OBS; Ctrl-C ends it.")
        try:
            for frame in _frames(options.motion, avatar.head):
                at = time.perf_counter() - start
                if options.seconds is not None and at >= options.seconds:
                    break
                if frame is not None:
                    server.publish(encode_message(frame))
                    frames += 1
                progress(min(1.0, at / options.seconds) if options.seconds else 0.0, f"Serving, second {at:.0f}")
        except KeyboardInterrupt:
            pass  # the way to end it
    facts = {"address": address, "frames": frames, "seconds": time.perf_counter() - start}
    return Outcome([address], facts, text=f"{frames} frames in {facts['seconds']:.0f} seconds.")


def _check_motion(motion: str) -> None:
    """Refuse, before the avatar is loaded, what cannot be a live motion.

    Raises:
        InputError: it is a video, a track or FLAME parameters.
    """
    from spatialavatar.motion import ARKIT_SUFFIXES
    from spatialavatar.streams import StreamAddress, is_stream
    from spatialavatar.webcam import camera_number

    if is_stream(motion):
        StreamAddress.parse(motion)
    elif camera_number(motion) is None and Path(motion).suffix.lower() not in ARKIT_SUFFIXES:
        raise InputError(
            f"{Path(motion).name} is not a live motion; give webcam, a stream, or a motion file, which 'spatialavatar "
            "track' writes of a video."
        )


def _frames(motion: str, head: HeadModel) -> Iterator[MotionFrame | None]:
    """Frames as they arrive, relative to the pose at rest; None after a while without one."""
    from spatialavatar.live import CameraMotion
    from spatialavatar.live.poses import RestingPose
    from spatialavatar.motion import load_motion
    from spatialavatar.streams import MotionReceiver, StreamAddress, file_frames, is_stream
    from spatialavatar.tracking.live import LiveTracker
    from spatialavatar.webcam import Webcam, camera_number

    camera = camera_number(motion)
    if camera is not None:
        with Webcam(camera) as pictures:
            follower = CameraMotion(LiveTracker(head))
            for at, picture in pictures:
                yield follower.update(picture, at)[1]
    elif is_stream(motion):
        address = StreamAddress.parse(motion)
        rest = RestingPose(address.protocol.from_camera)
        with MotionReceiver(address) as receiver:
            for arrival in receiver.arrivals(0.5):
                if arrival is None:
                    yield None
                else:
                    rest.observe(arrival.frame, arrival.at)
                    yield rest.relative(arrival.frame)
    else:
        take = load_motion(motion)
        frames = list(file_frames(take))
        start, count = time.perf_counter(), 0
        while True:
            time.sleep(max(0.0, start + count / take.fps - time.perf_counter()))
            yield frames[count % len(frames)]
            count += 1
