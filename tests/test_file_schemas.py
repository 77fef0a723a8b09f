"""Avatars, tracks, heads, networks: faults of a file are found in its header and reported in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, OutputError
from spatialavatar.generator import SpatialAvatar
from spatialavatar.head import HeadModel
from spatialavatar.strict_json import parse_json
from spatialavatar.tensor_files import TensorFile, TensorSpec, write_tensors
from spatialavatar.tracking import load_track, save_track

from .support.avatars import make_ball_avatar
from .support.ball_head import make_ball_head
from .support.model_files import small_model, taken_apart_bytes
from .support.moving_avatar import moving_avatar
from .support.shards import ball_track


@dataclass
class Format:
    """A kind of file: a folder with a valid one, its path in it, its reader, and a tensor of floats and its rank."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    tensor: str


def written_head(folder: Path) -> Path:
    make_ball_head().save(folder)
    return folder / "head.safetensors"


def written_track(folder: Path) -> Path:
    save_track(ball_track(), folder / "t.safetensors")
    return folder / "t.safetensors"


FORMATS = {
    "avatar": Format(
        lambda folder: make_ball_avatar().save(folder / "a.safetensors"),
        lambda path: Avatar.load(path, make_ball_head()),
        "reference.rotation",
    ),
    "residual": Format(
        lambda folder: moving_avatar().save(folder / "a.safetensors"),
        lambda path: Avatar.load(path, moving_avatar().head),
        "residual.hidden_weight",
    ),
    "track": Format(written_track, load_track, "params.rotation"),
    "head": Format(written_head, lambda path: HeadModel.load(path.parent), "skinning_weights"),
    "network": Format(
        lambda folder: small_model().save_pretrained(folder) / "network.safetensors",
        lambda path: SpatialAvatar.from_pretrained(path.parent),
        "dense.out.bias",
    ),
}


