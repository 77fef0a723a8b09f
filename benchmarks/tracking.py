"""How well and how fast videos and photos are tracked; prints markdown tables, or writes docs/results/tracking.md.

    python benchmarks/tracking.py                       # the clips listed below, from ../shared/data; prints
    python benchmarks/tracking.py --write               # and rewrites the section of docs/results/tracking.md
    python benchmarks/tracking.py FILES_OR_FOLDERS...   # videos and photos of your own
    python benchmarks/tracking.py --memory [--write]    # peak memory for 1 and 10 minutes of 720p, some minutes of work

Errors are mean distances of the head's 478 landmarks to the detected ones, in percent of the distance of the outer eye
corners in the same frame. Jitter is the second difference from frame to frame, on the stillest tenth of the frames, of
points that move with the skull only. Eyes count as shut by the network where the mean of both blink scores is above
0.5, and as shut in the head where no eyeball is seen between the lids; precision and recall are the head's. Frames/s is
of CPU time, all threads together: a machine with other work gives fewer by the clock.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar import hub  # noqa: E402
from spatialavatar.errors import SpatialAvatarError  # noqa: E402
from spatialavatar.head import HeadModel, load_head  # noqa: E402
from spatialavatar.head.arkit import ARKIT_INDEX  # noqa: E402
from spatialavatar.media import is_image, read_image  # noqa: E402
from spatialavatar.records import Track  # noqa: E402
from spatialavatar.tracking import track_photo, track_video  # noqa: E402
from spatialavatar.tracking.fit import eye_distance  # noqa: E402
from spatialavatar.tracking.lids import CLOSED_GAP, lid_gaps  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
CLIPS = (
    *(f"measure/{name}.mp4" for name in ("celebv", "german", "headrot", "portrait_d13", "wojtek")),
    *(
        f"clips/{name}.mp4"
        for name in (
            "cap4d_felix",
            "celebv_B16Hv59sixs_14_0",
            "celebv_d8g60sx6rus_5_0",
            "hdtf_WDA_EdMarkey0_000",
            "latentsync_demo2_video",
            "leszko_face",
            "liax_driving1",
            "liveportrait_d10",
            "mead_M026_level_3_disgusted_018",
            "mead_W036_level_3_happy_007",
            "renderme_0916_MARY_e_1",
            "renderme_1211_TAHONINA_h1_6bk",
            "renderme_MARYNA_e_9",
            "retalking_face4",
            "skyreels_driving3",
            "talkvid_Age_60plus",
            "talkvid_Gender_female_1",
            "talkvid_Ethnicity_Asian_2",
            "talkvid_Language_hi",
            "xportrait_driving_video",
        )
    ),
)
MEMORY_CLIP = "measure/portrait_d13.mp4"  # 720 x 1280
MEMORY_FPS = 15
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi")


def landmark_errors(track: Track, head: HeadModel) -> Tensor:
    """(T,) mean distance of the head's landmarks to the detected ones, percent of the eye distance."""
    detected = track.require_evidence().require_landmarks()
    distance = (fitted_landmarks(track, head) - detected).norm(dim=-1).mean(1)
    return 100 * distance / eye_distance(detected)


def fitted_landmarks(track: Track, head: HeadModel) -> Tensor:
    """(T, 478, 2) the head's landmarks in the crop, pixels."""
    return track.camera.project(head.landmarks(head.vertices(track.params)))


def measure_photos(paths: list[Path], head: HeadModel) -> list[str]:
    """A row: set, photos, tracked, mean, median, 95th percentile and largest error, median seconds."""
    found, seconds, refused = [], [], []
    for path in paths:
        started = time.perf_counter()
        try:
            track = track_photo(read_image(path), head, name=path.name)
        except SpatialAvatarError as error:
            refused.append(str(error))
            continue
        seconds.append(time.perf_counter() - started)
        found.append(float(landmark_errors(track, head)[0]))
    for sentence in refused:
        print(sentence, file=sys.stderr)
    if not found:
        return [paths[0].parent.name, str(len(paths)), "0", *["-"] * 5]
    return [
        paths[0].parent.name,
        str(len(paths)),
        f"{len(found)} ({100 * len(found) / len(paths):.1f} %)",
        f"{np.mean(found):.2f}",
        f"{np.median(found):.2f}",
        f"{np.percentile(found, 95):.2f}",
        f"{max(found):.2f}",
        f"{statistics.median(seconds):.2f}",
    ]


