"""Drive by parts: strengths of pose, mouth, brows, lids and gaze, and their preset files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spatialavatar import cli, driving
from spatialavatar.driving import DriveConfig, retarget
from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.part_strengths import PARTS, PartStrengths, StrengthPreset, load_preset, read_strengths, save_preset
from spatialavatar.records import Evidence, Track

from .support.avatars import make_grey_avatar
from .support.tracks import make_track


@pytest.fixture(scope="module")
def avatar():
    return make_grey_avatar(32)


@pytest.fixture(scope="module")
def track(avatar) -> Track:
    """Every unit at 0.2, the jaw open, and the eyes and the head turning."""
    turn = torch.zeros(6, 3)
    turn[:, 1] = torch.linspace(-0.3, 0.3, 6)
    return make_track(
        avatar,
        expression=torch.full((6, avatar.head.expression_count), 0.2),
        jaw=torch.full((6, 3), 0.1),
        eyes=torch.full((6, 6), 0.1),
        rotation=turn,
    )


def driven(avatar, track: Track, **parts: float):
    return retarget(track, avatar, DriveConfig(smoothing=0.0, parts=PartStrengths(**parts)))[0]


def unit(avatar, params, name: str) -> float:
    return float(params.expression[0, avatar.head.expressions.index(name)])


@pytest.mark.parametrize(
    ("part", "name", "other"),
    [
        ("mouth", "mouthFunnel", "eyeBlinkLeft"),
        ("brows", "browInnerUp", "mouthFunnel"),
        ("lids", "eyeBlinkRight", "browInnerUp"),
        ("lids", "cheekSquintLeft", "cheekPuff"),
    ],
)
def test_a_part_scales_its_units_and_no_other(avatar, track, part, name, other):
    params = driven(avatar, track, **{part: 0.5})
    assert unit(avatar, params, name) == pytest.approx(0.1)
    assert unit(avatar, params, other) == pytest.approx(0.2)


def test_the_mouth_scales_the_jaw_and_the_gaze_the_eyes(avatar, track):
    params = driven(avatar, track, mouth=0.5, gaze=2.0)
    torch.testing.assert_close(params.jaw, torch.full((6, 3), 0.05))
    torch.testing.assert_close(params.eyes, torch.full((6, 6), 0.2))


def test_the_pose_scales_turns_about_the_resting_pose(avatar, track):
    params = driven(avatar, track, pose=0.5)
    whole = axis_angle_to_matrix(params.rotation) @ axis_angle_to_matrix(params.neck)
    half = track.params.rotation * 0.5
    torch.testing.assert_close(whole, axis_angle_to_matrix(half), atol=1e-5, rtol=0)


def test_without_a_pose_the_head_rests_where_it_was_filmed(avatar, track):
    turned = track.with_motion(params=track.params.replace(rotation=torch.full((6, 3), 0.2)))
    config = DriveConfig(smoothing=0.0, head_pose="as filmed", parts=PartStrengths(pose=0.0))
    params, _ = retarget(turned, avatar, config)
    still, _ = retarget(turned, avatar, replace(config, parts=PartStrengths()))
    torch.testing.assert_close(params.rotation, still.rotation, atol=1e-6, rtol=0)
    assert float(params.rotation.norm()) > 0.05


def test_strengths_of_one_change_no_bit(avatar, track):
    tracked = track.replace(evidence=Evidence(torch.zeros(6, 478, 2), torch.zeros(6, 52)))
    for config in (DriveConfig(), DriveConfig(relative=False)):
        plain, _ = retarget(tracked, avatar, config)
        again, _ = retarget(tracked, avatar, replace(config, parts=PartStrengths(1.0, 1.0, 1.0, 1.0, 1.0)))
        assert all(torch.equal(getattr(plain, name), getattr(again, name)) for name in vars(plain))


def test_only_the_face_or_only_the_pose_moves(avatar, track):
    face = driven(avatar, track, **vars(PartStrengths().only("face")))
    assert float(face.rotation.abs().max() + face.neck.abs().max()) < 1e-6
    assert float(face.expression.abs().max()) > 0
    pose = driven(avatar, track, **vars(PartStrengths().only("pose")))
    assert float(pose.expression.abs().max() + pose.jaw.abs().max() + pose.eyes.abs().max()) == 0
    assert float(pose.neck.abs().max()) > 0


def test_statistical_coefficients_take_one_strength_for_the_face():
    weights = torch.full((2, 3), 0.2)
    same = PartStrengths(mouth=2.0, brows=2.0, lids=2.0)
    torch.testing.assert_close(same.of_units(None, weights), 2.0 * weights)
    with pytest.raises(InputError, match="one strength"):
        PartStrengths(mouth=2.0).of_units(None, weights)


@pytest.mark.parametrize(
    ("text", "strengths"),
    [
        ("1.2", {"": 1.2}),
        ("mouth=1.2,pose=.5", {"mouth": 1.2, "pose": 0.5}),
        ("0.8, gaze=0", {"": 0.8, "gaze": 0.0}),
    ],
)
def test_a_text_states_strengths(text, strengths):
    assert read_strengths(text) == strengths


@pytest.mark.parametrize("text", ["", "nose=1", "mouth=", "mouth=big", "mouth=1,mouth=2", "1,2", "=1_0", "mouth"])
def test_a_text_of_another_form_is_refused(text):
    with pytest.raises(InputError):
        StrengthPreset().updated(text)


@pytest.mark.parametrize("bad", [-0.1, 3.1, float("nan")])
def test_a_strength_out_of_range_is_refused(bad):
    for part in PARTS:
        with pytest.raises(InputError, match=part):
            PartStrengths(**{part: bad})


def test_a_preset_is_read_as_it_was_written(tmp_path: Path):
    preset = StrengthPreset(0.7, PartStrengths(pose=0.5, mouth=1.25))
    save_preset(preset, tmp_path / "calm.json")
    assert load_preset(tmp_path / "calm.json") == preset


GOOD = {"format": "spatialavatar.strengths", "version": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "not a preset"),
        ("{", "damaged"),
        (json.dumps({**GOOD, "format": "other"}), "not a preset"),
        (json.dumps({**GOOD, "version": 2}), "version 2"),
        (json.dumps({**GOOD, "version": True}), "version True"),
        (json.dumps({**GOOD, "nose": 1}), "unknown strength 'nose'"),
        (json.dumps({**GOOD, "mouth": "1"}), "mouth"),
        (json.dumps({**GOOD, "mouth": 4}), "mouth"),
        (json.dumps({**GOOD, "mouth": True}), "mouth"),
        ('{"format": "spatialavatar.strengths", "version": 1, "mouth": NaN}', "damaged"),
        (" " * (1 << 17), "damaged"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(tmp_path: Path, content: str, words: str):
    path = tmp_path / "preset.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=words):
        load_preset(path)


def test_a_missing_preset_is_named(tmp_path: Path):
    with pytest.raises(MissingAssetError, match=r"none\.json"):
        load_preset(tmp_path / "none.json")


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command with options and return its status and the settings that it made."""
    avatar_file, motion = tmp_path / "ball.safetensors", Path("examples/motions/talk.json")
    make_grey_avatar(8).save(avatar_file)
    seen: list[DriveConfig] = []

    def fake(avatar, motion, out, config, **_):
        seen.append(config)
        return driving.DriveReport(out, 1, 25.0, 0, ())

    monkeypatch.setattr(driving, "drive", fake)

    def run(*options: str) -> tuple[int, list[DriveConfig]]:
        seen.clear()
        line = ["drive", str(avatar_file), "--motion", str(motion), "-o", str(tmp_path / "out.mp4"), *options]
        return cli.main(line), seen

    return run


def test_the_command_saves_and_loads_presets(drive, tmp_path: Path):
    preset = str(tmp_path / "calm.json")
    assert drive("--strength", "0.8,mouth=1.2", "--save-preset", preset)[0] == 0
    _, (config,) = drive("--preset", preset, "--strength", "pose=0.5", "--only", "pose")
    assert config.strength == 0.8
    assert config.parts == PartStrengths(0.5, 0.0, 0.0, 0.0, 0.0)


def test_only_contradicts_a_strength_of_what_it_stills(drive, capsys: pytest.CaptureFixture[str]):
    assert drive("--only", "face", "--strength", "pose=1")[0] == 1
    assert "--only face sets the pose to 0" in capsys.readouterr().err
