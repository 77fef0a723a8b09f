"""Sets of synthetic heads: read back as calibrated rigs, continued after a stop, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spatialavatar.cli import main
from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import read_clips
from spatialavatar.synthetic import SynthesisConfig, SyntheticHead, sets, synthesize
from spatialavatar.synthetic.people import Person
from spatialavatar.synthetic.sets import SetConfig, make_set
from spatialavatar.tensor_files import TensorFile
from tests.support.synthetic_people import plain_person


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one head in three small views."""
    out = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "example_people", lambda: (plain_person(),))
        make_set(out, SetConfig(count=1, seed=3, views=3, size=96))
    return out


@pytest.fixture(scope="module")
def head() -> SyntheticHead:
    return synthesize(0, [plain_person()], SynthesisConfig(style="buzz"))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Person:
    """Sets are made of somebody of plain skin, so that no photo needs to be tracked."""
    person = plain_person()
    monkeypatch.setattr(sets, "example_people", lambda: (person,))
    return person


def test_a_set_is_read_as_calibrated_rigs_with_held_out_cameras(made: Path) -> None:
    (clip,) = read_clips(made)
    assert clip.name == "head-00000003"
    assert [recording.calibration is not None for recording in clip.recordings] == [True] * 3
    assert clip.recordings[0].name == "0"  # the frontal camera comes first
    assert clip.held_out_cameras == ("2",)
    assert len(list(clip.recordings[0].open())) == 2


def test_a_set_carries_truth_classes_and_a_licence(made: Path) -> None:
    head = made / "head-00000003"
    file = TensorFile(head / "truth.safetensors", "damaged", "truth")
    assert {"heights", "colors", "albedo", "hair", "strands", "shape"} <= set(file.entries)
    classes = np.asarray(Image.open(head / "classes" / "00000_00.png"))
    assert {0, 1, 3, 4} <= set(np.unique(classes))
    assert "plain" in (made / "LICENCE.txt").read_text()
    assert json.loads((head / "head.json").read_text())["seed"] == 3


def test_a_stopped_set_continues_and_leaves_nothing_half_written(
    tmp_path: Path, plain: Person, head: SyntheticHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SetConfig(count=1, views=2, size=64)
    monkeypatch.setattr(sets, "synthesize", lambda *_: head)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sets, "_write_truth", stop)
        with pytest.raises(KeyboardInterrupt):
            make_set(tmp_path, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LICENCE.txt", "set.json"]
    assert make_set(tmp_path, config).made == 1
    assert make_set(tmp_path, config).made == 0


def test_a_set_of_other_values_is_refused(made: Path, plain: Person) -> None:
    with pytest.raises(InputError, match="another folder"):
        make_set(made, SetConfig(count=1, seed=3, views=4, size=96))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, plain: Person) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="empty folder"):
        make_set(tmp_path, SetConfig(count=1, views=2, size=64))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(("option", "value"), [("--views", "1"), ("--size", "20"), ("--count", "0"), ("--seed", "-1")])
def test_a_bad_option_is_one_sentence(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "--out", str(tmp_path / "out"), option, value]) == 1
    assert option in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_faces_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    with pytest.raises(InputError, match="No photo"):
        make_set(tmp_path / "out", SetConfig(count=1), tmp_path / "faces")
    assert not (tmp_path / "out").exists()
