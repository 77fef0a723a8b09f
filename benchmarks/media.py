"""Frame-accurate check of reading and writing video: colour, duration and sound of clips of many kinds.

    PYTHONPATH=. python benchmarks/media.py            # prints the table
    PYTHONPATH=. python benchmarks/media.py --write    # and puts it into docs/results/media.md

Each clip shows skin tones, greys and colours whose sRGB values are known, flashes for one frame, and clicks at the time
of the flash. HLG and PQ signals are computed from the formulas of ITU-R BT.2100, not by the library that reads them.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.report import write_section
from spatialavatar.media import VideoReader, VideoWriter, ffmpeg_program

WIDTH, HEIGHT = 256, 128
SECONDS = 2.0
FLASH = 1.0  # seconds after the first frame
SOUND_RATE = 48_000
PAPER_WHITE, PEAK = 203.0, 1000.0  # cd/m2: ITU-R BT.2408
SKIN = ((62, 40, 32), (94, 60, 44), (141, 85, 56), (172, 118, 86), (198, 144, 110), (202, 160, 136))
OTHERS = ((20, 20, 20), (60, 60, 60), (128, 128, 128), (190, 190, 190), (150, 60, 60), (60, 120, 70), (60, 80, 160))
WHITE = (250, 250, 250)
PATCHES = (*SKIN, *OTHERS, WHITE)
# "container codec depth", common combinations.
KINDS = (
    ("mp4", "h264", 8),
    ("mp4", "hevc", 10),
    ("mov", "prores", 10),
    ("mov", "hevc", 10),
    ("mkv", "hevc", 10),
    ("mkv", "h264", 8),
    ("mkv", "av1", 10),
    ("webm", "vp9", 8),
    ("webm", "vp9", 10),
    ("ts", "h264", 8),
    ("vob", "mpeg2", 8),
    ("avi", "mpeg4", 8),
)
ENCODERS = {
    "h264": ("libx264", "-preset", "veryfast", "-crf", "12"),
    "hevc": ("libx265", "-preset", "veryfast", "-crf", "12", "-x265-params", "log-level=error"),
    "prores": ("prores_ks",),
    "av1": ("libaom-av1", "-cpu-used", "8", "-crf", "16"),
    "vp9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "16", "-b:v", "0"),
    "mpeg2": ("mpeg2video", "-q:v", "2"),
    "mpeg4": ("mpeg4", "-q:v", "2"),
}
SOUND_ENCODERS = {"webm": "libopus", "vob": "mp2", "avi": "libmp3lame"}
TRANSFERS = {"709": ("bt709", "bt709", "bt709"), "HLG": ("arib-std-b67", "bt2020", "bt2020nc")}
TRANSFERS["PQ"] = ("smpte2084", "bt2020", "bt2020nc")
RATES = (Fraction(24000, 1001), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(60))


@dataclass(frozen=True)
class Clip:
    """One kind of clip.

    Attributes:
        container, codec: as a file has them.
        depth: bits.
        transfer: "709", "HLG" or "PQ".
        rate: frames per second.
        rotation: degrees that a player turns the picture by.
        sound_offset: seconds from the first picture to the first sample of sound.
    """

    container: str
    codec: str
    depth: int
    transfer: str = "709"
    rate: Fraction = Fraction(25)
    rotation: int = 0
    sound_offset: float = 0.0


@dataclass(frozen=True)
class Result:
    """The measured errors of a clip.

    Attributes:
        skin: mean and largest error of the skin tones, levels of 255.
        colour: mean error of all patches but white.
        white: error of paper white.
        frames: frames read, less those written.
        flash: frame of the flash, less where it was written.
        sync: sound after picture in a video that is written from the clip, frames.
    """

    skin: tuple[float, float]
    colour: float
    white: float
    frames: int
    flash: int
    sync: float


def clips() -> Iterator[Clip]:
    """All valid combinations."""
    for (container, codec, depth), transfer, rate, rotation, offset in itertools.product(
        KINDS, TRANSFERS, RATES, (0, 90, 180), (0.0, 0.4, -0.7)
    ):
        if transfer != "709" and (depth == 8 or codec == "prores"):
            continue
        if rotation and container not in ("mp4", "mov"):
            continue
        if container == "vob" and rate in (60, 30):  # not rates of DVD
            continue
        if container == "avi" and offset:  # its streams all start at zero
            continue
        yield Clip(container, codec, depth, transfer, rate, rotation, offset)


def sample(count: int, seed: int = 0) -> list[Clip]:
    """Combinations drawn so that each container, depth and transfer appears as often as the others."""
    rng = random.Random(seed)
    groups: dict[tuple[str, str, int, str], list[Clip]] = {}
    for clip in clips():
        groups.setdefault((clip.container, clip.codec, clip.depth, clip.transfer), []).append(clip)
    for group in groups.values():
        rng.shuffle(group)
    order = list(groups.values())
    return [order[index % len(order)].pop() for index in range(count)]


def picture() -> np.ndarray:
    """(H, W, 3) uint8 sRGB: the patches in two rows, and at the right edge a black square that will flash."""
    columns = len(PATCHES) // 2
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for index, colour in enumerate(PATCHES):
        row, column = divmod(index, columns)
        out[row * 64 : row * 64 + 64, column * 32 : column * 32 + 32] = colour
    return out


def make(clip: Clip, path: Path) -> int:
    """Write the clip; returns its number of frames."""
    count = round(SECONDS * clip.rate)
    flash = round(FLASH * clip.rate)
    shown = picture()
    lit = shown.copy()
    lit[32:96, -32:] = 255
    turned = [np.ascontiguousarray(np.rot90(frame, -clip.rotation // 90)) for frame in (shown, lit)]
    dark, light = (_signal(frame, clip.transfer) for frame in turned)
    transfer, primaries, matrix = TRANSFERS[clip.transfer]
    if clip.container == "avi":  # has no tags, and the picture is small
        matrix = "smpte170m"
    height, width = turned[0].shape[:2]
    layout = "422" if clip.codec == "prores" else "420"
    pixels = f"yuv{layout}p10le" if clip.depth == 10 else f"yuv{layout}p"
    tags = f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range=tv"
    scale = f"scale=out_color_matrix={matrix.removesuffix('nc')}:out_range=tv:flags=accurate_rnd+full_chroma_int"
    sound = path.with_suffix(".wav")
    _write_click(sound, float(flash / clip.rate) - clip.sound_offset)
    whole = path.with_name(f"whole.{path.suffix[1:]}")
    # fmt: off
    command = [
        ffmpeg_program(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", f"{width}x{height}",
        "-r", str(clip.rate), "-i", "pipe:0", "-itsoffset", str(clip.sound_offset), "-i", str(sound),
        "-map", "0:v", "-map", "1:a", "-vf", f"{scale},format={pixels},{tags}",
        "-c:v", *ENCODERS[clip.codec], "-g", "12", "-bf", "0" if clip.codec in ("mpeg4",) else "2",
        "-c:a", SOUND_ENCODERS.get(clip.container, "aac"), "-ar", str(SOUND_RATE), str(whole),
    ]
    # fmt: on
    frames = b"".join((light if index == flash else dark).tobytes() for index in range(count))
    subprocess.run(command, input=frames, check=True)
    sound.unlink()
    if clip.rotation:
        turn = ["-display_rotation", str(clip.rotation), "-i", str(whole), "-map", "0", "-c", "copy", str(path)]
        subprocess.run([ffmpeg_program(), "-v", "error", "-y", *turn], check=True)
    else:
        whole.rename(path)
    return count


def measure(clip: Clip, folder: Path) -> Result:
    """Make the clip, read it, and write it again with its sound."""
    path, again = folder / f"clip.{clip.container}", folder / "again.mp4"
    count = make(clip, path)
    reader = VideoReader(path)
    lights, middle, read = [], None, 0
    with VideoWriter(again, reader.size, reader.fps, audio_from=path) as writer:
        for frame in reader:
            writer.write(frame)
            lights.append(float(frame[48:80, -24:-8].mean()))
            if read == count // 4:
                middle = frame
            read += 1
    assert middle is not None
    seen = _patches(middle)
    error = np.abs(seen - np.asarray(PATCHES, float))
    flash = int(np.argmax(lights))
    sync = (click_time(again) - flash / reader.fps) * reader.fps
    skin = error[: len(SKIN)]
    return Result(
        (float(skin.mean()), float(skin.max())),
        float(error[:-1].mean()),
        float(error[-1].mean()),
        read - count,
        flash - round(FLASH * clip.rate),
        sync,
    )


def _patches(frame: np.ndarray) -> np.ndarray:
    """(P, 3) mean colours of the patches' middles."""
    columns = len(PATCHES) // 2
    return np.stack(
        [
            frame[row * 64 + 16 : row * 64 + 48, column * 32 + 8 : column * 32 + 24].reshape(-1, 3).mean(0)
            for row, column in (divmod(index, columns) for index in range(len(PATCHES)))
        ]
    )


