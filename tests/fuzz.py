"""Mutated files against every reader: only a sentence may come of it, within a limit of memory and time.

    python -m tests.fuzz                                # two minutes over all formats
    python -m tests.fuzz --cases 5000 --seconds 36000   # the long run
    python -m tests.fuzz --formats avatar --cases 300 --seed 7 --keep faults

A format is one function below: it writes valid files into a folder and returns their reader. Each case changes one file
of a fresh copy of that folder, in a process of its own pool, and is determined by the seed, the format and its number.
A fault is an exception that is not one for people, a crash, a case that takes too long or too much memory, and a file
that is left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
BYTES_PER_CASE = 3 << 29  # of address space, on top of what the process has when it starts
SECONDS_PER_CASE = 30.0


@dataclass(frozen=True)
class Seeds:
    """Valid files of a format.

    Attributes:
        read: reads the changed copy of the folder; it is given the path of the file that was changed.
        files: paths that may be changed, relative to the folder; by default all.
        valid: whether the unchanged files can be read.
    """

    read: Callable[[Path], object]
    files: Sequence[str] = ()
    valid: bool = True


Format = Callable[[Path], Seeds]
FORMATS: dict[str, Format] = {}


def fuzzed(make: Format) -> Format:
    """Register a format under the name of its function."""
    FORMATS[make.__name__] = make
    return make


# -- formats ----------------------------------------------------------------------------------------------------------


@fuzzed
def photo(folder: Path) -> Seeds:
    from spatialavatar.media import read_image

    with Image.open(EXAMPLES / "portraits" / "astronaut.png") as source:
        small = source.convert("RGB").resize((96, 96))
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm"):
        small.save(folder / f"photo.{suffix}")
    small.convert("LA").save(folder / "grey.png")
    small.convert("CMYK").save(folder / "cmyk.jpg")
    small.save(folder / "lzw.tif", compression="tiff_lzw")
    exif = Image.Exif()
    exif[0x0112] = 6
    small.save(folder / "turned.jpg", exif=exif)
    for suffix in ("avif", "jp2"):
        with contextlib.suppress(Exception):  # where Pillow was built without it
            small.save(folder / f"photo.{suffix}")
    return Seeds(read_image)


@fuzzed
def video(folder: Path) -> Seeds:
    from spatialavatar.media import VideoReader, ffmpeg_program, has_sound

    source = ["-f", "lavfi", "-i", "testsrc=size=96x96:rate=12", "-f", "lavfi", "-i", "sine=frequency=300", "-t", "0.5"]
    for name, options in {
        "a.mp4": ["-c:v", "libx264", "-c:a", "aac"],
        "a.mov": ["-c:v", "mpeg4", "-c:a", "aac"],
        "a.mkv": ["-c:v", "libx264", "-c:a", "libopus"],
        "a.webm": ["-c:v", "libvpx", "-c:a", "libopus"],
        "a.avi": ["-c:v", "mpeg4", "-c:a", "mp3"],
        "a.ts": ["-c:v", "libx264", "-c:a", "aac"],
    }.items():
        command = [ffmpeg_program(), "-v", "error", "-y", *source, *options, str(folder / name)]
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)

    def read(path: Path) -> object:
        reader = VideoReader(path, max_side=128)
        frames = sum(1 for _, frame in zip(range(20), reader) if frame.shape[2] == 3)
        return frames, has_sound(path)

    return Seeds(read, [path.name for path in folder.iterdir() if path.stat().st_size])


@fuzzed
def arkit_motion(folder: Path) -> Seeds:
    import torch

    from spatialavatar.motion import load_motion, write_motion

    from .support.motion_files import audio2face

    talk = load_motion(EXAMPLES / "motions" / "talk.json")
    tensors = {name: value[:6] for name, value in vars(talk).items() if isinstance(value, torch.Tensor)}
    short = replace(talk, **tensors)
    write_motion(short, folder / "talk.csv")
    write_motion(short, folder / "talk.json")
    text = (EXAMPLES / "motions" / "look_around.json").read_text(encoding="utf-8")
    (folder / "look.json").write_text(text, encoding="utf-8")
    audio2face(folder)
    return Seeds(load_motion)


@fuzzed
def flame_motion(folder: Path) -> Seeds:
    import torch

    from spatialavatar.motion.flame_files import read_flame

    rng = np.random.default_rng(0)
    frames = 4
    values = {
        "expr": rng.normal(size=(frames, 100)).astype(np.float32),
        "rotation": 0.1 * rng.normal(size=(frames, 3)).astype(np.float32),
        "neck_pose": np.zeros((frames, 3), np.float32),
        "jaw_pose": 0.1 * np.ones((frames, 3), np.float32),
        "eyes_pose": np.zeros((frames, 6), np.float32),
        "translation": np.zeros((frames, 3), np.float32),
        "shape": np.zeros(300, np.float32),
    }
    np.savez(folder / "flame.npz", **values)
    np.savez_compressed(folder / "packed.npz", **values)
    np.save(folder / "flame.npy", rng.normal(size=(frames, 106)).astype(np.float32))
    torch.save(torch.zeros(frames, 106), folder / "flame.pt")
    return Seeds(read_flame)


@fuzzed
def avatar(folder: Path) -> Seeds:
    from spatialavatar.avatar import Avatar
    from spatialavatar.records import Camera

    from .support.avatars import make_ball_avatar
    from .support.moving_avatar import moving_avatar

    make_ball_avatar(16).save(folder / "plain.safetensors")
    moving = moving_avatar()
    moving.save(folder / "moving.safetensors")
    heads = {"plain.safetensors": make_ball_avatar(16).head, "moving.safetensors": moving.head}

    def read(path: Path) -> object:
        loaded = Avatar.load(path, heads[path.name])
        loaded.card()
        return loaded.render(camera=Camera.frontal(24))

    return Seeds(read)


@fuzzed
def track(folder: Path) -> Seeds:
    from spatialavatar.driving import DriveConfig, drive_still
    from spatialavatar.tracking import load_track, save_track

    from .support.avatars import make_ball_avatar
    from .support.shards import ball_track

    save_track(ball_track(), folder / "whole.safetensors")
    save_track(ball_track().without_pictures(), folder / "bare.safetensors")
    driven = make_ball_avatar(16)

    def read(path: Path) -> object:
        return drive_still(driven, load_track(path), DriveConfig(size=64))

    return Seeds(read)


@fuzzed
def head(folder: Path) -> Seeds:
    from spatialavatar.head import HeadModel, build_layout

    from .support.ball_head import make_ball_head

    make_ball_head().save(folder)

    def read(path: Path) -> object:
        loaded = HeadModel.load(path.parent)
        return build_layout(loaded, 16), loaded.vertices(loaded.neutral())

    return Seeds(read)


@fuzzed
def flame_head(folder: Path) -> Seeds:
    from spatialavatar.head.flame import load_flame

    values = _flame_values()
    for protocol in (0, 2, 4, 5):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(values, protocol=protocol))
    np.savez_compressed(folder / "flame.npz", **{**values, "J_regressor": values["J_regressor"].toarray()})
    corners = np.arange(3 * len(values["f"])).reshape(-1, 3)
    uv = np.random.default_rng(0).random((corners.size, 2)).round(3)
    np.savez_compressed(folder / "uv.npz", vt=uv, ft=corners)
    lines = [f"vt {u} {v}" for u, v in uv]
    lines += [
        "f " + " ".join(f"{vertex + 1}/{corner + 1}" for vertex, corner in zip(face, row))
        for face, row in zip(values["f"].tolist(), corners.tolist())
    ]
    (folder / "uv.obj").write_text("\n".join(lines))

    def read(path: Path) -> object:
        if path.stem == "uv":
            return load_flame(path.parent / "2.pkl", uv=path)
        return load_flame(path)

    return Seeds(read)


def _flame_values() -> dict[str, Any]:
    """A tetrahedron with a FLAME model's arrays, small enough that a mutation hits what matters."""
    from scipy.sparse import csc_matrix

    rng = np.random.default_rng(3)
    return {
        "v_template": 0.1 * rng.normal(size=(8, 3)),
        "f": np.array([[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 0]], np.uint32),
        "shapedirs": 1e-3 * rng.normal(size=(8, 3, 302)),
        "posedirs": 1e-3 * rng.normal(size=(8, 3, 36)),
        "J_regressor": csc_matrix(np.eye(5, 8)),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": np.full((8, 5), 0.2),
        "bs_style": "lbs",
    }


