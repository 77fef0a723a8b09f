"""Motion files: round trips, the documented axes, and refusals in one sentence; and the motions that ship."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch

from spatialavatar.errors import FormatError, InputError, OutputError, SpatialAvatarError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.motion import Motion, load_motion, read_motion, write_motion
from spatialavatar.records import Neutral, Track

EXAMPLE_MOTIONS = ("talk", "look_around", "expressions")


@pytest.fixture
def motion() -> Motion:
    generator = torch.Generator().manual_seed(0)
    return Motion(
        weights=torch.rand(70, 52, generator=generator),
        rotation=torch.rand(70, 3, generator=generator) - 0.5,
        translation=0.1 * torch.rand(70, 3, generator=generator),
        fps=30.0,
        title="noise",
    )


@pytest.fixture(scope="module")
def head() -> HeadModel:
    """Four vertices, the first two expressions being jawOpen and eyeBlinkLeft, and a jaw that opens 0.4 rad."""
    arkit_to_expression, arkit_to_pose = torch.zeros(52, 2), torch.zeros(52, 9)
    arkit_to_expression[ARKIT_INDEX["jawOpen"], 0] = 1.0
    arkit_to_expression[ARKIT_INDEX["eyeBlinkLeft"], 1] = 1.0
    arkit_to_pose[ARKIT_INDEX["jawOpen"], 0] = 0.4
    tensors = {
        "template": torch.tensor([[0.1, 0.1, 0.0], [-0.1, 0.1, 0.0], [0.0, -0.1, 0.0], [0.0, 0.0, 0.1]]),
        "faces": torch.tensor([[0, 1, 2], [0, 2, 3]]),
        "face_parts": torch.zeros(2, dtype=torch.int64),
        "uv": torch.zeros(2, 3, 2),
        "shape_basis": torch.zeros(3, 4, 3),
        "expression_basis": torch.zeros(2, 4, 3),
        "pose_correctives": torch.zeros(36, 4, 3),
        "joint_regressor": torch.full((5, 4), 0.25),
        "skinning_weights": torch.eye(5)[:4],
        "parents": torch.tensor([-1, 0, 1, 1, 1]),
        "mirror_vertices": torch.tensor([1, 0, 2, 3]),
        "arkit_to_expression": arkit_to_expression,
        "arkit_to_pose": arkit_to_pose,
    }
    info = {"id": "tiny", "parts": ["face"], "expressions": ["jawOpen", "eyeBlinkLeft"]}
    return HeadModel(tensors, info)


def json_motion(**changes: object) -> dict[str, object]:
    data: dict[str, object] = {
        "format": "spatialavatar.motion",
        "version": 1,
        "fps": 25,
        "names": ["jawOpen"],
        "weights": [[0.0], [1.0]],
    }
    data.update(changes)
    return {key: value for key, value in data.items() if value is not None}


def write_json(folder: Path, **changes: object) -> Path:
    path = folder / "motion.json"
    path.write_text(json.dumps(json_motion(**changes)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("suffix", "tolerance"), [(".json", 6e-5), (".csv", 2e-6)])
def test_a_motion_survives_its_file(motion: Motion, tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"noise{suffix}"
    write_motion(motion, path)
    again = load_motion(path)
    assert again.fps == motion.fps
    torch.testing.assert_close(again.weights, motion.weights, atol=tolerance, rtol=0)
    torch.testing.assert_close(
        axis_angle_to_matrix(again.rotation), axis_angle_to_matrix(motion.rotation), atol=2 * tolerance, rtol=0
    )
    if suffix == ".json":
        torch.testing.assert_close(again.translation, motion.translation, atol=tolerance, rtol=0)


def test_names_are_read_in_any_order_and_missing_units_are_zero(tmp_path: Path) -> None:
    path = write_json(tmp_path, names=["tongueOut", "browDownLeft"], weights=[[0.25, 0.75]])
    weights = load_motion(path).weights
    assert weights[0, ARKIT_INDEX["tongueOut"]] == 0.25
    assert weights[0, ARKIT_INDEX["browDownLeft"]] == 0.75
    assert int((weights != 0).sum()) == 2


def test_the_head_pose_is_optional(tmp_path: Path) -> None:
    motion = load_motion(write_json(tmp_path))
    assert not motion.rotation.any()
    assert not motion.translation.any()


def test_weights_become_expression_and_jaw_of_the_head(head: HeadModel, tmp_path: Path) -> None:
    track = read_motion(write_json(tmp_path, weights=[[0.0], [0.5]], rotation=[[0, 0, 0], [0, 0.3, 0]]), head)
    assert isinstance(track, Track)
    assert track.head_id == "tiny"
    assert track.fps == 25.0
    assert track.pictures is None
    torch.testing.assert_close(track.params.expression, torch.tensor([[0.0, 0.0], [0.5, 0.0]]))
    torch.testing.assert_close(track.params.jaw[1], torch.tensor([0.2, 0.0, 0.0]))
    torch.testing.assert_close(track.params.rotation[1], torch.tensor([0.0, 0.3, 0.0]))


def test_the_resting_head_is_in_the_middle_of_the_picture(head: HeadModel, tmp_path: Path) -> None:
    track = read_motion(write_json(tmp_path), head)
    pixels = track.camera.project(head.vertices(track.params)[0])
    low, high = pixels.amin(0), pixels.amax(0)
    assert bool((low > 0).all())
    assert bool((high < 512).all())
    torch.testing.assert_close((low + high)[1] / 2, torch.tensor(256.0), atol=25.0, rtol=0)


def test_a_turn_about_y_faces_the_subjects_left(head: HeadModel, tmp_path: Path) -> None:
    track = read_motion(write_json(tmp_path, rotation=[[0, 0, 0], [0, 0.5, 0]]), head)
    forward = axis_angle_to_matrix(track.params.rotation)[1] @ torch.tensor([0.0, 0.0, 1.0])
    assert forward[0] > 0.4


def test_yaw_pitch_and_roll_turn_about_the_documented_axes(tmp_path: Path) -> None:
    header = "JawOpen,HeadYaw,HeadPitch,HeadRoll"
    path = tmp_path / "take.csv"
    path.write_text(f"{header}\n0,0.3,0,0\n0,0,0.3,0\n0,0,0,0.3\n")
    expected = torch.tensor([[0.0, 0.3, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.3]])
    torch.testing.assert_close(load_motion(path).rotation, expected, atol=1e-6, rtol=0)


def test_the_frame_rate_of_a_csv_follows_from_its_time_codes(tmp_path: Path) -> None:
    rows = [f"10:00:{frame // 24:02d}:{frame % 24:02d}.5,52,0.5" for frame in range(80)]
    path = tmp_path / "take.csv"
    path.write_text("\n".join(["Timecode,BlendShapeCount,JawOpen", *rows]))
    assert load_motion(path).fps == 24.0


def test_a_csv_row_without_a_face_holds_the_frame_before(head: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("Timecode,BlendShapeCount,JawOpen\n1:00:00:00,52,0.5\n1:00:00:01,0\n1:00:00:02,52,0.7\n")
    track = read_motion(path, head)
    torch.testing.assert_close(track.params.expression[:, 0], torch.tensor([0.5, 0.5, 0.7]))
    assert track.confidence.tolist() == [1.0, 0.0, 1.0]


def test_a_motion_survives_its_track(head: HeadModel, motion: Motion) -> None:
    again = Motion.from_track(motion.to_track(head))
    torch.testing.assert_close(again.weights, motion.weights)
    torch.testing.assert_close(again.rotation, motion.rotation)
    torch.testing.assert_close(again.translation, motion.translation - motion.translation.median(0).values)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"version": 2},
        {"names": None},
        {"names": ["jawOpne"]},
        {"names": ["jawOpen", "jawOpen"], "weights": [[0, 0]]},
        {"weights": None},
        {"weights": []},
        {"weights": [[0.0], [0.0, 1.0]]},
        {"weights": [["wide"]]},
        {"weights": [[float("nan")]]},
        {"weights": [[55.0]]},
        {"fps": None},
        {"fps": 0},
        {"fps": "fast"},
        {"rotation": [[0, 0, 0]]},
        {"translation": [[0, 0], [0, 0]]},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()),
)
def test_a_wrong_json_is_refused_in_one_sentence(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(SpatialAvatarError) as caught:
        load_motion(write_json(tmp_path, **changes))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert re.search(r"motion|weights|rotation|translation", message)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("broken.json", "{", FormatError),
        ("list.json", "[]", FormatError),
        ("empty.csv", "", FormatError),
        ("table.csv", "a,b\n1,2\n", FormatError),
        ("words.csv", "JawOpen\nwide\n", FormatError),
        ("faceless.csv", "Timecode,BlendShapeCount,JawOpen\n0:0:0:0,0\n", FormatError),
        ("header.csv", "JawOpen\n", InputError),
        ("motion.bvh", "HIERARCHY", InputError),
    ],
)
def test_a_file_that_is_no_motion_is_refused(tmp_path: Path, name: str, text: str, error: type[Exception]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(error):
        load_motion(tmp_path / name)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no motion file at"):
        load_motion(tmp_path / "none.json")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="cannot be read as text"):
        load_motion(tmp_path / "noise.csv")


def test_an_unwritable_place_is_an_output_error(motion: Motion, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_motion(motion, tmp_path / "file" / "motion.json")


@pytest.mark.parametrize("name", EXAMPLE_MOTIONS)
def test_the_example_motions_rest_at_both_ends_and_never_jerk(examples: Path, name: str) -> None:
    motion = load_motion(examples / "motions" / f"{name}.json")
    assert motion.fps == 25.0
    assert motion.duration >= 7.0
    for end in (0, -1):
        assert float(motion.weights[end].max()) < 0.03
        assert math.degrees(float(motion.rotation[end].norm())) < 1.0
    degrees_a_frame = torch.rad2deg(motion.rotation.diff(dim=0).abs().max())
    assert float(degrees_a_frame) < 4.0
    assert float(motion.weights.diff(dim=0).abs().max()) < 0.75


def test_looking_around_goes_thirty_degrees_to_both_sides(examples: Path) -> None:
    yaw = torch.rad2deg(load_motion(examples / "motions" / "look_around.json").rotation[:, 1])
    assert float(yaw.max()) == pytest.approx(30.0, abs=1.5)
    assert float(yaw.min()) == pytest.approx(-30.0, abs=1.5)


def test_the_eyes_lead_the_head_when_looking_around(examples: Path) -> None:
    motion = load_motion(examples / "motions" / "look_around.json")
    eyes = motion.weights[:, ARKIT_INDEX["eyeLookOutLeft"]] > 0.5
    head = torch.rad2deg(motion.rotation[:, 1]) > 15.0
    assert int(eyes.float().argmax()) < int(head.float().argmax())


def test_speech_opens_rounds_and_closes_the_mouth(examples: Path) -> None:
    motion = load_motion(examples / "motions" / "talk.json")
    jaw, pucker, press = (motion.weights[:, ARKIT_INDEX[name]] for name in ("jawOpen", "mouthPucker", "mouthPressLeft"))
    openings = int(((jaw[1:-1] > jaw[:-2]) & (jaw[1:-1] >= jaw[2:]) & (jaw[1:-1] > 0.15)).sum())
    assert openings >= 8
    assert float(pucker.max()) > 0.4
    assert float(press.max()) > 0.2
    blinks = motion.weights[:, ARKIT_INDEX["eyeBlinkRight"]] > 0.9
    assert 3 <= int((blinks[1:] & ~blinks[:-1]).sum()) <= 6


def test_the_motion_script_writes_the_files_that_ship(repository: Path, tmp_path: Path) -> None:
    import runpy
    import sys

    arguments = sys.argv
    sys.argv = ["make_motions.py", "--output", str(tmp_path)]
    try:
        runpy.run_path(str(repository / "scripts" / "make_motions.py"), run_name="__main__")
    finally:
        sys.argv = arguments
    for name in EXAMPLE_MOTIONS:
        made, shipped = (
            load_motion(tmp_path / f"{name}.json"),
            load_motion(repository / f"examples/motions/{name}.json"),
        )
        torch.testing.assert_close(made.weights, shipped.weights, atol=2e-4, rtol=0)
        torch.testing.assert_close(made.rotation, shipped.rotation, atol=2e-4, rtol=0)


def test_all_units_are_documented(repository: Path) -> None:
    words = set(re.findall(r"[A-Za-z]+", (repository / "docs" / "reference" / "motion.md").read_text()))
    assert set(ARKIT_52) <= words


def test_a_held_face_has_the_given_units_and_pose() -> None:
    motion = Motion.held({"jawOpen": 0.5, "eyeBlinkLeft": 1.0}, yaw=90.0)
    assert len(motion) == 1
    assert motion.weights[0, ARKIT_INDEX["jawOpen"]] == 0.5
    assert float(motion.weights.sum()) == 1.5
    facing = axis_angle_to_matrix(motion.rotation)[0, :, 2]  # +x is the subject's left
    torch.testing.assert_close(facing, torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_a_positive_pitch_looks_down_and_a_positive_roll_leans_to_the_right() -> None:
    down = axis_angle_to_matrix(Motion.held({}, pitch=30.0).rotation)[0]
    assert down[1, 2] < 0
    lean = axis_angle_to_matrix(Motion.held({}, roll=30.0).rotation)[0]
    assert lean[0, 1] < 0


def test_a_held_face_of_an_unknown_unit_is_refused() -> None:
    with pytest.raises(InputError, match="jawopen"):
        Motion.held({"jawopen": 1.0})


# -- the neutral ------------------------------------------------------------------------------------------------------


@pytest.fixture
def smirk() -> tuple[Motion, torch.Tensor]:
    """A face that rests at a smile and looks to its left, and opens its jaw for some frames."""
    rest = torch.zeros(52)
    rest[ARKIT_INDEX["mouthSmileLeft"]] = 0.4
    weights = rest.repeat(20, 1)
    weights[8:12, ARKIT_INDEX["jawOpen"]] = 0.8
    rotation = torch.tensor([[0.0, 0.3, 0.0]]).repeat(20, 1)
    facing = torch.tensor([0.0, 0.3, 0.0])
    return Motion(weights, rotation, torch.zeros(20, 3), 25.0, neutral=rest, neutral_rotation=facing), rest


def test_the_neutral_is_kept_in_json(smirk: tuple[Motion, torch.Tensor], tmp_path: Path) -> None:
    motion, rest = smirk
    write_motion(motion, tmp_path / "take.json")
    again = load_motion(tmp_path / "take.json")
    torch.testing.assert_close(again.neutral, rest, atol=6e-5, rtol=0)
    torch.testing.assert_close(again.neutral_rotation, torch.tensor([0.0, 0.3, 0.0]), atol=6e-5, rtol=0)
    torch.testing.assert_close(again.weights, motion.weights, atol=6e-5, rtol=0)


@pytest.mark.parametrize("name", ["take.csv", "bsData.json"])
def test_formats_without_a_neutral_rest_at_zero(smirk: tuple[Motion, torch.Tensor], tmp_path: Path, name: str) -> None:
    write_motion(smirk[0], tmp_path / name)
    again = load_motion(tmp_path / name)
    assert float(again.weights[0].abs().max()) < 1e-4
    assert float(again.weights[9, ARKIT_INDEX["jawOpen"]]) == pytest.approx(0.8, abs=1e-3)
    assert float(again.rotation.abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["take.json", "take.csv", "bsData.json"])
def test_a_face_that_rests_at_a_smile_leaves_the_avatar_at_rest(tmp_path: Path, name: str) -> None:
    from spatialavatar.driving import DriveConfig, retarget

    from .support.avatars import make_ball_avatar

    avatar = make_ball_avatar()
    tensors = avatar.head.tensors()
    tensors["arkit_to_expression"][ARKIT_INDEX["mouthSmileLeft"], 0] = 1.0
    head = HeadModel(tensors, avatar.head.info)
    scores = torch.zeros(30, 52)
    scores[:, ARKIT_INDEX["mouthSmileLeft"]] = 0.4
    scores[10:14, ARKIT_INDEX["cheekPuff"]] = 0.9
    performed = Motion(scores, torch.full((30, 3), 0.1), torch.zeros(30, 3), 25.0).to_track(head)
    video = performed.evidence.replace(landmarks=torch.zeros(30, 478, 2))
    track = performed.with_motion(neutral=Neutral()).replace(evidence=video)
    write_motion(track, tmp_path / name)
    again = read_motion(tmp_path / name, head)
    params, _ = retarget(again, avatar, DriveConfig(smoothing=0.0))
    torch.testing.assert_close(params.expression[0], torch.zeros(2), atol=2e-4, rtol=0)
    torch.testing.assert_close(params.rotation + params.neck, torch.zeros(30, 3), atol=2e-4, rtol=0)
