"""A short run of the fuzzer over every format; ``python -m tests.fuzz`` runs longer ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import fuzz


@pytest.mark.slow
def test_changed_files_of_every_format_give_a_result_or_one_sentence(tmp_path: Path) -> None:
    report = fuzz.run(list(fuzz.FORMATS), cases=12, seconds=45.0, keep=tmp_path)
    assert not report.faults, "\n".join(report.faults)
    assert set(report.outcomes) == set(fuzz.FORMATS)


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that crash, hang, leave a file and raise what is not for people."""

    def crash(path: Path) -> None:
        import os

        os.kill(os.getpid(), 9)

    def hang(path: Path) -> None:
        import time

        time.sleep(60)

    def litter(path: Path) -> None:
        (path.parent / ".part").touch()

    def fail(path: Path) -> None:
        raise KeyError(path.name)

    def made(read: object) -> fuzz.Format:
        def make(folder: Path) -> fuzz.Seeds:
            (folder / "a").write_bytes(b"x" * 100)
            return fuzz.Seeds(read, valid=False)  # type: ignore[arg-type]

        return make

    monkeypatch.setattr(fuzz, "SECONDS_PER_CASE", 1.0)
    monkeypatch.setattr(fuzz, "FORMATS", {read.__name__: made(read) for read in (crash, hang, litter, fail)})
    report = fuzz.run(list(fuzz.FORMATS), cases=1, seconds=20.0)
    found = "\n".join(report.faults)
    for words in ("died with -9", "took more than", "left over", "KeyError"):
        assert words in found