@fuzzed
def model(folder: Path) -> Seeds:
    from spatialavatar.generator import SpatialAvatar

    from .support.model_files import small_model

    small_model().save_pretrained(folder)
    (folder / "README.md").unlink()

    def read(path: Path) -> object:
        root = path.parent if path.parent.name != "head" else path.parent.parent
        return SpatialAvatar.from_pretrained(root).card()

    return Seeds(read)


@fuzzed
def training_config(folder: Path) -> Seeds:
    from spatialavatar.training.config import read_training_config

    for name in ("monocular", "multi_view", "open"):
        shutil.copy(ROOT / "configs" / f"{name}.toml", folder)
    return Seeds(read_training_config)


@fuzzed
def shard(folder: Path) -> Seeds:
    from spatialavatar.errors import InputError
    from spatialavatar.training.shards import People

    from .support.shards import ball_track, write_shard

    write_shard(folder, ann=[ball_track()], bob=[ball_track(), ball_track()])

    def read(path: Path) -> object:
        people = People([path.parent], "ball")
        views = [people.view(person, person.views[-1]) for person in people.people]
        if people.skipped:
            raise InputError(next(iter(people.skipped.values())))
        return views

    return Seeds(read)


@fuzzed
def data_set(folder: Path) -> Seeds:
    from spatialavatar.evaluation.datasets import read_clips

    from .support.datasets import gaussian_avatars

    gaussian_avatars(folder / "306")
    files = [f"306/transforms_{part}.json" for part in ("train", "val", "test")]
    return Seeds(lambda path: read_clips(path.parent.parent), files)


