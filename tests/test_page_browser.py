"""The page in a real browser: what a visitor does with mouse, keyboard and eyes, on a backend that takes no time.

Needs Playwright and a Chromium; ``make test`` installs both on a CI machine. The last test goes the whole way with the
real package and a real face.
"""

from __future__ import annotations

import base64
import io
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

from spatialavatar.media import VideoReader, VideoWriter

from .support.chromium import PATIENCE, needs_chromium, sync_api, until
from .support.fake_backend import RunningApp, running_app
from .support.scenes_of_photos import avatar_with_scene

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page, Route

pytestmark = needs_chromium

WIDE, PHONE = (1440, 900), (390, 844)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("app")) as running:
        yield running


@contextmanager
def visit(browser: Browser, url: str, size: tuple[int, int] = WIDE, **options: Any) -> Iterator[Page]:
    """A page for a new visitor; fails if the console shows an error."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, accept_downloads=True, **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("response", lambda answer: troubles.append(answer.url) if answer.status >= 400 else None)
    page.goto(url)
    page.get_by_role("button", name="Make the avatar").wait_for()
    yield page
    context.close()
    assert troubles == []


@pytest.fixture
def page(browser: Browser, app: RunningApp) -> Iterator[Page]:
    with visit(browser, app.url) as visitor:
        yield visitor


def create(page: Page, example: str = "By the lake") -> None:
    page.get_by_role("button", name=example).click()
    page.get_by_label("agreed").and_(page.locator(":checked")).wait_for()
    page.get_by_role("button", name="Make the avatar").click()
    page.get_by_text("Your avatar is ready").wait_for()


def go_to(page: Page, step: str) -> None:
    page.locator("#steps").get_by_role("tab", name=step).click()


def viewer(page: Page) -> Frame:
    """The avatar's own page on the stage, once it draws."""
    page.frame_locator("iframe.sa-live").locator("#controls").wait_for()
    return next(frame for frame in page.frames if frame.parent_frame is not None)


