"""Damaged and absurd training configurations: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialavatar import cli
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.training.config import read_training_config

START = 'out = "run"\nshards = ["shards"]\n'
DAMAGED = {
    "deep": "a = " + "[" * 20_000,
    "long number": START + "seed = " + "9" * 5000,
    "NUL": "\0",
    "a table as a number": START + "phase = 3",
    "a base as a list": START + "base = [1]",
    "a preset as a list": START + "[phase]\npreset = [1]",
    "a list of numbers for folders": 'out = "run"\nshards = [1, 2]',
    "a bool for a count": START + "size = true",
}
ABSURD = [
    *(f"{name} = {value}" for name in ("ema", "zoom", "tint", "turned") for value in ("nan", "inf", "-inf", "-1.0")),
    *(
        f"{name} = {value}"
        for name in ("size", "resolution", "targets", "micro_batch")
        for value in ("-1", "0", "10**9")
    ),
    *(f"{name} = -1" for name in ("workers", "eval_every", "seed", "log_every")),
    "size = 1000000000",
    "workers = 1000000000",
    "seed = 9223372036854775808",
    "[phase]\nrate = nan",
    "[phase]\niterations = 0",
    "[phase]\niterations = 99999999999999999999",
    "[phase]\nclip = inf",
    '[phase]\ncross_camera = "half"',
    "[phase]\ncross_camera = nan",
]


@pytest.mark.parametrize("text", [*DAMAGED.values(), *(START + line for line in ABSURD)])
def test_a_configuration_that_makes_no_sense_is_one_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(SpatialAvatarError):
        read_training_config(path)
    assert cli.main(["train", str(path)]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "should not have" not in sentence
    assert len(sentence) < 400


def test_a_configuration_that_is_a_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