@fuzzed
def manifest(folder: Path) -> Seeds:
    from spatialavatar.hub import read_manifest, verify
    from spatialavatar.hub.cards import ModelFacts, model_card

    shutil.copy(ROOT / "weights" / "MANIFEST.json", folder)
    shutil.copy(ROOT / "weights" / "results-self.json", folder)
    facts = ModelFacts("ball", 1, 2, 3, 4, 5, "none")

    def read(path: Path) -> object:
        if path.name == "MANIFEST.json":
            read_manifest(path)
        card = model_card(facts, path.parent)
        verify(path.parent, "it", ["results-self*"])
        return card

    return Seeds(read)


# -- mutations --------------------------------------------------------------------------------------------------------

_NUMBERS = (
    *("0", "-1", "1", "-0", "0.1", "1e999", "-1e308", "1e38", "NaN", "Infinity", "4294967296", "9223372036854775808"),
    *("null", "true", "[]", "{}", "[[]]", "[1,2,3]", '""', '"x"', '{"a": 1}', "9" * 4300, "9" * 100),
    *("[" * 200 + "]" * 200, '"' + "y" * 5000 + '"'),
)
_INTEGERS = (0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
_TYPES = ["F8_E4M3", "C64", "F16", "BF16", "F64", "I64", "I8", "U8", "BOOL", "F32", "U64", "X"]
_FLOATS = (np.inf, -np.inf, np.nan, 1e38, -1e38, 1e-40, 0.0, -1.0, 1e6)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")


def mutated(data: bytes, draw: random.Random, name: str) -> bytes:
    """A few random changes, of the kind that the file's own structure suggests half of the time."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        special = _special(name) if draw.random() < 0.6 else None
        change = special or draw.choice(_GENERAL)
        with contextlib.suppress(Exception):  # a structure that is broken already is left to the general changes
            data = change(data, draw)
    return data


def _special(name: str) -> Callable[[bytes, random.Random], bytes] | None:
    if name.endswith(".safetensors"):
        return _safetensors
    if name.endswith(".json"):
        return _json
    if name.endswith((".csv", ".toml", ".obj")):
        return _text_number
    if name.endswith(".npz"):
        return _npz
    return None


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 4, 32))):
        changed[_place(changed, draw)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _set_integer(data: bytes, draw: random.Random) -> bytes:
    width = draw.choice((1, 2, 4, 8))
    value = draw.choice(_INTEGERS) & ((1 << 8 * width) - 1)
    start = _place(data, draw)
    return data[:start] + value.to_bytes(width, draw.choice(("little", "big"))) + data[start + width :]


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: _place(data, draw)]


def _drop(data: bytes, draw: random.Random) -> bytes:
    start = _place(data, draw)
    return data[:start] + data[start + draw.choice((1, 4, 100, 5000)) :]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    start = _place(data, draw)
    block = data[start : start + draw.choice((1, 8, 64, 1000))]
    return data[:start] + block * draw.choice((2, 3, 20)) + data[start:]


def _blank(data: bytes, draw: random.Random) -> bytes:
    start, length = _place(data, draw), draw.choice((4, 64, 4096))
    return data[:start] + bytes([draw.choice((0, 255, 32))]) * min(length, len(data) - start) + data[start + length :]


def _swap(data: bytes, draw: random.Random) -> bytes:
    first, second = sorted((_place(data, draw), _place(data, draw)))
    length = min(draw.choice((1, 8, 64)), second - first)
    return (
        data[:first]
        + data[second : second + length]
        + data[first + length : second]
        + data[first : first + length]
        + data[second + length :]
    )


def _text_number(data: bytes, draw: random.Random) -> bytes:
    places = list(_NUMBER.finditer(data[:200_000]))
    if not places:
        return _flip(data, draw)
    chosen = draw.choice(places)
    return data[: chosen.start()] + draw.choice(_NUMBERS).encode() + data[chosen.end() :]


_GENERAL = (_flip, _flip, _set_integer, _set_integer, _cut, _drop, _repeat, _blank, _swap, _text_number)


def _place(data: bytes | bytearray, draw: random.Random) -> int:
    """A place in the data; headers, at the beginning and the end, are chosen more often."""
    where = draw.random()
    if where < 0.4:
        return draw.randrange(min(len(data), 200))
    if where < 0.5:
        return len(data) - 1 - draw.randrange(min(len(data), 100))
    return draw.randrange(len(data))


def _json(data: bytes, draw: random.Random) -> bytes:
    """One value, key or entry of a JSON text replaced, removed or moved."""
    value = json.loads(data)
    _change_value(value, draw)
    text = json.dumps(value)
    return text.replace('"@@"', draw.choice(_NUMBERS)).encode("utf-8", "surrogatepass")


def _change_value(value: Any, draw: random.Random) -> None:
    container, key = value, None
    while isinstance(container, (dict, list)) and container:
        key = draw.choice(list(container)) if isinstance(container, dict) else draw.randrange(len(container))
        if not isinstance(container[key], (dict, list)) or not container[key] or draw.random() < 0.15:
            break
        container = container[key]
    if key is None:
        return
    action = draw.random()
    if action < 0.15:
        del container[key]
    elif action < 0.25 and isinstance(container, dict):
        container["more" if draw.random() < 0.5 else str(key) + "\x1b[31m"] = container.pop(key)
    elif action < 0.35 and isinstance(container, list):
        container.extend(container[:3])
    else:
        container[key] = "@@"


def _safetensors(data: bytes, draw: random.Random) -> bytes:
    """A change of the list of tensors, of the JSON in the metadata, or of one tensor's values, that keeps the rest."""
    from .support.model_files import taken_apart_bytes

    listing, content = taken_apart_bytes(data)
    name = draw.choice(list(content))
    entry = listing[name]
    action = draw.random()
    if action < 0.2:
        metadata = listing.get("__metadata__", {})
        key = draw.choice(list(metadata))
        text = metadata[key].encode()
        metadata[key] = draw.choice((_json, _text_number, _flip))(text, draw).decode("utf-8", "replace")
    elif action < 0.3:
        entry["dtype"] = draw.choice(_TYPES)
    elif action < 0.4:
        shape = entry["shape"]
        wrong = ([], [0], [1], shape[::-1], [1, *shape], [2**40, 0], [-1], ["x"], [1.5], [len(content[name])])
        entry["shape"] = draw.choice(wrong)
    elif action < 0.45:
        del listing[name], content[name]
    elif action < 0.5:
        listing["more" * draw.choice((1, 400))] = listing.pop(name)
        return _listed(listing, b"".join(content.values()))
    elif action < 0.55:
        entry["data_offsets"] = [draw.choice(_INTEGERS), draw.choice(_INTEGERS)]
        return _listed(listing, b"".join(content.values()))
    elif entry["dtype"] == "F32" and content[name]:
        values = np.frombuffer(content[name], np.float32).copy()
        places = [draw.randrange(len(values)) for _ in range(draw.choice((1, 3, len(values))))]
        values[places] = draw.choice(_FLOATS)
        content[name] = values.tobytes()
    else:
        content[name] = _set_integer(content[name], draw)[: len(content[name])]
    body = b""
    for key, part in content.items():
        listing[key]["data_offsets"] = [len(body), len(body) + len(part)]
        body += part
    return _listed(listing, body)


def _listed(listing: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(listing).encode()
    return len(text).to_bytes(8, "little") + text + body


def _npz(data: bytes, draw: random.Random) -> bytes:
    """A change inside of one member of an archive, whose sums are then right again."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(list(members))
    members[name] = draw.choice(_GENERAL)(members[name], draw)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return packed.getvalue()


# -- cases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One changed file: ``name`` is of the format; the number and the seed determine the change."""

    name: str
    number: int
    seed: int


@dataclass
class Report:
    """What came of the cases.

    Attributes:
        outcomes: counts of "read", "refused" and "fault" by format.
        faults: a line for each fault.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many cases there were."""
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def add(self, case: Case, outcome: str, detail: str) -> None:
        """Note the outcome of a case."""
        self.outcomes.setdefault(case.name, Counter())[outcome] += 1
        if outcome == "fault":
            self.faults.append(f"{case.name} {case.number} (seed {case.seed}): {detail}")

    def table(self) -> str:
        """The counts, for people."""
        lines = [f"{'format':<18}{'cases':>8}{'read':>8}{'refused':>9}{'faults':>8}"]
        for name, counts in sorted(self.outcomes.items()):
            total = sum(counts.values())
            lines.append(f"{name:<18}{total:>8}{counts['read']:>8}{counts['refused']:>9}{counts['fault']:>8}")
        return "\n".join(lines)


def run(
    names: Sequence[str], cases: int, seconds: float, seed: int = 0, workers: int = 2, keep: Path | None = None
) -> Report:
    """Run cases of all formats in turn.

    Args:
        names: of the formats.
        cases: of each format, at most.
        seconds: after which no further case is begun.
        seed: of all changes.
        workers: processes.
        keep: folder into which the files of faults are copied; None keeps none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        pristine = Path(scratch) / "seeds"
        seeds = {}
        for name in names:
            folder = pristine / name
            folder.mkdir(parents=True)
            seeds[name] = FORMATS[name](folder)
            for path in (seeds[name].files or _files(folder)) if seeds[name].valid else ():
                seeds[name].read(folder / path)  # a seed that is refused would hide every fault behind it
        todo = (Case(name, number, seed) for number in range(cases) for name in names)
        return _distribute(todo, seeds, Path(scratch), seconds, workers, keep)


def _distribute(
    todo: Iterator[Case], seeds: dict[str, Seeds], scratch: Path, seconds: float, workers: int, keep: Path | None
) -> Report:
    report, end = Report(), time.monotonic() + seconds
    free = [_Worker(seeds, scratch, index) for index in range(workers)]
    busy: dict[Connection, _Worker] = {}
    while True:
        while free and time.monotonic() < end and (case := next(todo, None)) is not None:
            worker = free.pop()
            worker.start(case)
            busy[worker.pipe] = worker
        if not busy:
            break
        wait(list(busy), timeout=0.2)
        for worker in list(busy.values()):
            found = worker.outcome()
            if found is None:
                continue
            del busy[worker.pipe]
            assert worker.case is not None
            report.add(worker.case, *found)
            if found[0] == "fault" and keep is not None:
                target = keep / f"{worker.case.name}-{worker.case.seed}-{worker.case.number}"
                shutil.copytree(worker.folder, target, dirs_exist_ok=True)
            free.append(worker if worker.alive() else _Worker(seeds, scratch, worker.index))
    for worker in free:
        worker.stop()
    return report


class _Worker:
    """A process that reads changed files, and the pipe to it."""

    def __init__(self, seeds: dict[str, Seeds], scratch: Path, index: int) -> None:
        self.index = index
        self.folder = scratch / f"case{index}"
        self.case: Case | None = None
        context = multiprocessing.get_context("fork")  # the formats' readers are closures
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, seeds, scratch / "seeds", self.folder))
        self._process.start()
        theirs.close()

    def start(self, case: Case) -> None:
        self.case, self._deadline = case, time.monotonic() + SECONDS_PER_CASE
        self.pipe.send(case)

    def outcome(self) -> tuple[str, str] | None:
        """The outcome of the case; None while it runs."""
        if self.pipe.poll():
            try:
                return self.pipe.recv()
            except EOFError:
                self._process.join()
                return "fault", f"the process died with {self._process.exitcode}"
        if time.monotonic() > self._deadline:
            self.stop()
            return "fault", f"it took more than {SECONDS_PER_CASE:.0f} s"
        return None

    def alive(self) -> bool:
        return self._process.is_alive()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, seeds: dict[str, Seeds], pristine: Path, folder: Path) -> None:
    """Read what the cases change, one after another, under a limit of memory."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    with open("/proc/self/statm") as status:
        used = int(status.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES_PER_CASE, resource.RLIM_INFINITY))
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(case, seeds[case.name], pristine / case.name, folder))