def canvas(page: Page) -> np.ndarray:
    """What the avatar's canvas shows (H, W, 4), once it is drawn."""
    url = viewer(page).evaluate(
        "async () => { await spatialAvatar.render(); return document.getElementById('canvas').toDataURL(); }"
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")) / 255.0


def test_later_steps_wait_for_an_avatar(page: Page) -> None:
    tabs = page.locator("#steps").get_by_role("tab")
    assert [tabs.nth(i).is_disabled() for i in range(4)] == [False, True, True, True]
    create(page)
    sync_api.expect(tabs.nth(3)).to_be_enabled()


def test_without_consent_nothing_is_made_and_a_sentence_says_so(page: Page, app: RunningApp, examples: Path) -> None:
    before = len(app.fake.requests)
    page.locator("#photos input[type=file]").set_input_files(str(examples / "portraits" / "street.jpg"))
    page.locator("#photos img").first.wait_for()
    page.get_by_role("button", name="Make the avatar").click()
    sync_api.expect(page.get_by_role("alert")).to_contain_text("tick the box")
    assert len(app.fake.requests) == before


def test_an_upload_clears_the_consent_to_an_example(page: Page, examples: Path) -> None:
    page.get_by_role("button", name="Astronaut").click()
    box = page.get_by_label("agreed")
    sync_api.expect(box).to_be_checked()
    page.locator("#photos input[type=file]").first.set_input_files(str(examples / "portraits" / "street.jpg"))
    sync_api.expect(box).not_to_be_checked()


def test_a_late_answer_does_not_clear_a_new_tick(page: Page, examples: Path) -> None:
    held: list[Route] = []
    page.route("**/run/predict", lambda route: held.append(route))  # Playwright marks the handler
    page.locator("#photos input[type=file]").set_input_files(str(examples / "portraits" / "street.jpg"))
    page.locator("#photos img").first.wait_for()
    box = page.get_by_label("agreed")
    box.check()
    page.wait_for_timeout(300)
    assert held
    for route in held:
        with page.expect_response("**/run/predict"):
            route.continue_()
    page.wait_for_timeout(300)
    sync_api.expect(box).to_be_checked()


def test_an_avatar_with_its_photo_is_shown_in_it_and_driven_where_it_is_shown(
    page: Page, app: RunningApp, tmp_path: Path
) -> None:
    file = avatar_with_scene(16).save(tmp_path / "mine.safetensors")
    page.get_by_text("I have an avatar file").click()
    page.locator("#avatar-file input[type=file]").set_input_files(str(file))
    page.get_by_text("Opened mine.safetensors").wait_for()
    place = page.locator("#place")
    sync_api.expect(place.get_by_label("In the photo")).to_be_checked()
    assert app.fake.stills[-1].scene == "photo"
    go_to(page, "Drive")
    page.get_by_role("button", name="Make the video").click()
    page.get_by_text("Your video is ready").wait_for()
    assert app.fake.last.scene == "photo"
    place.get_by_label("On its own").check()
    page.get_by_alt_text("seen from the front").wait_for()
    assert app.fake.stills[-1].scene == "plain"


def test_the_settings_of_a_drive_reach_it(page: Page, app: RunningApp) -> None:
    create(page)
    go_to(page, "Drive")
    page.get_by_role("button", name="Settings").click()
    page.locator("#body").get_by_label("Head only").check()
    page.locator("#behind").get_by_label("None (transparent)").check()
    page.get_by_role("button", name="Make the video").click()
    page.get_by_text("Your video is ready").wait_for()
    assert (app.fake.last.bust, app.fake.last.scene) == (False, "transparent")


def test_a_photos_warning_is_shown_beside_it(page: Page) -> None:
    create(page)
    card = page.locator(".sa-seen li")
    sync_api.expect(card).to_contain_text("lake.jpg is small.")
    assert (card.get_by_role("img").get_attribute("alt") or "").startswith("Photo 1")


def test_an_error_of_the_work_is_a_sentence_and_the_button_comes_back(page: Page, app: RunningApp) -> None:
    app.fake.error = ValueError("a secret")
    try:
        page.get_by_role("button", name="By the lake").click()
        page.get_by_role("button", name="Make the avatar").click()
        alert = page.get_by_role("alert")
        alert.wait_for()
        assert "secret" not in alert.inner_text()
        page.get_by_role("button", name="Make the avatar").wait_for()
    finally:
        app.fake.error = None


def test_stop_stops_the_work(page: Page, app: RunningApp) -> None:
    app.fake.endless, stopped = True, len(app.fake.stopped)
    try:
        page.get_by_role("button", name="By the lake").click()
        page.get_by_label("agreed").and_(page.locator(":checked")).wait_for()
        page.get_by_role("button", name="Make the avatar").click()
        sync_api.expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "20")
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped.").wait_for()
        page.get_by_role("button", name="Make the avatar").wait_for()
    finally:
        deadline = time.monotonic() + 5
        while len(app.fake.stopped) == stopped and time.monotonic() < deadline:
            time.sleep(0.05)
        app.fake.endless = False
    assert len(app.fake.stopped) == stopped + 1


def test_a_full_queue_is_a_sentence_and_the_button_comes_back(browser: Browser, app: RunningApp) -> None:
    page = browser.new_page()
    page.goto(app.url)
    page.get_by_role("button", name="By the lake").click()
    page.get_by_label("agreed").and_(page.locator(":checked")).wait_for()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spatialavatar.app.admission.MAX_WAITING", 0)
        page.get_by_role("button", name="Make the avatar").click()
        sync_api.expect(page.get_by_role("alert").first).to_contain_text("busy")
        page.get_by_role("button", name="Make the avatar").wait_for()
    page.close()


