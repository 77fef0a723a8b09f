"""A drive by a camera on this machine, camera to picture: frames per second, and the processor time of each step.

    python benchmarks/live.py AVATAR                             # prints markdown
    python benchmarks/live.py AVATAR --against CHECKOUT AVATAR   # beside another checkout, with an avatar that it made
    python benchmarks/live.py AVATAR --write                     # rewrites a section of docs/results/speed.md

A file plays as the camera: its frames are scaled to 640 x 480 pixels and handed over as soon as the one before is
taken. Each drive runs in a fresh process.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from benchmarks.report import machine, table, write_section  # noqa: E402

CLIP = ROOT / "examples" / "clips" / "moods.mp4"
RATE = 25.0
CALIBRATION = 30  # frames, during which the avatar rests
WORDS = {
    "crop": "crop",
    "landmarks": "landmark network",
    "scores": "blendshape network",
    "fit": "fit",
    "track": "tracking, all",
    "retarget": "retargeting",
    "pose": "pose and carry",
    "raster": "raster",
    "bytes": "bytes",
    "write": "to the encoder",
}


class Played:
    """The clip as a camera, at its own pace in the tracker's time and as fast as it is taken in this machine's."""

    def __init__(self, frames: int, begin: Callable[[], None]) -> None:
        """Read the clip; ``begin`` is called when the calibration is over."""
        import cv2

        capture = cv2.VideoCapture(str(CLIP))
        self.pictures = []
        while len(self.pictures) < frames and (read := capture.read())[0]:
            small = cv2.resize(read[1], (640, 480), interpolation=cv2.INTER_AREA)
            self.pictures.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
        self.begin, self.wall, self.cpu = begin, 0.0, 0.0

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        for index, picture in enumerate(self.pictures):
            if index == CALIBRATION:
                self.begin()
                self.wall, self.cpu = time.perf_counter(), time.process_time()
            yield index / RATE, picture
        timed = len(self.pictures) - CALIBRATION
        self.wall = 1000.0 * (time.perf_counter() - self.wall) / timed
        self.cpu = 1000.0 * (time.process_time() - self.cpu) / timed


def measure(path: Path, frames: int, *, split: bool) -> dict[str, float]:
    """Facts of one drive with the package that Python finds first, times in ms; ``split``: also of each step."""
    import numpy as np

    from spatialavatar import Avatar, DriveConfig
    from spatialavatar.render import warmup
    from spatialavatar.webcam import drive_live

    warmup()
    steps: dict[str, list[float]] = {}
    if split:
        watch_steps(steps)
    avatar = Avatar.load(path)
    bust = getattr(avatar, "bust", None)  # avatars of old versions have none
    camera = Played(frames, steps.clear)
    with tempfile.TemporaryDirectory() as folder:
        encoder = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = drive_live(avatar, camera, Path(folder) / "out.mp4", DriveConfig(size=512))
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = ended.ru_utime - encoder.ru_utime + ended.ru_stime - encoder.ru_stime
    facts = {name: float(np.median(times)) for name, times in steps.items() if times}
    return facts | {
        "wall": camera.wall,
        "cpu": camera.cpu,
        "encoder": 1000.0 * spent / report.frames,
        "lost": report.lost,
        "gaussians": len(avatar.gaussians) + (0 if bust is None else len(bust.gaussians)),
    }


def watch_steps(steps: dict[str, list[float]]) -> None:
    """Collect the processor times of the threads that take the steps of a frame, in ms."""
    from spatialavatar import driving, staging, webcam
    from spatialavatar.avatar import Avatar
    from spatialavatar.media import VideoWriter
    from spatialavatar.tracking import live
    from spatialavatar.tracking.landmarker import Roi
    from spatialavatar.tracking.runtimes import LiteRTNetwork

    def watch(owner: Any, name: str, step: str | Callable[..., str]) -> None:
        work = getattr(owner, name)

        @functools.wraps(work)
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return work(*arguments, **options)
            finally:
                key = step if isinstance(step, str) else step(*arguments)
                steps.setdefault(key, []).append(1000.0 * (time.thread_time() - start))

        setattr(owner, name, timed)

    watch(Roi, "crop", "crop")
    watch(LiteRTNetwork, "__call__", lambda _, tensor: "landmarks" if tensor.ndim == 4 else "scores")
    watch(live.FrameFit, "__call__", "fit")
    watch(live.LiveTracker, "update", "track")
    watch(driving.FrameRenderer, "moved", "retarget")
    watch(driving.FrameRenderer, "drawn", "draw")
    watch(Avatar, "pose", "pose")
    watch(staging, "render", "raster")
    watch(staging, "as_uint8_image", "bytes")
    watch(VideoWriter, "write", "write")
    assert webcam.FrameRenderer is driving.FrameRenderer


def in_fresh_process(checkout: Path, path: Path, frames: int, *, split: bool = False) -> dict[str, float]:
    """Facts of one drive by the package of ``checkout``; ``split``: also of each step, with kernels on one thread."""
    command = [sys.executable, __file__, str(path.resolve()), "--frames", str(frames), "--measure", str(checkout)]
    environment = {**os.environ, **({"SPATIALAVATAR_THREADS": "1"} if split else {})}
    command += ["--split"] if split else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=checkout, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def split_table(facts: dict[str, float]) -> str:
    """The processor time of each step, of tracking and of drawing."""
    rows = [(words, f"{facts[name]:.1f}") for name, words in WORDS.items() if name in facts]
    rows += [
        ("**tracking and retargeting**", f"**{tracking(facts):.1f}**"),
        ("**drawing**", f"**{drawing(facts):.1f}**"),
        ("encoder", f"{facts['encoder']:.1f}"),
    ]
    return table(["step of a frame, median", "processor, ms"], rows)


def tracking(facts: dict[str, float]) -> float:
    """Processor time of the thread that tracks and retargets, ms."""
    return facts["track"] + facts["retarget"]


def drawing(facts: dict[str, float]) -> float:
    """Processor time of drawing, with kernels on one thread, ms."""
    return facts["draw"] + facts.get("write", 0.0)


def speed_row(name: str, facts: dict[str, float]) -> list[str]:
    """A row of the table of speeds."""
    return [
        name,
        f"{facts['gaussians']:,.0f}",
        f"{1000.0 / facts['wall']:.1f}",
        f"{facts['cpu']:.0f}",
        f"{facts['encoder']:.0f}",
        f"{facts['lost']:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path, help="an avatar file")
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--against", type=Path, nargs=2, metavar=("CHECKOUT", "AVATAR"), help="what to compare with")
    parser.add_argument("--rounds", type=int, default=2, help="drives of each; the fastest counts")
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/results/speed.md")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--split", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        sys.path.insert(0, str(options.measure))
        print(json.dumps(measure(options.avatar, options.frames, split=options.split)))
        return
    pairs = {"this version": (ROOT, options.avatar)}
    if options.against:
        pairs["the other"] = tuple(options.against)
    drives: dict[str, list[dict[str, float]]] = {name: [] for name in pairs}
    for _ in range(options.rounds):
        for name, (checkout, avatar) in pairs.items():
            drives[name].append(in_fresh_process(checkout, avatar, options.frames))
    best = {name: min(facts, key=lambda one: one["wall"]) for name, facts in drives.items()}
    mine, steps = best["this version"], in_fresh_process(ROOT, options.avatar, options.frames, split=True)
    header = ["version", "Gaussians", "frames/s", "CPU, ms", "encoder, ms", "frames without a face"]
    parts = [
        "## Webcam",
        f"`python benchmarks/live.py AVATAR{' --against CHECKOUT AVATAR' if options.against else ''}`, on {machine()}. "
        f"The first {options.frames} frames of `{CLIP.name}` as a camera of 640 x 480 pixels, to a video of 512², "
        f"without the {CALIBRATION} of the calibration; the faster of {options.rounds} drives. CPU is the processor "
        "time of a frame in this process over all threads; the encoder is a process of its own.",
        table(header, [speed_row(name, facts) for name, facts in best.items()]),
    ]
    if options.against:
        other = best["the other"]
        parts.append(
            f"Side by side: {other['wall'] / mine['wall']:.2f} times the frames per second, "
            f"{other['cpu'] / mine['cpu']:.2f} times less processor time."
        )
    busiest = max(tracking(steps), 0.5 * (tracking(steps) + drawing(steps) + steps["encoder"]))
    parts += [
        "One thread tracks and retargets the next frame while the others draw this one. With the processor times of "
        "one more drive, whose kernels ran on one thread, two free cores give at most "
        f"{1000.0 / busiest:.0f} frames/s:",
        split_table(steps),
    ]
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        write_section("webcam", text)


if __name__ == "__main__":
    main()