def _attempt(case: Case, seeds: Seeds, pristine: Path, folder: Path) -> tuple[str, str]:
    from spatialavatar.errors import SpatialAvatarError

    draw = random.Random(f"{case.seed} {case.name} {case.number}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pristine, folder)
    before = _files(folder)
    name = draw.choice(sorted(seeds.files or before))
    path = folder / name
    path.write_bytes(mutated(path.read_bytes(), draw, name))
    outcome, detail = "read", ""
    try:
        seeds.read(path)
    except SpatialAvatarError as error:
        outcome, sentence = "refused", str(error)
        if "\n" in sentence or not sentence or len(sentence) > 1500:
            outcome, detail = "fault", f"{name}: the sentence is {sentence[:300]!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{name}: {type(error).__name__}: {str(error)[:200]!r} at {Path(place.filename).name}:{place.lineno}"
        outcome = "fault"
    left = _files(folder) ^ before
    if left:
        outcome, detail = "fault", f"{name}: left over or gone: {', '.join(sorted(left))}"
    return outcome, detail


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated files against every reader.")
    parser.add_argument("--formats", default=",".join(FORMATS), help="by name, with commas between; default: all")
    parser.add_argument("--cases", type=int, default=100_000, help="of each format, at most")
    parser.add_argument("--seconds", type=float, default=120.0, help="after which no case is begun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the files of faults here")
    options = parser.parse_args()
    report = run(
        options.formats.split(","), options.cases, options.seconds, options.seed, options.workers, options.keep
    )
    print("\n".join([*report.faults, report.table()]))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
