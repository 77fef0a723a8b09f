"""Motion files that say they are small and are not, and files that are no motion at all: one sentence, no memory."""

from __future__ import annotations

import io
import json
import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spatialavatar.errors import FormatError, InputError, SpatialAvatarError
from spatialavatar.motion import check_motion_format, load_motion, read_motion

from .support.motion_files import FRAMES, make_flame_ball, vhap_arrays


@pytest.fixture(scope="module")
def flame() -> Any:
    return make_flame_ball()


SENTENCE = r"^[^\n]+\.$"


def own_json(**changes: Any) -> str:
    data = {"format": "spatialavatar.motion", "version": 1, "fps": 25, "names": ["jawOpen"], "weights": [[0.0], [1.0]]}
    return json.dumps(data | changes)


# -- sizes ------------------------------------------------------------------------------------------------------------


def expanded_tensor(path: Path) -> None:
    torch.save(torch.zeros(1).expand(3_000_000, 106), path)
    assert path.stat().st_size < 2000


def header_of_npy(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def npz_bomb(path: Path) -> None:
    frames = 1_000_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("expr.npy", "w") as member:
        member.write(header_of_npy((frames, 100)))
        for _ in range(100):
            member.write(bytes(4 * frames))
    assert path.stat().st_size < 1_000_000


def npy_that_claims(path: Path) -> None:
    path.write_bytes(header_of_npy((10**9, 106)))


def deep_json(path: Path) -> None:
    path.write_text('{"frames": ' + "[" * 900_000 + "]" * 900_000 + "}")


def long_csv(path: Path) -> None:
    with path.open("w") as file:
        file.write("JawOpen\n" + "0.5\n" * 200_000)


def npz_header_bomb(path: Path) -> None:
    size = 300 << 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("expr.npy", "w") as member:
        member.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", size))
        for _ in range(size >> 20):
            member.write(b" " * (1 << 20))


def byte_order_bomb(path: Path) -> None:
    torch.save(torch.zeros(3, 106), path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, b"l" * (300 << 20) if name.endswith("byteorder") else content)


def memo_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02Nr" + struct.pack("<I", 20_000_000) + b".")


BOMBS = {
    "header.npz": npz_header_bomb,
    "order.pt": byte_order_bomb,
    "memo.pt": memo_bomb,
    "a.pt": expanded_tensor,
    "a.npz": npz_bomb,
    "a.npy": npy_that_claims,
    "a.json": deep_json,
    "a.csv": long_csv,
}
MEASURE = """
import sys
from pathlib import Path
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.motion import load_motion
from spatialavatar.motion.flame_files import read_flame
def peak():  # getrusage starts from the peak of the process that started this one
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
for name in sys.argv[1:]:
    path, before = Path(name), peak()
    try:
        (load_motion if path.suffix in (".json", ".csv") else read_flame)(path)
    except SpatialAvatarError:
        print(path.name, (peak() - before) // 1024)
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Megabytes that a process takes for every bomb that it refuses, beyond what it took before."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, make in BOMBS.items():
        make(folder / name)
    line = [sys.executable, "-c", MEASURE, *(str(folder / name) for name in BOMBS)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    return {name: int(size) for name, size in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_expands_is_refused_before_memory_is_taken(peaks: dict[str, int], name: str) -> None:
    assert peaks[name] < 200


def test_a_deflated_storage_in_a_pt_is_read_no_further_than_its_tensor(flame: Any, tmp_path: Path) -> None:
    torch.save(torch.zeros(2, 106), tmp_path / "small.pt")
    with (
        zipfile.ZipFile(tmp_path / "small.pt") as small,
        zipfile.ZipFile(tmp_path / "big.pt", "w", zipfile.ZIP_DEFLATED) as big,
    ):
        for name in small.namelist():
            big.writestr(name, bytes(10**8) if name.endswith("/data/0") else small.read(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(read_motion(tmp_path / "big.pt", flame)) == 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 50


def test_keys_that_are_not_read_cost_nothing(flame: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **vhap_arrays(), lights_of_others=np.array([{}], dtype=object))
    assert len(read_motion(tmp_path / "a.npz", flame)) == FRAMES


# -- pickles ----------------------------------------------------------------------------------------------------------


def pt_with(path: Path, data: bytes) -> Path:
    torch.save(torch.zeros(2, 106), path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, data if name.endswith("data.pkl") else content)
    return path


def nested_key() -> bytes:
    """A dictionary whose key is a tuple of two tuples of two tuples ..., which takes for ever to hash."""
    return b"}(" + b"N" + b"2\x86" * 60 + b"Nu."


@pytest.mark.parametrize(
    "data",
    [
        nested_key(),
        b"ccollections\nOrderedDict\n((" + b"N" + b"2\x86" * 60 + b"N\x86tt\x85R.",
        pickle.dumps([1, 2, 3]),
        pickle.dumps(3),
        b"cos\nsystem\n(Vtrue\ntR.",
        b"(" * 60_000,
        b"",
    ],
    ids=["nested key", "nested key of an OrderedDict", "list", "number", "os.system", "marks", "empty"],
)
def test_a_pt_without_a_tensor_is_refused_at_once(flame: Any, tmp_path: Path, data: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(FormatError, match="never run"):
        read_motion(pt_with(tmp_path / "a.pt", data), flame)
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_tensors_of_other_number_types_are_read(flame: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    codes = torch.zeros(106, 7, dtype=dtype).T  # strided
    codes[:, 0] = 1
    torch.save(codes, tmp_path / "a.pt")
    track = read_motion(tmp_path / "a.pt", flame)
    torch.testing.assert_close(track.params.expression[:, 0], torch.ones(7))


@pytest.mark.parametrize(
    "codes",
    [
        torch.zeros(()),
        torch.zeros(106),
        torch.zeros(0, 106),
        torch.zeros(3, 105),
        torch.zeros(2, 3, 106),
        torch.zeros(3, 106, dtype=torch.complex64),
        torch.zeros(3, 106, dtype=torch.bool),
        torch.full((3, 106), 1e38),
        torch.full((3, 106), float("inf")),
        torch.full((3, 106), float("nan"), dtype=torch.float16),
        {"codes": torch.zeros(3, 106)},
    ],
    ids=lambda codes: f"{getattr(codes, 'dtype', 'dict')} {tuple(getattr(codes, 'shape', ()))}",
)
def test_wrong_tensors_are_refused_in_one_sentence(flame: Any, tmp_path: Path, codes: Any) -> None:
    torch.save(codes, tmp_path / "a.pt")
    with pytest.raises(SpatialAvatarError, match=SENTENCE):
        read_motion(tmp_path / "a.pt", flame)


# -- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"expr": np.zeros((FRAMES, 2), np.complex64)},
        {"expr": np.float32(0)},
        {"jaw_pose": np.float32(0)},
        {"rotation": np.full((FRAMES, 3), 1e38)},
        {"rotation": np.full((FRAMES, 3), 20.0)},
        {"jaw_pose": np.full((FRAMES, 3), 12.0)},
        {"translation": np.full((FRAMES, 3), 150.0)},
        {"expr": np.full((FRAMES, 2), 1e300)},
        {"shape": np.full(3, 1e9)},
        {"fps": np.array([1.0, 2.0])},
        {"fps": np.array(1e9)},
        {"fps": np.array(np.nan)},
        {"fps": np.array("fast")},
        {"focal_length": np.array([1e30])},
        {"image_size": np.array([10**9, 10**9])},
        {"neutral_rotation": np.zeros(4)},
        {"neutral_expr": np.zeros(9), "neutral_jaw_pose": np.zeros(3), "neutral_eyes_pose": np.zeros(6)},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_wrong_flame_fields_are_refused_in_one_sentence(
    flame: Any,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    np.savez(tmp_path / "a.npz", **vhap_arrays(**changes))
    with pytest.raises(SpatialAvatarError, match=SENTENCE):
        read_motion(tmp_path / "a.npz", flame)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        own_json(fps=int("9" * 4000)),
        own_json().replace("1.0", "9" * 5000),
        own_json().replace("1.0", "Infinity"),
        own_json().replace("1.0", "1e999"),
        own_json(fps=float("inf")),
        own_json(fps=[25]),
        own_json(version=[1]),
        own_json(version=None),
        own_json(names=[["jawOpen"]]),
        own_json(weights=0.5),
        own_json(weights=[0.5, 0.5]),
        own_json(weights=[[[0.5]]]),
        own_json(weights=[["0.5"]]),
        own_json(weights=[[True]]),
        own_json(weights=[[None]]),
        own_json(weights={"0": 1}),
        own_json(neutral=0.5),
        own_json(neutral=[[0.5]]),
        own_json(neutral_rotation=[0, 0]),
        own_json(rotation=[]),
        own_json(title=["a"]),
        '"text"',
        "null",
        "",
        '{"frames": [{}]}',
        '{"frames": [{"weights": [0]}], "names": ["jawOpen"], "metadata": []}',
        '{"facsNames": 1}',
        '{"facsNames": ["jawOpen"], "weightMat": [[1e300]], "exportFps": 30}',
    ],
    ids=lambda text: text[:60],
)
def test_wrong_json_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SpatialAvatarError, match=SENTENCE):
        load_motion(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text",
    [
        "JawOpen\nnan\n",
        "JawOpen\ninf\n",
        "JawOpen\n" + "9" * 5000,
        "JawOpen\n" + '"' * 200_000,
        "JawOpen\n0_1\n",
        "JawOpen\n\x00",
        "JawOpen,jawOpen\n0,0\n",
        "Timecode,JawOpen\n99:99:99:99,0\n00:00:00:00,0\n",
        "Timecode,JawOpen\n00:00:00.0,0\n00:00:00.0001,0\n",
        "Timecode,JawOpen\n0000:00:00:00,0\n9999:00:00:00,0\n",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_wrong_csv_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SpatialAvatarError, match=SENTENCE):
        load_motion(tmp_path / "a.csv")


def test_a_folder_a_device_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("folder.json", "zero.json", "missing.csv"):
        with pytest.raises(InputError, match=SENTENCE):
            load_motion(tmp_path / name)


@pytest.mark.parametrize("name", ["a.pt", "a.npz", "a.npy", "frames"])
def test_flame_parameters_for_another_head_are_refused_by_their_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == "frames" else path.write_bytes(b"never opened")
    with pytest.raises(FormatError, match=r"mean nothing on the head 'ball'.*\.json, \.csv"):
        check_motion_format(path, "ball", is_flame=False)
    check_motion_format(path, "flame", is_flame=True)
    check_motion_format(tmp_path / "take.json", "ball", is_flame=False)
