"""A drive by a camera on this machine: tracking and rendering of each frame of a file that is played as the camera.

    python benchmarks/live.py AVATAR            # prints markdown
    python benchmarks/live.py AVATAR --write    # rewrites a section of docs/results/speed.md

The frames are scaled to the camera's 640 x 480 pixels and handed over as soon as the one before is shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar import Avatar, DriveConfig  # noqa: E402
from spatialavatar.media import VideoReader  # noqa: E402
from spatialavatar.render import warmup  # noqa: E402
from spatialavatar.webcam import drive_live  # noqa: E402

CLIP = ROOT / "examples" / "clips" / "moods.mp4"
RATE = 25.0
CALIBRATION = 30  # frames, during which the avatar rests


class Played:
    """The clip as a camera, at its own pace in the tracker's time and as fast as it is taken in this machine's."""

    def __init__(self, frames: int) -> None:
        self.frames, self.wall, self.cpu = frames, 0.0, 0.0

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        pictures = []
        for picture in VideoReader(CLIP):
            pictures.append(cv2.resize(picture, (640, 480), interpolation=cv2.INTER_AREA))
            if len(pictures) == self.frames:
                break
        for index, picture in enumerate(pictures):
            if index == CALIBRATION:
                self.wall, self.cpu = time.perf_counter(), time.process_time()
            yield index / RATE, picture
        timed = len(pictures) - CALIBRATION
        self.wall = 1000.0 * (time.perf_counter() - self.wall) / timed
        self.cpu = 1000.0 * (time.process_time() - self.cpu) / timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path, help="an avatar file")
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/results/speed.md")
    options = parser.parse_args()
    warmup()
    camera = Played(options.frames)
    with tempfile.TemporaryDirectory() as folder:
        report = drive_live(Avatar.load(options.avatar), camera, Path(folder) / "out.mp4", DriveConfig(size=512))
    row = [
        f"{1000.0 / camera.wall:.1f} frames/s",
        f"{1000.0 * report.tracking:.0f} ms",
        f"{1000.0 * report.rendering:.0f} ms",
        f"{camera.cpu:.0f} ms",
        str(report.lost),
    ]
    text = "\n\n".join(
        [
            "## Webcam",
            f"`python benchmarks/live.py AVATAR`, on {machine()}. The first {options.frames} frames of `{CLIP.name}` "
            f"as a camera of 640 x 480 pixels, to a video of 512², without the {CALIBRATION} of the calibration.",
            table(["speed", "tracking, median", "rendering, median", "CPU a frame", "frames without a face"], [row]),
        ]
    )
    print(text)
    if options.write:
        write_section("webcam", text)


if __name__ == "__main__":
    main()
