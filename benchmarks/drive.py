"""A driven frame on this machine: where its processor time goes, frames per second, and memory over a long drive.

    python benchmarks/drive.py AVATAR            # prints markdown
    python benchmarks/drive.py AVATAR --write    # rewrites a section of docs/results/speed.md
    python benchmarks/drive.py AVATAR --minutes 10 --write    # the same for the memory of one long drive

The avatar is a file of ``spatialavatar generate`` that keeps its photo. Each drive runs in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402

MOTION = ROOT / "examples" / "motions" / "talk.json"
SHORT, LONG = 150, 600


def measure_split(path: Path, size: int) -> dict[str, float]:
    """Processor time in ms of each step of a frame, median of 40 frames on one thread."""
    import torch

    from spatialavatar import Avatar, DriveConfig
    from spatialavatar.driving import retarget
    from spatialavatar.head import carried, to_world
    from spatialavatar.motion import load_motion
    from spatialavatar.records import as_uint8_image
    from spatialavatar.render import render, warmup
    from spatialavatar.threads import one_torch_thread

    avatar = Avatar.load(path)
    params, camera = retarget(load_motion(MOTION).to_track(avatar.head), avatar, DriveConfig(size=size))
    identity, white = avatar.identity(), torch.ones(3)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        result = work(*arguments, **options)
        times.setdefault(name, []).append(1000.0 * (time.process_time() - start))
        return result

    warmup()
    with torch.inference_mode(), one_torch_thread():
        for index in range(40):
            one = params[index]
            vertices = timed("pose", avatar.head.pose, identity, one)[0]
            binding = avatar.head, avatar.layout, vertices
            timed("carry, torch", to_world, avatar.local(one), *binding)
            timed("carry, compiled", carried, avatar.local(one), *binding)
            world = timed("pose and carry", avatar.pose, one, identity)
            image, _ = timed("raster", render, world, camera, background=white)
            timed("bytes", as_uint8_image, image)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_drive(path: Path, scene: str, size: int, frames: int) -> dict[str, float]:
    """Frames per second from a motion to a finished video, and this process's processor time of a frame, ms."""
    from spatialavatar import Avatar, DriveConfig, drive
    from spatialavatar.motion import Motion, load_motion
    from spatialavatar.render import warmup

    avatar = Avatar.load(path)
    motion = load_motion(MOTION)
    track = Motion.cat([motion] * (frames // len(motion) + 1)).to_track(avatar.head)[:frames]
    warmup()
    config = DriveConfig(size=size or None, scene=scene)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        drive(avatar, track[:8], Path(folder) / "first.mp4", config, device="cpu")
        start, spent = time.perf_counter(), time.process_time()
        report = drive(avatar, track, Path(folder) / "out.mp4", config, device="cpu")
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
    return {"fps": report.frames / seconds, "cpu": 1000.0 * spent / report.frames}


def measure_memory(path: Path, minutes: int) -> list[float]:
    """Resident memory in MB at the start and after each minute of one drive of 25 frames/s, 64 x 64 pixels."""
    from spatialavatar import Avatar, DriveConfig, drive
    from spatialavatar.motion import Motion, load_motion

    avatar, motion = Avatar.load(path), load_motion(MOTION)
    frames = 60 * 25 * minutes
    track = Motion.cat([motion] * (frames // len(motion) + 1)).to_track(avatar.head)[:frames]
    samples: list[float] = []
    count = 0

    def watch(_: Any) -> None:
        nonlocal count
        if count == 100 or (count and count % 1500 == 0):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append(pages * resource.getpagesize() / 1e6)
        count += 1

    with tempfile.TemporaryDirectory() as folder:
        drive(avatar, track, Path(folder) / "out.mp4", DriveConfig(size=64), device="cpu", watch=watch)
    return samples


def in_fresh_process(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path, nargs="?", help="an avatar file that keeps its photo")
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/results/speed.md")
    parser.add_argument("--minutes", type=int, help="only measure the memory of a drive of this length")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, path, *rest = options.measure
        if what == "split":
            facts = measure_split(Path(path), int(rest[0]))
        else:
            facts = measure_drive(Path(path), rest[0], int(rest[1]), int(rest[2]))
        facts["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(facts))
        return
    if options.avatar is None:
        parser.error("give an avatar file")
    if options.minutes:
        samples = measure_memory(options.avatar, options.minutes)
        shown = ", ".join(f"{value:.0f}" for value in samples)
        text = "\n\n".join(
            [
                "## Memory of a long drive",
                f"`python benchmarks/drive.py AVATAR --minutes {options.minutes}`, on {machine()}. A motion file, "
                "repeated, at 25 frames/s of 64² pixels. Resident memory of the process after 4 seconds of video "
                f"and after each minute, MB: {shown}.",
            ]
        )
        print(text)
        if options.write:
            write_section("drive-memory", text)
        return
    split = in_fresh_process("split", options.avatar, 512)
    short = in_fresh_process("drive", options.avatar, "plain", 512, SHORT)
    long = in_fresh_process("drive", options.avatar, "plain", 512, LONG)
    large = in_fresh_process("drive", options.avatar, "plain", 1024, SHORT)
    photo = in_fresh_process("drive", options.avatar, "photo", 0, SHORT)
    rows = [
        [name, f"{facts['fps']:.1f} frames/s", f"{facts['cpu']:.1f} ms", f"{facts['memory']:.0f} MB"]
        for name, facts in (
            (f"512², {SHORT} frames", short),
            (f"512², {LONG:,} frames", long),
            (f"1,024², {SHORT} frames", large),
            (f"in the photo, at its own size, {SHORT} frames", photo),
        )
    ]
    slope = 1024.0 * (long["memory"] - short["memory"]) / (LONG - SHORT)
    steps = ", ".join(f"{name} {value:.1f}" for name, value in split.items() if name != "memory")
    text = "\n\n".join(
        [
            "## Drive",
            f"`python benchmarks/drive.py AVATAR`, on {machine()}. From a motion to a finished video, with encoding. "
            "CPU is the processor time of a frame in this process, without the encoder's.",
            table(["drive", "speed", "CPU", "peak memory of the process"], rows),
            f"Processor time of the steps of a 512² frame on one thread, ms: {steps}. A frame takes "
            f"{short['cpu'] / split['raster']:.2f} times the processor time of its rasterisation. Memory grows by "
            f"{slope:.1f} KB a frame.",
        ]
    )
    print(text)
    if options.write:
        write_section("drive", text)


if __name__ == "__main__":
    main()
