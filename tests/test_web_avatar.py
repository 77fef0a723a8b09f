"""The page that poses and draws an avatar by itself, in a real browser, against our own rasteriser."""

from __future__ import annotations

import base64
import io
import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, retarget
from spatialavatar.export.html import save_html, web_binary
from spatialavatar.motion import Motion, read_motion

from .support.avatars import make_bust
from .support.chromium import needs_chromium, sync_api, until
from .support.painted_avatar import (
    FEATURES,
    SIZE,
    ours,
    painted_avatar,
    psnr,
    scripted,
    theirs,
    with_bases,
    with_residual,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

POSES = {"ahead": [0.0, 0.0, 0.0], "aside": [0.1, 0.45, -0.05]}
FACES: dict[str, dict[str, float]] = {"rest": {}, "open": {"jawOpen": 0.7, "mouthSmileLeft": 0.6, "eyeBlinkRight": 1.0}}


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return painted_avatar()


@pytest.fixture(scope="module")
def exported(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_html(avatar, tmp_path_factory.mktemp("web") / "avatar.html")


def opened(browser: Browser, path: Path, script: str = "", fragment: str = "", **options: Any) -> Page:
    page = browser.new_page(**options)
    if script:
        page.add_init_script(script)
    page.goto(path.as_uri() + fragment)
    return page


@pytest.fixture(scope="module")
def page(browser: Browser, exported: Path) -> Iterator[Page]:
    page = opened(browser, exported)
    page.locator("#controls").wait_for()
    yield page
    page.close()


@pytest.fixture(scope="module", params=["#gpu", "#cpu"])
def drawn(browser: Browser, exported: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page as WebGL draws it, and as its worker does."""
    page = opened(browser, exported, fragment=request.param)
    page.locator("#controls").wait_for()
    yield page
    page.close()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("pose", POSES)
def test_the_page_shows_what_our_rasteriser_shows(drawn: Page, avatar: Avatar, pose: str, face: str) -> None:
    view: tuple[Any, ...] = POSES[pose], FACES[face]
    assert psnr(theirs(drawn, *view), ours(avatar, *view)) >= 36


@pytest.fixture(scope="module")
def expressive(avatar: Avatar) -> Avatar:
    return with_residual(avatar, 0.15, hidden=16)


@pytest.fixture(scope="module")
def expressing(browser: Browser, expressive: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = opened(browser, save_html(expressive, tmp_path_factory.mktemp("residual") / "avatar.html"))
    page.locator("#controls").wait_for()
    yield page
    page.close()


@pytest.mark.parametrize("face", FACES)
def test_the_page_shows_what_a_network_adds_to_an_expression(
    expressing: Page, expressive: Avatar, avatar: Avatar, face: str
) -> None:
    view: tuple[Any, ...] = POSES["aside"], FACES[face]
    expected = ours(expressive, *view)
    assert psnr(expected, ours(avatar, *view)) < 25
    assert psnr(theirs(expressing, *view), expected) >= 36


def test_the_page_shows_what_a_refinement_learned_by_expression(
    browser: Browser, avatar: Avatar, tmp_path: Path
) -> None:
    learned, view = with_bases(avatar, 0.05), (POSES["aside"], next(iter(FACES.values())))
    page = opened(browser, save_html(learned, tmp_path / "avatar.html"))
    page.locator("#controls").wait_for()
    expected = ours(learned, *view)
    assert psnr(expected, ours(avatar, *view)) < 30
    assert psnr(theirs(page, *view), expected) >= 36
    page.close()


def test_numbers_of_a_texel_in_a_residual_are_a_byte_each(expressive: Avatar, avatar: Avatar) -> None:
    more = len(web_binary(expressive)) - len(web_binary(avatar))
    bytes_of_texels = (FEATURES + 1) * len(avatar.layout)
    assert bytes_of_texels < more < 1.1 * bytes_of_texels + 30_000


@pytest.mark.parametrize("fragment", ["#gpu", "#cpu"])
def test_in_the_dark_the_ground_is_the_stages(browser: Browser, exported: Path, fragment: str) -> None:
    page = opened(browser, exported, fragment=fragment, color_scheme="dark")
    page.locator("#controls").wait_for()
    corner = 255 * theirs(page, POSES["ahead"], {}, 64)[0, 0]
    stage = page.evaluate("getComputedStyle(document.getElementById('stage')).backgroundColor")
    assert stage == f"rgb({', '.join(str(round(value)) for value in corner)})" != "rgb(255, 255, 255)"
    page.close()


def replaced_data(exported: Path, data: bytes, path: Path) -> Path:
    text = exported.read_text(encoding="utf-8")
    begin = text.index(">", text.index('id="avatar"')) + 1
    end = text.index("</script>", begin)
    path.write_text(text[:begin] + base64.b64encode(data).decode() + text[end:], encoding="utf-8")
    return path


@pytest.mark.parametrize(("fault", "message"), [("cut", "cut short"), ("bit", "damaged"), ("version", "of version 7")])
def test_bad_data_is_named_on_the_page(
    browser: Browser, avatar: Avatar, exported: Path, tmp_path: Path, fault: str, message: str
) -> None:
    data = bytearray(web_binary(avatar))
    if fault == "cut":
        del data[len(data) // 2 :]
    elif fault == "bit":
        data[-100_000] ^= 1
    else:
        data[4:8] = struct.pack("<I", 7)
    page = opened(browser, replaced_data(exported, bytes(data), tmp_path / "bad.html"))
    sync_api.expect(page.get_by_role("alert")).to_contain_text(message)
    page.close()


def test_a_page_that_is_cut_short_says_so(browser: Browser, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.html"
    path.write_bytes(exported.read_bytes()[:100_000])
    page = opened(browser, path)
    sync_api.expect(page.get_by_role("alert")).to_contain_text("cut short")
    page.close()


def test_where_workers_are_forbidden_the_page_computes_by_itself(
    browser: Browser, exported: Path, avatar: Avatar, tmp_path: Path
) -> None:
    text = exported.read_text(encoding="utf-8")
    path = tmp_path / "strict.html"
    path.write_text(text.replace("worker-src blob:", "worker-src 'none'"), encoding="utf-8")
    page = opened(browser, path)
    page.locator("#controls").wait_for()
    assert psnr(theirs(page, POSES["aside"], {}), ours(avatar, POSES["aside"], {})) >= 36
    page.close()


def test_graphics_that_were_taken_away_come_back(browser: Browser, exported: Path) -> None:
    page = opened(browser, exported, fragment="#gpu")
    page.locator("#controls").wait_for()
    before = shown(page)
    page.evaluate(
        """window.lost = document.getElementById("canvas").getContext("webgl2").getExtension("WEBGL_lose_context");
        lost.loseContext()"""
    )
    sync_api.expect(page.get_by_role("alert")).to_contain_text("took the graphics away")
    page.evaluate("lost.restoreContext()")
    page.locator("#canvas").wait_for()
    assert np.array_equal(shown(page), before)
    page.close()


NAMED_GPU = """const ask = WebGL2RenderingContext.prototype.getParameter;
    WebGL2RenderingContext.prototype.getParameter = function (name) {
        return name === 0x9246 ? "A GPU" : ask.call(this, name);
    };"""


@pytest.mark.parametrize(("draw", "side"), [(1, 1024), (100, 512)])
def test_a_gpu_draws_the_screens_pixels_unless_it_is_slow(
    browser: Browser, exported: Path, draw: int, side: int
) -> None:
    slow = f"performance.now = ((at) => () => (at += {draw}))(0);"  # the clock is read before and after drawing
    page = opened(browser, exported, NAMED_GPU + slow, device_scale_factor=2)
    page.locator("#controls").wait_for()
    until(page, "(spatialAvatar.dirty = true) && spatialAvatar.drawn > 6")
    assert page.evaluate("document.getElementById('canvas').width") == side
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (512, 512)
    page.close()


def test_without_webgl_the_page_draws_all_the_same(browser: Browser, exported: Path, avatar: Avatar) -> None:
    script = """const ask = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind === "webgl2" ? null : ask.call(this, kind, ...rest);
        };"""
    page = opened(browser, exported, script)
    page.locator("#controls").wait_for()
    assert psnr(theirs(page, POSES["aside"], {}), ours(avatar, POSES["aside"], {})) >= 36
    page.close()


def test_where_nothing_can_be_drawn_the_page_says_so(browser: Browser, exported: Path) -> None:
    page = opened(browser, exported, "HTMLCanvasElement.prototype.getContext = () => null")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("WebGL 2")
    page.close()


# -- what hands do to the page ----------------------------------------------------------------------------------------


def shown(page: Page) -> np.ndarray:
    """What the canvas shows (H, W, 3) once what is set now is drawn, in [0, 1]."""
    url = page.evaluate(
        "async () => { await spatialAvatar.render(); return document.getElementById('canvas').toDataURL(); }"
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")) / 255.0


@pytest.mark.parametrize(("label", "value"), [("Open mouth", "0.8"), ("Blink left", "1"), ("Head yaw", "30")])
def test_a_slider_moves_the_avatar_and_reset_brings_it_back(page: Page, label: str, value: str) -> None:
    page.get_by_role("button", name="Reset").click()
    rest = shown(page)
    page.get_by_label(label).fill(value)
    assert np.abs(shown(page) - rest).max() > 0.2
    page.get_by_role("button", name="Reset").click()
    assert np.array_equal(shown(page), rest)
    assert page.get_by_label(label).input_value() == "0"


def test_dragging_turns_the_view_and_the_wheel_comes_closer(page: Page) -> None:
    page.get_by_role("button", name="Reset").click()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 100, steps=3)
    page.mouse.up()
    page.mouse.wheel(0, -300)
    until(page, "spatialAvatar.orbit.zoom > 1.2")
    assert page.evaluate("spatialAvatar.orbit.yaw") < -0.2


def test_two_fingers_come_closer_and_one_turns_the_view(browser: Browser, exported: Path) -> None:
    page = opened(browser, exported, has_touch=True)
    page.locator("#controls").wait_for()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *xs: float) -> None:
        points = [{"x": box["x"] + x, "y": box["y"] + 100, "id": i} for i, x in enumerate(xs)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 100, 200)
    touch("touchMove", 50, 250)
    touch("touchEnd")
    until(page, "spatialAvatar.orbit.zoom > 1.5")
    assert page.evaluate("spatialAvatar.orbit.yaw") == 0
    touch("touchStart", 100)
    touch("touchMove", 160)
    touch("touchEnd")
    until(page, "spatialAvatar.orbit.yaw < -0.2")
    page.close()


@pytest.fixture(scope="module")
def moving(
    browser: Browser, avatar: Avatar, examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """A page that plays an example motion."""
    motion = read_motion(examples / "motions" / "expressions.json", avatar.head)
    page = opened(browser, save_html(avatar, tmp_path_factory.mktemp("motion") / "avatar.html", motion))
    page.locator("#controls").wait_for()
    yield page
    page.close()


def test_a_motion_plays_from_the_start_as_driving_has_it(moving: Page, avatar: Avatar, examples: Path) -> None:
    motion = read_motion(examples / "motions" / "expressions.json", avatar.head)
    params, _ = retarget(motion, avatar, DriveConfig())
    assert moving.evaluate("spatialAvatar.info.motion") == {"frames": len(params), "fps": motion.fps}
    frames = set()
    for _ in range(8):
        at, got = moving.evaluate("[spatialAvatar.frame, spatialAvatar.params()]")
        frames.add(at)
        for name in ("expression", "rotation", "translation", "neck", "jaw", "eyes"):
            torch.testing.assert_close(torch.tensor(got[name]).float(), getattr(params, name)[at], atol=1e-5, rtol=0)
        moving.wait_for_timeout(100)
    assert len(frames) >= 3


def test_play_stops_the_motion_and_starts_it_again(moving: Page) -> None:
    play = moving.get_by_role("button", name="Play")
    play.click()
    assert moving.evaluate("spatialAvatar.frame") is None
    play.click()
    assert moving.evaluate("spatialAvatar.frame") is not None


def test_a_recording_is_a_webm_of_what_moved(moving: Page, tmp_path: Path) -> None:
    if moving.evaluate("spatialAvatar.frame") is None:
        moving.get_by_role("button", name="Play").click()
    moving.get_by_role("button", name="Record").click()
    start = moving.evaluate("spatialAvatar.stats().frames")
    until(moving, f"spatialAvatar.stats().frames >= {start + 6}")
    with moving.expect_download() as download:
        moving.get_by_role("button", name="Stop and save").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.suffix == ".webm"
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1].astype(np.float32))
    assert len(frames) >= 3
    assert frames[0].shape == (512, 512, 3)
    assert frames[0].mean() > 30  # no black canvas
    assert np.abs(frames[-1] - frames[0]).mean() > 0.5


def test_a_turn_is_shared_between_torso_and_neck_as_driving_has_it(page: Page, avatar: Avatar) -> None:
    held = Motion.held({}, yaw=30.0, pitch=-10.0, roll=15.0)
    expected, _ = retarget(held.to_track(avatar.head), avatar, DriveConfig())
    got = page.evaluate(
        """(angles) => {
            spatialAvatar.reset();
            spatialAvatar.turn(angles);
            return spatialAvatar.params();
        }""",
        {"yaw": math.radians(30.0), "pitch": math.radians(-10.0), "roll": math.radians(15.0)},
    )
    for name in ("rotation", "neck", "translation"):
        torch.testing.assert_close(torch.tensor(got[name]), getattr(expected, name)[0], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def with_torso(avatar: Avatar) -> Avatar:
    """The avatar with a bust below its neck, made from a photo in which it looks aside."""
    bust = make_bust(400, len(avatar.layout))
    torso = bust.gaussians
    lower = torso.replace(means=0.3 * (torso.means + torch.tensor([0.0, 0.7, 0.0])) + torch.tensor([0.0, -0.2, 0.0]))
    aside = avatar.reference.replace(rotation=torch.tensor([[0.05, 0.2, 0.0]]))
    return replace(avatar, bust=bust.replace(gaussians=lower), reference=aside)


def test_the_page_turns_the_head_against_the_bust_as_driving_does(
    browser: Browser, with_torso: Avatar, tmp_path: Path
) -> None:
    page = opened(browser, save_html(with_torso, tmp_path / "bust.html"), fragment="#cpu")
    page.locator("#controls").wait_for()
    held = Motion.held({}, yaw=25.0, pitch=10.0, roll=5.0)
    params, camera = retarget(held.to_track(with_torso.head), with_torso, DriveConfig(size=SIZE, smoothing=0.0))
    expected, _ = with_torso.render(params[0], camera, torch.ones(3))
    angles = {name: math.radians(value) for name, value in {"yaw": 25.0, "pitch": 10.0, "roll": 5.0}.items()}
    got = scripted(page, "(angles) => spatialAvatar.turn(angles)", angles)
    assert psnr(got, expected.clamp(0.0, 1.0).numpy()) >= 36
    page.close()
