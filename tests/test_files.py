"""Atomic writing."""

from __future__ import annotations

import os

import pytest

from spatialavatar.errors import OutputError
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
