"""The command line: what it hands on, what it prints where, and how it fails."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import spatialavatar
from spatialavatar import avatar as avatar_module
from spatialavatar import cli, driving, pipeline
from spatialavatar.avatar import Avatar
from spatialavatar.cli.options import Limits
from spatialavatar.cli.output import Outcome, ProgressBar
from spatialavatar.errors import NoFaceError
from spatialavatar.motion import Motion, load_motion, write_motion
from spatialavatar.records import Pictures

from .support.avatars import make_ball_avatar


@pytest.fixture
def avatar_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved toy avatar, whose toy head stands in for the default head."""
    avatar = make_ball_avatar()
    monkeypatch.setattr(avatar_module, "default_head", lambda: avatar.head)
    return avatar.save(tmp_path / "ball.safetensors")


@pytest.fixture
def nod(tmp_path: Path) -> Path:
    motion = Motion(
        torch.zeros(6, 52), torch.linspace(0, 0.2, 6)[:, None] * torch.tensor([1.0, 0, 0]), torch.zeros(6, 3), 25.0
    )
    path = tmp_path / "nod.json"
    write_motion(motion, path)
    return path


def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from spatialavatar import cli
try:
    cli.main(["--help"])
finally:
    assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "generate" in result.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert spatialavatar.__version__ in capsys.readouterr().out


def test_a_wrong_command_line_exits_with_two() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["drive", "--motion", "a.mp4"])
    assert caught.value.code == 2


def test_generate_saves_what_the_pipeline_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {}

    def fake(photos, *, model=None, polish=None, bust=True, scene=True, progress=None):
        seen["photos"], seen["polish"] = photos, polish
        progress(0.5, "Halfway")
        return make_ball_avatar()

    monkeypatch.setattr(pipeline, "generate", fake)
    out = tmp_path / "me.safetensors"
    assert cli.main(["generate", "a.jpg", "b.jpg", "-o", str(out), "--polish", "0"]) == 0
    captured = capsys.readouterr()
    assert seen == {"photos": [Path("a.jpg"), Path("b.jpg")], "polish": 0}
    assert captured.out.strip() == str(out)
    assert "Halfway" in captured.err
    assert len(Avatar.load(out, make_ball_avatar().head).gaussians) > 0


