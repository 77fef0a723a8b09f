"""Motion files of other programs: Audio2Face, LAM in either case, and captures that a spreadsheet has saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spatialavatar.errors import FormatError, InputError, SpatialAvatarError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.motion import Motion, load_motion, write_motion

from .support.motion_files import audio2face

JAW = ARKIT_INDEX["jawOpen"]
PASCAL = [name[:1].upper() + name[1:] for name in ARKIT_52]


@pytest.fixture
def motion() -> Motion:
    weights = torch.rand(70, 52, generator=torch.Generator().manual_seed(0))
    return Motion(weights, torch.zeros(70, 3), torch.zeros(70, 3), 30.0)


# -- Audio2Face -------------------------------------------------------------------------------------------------------


def test_the_json_of_audio2face_is_read(tmp_path: Path) -> None:
    motion = load_motion(audio2face(tmp_path))
    assert (motion.fps, motion.title) == (60.0, "speech")
    torch.testing.assert_close(motion.weights[:, JAW], torch.tensor([0.0, 0.1, 0.2]))
    assert float(motion.weights.sum()) == pytest.approx(0.3)
    assert motion.warnings == ("speech.json has 1 shapes that are not ARKit units; they are not read.",)


def test_joints_of_audio2face_are_left_out_with_a_warning(tmp_path: Path) -> None:
    motion = load_motion(audio2face(tmp_path, joints=["jaw"], rotations=[[[0, 0, 0, 1]]] * 3))
    assert "joints" in motion.warnings[-1]


def test_audio2face_without_a_rate_needs_one(tmp_path: Path) -> None:
    path = audio2face(tmp_path, exportFps=None)
    with pytest.raises(FormatError, match=r'lacks "exportFps".*--fps'):
        load_motion(path)
    assert load_motion(path, fps=30.0).fps == 30.0


@pytest.mark.parametrize(
    "changes",
    [
        {"facsNames": ["browLowerL", "jawDrop", "jawThrust"]},
        {"facsNames": ["jawOpen", "JawOpen", "eyeBlinkLeft"]},
        {"facsNames": "jawOpen"},
        {"weightMat": None},
        {"weightMat": [[0.0, 0.1]]},
        {"weightMat": [[0.0, 50.0, 0.0]]},
        {"exportFps": "fast"},
    ],
)
def test_a_wrong_audio2face_json_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SpatialAvatarError, match=r"speech\.json"):
        load_motion(audio2face(tmp_path, **changes))


def test_the_csv_of_audio2face_is_read(tmp_path: Path) -> None:
    header = ",timeCode," + ",".join(f"blendShapes.{name}" for name in PASCAL)
    rows = [f"{frame},{frame / 30}," + ",".join(["0.25"] * 52) for frame in range(6)]
    path = tmp_path / "animation_frames.csv"
    path.write_text("\n".join([header, *rows]))
    motion = load_motion(path)
    assert (motion.fps, len(motion)) == (30.0, 6)
    assert bool((motion.weights == 0.25).all())


# -- LAM --------------------------------------------------------------------------------------------------------------


def lam_json(folder: Path, **changes: object) -> Path:
    names = ["_neutral", "jawOpen", "eyeBlinkLeft"]
    frames = [{"weights": [0.9, 0.1 * index, 0.5], "time": index / 30, "rotation": []} for index in range(3)]
    data = {"names": names, "metadata": {"fps": 30.0, "frame_count": 3, "blendshape_names": names}, "frames": frames}
    path = folder / "speech.json"
    path.write_text(json.dumps({key: value for key, value in (data | changes).items() if value is not None}))
    return path


def test_the_json_of_lams_speech_network_is_read(tmp_path: Path) -> None:
    motion = load_motion(lam_json(tmp_path))
    assert motion.fps == 30.0
    torch.testing.assert_close(motion.weights[:, ARKIT_INDEX["jawOpen"]], torch.tensor([0.0, 0.1, 0.2]))
    assert float(motion.weights.sum(1)[0]) == pytest.approx(0.5)
    assert motion.warnings == ()


def test_a_rotation_of_unknown_axes_is_left_out_with_a_warning(tmp_path: Path) -> None:
    frames = [{"weights": [0, 0, 0], "rotation": [0.1, 0.2, 0.3]}]
    motion = load_motion(lam_json(tmp_path, frames=frames))
    assert not motion.rotation.any()
    assert len(motion.warnings) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"names": None, "metadata": {"fps": 30}},
        {"metadata": {}},
        {"frames": []},
        {"frames": [1, 2]},
        {"frames": [{"weights": [0.0]}]},
        {"frames": [{"time": 0.0}]},
        {"names": ["a", "b", "c"]},
    ],
)
def test_a_wrong_lam_json_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(SpatialAvatarError):
        load_motion(lam_json(tmp_path, **changes))


def test_a_motion_survives_lams_format_without_its_pose(motion: Motion, tmp_path: Path) -> None:
    write_motion(motion, tmp_path / "bsData.json")
    data = json.loads((tmp_path / "bsData.json").read_text())
    assert set(data) == {"names", "metadata", "frames"}
    assert set(data["frames"][0]) == {"weights", "time", "rotation"}
    torch.testing.assert_close(load_motion(tmp_path / "bsData.json").weights, motion.weights, atol=6e-5, rtol=0)


def test_the_json_of_lam_is_read_in_pascal_case(tmp_path: Path) -> None:
    frames = [{"weights": [0.1, 0.2], "time": 0.0, "rotation": []}]
    data = {"names": ["JawOpen", "EyeBlinkLeft"], "metadata": {"fps": 30.0}, "frames": frames}
    (tmp_path / "bsData.json").write_text(json.dumps(data))
    motion = load_motion(tmp_path / "bsData.json")
    assert float(motion.weights[0, JAW]) == pytest.approx(0.1)
    assert float(motion.weights[0, ARKIT_INDEX["eyeBlinkLeft"]]) == pytest.approx(0.2)


# -- spreadsheets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path: Path) -> tuple[Motion, str]:
    """A capture, and its file's text."""
    motion = Motion(torch.rand(70, 52, generator=torch.Generator().manual_seed(0)), *[torch.zeros(70, 3)] * 2, 30.0)
    write_motion(motion, tmp_path / "original.csv")
    return motion, (tmp_path / "original.csv").read_text()


