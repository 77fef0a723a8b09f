"""The web avatar speaks: its curves against ours in node, and the page's buttons in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spatialavatar.cli import main
from spatialavatar.export.html import save_html, web_binary
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.speech import SpeechDriver
from spatialavatar.speech.resampling import Resampler

from .support.chromium import needs_chromium, until
from .support.painted_avatar import painted_avatar
from .support.sounds import RATE, silence, vowel, write_wav

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NODE = shutil.which("node")
WEB = files("spatialavatar.export") / "web"

HEAR = """
const fs = require("fs");
const run = (name) => fs.readFileSync(name, "utf8");
const source = run(process.argv[2]) + run(process.argv[3]) + "; return { SpatialAvatarEngine, SpatialAvatarSpeech };";
const { SpatialAvatarEngine, SpatialAvatarSpeech } = new Function(source)();
const whole = (name) => Uint8Array.from(fs.readFileSync(name)).buffer;
const { info, arrays } = SpatialAvatarEngine.read(whole(process.argv[4]));
const sound = new Float32Array(whole(process.argv[5]));
const listener = new SpatialAvatarSpeech.Listener(info.speech, arrays), frames = [];
for (let at = 0; at < sound.length; at += 700) frames.push(...listener.push(sound.slice(at, at + 700)));
frames.push(...listener.finish());
const resampled = new SpatialAvatarSpeech.Resampler(44100, 16000).push(sound);
const all = [frames.length, ...frames.flatMap((frame) => [...frame]), ...resampled];
fs.writeFileSync(process.argv[6], Float32Array.from(all));
"""


def babble() -> np.ndarray:
    """Vowels, closures, noise and silence, (N,) float32."""
    noise = np.random.default_rng(0).normal(0.0, 0.05, RATE // 5).astype(np.float32)
    vowels = [
        vowel(0.25, pitch, formants) for pitch, formants in ((120, (750, 1200)), (180, (300, 2200)), (95, (350, 800)))
    ]
    return np.concatenate([silence(0.2), vowels[0], silence(0.08), vowels[1], noise, vowels[2], silence(0.31)])


@pytest.mark.skipif(NODE is None, reason="there is no node on this machine")
def test_the_page_hears_the_same_as_python(tmp_path: Path) -> None:
    sound = babble()
    (tmp_path / "avatar.bin").write_bytes(web_binary(painted_avatar(16), speech=True))
    sound.tofile(tmp_path / "sound.f32")
    (tmp_path / "hear.js").write_text(HEAR)
    names = ["hear.js", str(WEB / "engine.js"), str(WEB / "speech.js"), "avatar.bin", "sound.f32", "out.f32"]
    done = subprocess.run([NODE or "", *names], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    out = np.fromfile(tmp_path / "out.f32", np.float32)
    count = int(out[0])
    driver = SpeechDriver(50.0)
    ours = np.concatenate([driver.feed(sound), driver.finish()])
    assert count == len(ours)
    assert ours[:, ARKIT_INDEX["jawOpen"]].max() > 0.2  # there is something to agree about
    np.testing.assert_allclose(out[1 : 1 + 52 * count].reshape(-1, 52), ours, atol=1e-3)
    np.testing.assert_allclose(out[1 + 52 * count :], Resampler(44_100).push(sound), atol=1e-5)


def test_only_a_page_that_was_asked_to_speak_carries_the_network(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    avatar = painted_avatar(16)
    more = len(web_binary(avatar, speech=True)) - len(web_binary(avatar))
    assert 800_000 < more < 950_000
    path = avatar.save(tmp_path / "a.safetensors")
    assert main(["export", str(path), "--format", "ply", "--speech"]) != 0
    assert "--speech applies only to --format html" in capsys.readouterr().err


HEARD = "Math.max(...spatialAvatar.params().expression) > 0.1 && spatialAvatar.driven !== null"


@needs_chromium
def test_the_page_speaks_a_file_and_the_microphone_and_explains_what_fails(browser: Browser, tmp_path: Path) -> None:
    save_html(painted_avatar(16), tmp_path / "me.html", speech=True)
    sound = write_wav(tmp_path / "hello.wav", np.concatenate([silence(0.2), vowel(1.0), silence(0.2)]))
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto((tmp_path / "me.html").as_uri())
    file, live = page.get_by_role("button", name="Play a sound file"), page.get_by_role("button", name="microphone")
    state = page.locator("#speech-state")

    def choose(path: Path) -> None:
        with page.expect_file_chooser() as chooser:
            file.press("Enter")
        chooser.value.set_files(str(path))

    choose(sound)
    page.get_by_role("button", name="Stop the sound").wait_for()
    until(page, HEARD)
    file.wait_for()  # at its end
    until(page, "spatialAvatar.driven === null")
    choose(tmp_path / "bad.wav")
    until(page, "document.getElementById('speech-state').textContent.startsWith('bad.wav holds no sound')")
    live.press("Enter")
    page.get_by_text("Your voice stays in this page.").wait_for()
    until(page, "spatialAvatar.driven !== null")
    page.get_by_role("button", name="Stop the microphone").press("Enter")
    until(page, "spatialAvatar.driven === null")
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    live.press("Enter")
    page.get_by_text("The browser may not use the microphone; allow it for this page, or play a sound file.").wait_for()
    assert state.is_visible()
    context.close()