class Videos:
    """What is measured of videos: a row for each, and one for all frames together."""

    HEADER = (
        "clip",
        "frames",
        "not tracked",
        "median error %",
        "95th",
        "jitter of the fit %",
        "over the detector's",
        "eyes shut",
        "precision",
        "recall",
        "yaw °",
        "frames/s",
    )

    def __init__(self, head: HeadModel) -> None:
        self.rows: list[list[str]] = []
        self._head = head
        self._errors: list[torch.Tensor] = []
        self._ratios: list[float] = []
        self._shut = np.zeros(3, dtype=int)  # in both, in the head, by the network
        self._frames, self._lost, self._seconds = 0, 0, 0.0

    def measure(self, path: Path) -> None:
        """Track one and add its row."""
        started = time.process_time()
        track = track_video(path, self._head)
        seconds = time.process_time() - started
        quality = track.require_quality()
        errors, yaw = 100 * quality.error[quality.tracked], quality.yaw[quality.tracked]
        fitted, detected = (100 * quality.jitter).tolist()
        shut = self._shut_eyes(track)
        lost = int((~quality.tracked).sum())
        self._errors.append(errors)
        self._ratios.append(fitted / detected)
        self._shut += shut
        self._frames, self._lost, self._seconds = self._frames + len(track), self._lost + lost, self._seconds + seconds
        self.rows.append(
            [
                path.stem,
                str(len(track)),
                str(lost),
                f"{errors.median():.2f}",
                f"{errors.quantile(0.95):.2f}",
                f"{fitted:.3f}",
                f"{fitted / detected:.2f}",
                *_precision_and_recall(shut),
                f"{yaw.min():.0f} to {yaw.max():.0f}",
                f"{len(track) / seconds:.0f}",
            ]
        )

    def summary(self) -> list[str]:
        """The row of all frames; its jitter is the median over the clips."""
        errors = torch.cat(self._errors)
        return [
            "**all**",
            str(self._frames),
            str(self._lost),
            f"{errors.median():.2f}",
            f"{errors.quantile(0.95):.2f}",
            "",
            f"{statistics.median(self._ratios):.2f}",
            *_precision_and_recall(self._shut),
            "",
            f"{self._frames / self._seconds:.0f}",
        ]

    def _shut_eyes(self, track: Track) -> np.ndarray:
        """Frames with shut eyes: in both, in the head, by the network."""
        good = track.confidence > 0
        blinks = [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]
        scores = track.require_evidence().blendshapes[:, blinks].mean(1)
        network = (scores > 0.5) & good
        head = (lid_gaps(self._head, track.params) <= CLOSED_GAP).all(1) & good
        return np.array([int((network & head).sum()), int(head.sum()), int(network.sum())])


def _precision_and_recall(shut: np.ndarray) -> list[str]:
    both, head, network = shut.tolist()
    return [str(network), f"{both / head:.2f}" if head else "-", f"{both / network:.2f}" if network else "-"]


def measure_memory() -> list[list[str]]:
    """Rows of length, frames, peak memory before and after, frames/s, each from a process of its own."""
    import imageio_ffmpeg

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base.mp4"
        encode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(DATA / MEMORY_CLIP), "-an"]
        subprocess.run([*encode, "-r", str(MEMORY_FPS), "-c:v", "libx264", "-crf", "19", str(base)], check=True)
        for minutes in (1, 10):
            looped = Path(folder) / f"{minutes}.mp4"
            loop = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "1000", "-i", str(base)]
            subprocess.run([*loop, "-c", "copy", "-t", str(60 * minutes), str(looped)], check=True)
            measured = subprocess.run(
                [sys.executable, __file__, "--memory-of", str(looped)], check=True, capture_output=True, text=True
            )
            rows.append([f"{minutes} min", *measured.stdout.split()])
            print(rows[-1], file=sys.stderr)
    return rows


def print_memory(path: Path, head: HeadModel) -> None:
    """Print frames, MiB before tracking and at the peak, frames per second by the clock and of CPU time."""
    before = _peak()
    clock, cpu = time.perf_counter(), time.process_time()
    frames = len(track_video(path, head))
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    print(frames, f"{before:.0f}", f"{_peak():.0f}", f"{frames / clock:.1f}", f"{frames / cpu:.1f}")


def _peak() -> float:
    """Peak resident memory of this process alone, MiB (getrusage would count what it was forked from)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def files_under(path: Path) -> list[Path]:
    """The path itself, or the files right in the folder."""
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=Path, nargs="*", help="photos, videos, or folders of them")
    parser.add_argument("--match", default="", help="only files whose names hold this text")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory instead")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="rewrite the section of docs/results/tracking.md")
    options = parser.parse_args()
    head = load_head(hub.weights_dir() / "head")
    if options.memory_of:
        print_memory(options.memory_of, head)
        return
    command = f"`python benchmarks/tracking.py{' --memory' if options.memory else ''}`, on {machine()}."
    if options.memory:
        header = ["video", "frames", "MiB before", "MiB at the peak", "frames/s by the clock", "of CPU time"]
        explained = f"720 x 1280 pixels, {MEMORY_FPS} frames a second, one clip looped; the decoder is a process apart."
        text = f"## Memory\n\n{command} {explained}\n\n{table(header, measure_memory())}"
    else:
        files = [file for given in options.inputs or [DATA / clip for clip in CLIPS] for file in files_under(given)]
        files = [file for file in files if options.match in file.name]
        parts = ["## Accuracy and speed", command, (__doc__ or "").strip().split("\n\n")[-1]]
        photos = [file for file in files if is_image(file)]
        if photos:
            header = ["photos", "count", "tracked", "mean error %", "median", "95th", "largest", "s a photo"]
            parts.append(table(header, [measure_photos(photos, head)]))
        videos = Videos(head)
        for file in files:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                videos.measure(file)
                print(videos.rows[-1], file=sys.stderr)
        if videos.rows:
            parts.append(table(Videos.HEADER, [*videos.rows, videos.summary()]))
        text = "\n\n".join(parts)
    if options.write:
        write_section("tracking-memory" if options.memory else "tracking", text)
    print(text)


if __name__ == "__main__":
    main()