def same(path: Path, motion: Motion) -> None:
    again = load_motion(path)
    assert again.fps == motion.fps
    torch.testing.assert_close(again.weights, motion.weights, atol=2e-6, rtol=0)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("comma", [False, True], ids=["decimal points", "decimal commas"])
def test_other_separators_and_decimal_commas_are_read(
    original: tuple[Motion, str], tmp_path: Path, separator: str, comma: bool
) -> None:
    text = original[1].replace(",", separator)
    (tmp_path / "saved.csv").write_text(text.replace(".", ",") if comma else text)
    same(tmp_path / "saved.csv", original[0])


def test_quoted_decimal_commas_between_commas_are_read(original: tuple[Motion, str], tmp_path: Path) -> None:
    lines = [",".join(f'"{cell.replace(".", ",")}"' for cell in line.split(",")) for line in original[1].splitlines()]
    (tmp_path / "saved.csv").write_text("\n".join(lines))
    same(tmp_path / "saved.csv", original[0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_encodings_of_spreadsheets_are_read(original: tuple[Motion, str], tmp_path: Path, encoding: str) -> None:
    (tmp_path / "saved.csv").write_text(original[1], encoding=encoding)
    same(tmp_path / "saved.csv", original[0])


def test_a_line_that_names_the_separator_is_skipped(original: tuple[Motion, str], tmp_path: Path) -> None:
    (tmp_path / "saved.csv").write_text("sep=;\n" + original[1].replace(",", ";"))
    same(tmp_path / "saved.csv", original[0])


def test_padded_rows_are_frames_without_a_face_and_empty_rows_are_none(tmp_path: Path) -> None:
    path = tmp_path / "saved.csv"
    lines = [
        "Timecode,BlendShapeCount,JawOpen,HeadYaw,HeadPitch,HeadRoll",
        "1:00:00:00,52,0.5,0,0,0",
        "1:00:00:01,0,,,,",
        "1:00:00:02,52,0.7,0,0,0",
        ",,,,,",
    ]
    path.write_text("\n".join(lines))
    motion = load_motion(path)
    torch.testing.assert_close(motion.weights[:, JAW], torch.tensor([0.5, 0.5, 0.7]))
    assert motion.valid.tolist() == [True, False, True]


def test_decimal_commas_without_quotes_are_named_as_the_cause(tmp_path: Path) -> None:
    (tmp_path / "saved.csv").write_text("Timecode,JawOpen,JawLeft\n0:0:0:0,0,25,0,5\n")
    with pytest.raises(FormatError, match=r"Line 2 .* has 5 values for 3 columns: .*decimal commas"):
        load_motion(tmp_path / "saved.csv")


@pytest.mark.parametrize(("cell", "words"), [("12%", "'12%'"), ("", "is empty"), ("#VALUE!", "'#VALUE!'")])
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, cell: str, words: str) -> None:
    (tmp_path / "saved.csv").write_text(f"Timecode,JawOpen,JawLeft\n0:0:0:0,0.5,0.5\n0:0:0:1,0.5,{cell}\n")
    with pytest.raises(FormatError, match=f"Line 3 .*{words}.*JawLeft"):
        load_motion(tmp_path / "saved.csv")


# -- units of measure -------------------------------------------------------------------------------------------------


def test_head_angles_in_degrees_are_refused(tmp_path: Path) -> None:
    (tmp_path / "take.csv").write_text("JawOpen,HeadYaw,HeadPitch,HeadRoll\n0,15,0,0\n")
    with pytest.raises(InputError, match=r"reaches 15, .*radians, not degrees"):
        load_motion(tmp_path / "take.csv")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rotation", [0.0, 25.0, 0.0], "radians, not in degrees"),
        ("rotation", [1e38, 0.0, 0.0], "radians, not in degrees"),
        ("translation", [0.0, 160.0, 30.0], "metres from the resting place, not centimetres"),
        ("neutral_rotation", [0.0, 25.0, 0.0], "radians, not in degrees"),
        ("neutral", [60.0], "from 0 to 1, not to 100"),
        ("weights", [60.0], "from 0 to 1, not to 100"),
        ("fps", 1e9, "from 1 to 500 frames per second"),
        ("fps", 0.04, "from 1 to 500 frames per second"),
    ],
)
def test_values_in_another_unit_are_refused(tmp_path: Path, field: str, value: Any, words: str) -> None:
    data: dict[str, Any] = {
        "format": "spatialavatar.motion",
        "version": 1,
        "fps": 25,
        "names": ["jawOpen"],
        "weights": [[0.5]],
        "rotation": [[0, 0, 0]],
        "translation": [[0, 0, 0]],
    }
    per_frame = field in ("rotation", "translation", "weights")
    data[field] = [value] if per_frame else value
    (tmp_path / "take.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=rf"take\.json .*{words}"):
        load_motion(tmp_path / "take.json")


def test_a_translation_that_may_be_in_centimetres_has_a_warning(tmp_path: Path) -> None:
    for centimetres, count in ((3.0, 1), (0.03, 0)):
        still = torch.zeros(2, 3)
        write_motion(Motion(torch.zeros(2, 52), still, still + centimetres, 25.0), tmp_path / "take.json")
        warnings = load_motion(tmp_path / "take.json").warnings
        assert len(warnings) == count
        assert all("if it is in centimetres" in warning for warning in warnings)
