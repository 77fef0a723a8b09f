"""Motion at its right speed: rates and gaps of captures, and rates that survive our own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spatialavatar import cli
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.motion import Motion, load_motion, write_motion

JAW = ARKIT_INDEX["jawOpen"]


def take(folder: Path, stamps: list[str], column: str = "Timecode", values: list[float] | None = None) -> Path:
    """A capture with these time codes; the jaw opens by a thousandth a row."""
    values = [index / 1000 for index in range(len(stamps))] if values is None else values
    rows = [f"{stamp},{value}" for stamp, value in zip(stamps, values)]
    path = folder / "take.csv"
    path.write_text("\n".join([f"{column},JawOpen", *rows]))
    return path


def smpte(frame: int, rate: int, start: int = 0) -> str:
    """``HH:MM:SS:FF`` of a frame, ``start`` seconds into the day."""
    seconds, rest = divmod(frame, rate)
    seconds += start
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"


def rows_of(motion: Motion) -> list[int]:
    """The row of the take that every frame shows."""
    return [round(1000 * value) for value in motion.weights[:, JAW].tolist()]


# -- gaps -------------------------------------------------------------------------------------------------------------


def test_a_pause_is_held_and_does_not_slow_the_take_down(tmp_path: Path) -> None:
    frames = [*range(120), *range(720, 840)]  # 2 s at 60 fps, 10 s of nothing, 2 s
    motion = load_motion(take(tmp_path, [smpte(frame, 60) for frame in frames]))
    assert motion.fps == 60.0
    assert len(motion) == 840
    assert rows_of(motion)[119:720] == [119] * 601
    assert motion.valid.tolist() == [frame < 120 or frame >= 720 for frame in range(840)]


def test_a_dropped_frame_is_held_for_one_frame(tmp_path: Path) -> None:
    frames = [frame for frame in range(180) if frame != 70]
    motion = load_motion(take(tmp_path, [smpte(frame, 60) for frame in frames]))
    assert (motion.fps, len(motion)) == (60.0, 180)
    assert rows_of(motion)[69:72] == [69, 69, 70]


def test_a_take_across_midnight_goes_on(tmp_path: Path) -> None:
    stamps = [smpte(frame, 30, 86_399) for frame in range(30)] + [smpte(frame, 30) for frame in range(60)]
    motion = load_motion(take(tmp_path, stamps))
    assert (motion.fps, len(motion)) == (30.0, 90)


def test_time_codes_that_run_backwards_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = take(tmp_path, [smpte(frame, 60) for frame in (*range(600, 660), *range(60))])
    with pytest.raises(FormatError, match=r"run backwards at row 61; sort its rows, or give their rate with --fps"):
        load_motion(path)
    assert len(load_motion(path, fps=60.0)) == 120


def test_a_gap_of_a_day_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = take(tmp_path, [smpte(frame, 60) for frame in range(60)] + [smpte(0, 60, 40_000)])
    with pytest.raises(InputError, match="expands to"):
        load_motion(path)


# -- the rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_the_frame_field_gives_the_rate_where_one_second_changes(tmp_path: Path, rate: int) -> None:
    count = rate * 3 // 2
    motion = load_motion(take(tmp_path, [smpte(frame, rate) for frame in range(count)]))
    assert (motion.fps, len(motion)) == (rate, count)
    assert motion.warnings == ()


def test_rows_at_half_the_rate_of_the_time_codes_keep_their_time(tmp_path: Path) -> None:
    motion = load_motion(take(tmp_path, [smpte(2 * frame, 60) for frame in range(90)]))
    assert (motion.fps, len(motion)) == (30.0, 90)


def test_rows_that_share_a_time_code_are_spread(tmp_path: Path) -> None:
    motion = load_motion(take(tmp_path, [smpte(frame // 2, 30) for frame in range(180)]))
    assert (motion.fps, len(motion)) == (60.0, 180)


def test_rows_off_the_grid_of_the_time_codes_keep_their_time(tmp_path: Path) -> None:
    motion = load_motion(take(tmp_path, [smpte(round(frame * 60 / 24), 60) for frame in range(240)]))
    assert motion.fps == pytest.approx(24.0, abs=0.01)
    assert len(motion) == 240


def test_drop_frame_time_codes_play_at_the_television_rate(tmp_path: Path) -> None:
    # The last second of a minute, and the next: numbers 0 and 1 are left out at its start.
    stamps = [f"00:00:59;{frame:02d}" for frame in range(30)] + [f"00:01:00;{frame:02d}" for frame in range(2, 30)]
    motion = load_motion(take(tmp_path, stamps))
    assert motion.fps == pytest.approx(30_000 / 1001)
    assert len(motion) == 58


def test_seconds_are_read_as_audio2face_writes_them(tmp_path: Path) -> None:
    stamps = [str(round(frame / 30, 9)) for frame in range(45)]
    motion = load_motion(take(tmp_path, stamps, column="timeCode"))
    assert (motion.fps, motion.duration) == (30.0, 1.5)


def test_a_take_that_states_no_rate_says_what_is_assumed(tmp_path: Path) -> None:
    short = load_motion(take(tmp_path, [smpte(frame, 25) for frame in range(20)]))
    assert short.fps == 60.0
    assert "too short for its time codes to state a rate" in short.warnings[0]
    (tmp_path / "bare.csv").write_text("JawOpen\n0.1\n0.2\n")
    bare = load_motion(tmp_path / "bare.csv")
    assert bare.fps == 60.0
    assert "no time codes" in bare.warnings[0]
    assert "--fps" in bare.warnings[0]


def test_a_time_code_that_advances_a_second_a_row_is_followed_with_a_warning(tmp_path: Path) -> None:
    path = take(tmp_path, [f"00:00:{row:02d}:00.000" for row in range(10)])
    motion = load_motion(path)
    assert (motion.fps, len(motion)) == (1.0, 10)
    assert "give --fps if that is too slow" in motion.warnings[0]
    assert load_motion(path, fps=25.0).fps == 25.0


@pytest.mark.parametrize("fps", [12.5, 23.976, 24.0, 25.0, 30_000 / 1001, 29.97, 30.0, 48.0, 60.0, 90.0, 120.0, 240.0])
@pytest.mark.parametrize("seconds", [0.4, 1.5, 20.0])
def test_a_rate_survives_our_csv(tmp_path: Path, fps: float, seconds: float) -> None:
    count = round(seconds * fps)
    weights = torch.zeros(count, 52)
    weights[:, JAW] = torch.linspace(0, 1, count)
    written = Motion(weights, torch.zeros(count, 3), torch.zeros(count, 3), fps)
    write_motion(written, tmp_path / "take.csv")
    motion = load_motion(tmp_path / "take.csv")
    assert motion.fps == pytest.approx(fps, rel=2e-6)
    assert motion.warnings == ()
    assert len(motion) == count
    torch.testing.assert_close(motion.weights, weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fps", [12.5, 29.97, 30_000 / 1001])
@pytest.mark.parametrize("name", ["take.json", "bsData.json"])
def test_a_rate_survives_our_json(tmp_path: Path, fps: float, name: str) -> None:
    write_motion(Motion(torch.rand(5, 52), torch.zeros(5, 3), torch.zeros(5, 3), fps), tmp_path / name)
    assert load_motion(tmp_path / name).fps == fps


# -- a given rate -----------------------------------------------------------------------------------------------------


def test_a_given_rate_makes_every_row_a_frame(tmp_path: Path) -> None:
    path = take(tmp_path, [smpte(frame, 60) for frame in (*range(60), *range(600, 660))])
    motion = load_motion(path, fps=30.0)
    assert (motion.fps, len(motion), motion.warnings) == (30.0, 120, ())


def test_a_given_rate_overrides_the_one_in_json(tmp_path: Path) -> None:
    path = tmp_path / "take.json"
    write_motion(Motion(torch.rand(5, 52), torch.zeros(5, 3), torch.zeros(5, 3), 25.0), path)
    assert load_motion(path, fps=50.0).fps == 50.0
    data = json.loads(path.read_text())
    del data["fps"]
    path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match="--fps"):
        load_motion(path)
    assert load_motion(path, fps=50.0).fps == 50.0


@pytest.mark.parametrize("fps", [0.0, -25.0, 0.04, 1000.0, 1e9, float("nan"), float("inf")])
def test_an_absurd_given_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InputError, match="from 1 to 500 frames per second"):
        load_motion(take(tmp_path, [smpte(frame, 60) for frame in range(90)]), fps=fps)


@pytest.mark.parametrize("motion", ["clip.mp4", "track.safetensors", "webcam"])
def test_the_fps_option_is_refused_where_it_has_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], motion: str
) -> None:
    assert cli.main(["drive", str(tmp_path / "me.safetensors"), "--motion", motion, "--fps", "30"]) == 1
    assert "--fps applies to motion files only" in capsys.readouterr().err


def test_the_fps_option_sets_the_rate_of_a_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from .support.avatars import make_ball_avatar

    avatar = make_ball_avatar()
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    path = take(tmp_path, [smpte(frame, 60) for frame in range(6)])
    line = ["drive", "me", "--motion", str(path), "--fps", "30", "--size", "64", "-o", str(tmp_path / "out.mp4")]
    assert cli.main(line) == 0
    assert "6 frames, 0 held, 30 frames per second" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--motion", "clip.mp4", "--seconds", "5"], "--seconds applies to a webcam"),
        (["--motion", "webcam", "--seconds", "nan"], "number from 0.1"),
        (["--motion", "webcam", "--audio", "speech.wav"], "--audio has no effect"),
        (["--motion", "webcam", "--smoothing", "0.5"], "--smoothing has no effect"),
    ],
)
def test_other_options_without_effect_are_refused(
    capsys: pytest.CaptureFixture[str], line: list[str], words: str
) -> None:
    assert cli.main(["drive", "me.safetensors", *line]) == 1
    assert words in capsys.readouterr().err


def test_a_photo_is_refused_as_the_source_of_a_motion_before_it_is_tracked(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import spatialavatar.tracking

    monkeypatch.setattr(spatialavatar.tracking, "track", lambda *_, **__: pytest.fail("work was done"))
    photo = examples / "portraits" / "lake.jpg"
    assert cli.main(["track", str(photo), "-o", str(tmp_path / "take.json")]) == 1
    assert "is a photo, which has no motion" in capsys.readouterr().err