def test_a_failure_is_one_sentence_and_status_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_, **__):
        raise NoFaceError("There is no face\nin a.jpg; give a portrait.")

    monkeypatch.setattr(pipeline, "generate", fail)
    assert cli.main(["generate", "a.jpg", "-o", str(tmp_path / "a.safetensors")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["spatialavatar: There is no face in a.jpg; give a portrait."]


def test_a_bug_is_one_sentence_too_and_a_traceback_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_, **__):
        raise RuntimeError("cogs")

    monkeypatch.setattr(pipeline, "generate", break_down)
    line = ["generate", "a.jpg", "-o", str(tmp_path / "a.safetensors")]
    assert cli.main(line) == 1
    error = capsys.readouterr().err
    assert "RuntimeError: cogs" in error
    assert len(error.splitlines()) == 1
    with pytest.raises(RuntimeError):
        cli.main([*line, "--debug"])


def test_native_chatter_stays_off_stderr_and_the_sentence_does_not() -> None:
    code = """
import os, sys
from spatialavatar import cli, pipeline
from spatialavatar.errors import InputError
def fail(*_, **__):
    os.write(2, b"INFO: delegate created")
    raise InputError("The photo is a drawing; give a photo.")
pipeline.generate = fail
sys.argv = ["spatialavatar", "generate", "a.jpg", "-q"]
sys.exit(cli.main())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["spatialavatar: The photo is a drawing; give a photo."]


def test_an_interrupt_exits_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "generate", interrupt)
    assert cli.main(["generate", "a.jpg", "-o", str(tmp_path / "a.safetensors")]) == 130


def test_an_unwritable_output_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "generate", lambda *_, **__: pytest.fail("work was done"))
    assert cli.main(["generate", "a.jpg", "-o", str(tmp_path / "none" / "a.safetensors")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (
            [],
            {
                "strength": 1.0,
                "relative": True,
                "smoothing": 0.0,
                "size": 512,
                "background": (1.0, 1.0, 1.0),
                "mark": False,
                "head_pose": "centred",
            },
        ),
        (
            [
                "--strength",
                "0.5",
                "--absolute",
                "--smoothing",
                "2",
                "--size",
                "256",
                "--background",
                "#ff0000",
                "--mark",
                "--head-pose",
                "as-filmed",
            ],
            {
                "strength": 0.5,
                "relative": False,
                "smoothing": 2.0,
                "size": 256,
                "background": (1.0, 0.0, 0.0),
                "mark": True,
                "head_pose": "as filmed",
            },
        ),
    ],
)
def test_drive_hands_its_options_on(
    avatar_file: Path, nod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str], expected: dict
) -> None:
    seen = {}

    def fake(avatar, motion, out, config, *, audio=None, progress=None):
        seen.update(motion=motion, out=out, config=config)
        return driving.DriveReport(out, 6, 25.0, 0, ())

    monkeypatch.setattr(driving, "drive", fake)
    out = tmp_path / "out.mp4"
    assert cli.main(["drive", str(avatar_file), "--motion", str(nod), "-o", str(out), *extra]) == 0
    assert (seen["motion"], seen["out"]) == (nod, out)
    assert {key: getattr(seen["config"], key) for key in expected} == expected


def test_videos_are_smoothed_unless_told_otherwise(avatar_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def fake(avatar, motion, out, config, **_):
        seen["smoothing"] = config.smoothing
        return driving.DriveReport(out, 1, 25.0, 0, ())

    monkeypatch.setattr(driving, "drive", fake)
    assert cli.main(["drive", str(avatar_file), "--motion", "clip.mp4"]) == 0
    assert seen["smoothing"] == 1.0


def test_drive_writes_a_video_of_the_motions_length(avatar_file: Path, nod: Path, tmp_path: Path) -> None:
    from spatialavatar.media import VideoReader

    out = tmp_path / "out.mp4"
    assert cli.main(["drive", str(avatar_file), "--motion", str(nod), "-o", str(out), "--size", "64", "-q"]) == 0
    frames = list(VideoReader(out))
    assert len(frames) == 6
    assert frames[0].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--background", "chartrooze"], "neither a colour"),
        (["--strength", "9"], "strength"),
        (["--size", "63"], "size"),
        (["--size", "9" * 400], "size"),
    ],
)
def test_a_wrong_option_says_which(
    avatar_file: Path, nod: Path, capsys: pytest.CaptureFixture[str], line: list[str], words: str
) -> None:
    assert cli.main(["drive", str(avatar_file), "--motion", str(nod), *line]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("whole", [True, False])
def test_an_option_with_underscores_between_its_digits_is_no_number(whole: bool) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'1_00' is not a"):
        Limits(0, 1000, whole).reader("--size")("1_00")


def test_track_writes_a_motion_where_the_name_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spatialavatar.tracking

    motion = Motion(torch.rand(5, 52), torch.zeros(5, 3), torch.zeros(5, 3), 30.0)
    monkeypatch.setattr(spatialavatar.tracking, "track", lambda path, head, *, progress=None: motion.to_track(head))
    out = tmp_path / "take.csv"
    assert cli.main(["track", "clip.mp4", "-o", str(out)]) == 0
    torch.testing.assert_close(load_motion(out).weights, motion.weights, atol=1e-5, rtol=0)


def test_track_with_an_avatar_moves_the_heads_onto_the_pictures_and_drops_these(
    avatar_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import spatialavatar.media
    import spatialavatar.refinement
    import spatialavatar.tracking

    head = make_ball_avatar().head
    tracked = Motion(torch.rand(5, 52), torch.zeros(5, 3), torch.zeros(5, 3), 30.0).to_track(head)
    pictures = Pictures(torch.zeros(5, 8, 8, 3, dtype=torch.uint8), torch.zeros(5, 8, 8, dtype=torch.uint8))
    tracked = tracked.replace(pictures=pictures)
    moved = tracked.with_motion(params=tracked.params.replace(translation=torch.ones(5, 3)))
    alignment = spatialavatar.refinement.Alignment(moved, torch.full((5,), 0.03), torch.full((5,), 0.02))
    monkeypatch.setattr(spatialavatar.media, "VideoReader", lambda path: SimpleNamespace(frame_count_estimate=5))
    monkeypatch.setattr(spatialavatar.tracking, "track_video", lambda path, head, **options: tracked)
    monkeypatch.setattr(spatialavatar.refinement, "photometric_pass", lambda avatar, track, **options: alignment)
    out = tmp_path / "take.safetensors"
    assert cli.main(["track", "clip.mp4", "--photometric", str(avatar_file), "-o", str(out)]) == 0
    saved = spatialavatar.tracking.load_track(out)
    assert saved.pictures is None
    assert float(saved.params.translation.min()) == 1.0
    assert "2.00 % of full scale, 3.00 % before" in capsys.readouterr().err


def test_a_video_too_long_for_its_pictures_is_refused_before_it_is_tracked(
    avatar_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import spatialavatar.media

    monkeypatch.setattr(spatialavatar.media, "VideoReader", lambda path: SimpleNamespace(frame_count_estimate=90_000))
    assert cli.main(["track", "clip.mp4", "--photometric", str(avatar_file)]) == 1
    assert "cut the video" in capsys.readouterr().err


def test_a_saved_track_is_written_in_another_format(tmp_path: Path) -> None:
    from spatialavatar.tracking import save_track

    motion = Motion(torch.rand(5, 52), torch.zeros(5, 3), torch.zeros(5, 3), 30.0)
    save_track(motion.to_track(make_ball_avatar().head), tmp_path / "take.safetensors")
    assert cli.main(["track", str(tmp_path / "take.safetensors"), "-o", str(tmp_path / "take.json")]) == 0
    torch.testing.assert_close(load_motion(tmp_path / "take.json").weights, motion.weights, atol=6e-5, rtol=0)


def test_flame_parameters_of_the_open_head_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import spatialavatar.tracking

    monkeypatch.setattr(spatialavatar.tracking, "track", lambda *_, **__: pytest.fail("work was done"))
    assert cli.main(["track", "clip.mp4", "-o", str(tmp_path / "take.npz")]) == 1
    assert "track with your FLAME head" in capsys.readouterr().err


def test_track_writes_a_report_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from spatialavatar.tracking import save_track

    from .support.tracks import a_track

    save_track(a_track(), tmp_path / "take.safetensors")
    line = ["track", str(tmp_path / "take.safetensors"), "-o", str(tmp_path / "again.safetensors"), "-q"]
    assert cli.main([*line, "--report", str(tmp_path / "report")]) == 0
    written = capsys.readouterr().out.split()
    assert written[1:] == [str(tmp_path / "report" / name) for name in ("index.html", "report.json")]
    assert all(Path(path).is_file() for path in written)


def test_without_a_camera_the_sentence_says_what_to_do(
    avatar_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    monkeypatch.setattr(
        cv2,
        "VideoCapture",
        lambda _: SimpleNamespace(set=lambda *_: False, isOpened=lambda: False, release=lambda: None),
    )
    assert cli.main(["drive", str(avatar_file), "--motion", "webcam:3"]) == 1
    assert "Camera 3 of this machine returns no picture" in capsys.readouterr().err


def test_track_refuses_an_unknown_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["track", "clip.mp4", "-o", "track.bvh"]) == 1
    assert ".safetensors" in capsys.readouterr().err


def test_info_describes_an_avatar_as_json(avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(avatar_file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["head"] == "ball"
    assert facts["gaussians"] == len(make_ball_avatar().gaussians)
    assert facts["sources"] == 2


def test_info_works_where_the_weights_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPATIALAVATAR_WEIGHTS", str(tmp_path / "none"))
    assert cli.main(["info"]) == 0
    assert "not a folder" in capsys.readouterr().out


def test_licences_lists_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    from spatialavatar.hub import licences

    assert cli.main(["licences", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": licences()}


def test_the_contact_sheet_starts_with_the_photo_and_samples_the_video(
    avatar_file: Path, nod: Path, tmp_path: Path
) -> None:
    from spatialavatar.demo import contact_sheet

    video = tmp_path / "out.mp4"
    cli.main(["drive", str(avatar_file), "--motion", str(nod), "-o", str(video), "--size", "64", "-q"])
    photo = np.full((40, 20, 3), (255, 0, 0), np.uint8)
    sheet = contact_sheet(photo, Avatar.load(avatar_file, make_ball_avatar().head), video)
    assert sheet.shape == (768, 1536, 3)
    assert tuple(sheet[128, 128]) == (255, 0, 0)
    assert tuple(sheet[128, 4]) == (255, 255, 255)
    assert sheet[:256, 512:768].std() > 5


def test_the_bar_on_a_terminal_never_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True, write=lambda _: 0, flush=lambda: None))
    with ProgressBar(quiet=False) as progress:
        for fraction in (0.2, 0.1, 0.6, 2.0):
            progress(fraction, "Working")
            bar = progress.__self__._bar
            assert bar.n <= 1.0
        assert bar.n == 1.0


def test_an_outcome_is_one_json_object_without_nulls(capsys: pytest.CaptureFixture[str]) -> None:
    Outcome(["a.mp4"], {"video": Path("a.mp4"), "fps": None, "parts": [{"held": 0, "psnr": float("inf")}]}).show("json")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"video": "a.mp4", "parts": [{"held": 0}]}
    assert "null" not in captured.out


@pytest.mark.parametrize("flags", [["-q"], ["-q", "--json"]])
def test_quiet_prints_nothing_but_the_result(
    avatar_file: Path, nod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert cli.main(["drive", str(avatar_file), "--motion", str(nod), "-o", str(out), "--size", "64", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert (json.loads(captured.out)["video"] if "--json" in flags else captured.out.strip()) == str(out)


def test_the_help_page_shows_every_command_in_a_group_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    page = capsys.readouterr().out
    for name in (
        "generate",
        "refine",
        "demo",
        "drive",
        "track",
        "app",
        "papers info",
        "papers load",
        "push",
        "info",
        "licences",
    ):
        assert f"\n  {name} " in page
        assert f"$ spatialavatar {name}" in page
    assert max(len(line) for line in page.splitlines()) <= 100


def test_the_example_of_every_command_is_a_line_that_parses() -> None:
    commands = cli.declared_commands()
    for members in commands.groups.values():
        for name, _, example in members:
            options = commands.parser.parse_args(example.split())
            assert callable(options.run), name
            assert {"json", "quiet", "debug"} <= vars(options).keys()


@pytest.mark.parametrize("form", ["ply", "splat", "spz", "glb", "lam-zip"])
def test_export_writes_the_form_beside_the_others(avatar_file: Path, tmp_path: Path, form: str) -> None:
    output = tmp_path / f"out.{form.removeprefix('lam-')}"
    assert cli.main(["export", str(avatar_file), "--format", form, "-o", str(output), "-q"]) == 0
    begins = {"ply": b"ply\n", "splat": b"", "spz": b"\x1f\x8b", "glb": b"glTF", "lam-zip": b"PK"}[form]
    assert output.read_bytes().startswith(begins)
    assert output.stat().st_size > 1000


def test_export_takes_a_pose_and_an_expression(avatar_file: Path, tmp_path: Path) -> None:
    def exported(*options: str) -> bytes:
        path = tmp_path / "out.splat"
        assert cli.main(["export", str(avatar_file), "--format", "splat", "-o", str(path), "-q", *options]) == 0
        return path.read_bytes()

    assert exported() == exported("--expression", "jawOpen=0") != exported("--yaw", "20")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "glb", "--yaw", "10"], "--yaw applies only to splat files"),
        (["--format", "spz", "--sh-degree", "3"], "--sh-degree applies only to --format ply"),
        (["--format", "ply", "--expression", "jawOpen"], "as jawOpen=0.6"),
        (["--format", "ply", "--expression", "smirk=1"], "not an ARKit unit"),
        (["--format", "ply", "--expression", "jawOpen=0_1"], "as jawOpen=0.6"),
        (["--format", "ply", "--motion", "talk.json"], "--motion applies only to --format html"),
        (["--format", "glb", "--mediapipe", "https://example.org/mediapipe"], "--mediapipe applies only"),
    ],
)
def test_export_says_which_option_does_not_fit(
    avatar_file: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert cli.main(["export", str(avatar_file), "-o", str(output), *options]) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_no_command_writes_over_what_it_reads(
    avatar_file: Path, nod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, sound, link = tmp_path / "photo.jpg", tmp_path / "sound.mp4", tmp_path / "link.mp4"
    photo.write_bytes(b"a photo")
    sound.write_bytes(b"sound")
    link.hardlink_to(sound)
    take = tmp_path / "take.json"
    take.write_bytes(b"a video by another name")
    before = {path: path.read_bytes() for path in (avatar_file, nod, photo, sound, take)}
    for command in (
        ["generate", photo, "-o", photo],
        ["export", avatar_file, "--format", "ply", "-o", avatar_file],
        ["track", take, "-o", take],
        ["drive", avatar_file, "--motion", nod, "-o", nod],
        ["drive", avatar_file, "--motion", nod, "--audio", sound, "-o", link],
        ["refine", avatar_file, sound, "-o", avatar_file],
    ):
        assert cli.main([str(part) for part in command]) == 1, command
        assert "is an input of this command" in capsys.readouterr().err, command
    assert {path: path.read_bytes() for path in before} == before


def test_refine_deletes_no_input_and_no_interrupted_run_that_it_cannot_replace(
    avatar_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = avatar_file.rename(tmp_path / "keep.checkpoint.safetensors")
    assert cli.main(["refine", str(named), "clip.mp4", "-o", str(tmp_path / "keep.safetensors")]) == 1
    assert named.exists()
    interrupted = tmp_path / "me.checkpoint.safetensors"
    interrupted.write_bytes(b"an interrupted run")
    assert (
        cli.main(["refine", str(tmp_path / "typo.safetensors"), "clip.mp4", "-o", str(tmp_path / "me.safetensors")])
        == 1
    )
    assert interrupted.exists()
