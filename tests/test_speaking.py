"""An avatar that speaks a sound file: the video, its sound, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from spatialavatar.cli import main
from spatialavatar.driving import DriveConfig, drive, drive_frames
from spatialavatar.errors import InputError, OutputError
from spatialavatar.media import VideoReader, has_sound
from spatialavatar.speaking import rested_track, speak
from spatialavatar.speech import motion_of, speech_motion

from .support.avatars import make_ball_avatar
from .support.sounds import silence, vowel, write_wav

SMALL = DriveConfig(size=64)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    sound = np.concatenate([silence(0.3), vowel(0.5), silence(0.4)])
    return write_wav(tmp_path_factory.mktemp("sound") / "speech.wav", sound)


@pytest.fixture(scope="module")
def avatar():
    return make_ball_avatar()


def test_the_video_has_the_length_and_the_sound_of_the_speech(avatar, speech, tmp_path):
    report = speak(avatar, speech, tmp_path / "out.mp4", SMALL, fps=20.0)
    assert (report.frames, report.fps) == (24, 20.0)
    assert has_sound(report.path)
    assert len(list(VideoReader(report.path))) == 24


def test_the_stretches_of_a_long_sound_join_without_a_step(avatar):
    weights = np.zeros((8, 52), np.float32)
    weights[:, 24] = np.linspace(0.0, 0.7, 8)
    whole = list(drive_frames(avatar, rested_track(motion_of(weights, 25.0), avatar.head), DriveConfig(0, size=64)))
    parts = [
        frame
        for part in (weights[:3], weights[3:])
        for frame in drive_frames(avatar, rested_track(motion_of(part, 25.0), avatar.head), DriveConfig(0, size=64))
    ]
    np.testing.assert_array_equal(np.stack(parts), np.stack(whole))


def test_speaking_equals_driving_with_the_motion_of_the_speech(avatar, speech, tmp_path):
    frames: list[np.ndarray] = []
    speak(avatar, speech, tmp_path / "a.mp4", SMALL, watch=frames.append)
    track = rested_track(speech_motion(speech), avatar.head)
    others: list[np.ndarray] = []
    drive(avatar, track, tmp_path / "b.mp4", DriveConfig(size=64, smoothing=0.0), watch=others.append)
    np.testing.assert_array_equal(np.stack(frames), np.stack(others))


def test_a_sound_that_cannot_be_read_leaves_no_video(avatar, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    with pytest.raises(InputError):
        speak(avatar, bad, tmp_path / "out.mp4", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.wav"]


def test_the_sound_is_not_overwritten(avatar, speech):
    before = speech.read_bytes()
    with pytest.raises(OutputError):
        speak(avatar, speech, speech, SMALL)
    assert speech.read_bytes() == before


def test_the_command_line_speaks_without_a_motion(avatar, speech, tmp_path, monkeypatch, capsys):
    calls = []

    def fake(avatar, audio, out, config, *, fps, listener, progress):
        calls.append((audio, fps, config.strength, listener))
        return drive(avatar, rested_track(motion_of(np.zeros((2, 52), np.float32), fps), avatar.head), out, SMALL)

    monkeypatch.setattr("spatialavatar.speaking.speak", fake)
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    arguments = ["drive", "me", "--audio", str(speech), "-o", str(tmp_path / "o.mp4"), "--fps", "30", "--strength", "2"]
    assert main(arguments) == 0
    assert calls == [(speech, 30.0, 2.0, None)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "There is nothing that moves the avatar"),
        (["--audio", "a.wav", "--absolute"], "--absolute has no effect"),
        (["--audio", "a.wav", "--smoothing", "1"], "--smoothing has no effect"),
        (["--audio", "a.wav", "--seconds", "3"], "--seconds has no effect"),
        (["--audio", "a.wav", "--head-pose", "as-filmed"], "--head-pose has no effect"),
        (["--audio", "a.wav", "--fps", "400"], "frame rate"),
    ],
)
def test_options_without_effect_are_refused_in_one_sentence(options, words, capsys, tmp_path, monkeypatch, avatar):
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    assert main(["drive", "me", *options, "-o", str(tmp_path / "o.mp4")]) != 0
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