def _signal(frame: np.ndarray, transfer: str) -> np.ndarray:
    """From sRGB (H, W, 3) uint8 to the R'G'B' signal of a transfer, (H, W, 3) uint16."""
    srgb = frame / 255.0
    if transfer == "709":  # shown as sRGB, as players do
        return np.round(srgb * 65535).astype("<u2")
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    # BT.709 to BT.2020 primaries, BT.2087
    wide = light @ np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]).T
    shown = wide * PAPER_WHITE  # cd/m2
    if transfer == "PQ":
        power = (shown / 10_000.0) ** 0.1593017578125
        value = ((0.8359375 + 18.8515625 * power) / (1.0 + 18.6875 * power)) ** 78.84375
    else:
        relative = shown / PEAK
        luminance = (relative @ np.array([0.2627, 0.6780, 0.0593]))[..., None]
        scene = relative * np.maximum(luminance, 1e-9) ** ((1.0 - 1.2) / 1.2)  # without the system gamma of 1.2
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        value = np.where(scene <= 1 / 12, np.sqrt(3.0 * scene), a * np.log(np.maximum(12.0 * scene - b, 1e-9)) + c)
    return np.round(np.clip(value, 0.0, 1.0) * 65535).astype("<u2")


def _write_click(path: Path, at: float) -> None:
    """A sound file as long as the pictures, silent but for 10 ms of noise ``at`` seconds."""
    samples = np.zeros(round((SECONDS + 1.0) * SOUND_RATE), "<i2")
    start = round(at * SOUND_RATE)
    samples[start : start + SOUND_RATE // 100] = np.random.default_rng(0).integers(-20000, 20000, SOUND_RATE // 100)
    command = [ffmpeg_program(), "-v", "error", "-y", "-f", "s16le", "-ar", str(SOUND_RATE), "-ac", "1"]
    subprocess.run([*command, "-i", "pipe:0", str(path)], input=samples.tobytes(), check=True)


def click_time(path: Path) -> float:
    """When the loudest sound begins, seconds."""
    command = [ffmpeg_program(), "-v", "error", "-i", str(path), "-ac", "1", "-ar", str(SOUND_RATE), "-f", "s16le", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    samples = np.abs(np.frombuffer(done.stdout, "<i2").astype(float))
    return int(np.argmax(samples > 0.4 * samples.max())) / SOUND_RATE


def table(rows: list[tuple[Clip, Result]]) -> str:
    """A markdown table."""
    head = (
        "| container | codec | bits | transfer | rate | rotation | sound starts | skin, mean / worst | all colours | "
    )
    lines = [
        head + "paper white | frames | flash | sync |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for clip, result in rows:
        cells = [clip.container, clip.codec, clip.depth, clip.transfer, f"{float(clip.rate):.5g}", f"{clip.rotation}°"]
        cells += [f"{clip.sound_offset:+.1f} s", f"{result.skin[0]:.1f} / {result.skin[1]:.1f}"]
        cells += [f"{result.colour:.1f}", f"{result.white:.1f}", f"{result.frames:+d}", f"{result.flash:+d}"]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} | {result.sync:+.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=36, help="number of clips (default: 36)")
    parser.add_argument("--seed", type=int, default=0, help="which combinations (default: 0)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/results/media.md")
    options = parser.parse_args()
    rows = []
    for clip in sample(options.count, options.seed):
        with tempfile.TemporaryDirectory() as folder:
            rows.append((clip, measure(clip, Path(folder))))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    rows.sort(key=lambda row: (row[0].transfer, row[0].container, row[0].codec, row[0].depth))
    text = table(rows)
    if options.write:
        write_section("media", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
