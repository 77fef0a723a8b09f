"""Pickles that attack their reader: each ends with one sentence, within a limit of time and memory, in a process."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from spatialavatar.errors import FormatError
from spatialavatar.head.flame import load_flame

KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")
SECONDS = 60
BYTES = 6 << 30

READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), -1))
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.head.flame import load_flame
try:
    load_flame(sys.argv[1])
except SpatialAvatarError as error:
    print("refused:", error)
"""


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def dtype(code: str) -> bytes:
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"


def array(kind: bytes, shape: bytes = b"K\x01\x85", content: bytes = b"C\x08AAAAAAAA") -> bytes:
    """An array of type ``kind`` whose state is given."""
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return start + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def model(value: bytes) -> bytes:
    """A pickle in which every array of a model is ``value``."""
    return b"\x80\x03}" + value + b"q\xf0(" + b"".join(text(key) + b"h\xf0" for key in KEYS) + b"u."


def sparse(name: str, **state: bytes) -> bytes:
    entries = b"".join(text(key) + value for key, value in state.items())
    return f"cscipy.sparse\n{name}\n".encode() + b")\x81}(" + entries + b"ub"


def integers(*values: int) -> bytes:
    content = b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    shape = b"K" + bytes([len(values)]) + b"\x85"
    return array(dtype("i8"), shape, b"C" + bytes([len(content)]) + content)


HIDDEN_OBJECT = (
    dtype("V8")
    + b"(K\x03"
    + text("|")
    + b"N"
    + text("a")
    + b"\x85}"
    + text("a")
    + dtype("O8")
    + b"K\x00\x86sK\x08K\x01K\x00tb"
)
PAIR = b"h\x00h\x00\x86q\x00"

ATTACKS = {
    # Crashes the process where NumPy rebuilds the type: a field of objects over bytes that are no objects.
    "a type with a hidden field of objects": model(array(HIDDEN_OBJECT)),
    "a type of objects": model(array(dtype("O8"))),
    "a type whose flags are forged": model(
        array(dtype("f8") + b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb")
    ),
    "a type by a name that NumPy parses": model(array(dtype("(99999999999,)f8"))),
    # The hash of a tuple that contains itself twice, again and again, takes 2 ** 40 steps.
    "a nested tuple as a key": b"\x80\x02})q\x00" + PAIR * 40 + b"Ns.",
    "a nested tuple in a set": b"\x80\x04\x8f()q\x00" + PAIR * 40 + b"\x90.",
    "a nested list as an array": model(b"]q\x00" + b"(h\x00h\x00lq\x00" * 60),
    "a list that contains itself": model(b"]q\x00h\x00a"),
    "deep nesting": model(b")" + b"\x85" * 900_000),
    "deep wrapping": model(b"cchumpy.ch\nCh\n)\x81q\x00}" + text("x") + b"h\x00sb"),
    "a shape that no memory holds": model(array(dtype("f8"), b"\x8a\x06\xff\xff\xff\xff\xff\x0f\x85")),
    "a negative shape": model(array(dtype("f8"), b"J\xff\xff\xff\xff\x85")),
    "a shape of lists": model(array(dtype("f8"), b"]")),
    "content that is too short": model(array(dtype("f8"), b"K\x02\x85")),
    "content that is longer than the file": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fabc.",
    "a long integer": b"\x80\x02\x8b\xff\xff\xff\x00" + b"\x7f" * 0xFFFFFF + b".",
    "a decimal of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "a float of a million digits": b"F" + b"9" * 1_000_000 + b"\n.",
    "too many instructions": b"\x80\x02" + b"N0" * 1_500_000 + b".",
    "a memo without an entry": b"\x80\x02h\x07.",
    "a build without an object": b"\x80\x02}}b.",
    "a build of a class": b"\x80\x02cnumpy\nndarray\n}b.",
    "a call of a string": b"\x80\x02" + text("x") + b")R.",
    "a mark that is not there": b"\x80\x02u.",
    "text shared by many encodings": b"\x80\x02]q\x00X\x00\x00\x10\x00"
    + b"a" * (1 << 20)
    + b"q\x01"
    + (b"c_codecs\nencode\nh\x01" + text("latin1") + b"\x86Ra" * 1) * 20_000
    + b".",
    "a sparse matrix with indices outside": model(
        sparse(
            "csc_matrix",
            _shape=b"K\x05K\x07\x86",
            data=integers(1),
            indices=integers(99),
            indptr=integers(0, 1, 1, 1, 1, 1, 1, 1),
        )
    ),
    "a sparse matrix with negative indices": model(
        sparse("coo_matrix", _shape=b"K\x05K\x07\x86", data=integers(1), row=integers(-1), col=integers(0))
    ),
    "a sparse matrix that repeats for ever": model(
        sparse(
            "csr_matrix", _shape=b"K\x05K\x07\x86", data=integers(1), indices=integers(0), indptr=integers(0, 1 << 50)
        )
    ),
    "a sparse matrix that no memory holds": model(
        sparse("csc_matrix", _shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", data=integers(1))
    ),
    "a sparse matrix of nothing": model(sparse("csc_matrix")),
    "an object without a class": b"\x80\x02NN\x81.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent object": b"Pname\n.",
    "an instance of protocol 0": b"(ios\nsystem\n.",
    "an out-of-band buffer": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_with_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "flame.pkl").write_bytes(ATTACKS[name])
    with pytest.raises(FormatError) as caught:
        load_flame(tmp_path / "flame.pkl")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["a type with a hidden field of objects", "a nested tuple as a key"])
def test_an_attack_on_the_process_is_survived(tmp_path: Path, name: str) -> None:
    """Run apart, where a reader that falls for it crashes or hangs without taking the other tests with it."""
    (tmp_path / "flame.pkl").write_bytes(ATTACKS[name])
    command = [sys.executable, "-c", READ, str(tmp_path / "flame.pkl"), str(BYTES)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("refused:")


def test_the_memory_of_shared_values_is_bounded(tmp_path: Path) -> None:
    """Twenty thousand encodings of one text of a megabyte, which would take 20 GB if they were carried out."""
    (tmp_path / "flame.pkl").write_bytes(ATTACKS["text shared by many encodings"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError):
        load_flame(tmp_path / "flame.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_the_header_of_an_array_in_an_npz_is_refused_by_its_length(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flame.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 40 << 20) + b" " * (40 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="a header that is too long"):
            load_flame(tmp_path / "flame.npz")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