def test_a_slider_moves_the_avatar_without_a_request(page: Page) -> None:
    create(page)
    go_to(page, "Drive")
    page.get_by_role("tab", name="By hand").click()
    rest = canvas(page)
    assert 0.05 < rest[..., 3].mean() < 0.95  # an avatar, and the stage behind it
    page.locator("button").filter(has_text="Head").click()
    page.wait_for_timeout(1000)  # the network is never idle: gradio's heartbeat is one long answer
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    slider = page.get_by_role("slider", name="Turn the head")
    for _ in range(6):
        slider.press("PageUp")
    degrees = float(slider.input_value())
    assert degrees > 0
    assert np.abs(canvas(page) - rest).max() > 0.2
    neck = viewer(page).evaluate("spatialAvatar.params().neck[1] / spatialAvatar.info.driving.neckShare")
    assert neck == pytest.approx(np.deg2rad(degrees))
    assert requested == []


def test_a_mood_sets_sliders_and_the_avatar(page: Page) -> None:
    create(page)
    go_to(page, "Drive")
    page.get_by_role("tab", name="By hand").click()
    viewer(page)
    page.get_by_role("button", name="Surprise").click()
    sync_api.expect(page.get_by_role("slider", name="Open the mouth")).to_have_value("0.55")
    shown = viewer(page).evaluate(
        "Object.fromEntries(spatialAvatar.info.units.map((n, k) => [n, spatialAvatar.weights[k]]))"
    )
    assert {name: shown[name] for name in ("jawOpen", "browInnerUp", "eyeWideLeft")} == {
        "jawOpen": 0.55,
        "browInnerUp": 0.9,
        "eyeWideLeft": 0.8,
    }


def test_sliders_are_reset_for_the_next_avatar(page: Page) -> None:
    create(page)
    go_to(page, "Drive")
    page.get_by_role("tab", name="By hand").click()
    viewer(page).evaluate("document.body.id = 'earlier'")
    page.get_by_role("button", name="Surprise").click()
    go_to(page, "Create")
    create(page, "Astronaut")
    go_to(page, "Drive")
    sync_api.expect(page.get_by_role("slider", name="Open the mouth")).to_have_value("0")
    page.locator("#views").get_by_role("tab", name="3D").click()
    page.frame_locator("iframe.sa-live").locator("body:not(#earlier) #controls").wait_for()
    assert viewer(page).evaluate("spatialAvatar.weights.every((weight) => weight === 0)")


def test_the_3d_view_has_the_pages_font_and_colour_scheme(page: Page) -> None:
    create(page)
    font = "(element) => getComputedStyle(element).fontFamily.split(',')[0]"
    tab = page.locator("#views").get_by_role("tab", name="3D")
    tab.click()
    frame = viewer(page)
    until(frame, "document.fonts.size === 1")
    assert frame.locator("#reset").evaluate(font) == tab.evaluate(font)
    for _ in range(2):
        page.get_by_role("button", name="Switch between light and dark").click()
        dark = page.evaluate("document.body.classList.contains('dark')")
        color = "rgb(238, 243, 246)" if dark else "rgb(23, 33, 43)"
        sync_api.expect(frame.locator("#reset")).to_have_css("color", color)
    assert canvas(page)[0, 0, 3] == 0  # nothing is behind the avatar


def test_a_deleted_3d_view_is_explained_in_a_sentence(browser: Browser, app: RunningApp) -> None:
    page = browser.new_page()
    page.route("**/avatar.html", lambda route: route.fulfill(status=404))
    page.goto(app.url)
    page.get_by_role("button", name="Make the avatar").wait_for()
    create(page)
    page.locator("#views").get_by_role("tab", name="3D").click()
    sync_api.expect(page.frame_locator("iframe.sa-live").locator("body")).to_contain_text("Make it again.")
    page.close()


def test_a_video_is_played_and_can_be_saved(page: Page, tmp_path: Path) -> None:
    create(page)
    go_to(page, "Drive")
    page.get_by_role("button", name="Make the video").click()
    page.get_by_text("Your video is ready").wait_for()
    page.locator(".sa-film").wait_for()
    page.wait_for_function("document.querySelector('.sa-film').readyState > 0")
    go_to(page, "Save")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the video").click()
    download.value.save_as(tmp_path / "saved.mp4")
    assert len(list(VideoReader(tmp_path / "saved.mp4"))) == 2


