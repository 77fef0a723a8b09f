"""The values of a training run by step."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spatialavatar.errors import MissingAssetError
from spatialavatar.training.journal import LOG, Journal


def test_lines_after_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.write(LOG, step, {"loss": float(step)})
    Journal(tmp_path, 2).write(LOG, 3, {"loss": 30.0})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_trackio_gets_the_numbers_of_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    board = SimpleNamespace(
        init=lambda **given: calls.append(given),
        log=lambda values, step: calls.append((step, values)),
        finish=lambda: calls.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "trackio", board)
    (tmp_path / "heads").mkdir()
    journal = Journal(tmp_path / "heads", 0, "people")
    journal.write(LOG, 7, {"loss": 0.5, "each": {"ada": 1.0}})
    journal.close()
    assert (calls[0]["project"], calls[0]["name"], calls[0]["resume"]) == ("people", "heads", "allow")
    assert calls[1:] == [(7, {"log/loss": 0.5}), "finished"]


def test_a_missing_trackio_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingAssetError, match="pip install"):
        Journal(tmp_path, 0, "people")
