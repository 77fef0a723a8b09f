"""Atomic writing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from spatialavatar.errors import FormatError, InputError, OutputError
from spatialavatar.files import atomic_output


def test_the_file_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "a.bin"
    with atomic_output(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        assert temporary.suffix == ".bin"
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail_half_way():
        with atomic_output(target) as temporary:
            temporary.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_is_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_output(tmp_path / "a") as temporary:
        os.chmod(temporary, 0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    with pytest.raises(OutputError, match="No space left on device"), atomic_output(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_the_same_file_do_not_collide(tmp_path):
    """Each has a temporary file of its own: one that ends does not take another's away."""
    target, both_open = tmp_path / "a.bin", threading.Barrier(2, timeout=30)

    def write(content: bytes) -> None:
        with atomic_output(target) as temporary:
            temporary.write_bytes(content)
            both_open.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [b"one", b"two"]))
    assert target.read_bytes() in (b"one", b"two")
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    target = tmp_path / ("a" * 251 + ".bin")
    with atomic_output(target) as temporary:
        temporary.write_bytes(b"x")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("path", ["", "/", "a\0b"])
def test_a_path_that_no_file_can_have_is_refused(path):
    with pytest.raises(OutputError, match="cannot be written"), atomic_output(path):
        pass


# In a process of its own, where the first setting of torch's threads is known.
OVERLAPPING_BLOCKS = """
import threading, torch
from spatialavatar.threads import one_torch_thread
torch.set_num_threads(3)
first_inside, second_inside, first_done = threading.Event(), threading.Event(), threading.Event()
seen = {}

def first():
    with one_torch_thread():
        first_inside.set(); second_inside.wait()
    seen["first"] = torch.get_num_threads(); first_done.set()

def second():
    first_inside.wait()
    with one_torch_thread():
        with one_torch_thread():
            second_inside.set(); first_done.wait()
        seen["inside"] = torch.get_num_threads()
    seen["second"] = torch.get_num_threads()

threads = [threading.Thread(target=work) for work in (first, second)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
later = threading.Thread(target=lambda: seen.update(later=torch.get_num_threads()))
later.start(); later.join()
print(seen["first"], seen["inside"], seen["second"], seen["later"], torch.get_num_threads())
"""


def test_overlapping_blocks_of_one_torch_thread_give_all_threads_back():
    result = subprocess.run(
        [sys.executable, "-c", OVERLAPPING_BLOCKS], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.split() == ["3", "1", "3", "3", "3"]


@pytest.mark.parametrize("kind", [FormatError, InputError, OutputError])
def test_a_message_that_quotes_a_whole_file_is_cut(kind):
    error = kind(f"The value is {'y' * 5000}; give another.")
    assert len(str(error)) < 1000
    assert str(error).startswith("The value is yyy")
    assert str(error).endswith("; give another.")
    assert str(kind("It is wrong; correct it.")) == "It is wrong; correct it."