def test_the_avatar_can_be_saved_and_opened_again(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    with visit(browser, app.url) as first:
        create(first)
        go_to(first, "Save")
        with first.expect_download() as download:
            first.get_by_role("button", name="Save the avatar").click()
        download.value.save_as(tmp_path / "me.safetensors")
    with visit(browser, app.url) as second:
        second.get_by_role("button", name="I have an avatar file").click()
        second.locator("#avatar-file input[type=file]").set_input_files(tmp_path / "me.safetensors")
        second.get_by_text("Opened me.safetensors").wait_for()
        sync_api.expect(second.locator("#steps").get_by_role("tab", name="Drive")).to_be_enabled()


def test_sharpening_shows_a_curve_and_continues_after_a_stop(page: Page, app: RunningApp, examples: Path) -> None:
    create(page)
    page.get_by_role("button", name="Improve the likeness first").click()
    page.locator("#sharpen-clip input[type=file]").set_input_files(str(examples / "clips" / "moods.mp4"))
    page.locator("#sharpen-clip video").wait_for()
    app.fake.endless = True
    try:
        page.get_by_role("button", name="Sharpen", exact=True).click()
        sync_api.expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "20")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Continue where it stopped").wait_for()
    finally:
        app.fake.endless = False
    stopped = app.fake.last
    page.get_by_role("button", name="Continue where it stopped").click()
    page.get_by_text("more like the person now").wait_for()
    page.locator(".sa-curve polyline").wait_for()
    resumed = [request for request in app.fake.requests if isinstance(request, type(stopped))][-1]
    assert resumed is not stopped
    assert resumed.checkpoint == stopped.checkpoint
    assert resumed.minutes == 1.5


def test_the_3d_file_can_be_saved(page: Page) -> None:
    create(page)
    go_to(page, "Save")
    sync_api.expect(page.get_by_role("button", name="Save the 3D file")).to_be_enabled()


def test_files_are_deleted_after_the_visitor_leaves(browser: Browser, app: RunningApp) -> None:
    kept = app.files()
    with visit(browser, app.url) as visitor:
        create(visitor)
        assert app.files() - kept
    deadline = time.monotonic() + 30
    while app.files() - kept and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not app.files() - kept


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    def press_until(name: str, key: str = "Tab", most: int = 60) -> None:
        for _ in range(most):
            focused = page.evaluate(
                "(e => e === document.body ? '' : e.getAttribute('aria-label') || e.innerText || "
                "e.closest('label')?.innerText || '')(document.activeElement)"
            )
            if name in focused:
                return
            page.keyboard.press(key)
        raise AssertionError(f"{name} was not reached")

    press_until("By the lake")
    page.keyboard.press("Enter")
    press_until("agreed")
    sync_api.expect(page.get_by_label("agreed")).to_be_checked()
    press_until("Make the avatar")
    page.keyboard.press("Enter")
    page.get_by_text("Your avatar is ready").wait_for()
    page.get_by_role("button", name="Next: make it move").wait_for()
    press_until("Next: make it move")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="By hand").wait_for()
    press_until("By hand")
    page.keyboard.press("Enter")
    page.get_by_role("slider", name="Open the mouth").wait_for()
    sync_api.expect(page.get_by_role("button", name="Make the video")).to_be_hidden()
    press_until("range slider for Open the mouth")
    slider = page.get_by_role("slider", name="Open the mouth")
    for _ in range(10):  # gradio sets the sliders of a new tab back, at times after the first key
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(500)
        if slider.input_value() == "0.05":
            break
    sync_api.expect(slider).to_have_value("0.05")
    press_until("Example", "Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Make the video").wait_for()
    press_until("Make the video")
    page.keyboard.press("Enter")
    page.get_by_text("Your video is ready").wait_for()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_is_wider_than_the_screen(browser: Browser, app: RunningApp, size: tuple[int, int]) -> None:
    with visit(browser, app.url, size) as page:
        create(page)
        for step in ("Create", "Sharpen", "Drive", "Save"):
            go_to(page, step)
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0], step
            for way in ("Example", "Your video", "Say something", "By hand") if step == "Drive" else ():
                sync_api.expect(page.locator("#ways").get_by_role("tab", name=way, exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser: Browser, app: RunningApp, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="the page is tested with the extra 'dev'"
    ).Axe()
    found = []

    def check(where: str) -> None:
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [node["html"][:160] for node in violation["nodes"]]
                found.append((where, violation["id"], violation["help"], nodes))

    with visit(browser, app.url, color_scheme=scheme, reduced_motion="reduce") as page:
        check("start")
        create(page)
        check("created")
        for step in ("Sharpen", "Drive", "Save"):
            go_to(page, step)
            page.wait_for_timeout(300)
            check(step)
    assert found == []


def test_the_theme_button_changes_the_colours_and_is_stored(page: Page) -> None:
    button = page.get_by_role("button", name="Switch between light and dark")
    before = page.evaluate("document.body.classList.contains('dark')")
    button.click()
    assert page.evaluate("document.body.classList.contains('dark')") != before
    page.reload()
    button.wait_for()
    page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=not before)


