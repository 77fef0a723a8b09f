"""The live page: its server and who may read it, and the page that follows a stream in a real browser."""

from __future__ import annotations

import http.client
import io
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from spatialavatar import cli
from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, retarget
from spatialavatar.errors import InputError, MissingAssetError
from spatialavatar.export.html import html_page, save_html
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.live.messages import encode_message
from spatialavatar.live.server import LiveServer, ServerPlace
from spatialavatar.motion import Motion
from spatialavatar.streams import MotionFrame

from .support.avatars import make_ball_avatar
from .support.chromium import needs_chromium, until
from .support.painted_avatar import painted_avatar

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

websockets = pytest.importorskip("websockets.sync.client", reason="needs the extra 'live'")


def free_tcp_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def moved(**units: float) -> MotionFrame:
    weights = np.zeros(52, np.float32)
    for name, weight in units.items():
        weights[ARKIT_INDEX[name]] = weight
    rotation = Rotation.from_euler("YXZ", [0.4, -0.1, 0.05]).as_rotvec().astype(np.float32)
    return MotionFrame(weights, rotation, np.array([0.01, 0.02, -0.2], np.float32))


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    place = ServerPlace(port=free_tcp_port(), origins=("https://example.org",))
    with LiveServer("<title>the page</title>", place) as server:
        yield server


def get(server: LiveServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.place.port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.place.port}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_the_server_serves_the_page_and_nothing_else(server: LiveServer) -> None:
    assert get(server, "/?transparent&motion") == (200, b"<title>the page</title>")
    assert get(server, "/../etc/passwd")[0] == 404


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("[::1]", 200), ("evil.example", 403), ("", 403)])
def test_a_name_that_leads_to_this_machine_is_refused(server: LiveServer, host: str, status: int) -> None:
    assert get(server, "/", f"{host}:{server.place.port}")[0] == status


@pytest.mark.parametrize("origin", [None, "own", "https://example.org"])
def test_motion_goes_to_the_own_page_and_allowed_origins(server: LiveServer, origin: str | None) -> None:
    own = f"http://127.0.0.1:{server.place.port}"
    with websockets.connect(f"ws{own[4:]}/motion", origin=own if origin == "own" else origin) as client:
        server.publish(encode_message(moved(jawOpen=0.5)))
        values = np.frombuffer(client.recv(timeout=30), "<f4")
    assert len(values) == 60
    assert list(values[:2]) == [1.0, 1.0]
    np.testing.assert_array_equal(values[5:8], moved().translation)
    assert values[8 + ARKIT_INDEX["jawOpen"]] == 0.5


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_motion_is_refused_to_other_origins(server: LiveServer, origin: str) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"):
        websockets.connect(f"ws://127.0.0.1:{server.place.port}/motion", origin=origin)


def test_a_taken_port_and_an_unknown_host_are_named(server: LiveServer) -> None:
    with pytest.raises(InputError, match="is in use"):
        LiveServer("", server.place)
    with pytest.raises(InputError, match="is unknown"):
        LiveServer("", ServerPlace("no-such-host.invalid"))
    with pytest.raises(InputError, match="not an origin"):
        ServerPlace(origins=("example.org/x",))


def test_without_the_extra_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.sync.server", None)
    with pytest.raises(MissingAssetError, match=r"pip install -e '\.\[live\]'"):
        LiveServer("", ServerPlace())


