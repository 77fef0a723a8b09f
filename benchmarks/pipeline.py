"""The whole way on this machine: photo to avatar, avatar to video; time, frames per second and memory.

    python benchmarks/pipeline.py            # prints markdown
    python benchmarks/pipeline.py --write    # rewrites a section of docs/results/speed.md

Each figure comes from a fresh process, so that its peak memory is its own. Driving is measured with 300 and with 3,000
frames: the stream must not need more memory for more frames. The rasteriser's share is measured beside it.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402

PHOTO = ROOT / "examples" / "portraits" / "street.jpg"
CLIP = ROOT / "examples" / "clips" / "moods.mp4"
MOTION = ROOT / "examples" / "motions" / "talk.json"


def measure_generate(avatar: Path) -> dict[str, float]:
    """Cold (networks loaded, kernels read from the cache) and warm seconds for one 1024-pixel photo."""
    from PIL import Image

    from spatialavatar import generate

    photo = Image.open(PHOTO).convert("RGB")
    photo = photo.resize((1024, round(photo.height * 1024 / photo.width)), Image.Resampling.LANCZOS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        photo.save(path)
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            made = generate([path])
            seconds.append(time.perf_counter() - start)
    made.save(avatar)
    return {"cold": seconds[0], "warm": statistics.median(seconds[1:])}


def measure_drive(avatar: Path, frames: int) -> dict[str, float]:
    """Frames per second from a motion to a finished 512-pixel video, and of the rasteriser alone on the same avatar."""
    import torch

    from spatialavatar import Avatar, DriveConfig, drive
    from spatialavatar.driving import portrait_view
    from spatialavatar.motion import Motion, load_motion
    from spatialavatar.render import render, warmup

    loaded = Avatar.load(avatar)
    motion = load_motion(MOTION)
    whole = Motion.cat([motion] * (frames // len(motion) + 1))
    track = whole.to_track(loaded.head)
    track = track[:frames]
    warmup()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = drive(loaded, track, Path(folder) / "out.mp4", DriveConfig(), device="cpu")
        seconds = time.perf_counter() - start
    camera, home = portrait_view(loaded)
    gaussians = loaded.pose(loaded.head.neutral().replace(translation=home[None]))
    times = []
    with torch.inference_mode():
        for _ in range(15):
            start = time.perf_counter()
            render(gaussians, camera)
            times.append(time.perf_counter() - start)
    return {"fps": report.frames / seconds, "raster": 1.0 / statistics.median(times), "gaussians": len(gaussians)}


def measure_track() -> dict[str, float]:
    """Frames per second of tracking the example clip."""
    from spatialavatar.avatar import default_head
    from spatialavatar.tracking import track_video

    head = default_head()
    start = time.perf_counter()
    track = track_video(CLIP, head)
    return {"fps": len(track) / (time.perf_counter() - start)}


def in_fresh_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/results/speed.md")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, *rest = options.measure
        steps = {
            "generate": lambda: measure_generate(Path(rest[0])),
            "drive": lambda: measure_drive(Path(rest[0]), int(rest[1])),
            "track": measure_track,
        }
        facts = steps[what]()
        facts["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(facts))
        return
    with tempfile.TemporaryDirectory() as folder:
        avatar = str(Path(folder) / "avatar.safetensors")
        made = in_fresh_process("generate", avatar)
        short = in_fresh_process("drive", avatar, "300")
        long = in_fresh_process("drive", avatar, "3000")
        tracked = in_fresh_process("track")
    rows = [
        ["photo to avatar, first in a process", f"{made['cold']:.1f} s", f"{made['memory']:.0f} MB"],
        ["photo to avatar, warm", f"{made['warm']:.1f} s", ""],
        ["motion to video, 512², 300 frames", f"{short['fps']:.1f} frames/s", f"{short['memory']:.0f} MB"],
        ["motion to video, 512², 3,000 frames", f"{long['fps']:.1f} frames/s", f"{long['memory']:.0f} MB"],
        ["rasteriser alone on that avatar", f"{short['raster']:.1f} frames/s", ""],
        ["tracking the example clip", f"{tracked['fps']:.1f} frames/s", f"{tracked['memory']:.0f} MB"],
    ]
    text = "\n\n".join(
        [
            "## Pipeline",
            f"`python benchmarks/pipeline.py`, on {machine()}. One photo scaled to 1,024 pixels; an avatar of "
            f"{short['gaussians']:,.0f} Gaussians; video with encoding.",
            table(["step", "speed", "peak memory of the process"], rows),
            f"3,000 frames take {long['memory'] / short['memory']:.2f} times the memory of 300. A driven frame takes "
            f"{short['raster'] / short['fps']:.1f} times the time of its rasterisation.",
        ]
    )
    print(text)
    if options.write:
        write_section("pipeline", text)


if __name__ == "__main__":
    main()