@pytest.fixture(scope="module")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with the real package behind it; its quickest sharpening takes twenty steps."""
    from spatialavatar.app import sharpen
    from spatialavatar.app.page import build_demo, launch_options

    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("real")))
    patch.setitem(sharpen.QUALITIES, "Quick", sharpen.Quality(20, 256, 1.0, "a moment"))
    demo = build_demo()
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url
    demo.close()
    patch.undo()


@pytest.mark.slow
@pytest.mark.timeout(40 * PATIENCE / 1000)  # three pieces of real work, each of which a busy machine may take long over
def test_from_a_real_photo_to_a_saved_video(browser: Browser, real_app: str, examples: Path, tmp_path: Path) -> None:
    clip, photo = tmp_path / "clip.mp4", tmp_path / "photo.png"
    frames = list(itertools.islice(VideoReader(examples / "clips" / "moods.mp4"), 0, 48, 4))
    with VideoWriter(clip, (frames[0].shape[1], frames[0].shape[0]), 6.0) as writer:
        for frame in frames:
            writer.write(frame)
    Image.fromarray(frames[0]).save(photo)
    with visit(browser, real_app) as page:
        page.locator("#photos input[type=file]").set_input_files(photo)
        page.locator("#photos img").first.wait_for()
        page.get_by_label("agreed").check()
        page.get_by_role("button", name="Make the avatar").click()
        page.get_by_text("Your avatar is ready").wait_for(timeout=10 * PATIENCE)
        assert page.locator(".sa-seen li").count() == 1
        made = page.locator(".sa-portrait img").get_attribute("src")
        page.get_by_role("button", name="Improve the likeness first").click()
        page.locator("#sharpen-clip input[type=file]").set_input_files(clip)
        page.locator("#sharpen-clip video").wait_for()
        page.get_by_role("button", name="Sharpen", exact=True).click()
        page.get_by_text("more like the person now").wait_for(timeout=10 * PATIENCE)
        assert page.locator(".sa-portrait img").get_attribute("src") != made
        go_to(page, "Drive")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Small").check()
        page.get_by_role("button", name="Make the video").click()
        page.get_by_text("Your video is ready").wait_for(timeout=10 * PATIENCE)
        go_to(page, "Save")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the video").click()
        download.value.save_as(tmp_path / "saved.mp4")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the 3D file").click()
        download.value.save_as(tmp_path / "saved.ply")
    video = np.stack([frame.astype(np.float32) for frame in VideoReader(tmp_path / "saved.mp4")])
    assert video.shape[0] > 100
    assert np.abs(video[1:] - video[:-1]).mean() > 0.05
    assert (tmp_path / "saved.ply").read_bytes().startswith(b"ply\n")
