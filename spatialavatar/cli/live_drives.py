"""Live drives of the commands ``drive`` and ``track``: cameras, streams of motion, and where the pictures go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

if TYPE_CHECKING:
    from spatialavatar.avatar import Avatar
    from spatialavatar.driving import DriveConfig
    from spatialavatar.head import HeadModel
    from spatialavatar.live import StreamReport, VirtualCamera
    from spatialavatar.streams import StreamAddress
    from spatialavatar.webcam import LiveReport


def live_output(file: Path | None, device: Path | None) -> Path | VirtualCamera | None:
    """The output of a live drive: the file, the virtual camera, or None for a window.

    Raises:
        InputError: the device cannot be used, or a file is given too.
    """
    from spatialavatar.live import VirtualCamera

    if device is None:
        return file
    if file is not None:
        raise InputError("A live drive has one output: give either -o or --to.")
    return VirtualCamera(device)


def drive_by_camera(
    avatar: Avatar,
    camera: int,
    out: Path | VirtualCamera | None,
    config: DriveConfig,
    seconds: float | None,
    progress: Progress,
) -> Outcome:
    """Drive with the camera of a number."""
    from spatialavatar.webcam import Webcam, drive_live

    with Webcam(camera) as frames:
        report = drive_live(avatar, frames, out, config, seconds=seconds, progress=progress)
    sentence = (
        f"{report.frames} frames in {report.seconds:.0f} seconds, {report.lost} without a face; tracking took "
        f"{1000 * report.tracking:.0f} ms a frame, rendering {1000 * report.rendering:.0f} ms; a frame was shown "
        f"{1000 * report.latency:.0f} ms after the camera captured it."
    )
    return _outcome(report, report.lost, {"tracking_ms": 1000 * report.tracking}, sentence)


def drive_by_stream(
    avatar: Avatar,
    address: StreamAddress,
    out: Path | VirtualCamera | None,
    config: DriveConfig,
    seconds: float | None,
    progress: Progress,
) -> Outcome:
    """Drive with the motion received at an address."""
    from spatialavatar.live import drive_stream
    from spatialavatar.streams import MotionReceiver

    with MotionReceiver(address) as receiver:
        report = drive_stream(avatar, receiver, out, config, seconds=seconds, progress=progress)
    counts = report.counts
    facts: dict[str, float] = {"packets": counts.packets, "damaged": counts.damaged, "ignored": counts.ignored}
    sentence = (
        f"{report.frames} frames in {report.seconds:.0f} seconds from {counts.packets} packets, {counts.damaged} "
        f"damaged, {counts.ignored} ignored; a frame was shown {1000 * report.latency:.0f} ms after its packet arrived."
    )
    return _outcome(report, report.held, facts, sentence)


def _outcome(report: LiveReport | StreamReport, held: int, facts: dict[str, float], sentence: str) -> Outcome:
    """Outcome of a live drive of which ``held`` frames repeat the motion before."""
    common = {"video": report.path, "frames": report.frames, "held": held, "seconds": report.seconds}
    times = {"rendering_ms": 1000 * report.rendering, "latency_ms": 1000 * report.latency}
    return Outcome([report.path] if report.path else [], {**common, **facts, **times}, notes=[sentence])


def send_camera(options: argparse.Namespace, head: HeadModel, progress: Progress) -> Outcome:
    """Track the camera that ``track --send`` names and send its motion.

    Raises:
        InputError: the input is not a camera, the address cannot be used, or an option has no effect.
    """
    from spatialavatar.streams import MotionSender
    from spatialavatar.streams.sender import sending_address
    from spatialavatar.webcam import Webcam, camera_number, send_live

    address = sending_address(options.send)
    camera = camera_number(str(options.input))
    if camera is None:
        raise InputError("--send sends the motion of a camera: give webcam, or webcam:1, as the input.")
    for name in ("output", "photometric", "report"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} has no effect with --send; leave it out.")
    with MotionSender(address) as sender, Webcam(camera) as frames:
        report = send_live(head, frames, sender, seconds=options.seconds, progress=progress)
    facts = {
        "address": str(address),
        "frames": report.frames,
        "held": report.lost,
        "seconds": report.seconds,
        "tracking_ms": 1000 * report.tracking,
    }
    sentence = (
        f"{report.frames} frames in {report.seconds:.0f} seconds, {report.lost} without a face; tracking took "
        f"{1000 * report.tracking:.0f} ms a frame."
    )
    return Outcome([str(address)], facts, notes=[sentence])
