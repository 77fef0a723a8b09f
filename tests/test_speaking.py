"""An avatar that speaks a sound file: the video, its sound, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spatialavatar.cli import main
from spatialavatar.driving import DriveConfig, drive, drive_frames
from spatialavatar.errors import FormatError, InputError, MissingAssetError, OutputError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.media import VideoReader, has_sound
from spatialavatar.speaking import SpeechConfig, rested_track, speak
from spatialavatar.speech import Phoneme, motion_of, speech_motion, utterance_motion
from spatialavatar.speech.synthesis import VOICES, Espeak, Kokoro, Utterance, is_voice_name, synthesise
from spatialavatar.speech.synthesis.kokoro import EARLY, LANGUAGES

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
    report = speak(avatar, speech, tmp_path / "out.mp4", SMALL, SpeechConfig(fps=20.0))
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
    speak(avatar, speech, tmp_path / "a.mp4", SMALL, SpeechConfig(liveliness=0.0), watch=frames.append)
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

    def fake(avatar, audio, out, config, speech, *, progress):
        calls.append((audio, speech.fps, config.strength, speech.listener))
        return drive(avatar, rested_track(motion_of(np.zeros((2, 52), np.float32), 30.0), avatar.head), out, SMALL)

    monkeypatch.setattr("spatialavatar.speaking.speak", fake)
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    arguments = ["drive", "me", "--audio", str(speech), "-o", str(tmp_path / "o.mp4"), "--fps", "30", "--strength", "2"]
    assert main(arguments) == 0
    assert calls == [(speech, 30.0, 2.0, None)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Nothing moves the avatar"),
        (["--audio", "a.wav", "--absolute"], "--absolute has no effect"),
        (["--audio", "a.wav", "--smoothing", "1"], "--smoothing has no effect"),
        (["--audio", "a.wav", "--seconds", "3"], "--seconds has no effect"),
        (["--audio", "a.wav", "--head-pose", "as-filmed"], "--head-pose has no effect"),
        (["--audio", "a.wav", "--fps", "400"], "frame rate"),
        (["--audio", "a.wav", "--say", "hello"], "give one of them"),
        (["--motion", "idle", "--say", "hello"], "is motion without speech"),
        (["--audio", "a.wav", "--voice", "af_heart"], "--voice applies to --say only"),
        (["--say", "hello", "--speech-model", "a.onnx"], "--speech-model hears the speech of --audio"),
        (["--motion", "talk.json", "--liveliness", "0.5"], "--liveliness is for an avatar that speaks or waits"),
        (["--motion", "idle", "--seconds", "90000"], "--seconds"),
        (["--say", "@no-such-file"], "cannot be read"),
        (["--say", " "], "There is no text to say"),
        (["--say", "hello", "--voice", "nobody"], "There is no voice 'nobody'"),
    ],
)
def test_options_without_effect_are_refused_in_one_sentence(options, words, capsys, tmp_path, monkeypatch, avatar):
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    assert main(["drive", "me", *options, "-o", str(tmp_path / "o.mp4")]) != 0
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_idle_avatar_waits_without_a_sound(avatar, tmp_path, monkeypatch):
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    out = tmp_path / "o.mp4"
    assert (
        main(["drive", "me", "--motion", "idle", "--seconds", "0.4", "--fps", "20", "--size", "64", "-o", str(out)])
        == 0
    )
    assert len(list(VideoReader(out))) == 8
    assert not has_sound(out)


class FakeVoice:
    """A synthesiser that hums for as long as its phonemes."""

    def say(self, text: str, voice: str) -> Utterance:
        phonemes = (Phoneme("m", 0.1, 0.3), Phoneme("a", 0.3, 0.6), Phoneme("", 0.6, 0.8))
        return Utterance(np.concatenate([silence(0.1), vowel(0.5), silence(0.2)]), 16_000, phonemes)


def test_an_avatar_says_a_text_with_the_phonemes_of_the_voice(avatar, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("spatialavatar.speech.synthesis._espeak", FakeVoice)
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    out = tmp_path / "o.mp4"
    assert main(["drive", "me", "--say", "ma", "--voice", "espeak:en", "--size", "64", "-o", str(out)]) == 0
    assert len(list(VideoReader(out))) == 20
    assert has_sound(out)
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_the_lips_of_a_text_close_on_m_and_open_on_a() -> None:
    motion = utterance_motion(FakeVoice().say("", ""), 50.0)
    jaw = motion.weights[:, ARKIT_INDEX["jawOpen"]]
    assert jaw[10] < 0.1 < 0.3 < jaw[22]
    assert jaw[-1] < 0.05


def test_without_kokoro_the_default_voice_is_espeak_and_the_user_is_told(monkeypatch) -> None:
    def out_of_reach() -> None:
        raise MissingAssetError("The Hub is out of reach.")

    monkeypatch.setattr("spatialavatar.speech.synthesis._kokoro", out_of_reach)
    monkeypatch.setattr("spatialavatar.speech.synthesis._espeak", FakeVoice)
    utterance, notes = synthesise("hello")
    assert utterance.seconds == pytest.approx(0.8)
    assert "espeak-ng speaks" in notes[0]
    with pytest.raises(MissingAssetError):  # a voice that was asked for is not replaced
        synthesise("hello", "af_heart")


def test_espeak_gives_the_times_of_the_sounds() -> None:
    try:
        espeak = Espeak()
    except MissingAssetError as error:
        pytest.skip(str(error))
    utterance = espeak.say("Papa", "en-us")
    sounds = [phoneme.ipa for phoneme in utterance.phonemes if phoneme.ipa]
    assert sum(sound.startswith("p") for sound in sounds) == 2
    assert 0.2 < utterance.seconds < 2.0
    starts = [phoneme.start for phoneme in utterance.phonemes]
    assert starts == sorted(starts)
    with pytest.raises(InputError, match="has no voice"):
        espeak.say("Papa", "xx-nowhere")


def test_espeak_has_every_voice_that_the_page_offers_and_kokoro_needs() -> None:
    try:
        espeak = Espeak()
    except MissingAssetError as error:
        pytest.skip(str(error))
    offered = [name.removeprefix("espeak:") for name in VOICES.values() if name.startswith("espeak:")]
    assert all(is_voice_name(name) for name in VOICES.values())
    for language in {*offered, *LANGUAGES.values()}:
        assert espeak.say("1", language).seconds > 0.05


def test_kokoro_takes_sound_and_times_from_a_network_of_its_form(tmp_path: Path) -> None:
    folder = kokoro_folder(tmp_path)
    utterance = Kokoro(folder, FakePhonemes()).say("Papa, papa!", "af_heart")
    # Every symbol of the toy network lasts two frames of 25 ms: "papa, papa." and a pause at each end.
    assert [phoneme.ipa for phoneme in utterance.phonemes] == [*"papa", "", "", *"papa", ""]
    assert utterance.seconds == pytest.approx(13 * 0.05)
    assert utterance.phonemes[0].start == pytest.approx(0.05 - EARLY)
    with pytest.raises(MissingAssetError, match="lacks voices/bf_nobody"):
        Kokoro(folder, FakePhonemes()).say("Papa", "bf_nobody")
    with pytest.raises(InputError, match="nothing that can be spoken"):
        Kokoro(folder, FakePhonemes()).say("!?", "af_heart")


def test_another_network_than_kokoros_is_one_sentence(tmp_path: Path) -> None:
    folder = kokoro_folder(tmp_path, durations="lengths")
    with pytest.raises(FormatError, match="gives no times of phonemes"):
        Kokoro(folder, FakePhonemes())


class FakePhonemes:
    """Gives the letters of a word as its sounds."""

    def say(self, text: str, voice: str) -> Utterance:
        return Utterance(np.zeros(1, np.float32), 16_000, tuple(Phoneme(letter, 0, 1) for letter in text.lower()))


def kokoro_folder(folder: Path, durations: str = "durations") -> Path:
    """A folder in the Hub's layout, whose network hums for two frames a symbol."""
    onnx = pytest.importorskip("onnx", reason="needs the extra 'dev'")
    helper, kinds = onnx.helper, onnx.TensorProto
    ids = helper.make_tensor_value_info("input_ids", kinds.INT64, [1, None])
    style = helper.make_tensor_value_info("style", kinds.FLOAT, [1, 256])
    speed = helper.make_tensor_value_info("speed", kinds.FLOAT, [1])
    constants = [
        helper.make_tensor("zero", kinds.INT64, [1], [0]),
        helper.make_tensor("two", kinds.INT64, [1], [2]),
        helper.make_tensor("samples", kinds.INT64, [2], [1, 1200]),
        helper.make_tensor("flat", kinds.INT64, [1], [-1]),
        helper.make_tensor("level", kinds.FLOAT, [1], [0.1]),
    ]
    nodes = [
        helper.make_node("Mul", ["input_ids", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "two"], ["twos"]),
        helper.make_node("Reshape", ["twos", "flat"], [durations]),
        helper.make_node("Cast", ["twos"], ["ones"], to=kinds.FLOAT),
        helper.make_node("Mul", ["ones", "level"], ["quiet"]),
        helper.make_node("Tile", ["quiet", "samples"], ["waveform"]),
    ]
    outputs = [
        helper.make_tensor_value_info("waveform", kinds.FLOAT, [1, None]),
        helper.make_tensor_value_info(durations, kinds.INT64, [None]),
    ]
    graph = helper.make_graph(nodes, "toy", [ids, style, speed], outputs, constants)
    (folder / "onnx").mkdir()
    (folder / "voices").mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "onnx" / "model.onnx"))
    vocabulary = {letter: index for index, letter in enumerate("$ap ,.")}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    np.zeros((510, 1, 256), np.float32).tofile(folder / "voices" / "af_heart.bin")
    return folder
