"""Speech in the app: the values of /drive, what its work gives, and the page's controls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

import gradio as gr
from gradio_client import handle_file
from gradio_client.exceptions import ValidationError

from spatialavatar.app import checks
from spatialavatar.app.backend import default_backend
from spatialavatar.app.endpoints import endpoint
from spatialavatar.app.page import build_demo
from spatialavatar.app.requests import Speech
from spatialavatar.app.service import Service
from spatialavatar.app.sessions import work_folder
from spatialavatar.errors import MissingAssetError
from spatialavatar.media import VideoReader, has_sound
from spatialavatar.speech.synthesis import FELL_BACK

from .support.avatars import make_grey_avatar
from .support.chromium import PATIENCE, needs_chromium
from .support.fake_backend import FakeBackend, RunningApp, running_app
from .support.sounds import silence, vowel, write_wav
from .test_speaking import FakeVoice


@pytest.fixture(autouse=True)
def synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spatialavatar.speech.synthesis._espeak", FakeVoice)
    for place in ("checks", "say"):
        monkeypatch.setattr(f"spatialavatar.app.{place}.missing_synthesiser", lambda: None)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spatialavatar.app.say.missing_synthesiser", lambda: None)
        with running_app(tmp_path_factory.mktemp("app")) as app:
            yield app


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_grey_avatar().save(tmp_path_factory.mktemp("avatar") / "a.safetensors"))


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("sound") / "hello.wav", np.concatenate([vowel(0.4), silence(0.2)]))


def test_drive_takes_a_text_or_a_sound(app: RunningApp, avatar: str, wav: Path) -> None:
    with app.client() as client:
        values: dict[str, Any] = {"avatar": handle_file(avatar), "consent": True, "size": 256, "api_name": "/drive"}
        client.predict(**values, text="Hello.", voice="espeak:de", liveliness=0.5)
        assert app.fake.last.speech == Speech(None, "Hello.", "espeak:de", 0.5)
        client.predict(**values, audio=handle_file(str(wav)), relative=False, head_pose="as filmed")
        request = app.fake.last
        assert (Path(request.speech.audio).name, request.speech.voice, request.speech.liveliness) == (wav.name, None, 1)
        assert (request.motion, request.relative, request.smoothing, request.head_pose) == ("", True, 0.0, "centred")
        with pytest.raises(ValidationError, match="audio and text each move the avatar; give one"):
            client.predict(**values, text="Hello.", audio=handle_file(str(wav)))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a motion and a text": ({"motion": "m.json", "text": "Hi."}, "motion and text each move the avatar"),
    "a voice without a text": ({"voice": "af_heart"}, "give a text, or leave the voice out"),
    "a text of spaces": ({"text": "  "}, "no text to say"),
    "a text that is a number": ({"text": 3}, "must be a text"),
    "a long text": ({"text": "a" * 1001}, "1001 characters; give at most 1000"),
    "a path as a voice": ({"text": "Hi.", "voice": "espeak:../../etc/x"}, "voice must be one such as"),
    "a voice that is a list": ({"text": "Hi.", "voice": ["af_heart"]}, "voice must be one such as"),
    "too lively": ({"text": "Hi.", "liveliness": 2}, "liveliness must be a number from 0 to 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_speech_is_refused_in_one_sentence(case: str) -> None:
    values, sentence = WRONG[case]
    one = endpoint("drive")
    given = one.complete({"avatar": {"path": "a"}, "consent": True} | values)
    found = one.complaints(given, early=True)
    assert len(found) == 1
    assert sentence in next(iter(found.values()))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"no sound at all", "is not sound that can be read; give a WAV"),
        (62, "62 seconds long; give at most 60"),
    ],
)
def test_a_sound_that_cannot_be_spoken_is_refused_in_one_sentence(data: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        write_wav(path, silence(data))
    assert sentence in str(checks.sound(str(path)))


@pytest.mark.parametrize("source", ["text", "audio"])
def test_a_speech_becomes_a_video_with_sound(source: str, avatar: str, wav: Path, tmp_path: Path) -> None:
    given = {"text": "ma", "voice": "espeak:en"} if source == "text" else {"audio": str(wav)}
    steps = Service(default_backend()).steps("drive", avatar=avatar, consent=True, size=256, **given)
    for step in steps:
        if "video" in step.files:
            assert has_sound(Path(step.files["video"]))
            assert (
                len(list(VideoReader(step.files["video"]))) == step.facts["frames"] == (20 if source == "text" else 15)
            )
    assert step.fraction == 1.0
    assert not list(Path(work_folder()).iterdir())


def test_the_answer_says_that_the_fallback_voice_speaks(avatar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingAssetError("There is no network.")

    monkeypatch.setattr("spatialavatar.speech.synthesis._kokoro", missing)
    *_, last = Service(default_backend()).steps("drive", avatar=avatar, consent=True, size=256, text="ma", voice="")
    assert last.facts["warnings"] == [FELL_BACK]


def test_a_stopped_speech_leaves_nothing(avatar: str, wav: Path) -> None:
    steps = Service(default_backend()).steps("drive", avatar=avatar, consent=True, size=256, audio=str(wav))
    next(step for step in steps if step.message.startswith("Rendering frame"))
    steps.close()
    assert not list(Path(work_folder()).iterdir())


def test_without_a_synthesiser_the_page_and_the_endpoint_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("checks", "say"):
        monkeypatch.setattr(f"spatialavatar.app.{place}.missing_synthesiser", lambda: "Install a synthesiser.")
    assert checks.speech_text("Hello.") == "Install a synthesiser."
    page = build_demo(FakeBackend().backend())
    assert any("Install a synthesiser." in str(getattr(block, "value", "")) for block in page.blocks.values())
    box = next(block for block in page.blocks.values() if getattr(block, "elem_id", "") == "say-text")
    assert isinstance(box, gr.Textbox)
    assert not box.visible


@needs_chromium
def test_the_page_says_a_typed_text_and_a_chosen_sound(browser: Any, app: RunningApp, wav: Path) -> None:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(app.url)
    page.get_by_role("button", name="By the lake").click()
    page.get_by_label("agreed").and_(page.locator(":checked")).wait_for()
    page.get_by_role("button", name="Make the avatar").click()
    page.get_by_role("button", name="Next: make it move").click()
    page.get_by_role("tab", name="Say something").click()
    make = page.get_by_role("button", name="Make the video")
    make.click()
    page.get_by_text("Type what the avatar should say first.").wait_for()
    page.get_by_label("What should it say?").fill("Good morning.")
    make.click()
    page.get_by_text("Your video is ready").wait_for()
    assert app.fake.last.speech == Speech(None, "Good morning.", None, 1.0)
    app.fake.warnings.append("A mechanical voice speaks.")
    make.click()
    page.get_by_text("A mechanical voice speaks.").wait_for()
    app.fake.warnings.clear()
    page.get_by_role("tab", name="Record or choose a sound").click()
    page.locator("#say-sound").get_by_label("Upload file").click()
    page.locator("#say-sound input[type=file]").set_input_files(str(wav))
    page.locator("#say-sound").get_by_label("Play", exact=True).wait_for()
    make.click()
    while app.fake.last.speech.audio is None:
        page.wait_for_timeout(50)
    assert Path(app.fake.last.speech.audio).name == wav.name
    page.context.close()