def test_the_command_serves_a_motion_file(
    examples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: make_ball_avatar())
    port = str(free_tcp_port())
    take = str(examples / "motions" / "talk.json")
    assert cli.main(["live", "me", "--motion", take, "--port", port, "--seconds", "0.5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["address"] == f"http://127.0.0.1:{port}/?motion&transparent"
    assert facts["frames"] >= 2


@pytest.mark.parametrize("motion", ["clip.mp4", "take.safetensors", "vmc://:1"])
def test_what_is_no_live_motion_is_refused(capsys: pytest.CaptureFixture[str], motion: str) -> None:
    assert cli.main(["live", "me", "--motion", motion]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return painted_avatar()


@pytest.fixture(scope="module")
def live(avatar: Avatar) -> Iterator[LiveServer]:
    with LiveServer(html_page(avatar, streams="'self'"), ServerPlace(port=free_tcp_port())) as server:
        yield server


@pytest.fixture(scope="module")
def page(browser: Browser, live: LiveServer) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 400, "height": 300})
    page.goto(live.place.address() + "?transparent&motion&camera=front")
    page.locator("#canvas").wait_for()
    yield page
    page.close()


def follow(page: Page, server: LiveServer, message: Any) -> dict[str, Any]:
    """The page's parameters once it has the message."""
    page.evaluate("spatialAvatar.driven = null")
    for _ in range(100):
        server.publish(message)
        page.wait_for_timeout(20)
        if page.evaluate("spatialAvatar.driven !== null"):
            break
    return page.evaluate("spatialAvatar.params()")


@needs_chromium
@pytest.mark.parametrize("kind", ["binary", "text"])
def test_the_page_follows_a_stream_as_driving_follows_a_motion(
    page: Page, live: LiveServer, avatar: Avatar, kind: str
) -> None:
    frame = moved(jawOpen=0.5, mouthSmileLeft=0.75, eyeLookUpLeft=1.0)
    message = encode_message(frame)
    if kind == "text":
        units = {"jawOpen": 0.5, "mouthSmileLeft": 0.75, "eyeLookUpLeft": 1.0}
        values = {"rotation": frame.rotation.tolist(), "translation": frame.translation.tolist()}
        message = json.dumps({"weights": units, **values})
    got = follow(page, live, message)
    motion = Motion(*(torch.from_numpy(part)[None] for part in (frame.weights, frame.rotation, frame.translation)), 25)
    track = motion.to_track(avatar.head)
    expected, _ = retarget(track, avatar, DriveConfig())
    for name in ("expression", "rotation", "neck", "jaw", "eyes"):
        torch.testing.assert_close(torch.tensor(got[name]).float(), getattr(expected, name)[0], atol=1e-5, rtol=0)
    shift = torch.tensor(got["translation"]) - expected.translation[0]  # one frame is its own median place
    torch.testing.assert_close(shift, torch.tensor([0.01, 0.02, -DriveConfig().max_shift]), atol=1e-5, rtol=0)


@needs_chromium
@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 240, np.full(60, np.nan, "<f4").tobytes(), "no JSON", "[]", '{"weights": {"jawOpen": "wide"}}'],
)
def test_the_page_ignores_other_messages(page: Page, live: LiveServer, message: Any) -> None:
    before = follow(page, live, encode_message(moved(jawOpen=0.25)))
    live.publish(message)
    page.wait_for_timeout(100)
    assert page.evaluate("spatialAvatar.params()") == before


@needs_chromium
def test_a_transparent_page_is_the_avatar_alone(page: Page, live: LiveServer) -> None:
    follow(page, live, encode_message(moved()))
    page.evaluate("spatialAvatar.render()")
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot(omit_background=True))).convert("RGBA"))
    alpha = picture[..., 3]
    assert alpha[:40, :40].max() == 0
    assert alpha[-10:, :40].max() == 0
    assert alpha[120:180, 170:230].min() > 200
    assert not page.locator("#controls").is_visible()


@needs_chromium
def test_the_address_chooses_the_camera(browser: Browser, avatar: Avatar, tmp_path: Path) -> None:
    path = save_html(avatar, tmp_path / "avatar.html")
    page = browser.new_page()
    for asked, yaw, pitch, zoom in (("left", 45, 0, 1), ("-20,5,1.5", -20, 5, 1.5), ("x", 0, 0, 1)):
        page.goto(f"{path.as_uri()}?camera={asked}")
        page.locator("#canvas").wait_for()
        found = page.evaluate("spatialAvatar.orbit")
        assert np.allclose([found["yaw"], found["pitch"], found["zoom"]], [*np.deg2rad([yaw, pitch]), zoom])
    page.close()


@needs_chromium
def test_a_page_from_a_file_reaches_streams_of_this_machine_only(
    browser: Browser, avatar: Avatar, tmp_path: Path
) -> None:
    path = save_html(avatar, tmp_path / "avatar.html")
    with LiveServer("", ServerPlace(port=free_tcp_port(), origins=("null",))) as server:
        page = browser.new_page()
        page.goto(f"{path.as_uri()}?motion=ws://127.0.0.1:{server.place.port}/motion")
        page.locator("#canvas").wait_for()
        assert follow(page, server, encode_message(moved(jawOpen=0.5)))["jaw"][0] > 0.05
        page.goto(f"{path.as_uri()}?motion=ws://192.0.2.1:1/motion")
        page.get_by_text("Waiting for motion from 192.0.2.1:1.").wait_for()
        until(page, "spatialAvatar.drawn > 0")
        page.close()