def taken_apart(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The list of a file, and the content of each tensor."""
    return taken_apart_bytes(path.read_bytes())


def put_together(path: Path, listing: dict[str, Any], content: dict[str, bytes]) -> None:
    body = b""
    for name, data in content.items():
        listing[name]["data_offsets"] = [len(body), len(body) + len(data)]
        body += data
    text = json.dumps(listing).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def of_type(dtype: str, width: int) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(entry: dict[str, Any], content: bytes) -> bytes:
        entry["dtype"] = dtype
        count = 1
        for size in entry["shape"]:
            count *= size
        return bytes(count * width)

    return change


def of_shape(shape: list[int]) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(entry: dict[str, Any], content: bytes) -> bytes:
        entry["shape"], entry["dtype"] = shape, "F32"
        count = 1
        for size in shape:
            count *= size
        return bytes(count * 4)

    return change


def of_value(value: float) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(entry: dict[str, Any], content: bytes) -> bytes:
        entry["dtype"] = "F32"
        return torch.full(tuple(entry["shape"]), value).numpy().tobytes()

    return change


CHANGES = {
    "8-bit floats": of_type("F8_E4M3", 1),
    "complex numbers": of_type("C64", 8),
    "integers": of_type("I64", 8),
    "truth values": of_type("BOOL", 1),
    "a type that is none": of_type("F33", 4),
    "a scalar": of_shape([]),
    "one more axis": of_shape([1, 1, 1, 1, 1]),
    "nothing": of_shape([0]),
    "another length": of_shape([7]),
    "a huge value": of_value(1e38),
    "infinity": of_value(float("inf")),
    "not a number": of_value(float("nan")),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_tensor_of_another_kind_is_refused(tmp_path: Path, kind: str, change: str) -> None:
    form = FORMATS[kind]
    path = form.write(tmp_path)
    listing, content = taken_apart(path)
    content[form.tensor] = CHANGES[change](listing[form.tensor], content[form.tensor])
    put_together(path, listing, content)
    with pytest.raises(FormatError) as caught:
        form.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_half_precision_is_read_as_what_it_stands_for(tmp_path: Path, kind: str) -> None:
    """A file that someone has made smaller works, or is refused; it does not fail later, in the arithmetic."""
    form = FORMATS[kind]
    path = form.write(tmp_path)
    listing, content = taken_apart(path)
    for name, data in content.items():
        if listing[name]["dtype"] == "F32":
            listing[name]["dtype"] = "F16"
            content[name] = torch.frombuffer(bytearray(data), dtype=torch.float32).half().numpy().tobytes()
    put_together(path, listing, content)
    read = form.read(path)
    if isinstance(read, Avatar):
        assert torch.isfinite(read.render()[0]).all()


HEADERS = {
    "nested without end": '{"a":' * 5000 + "1" + "}" * 5000,
    "nested too deep": "[" * 40 + "]" * 40,
    "infinite": '{"fps": Infinity}',
    "not a number": '{"fps": NaN}',
    "too large a number": '{"fps": 1e999}',
    "4300 digits": '{"fps": ' + "9" * 4300 + "}",
    "100 digits": '{"fps": ' + "9" * 100 + "}",
    "a list": "[]",
    "null": "null",
    "cut": '{"fps": ',
}


@pytest.mark.parametrize("kind", ["avatar", "track", "network"])
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_none_is_refused(tmp_path: Path, kind: str, header: str) -> None:
    form = FORMATS[kind]
    path = form.write(tmp_path)
    listing, content = taken_apart(path)
    listing["__metadata__"]["track" if kind == "track" else "spatialavatar"] = HEADERS[header]
    put_together(path, listing, content)
    with pytest.raises(FormatError):
        form.read(path)


@pytest.mark.parametrize("text", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("name", ["head.json", "config.json"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, name: str, text: str) -> None:
    small_model().save_pretrained(tmp_path)
    (tmp_path / ("head/head.json" if name == "head.json" else name)).write_text(text)
    with pytest.raises(FormatError):
        SpatialAvatar.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: (10**12).to_bytes(8, "little") + data[8:],  # a list longer than the file
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:4],
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
    ],
)
def test_a_file_whose_length_does_not_fit_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = make_ball_avatar().save(tmp_path / "a.safetensors")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(FormatError, match="damaged"):
        Avatar.load(path, make_ball_head())


def test_tensors_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A thousand names for the same megabyte would take a gigabyte."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    text = json.dumps({"a": entry, "b": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(FormatError, match="damaged"):
        TensorFile(path, "damaged")


def test_a_named_size_must_be_the_same_everywhere(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(3, 2), "b": torch.zeros(4)}, {})
    schema = {"a": TensorSpec(("N", 2)), "b": TensorSpec(("N",))}
    with pytest.raises(FormatError, match=r"has b of shape \(4,\) instead of \(3,\)"):
        TensorFile(tmp_path / "x.safetensors", "damaged").read(schema)


def test_a_name_that_is_not_utf8_is_written_and_read(tmp_path: Path) -> None:
    avatar = make_ball_avatar()
    path = avatar.save(Path(str(tmp_path) + "/caf\udce9.safetensors"))
    assert torch.equal(Avatar.load(path, avatar.head).gaussians.means, avatar.gaussians.means)


def test_a_head_outside_of_the_models_folder_is_not_read(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for head in ("../head", "/head", 3):
        (tmp_path / "config.json").write_text(json.dumps({**config, "head": head}))
        with pytest.raises(ValueError, match="a folder inside"):
            SpatialAvatar.from_pretrained(tmp_path)


def test_a_network_larger_than_its_file_is_not_built(tmp_path: Path) -> None:
    """The configuration describes some 40 GB of weights; the file next to it has 100 KB."""
    small_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["unet_channels"] = [8192, 8192]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="of shape"):
        SpatialAvatar.from_pretrained(tmp_path)


def test_saving_a_head_where_a_file_is_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be made"):
        make_ball_head().save(tmp_path / "taken")


FULL_DISK = """
import resource, sys
from tests.test_file_schemas import *
what, folder = sys.argv[1], Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    {"track": written_track, "head": written_head,
     "avatar": lambda folder: make_ball_avatar().save(folder / "a.safetensors")}[what](folder)
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["avatar", "track", "head"])
def test_a_disk_that_is_full_gives_one_sentence_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    """A limit on the size of files fails a write half way, as a full disk does."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", FULL_DISK, what, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=root)
    assert "cannot be written" in result.stdout, result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", HEADERS.values(), ids=HEADERS)
def test_strict_json_refuses_what_json_lets_pass(text: str) -> None:
    if text in ("[]", "null"):
        assert not parse_json(text)
        return
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
        parse_json(text)
