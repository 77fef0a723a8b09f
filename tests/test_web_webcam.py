"""The page's avatar follows the visitor's camera: the mapping against our own driving, and the page in a real browser.

Most tests put a library of MediaPipe's interface, whose results the test sets, where the page expects MediaPipe; the
last one runs MediaPipe itself on a clip, if npm or SPATIALAVATAR_MEDIAPIPE gives it.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import tarfile
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, portrait_view, retarget
from spatialavatar.errors import InputError
from spatialavatar.export.html import LIBRARY, save_html, web_binary
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.head.rotations import axis_angle_to_matrix
from spatialavatar.media import VideoReader
from spatialavatar.motion import Motion
from spatialavatar.tracking.cues import rescaled_scores

from .support.chromium import CHROMIUM, FLAGS, needs_chromium, sync_api, until
from .support.painted_avatar import painted_avatar

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

FOLLOWS = "The avatar follows you."
FAKE_LIBRARY = """
export const FilesetResolver = { forVisionTasks: async (folder) => folder };
export const FaceLandmarker = {
    createFromOptions: async () => ({ detectForVideo: () => globalThis.seen, close() {} }),
};
"""


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return painted_avatar(64)


def seen(
    scores: dict[str, float], rotation: tuple[float, ...] = (0, 0, 0), centimetres: tuple[float, ...] = (0, 0, -50)
) -> dict[str, Any]:
    """What the Face Landmarker answers for a face with these scores and this pose, its eyes open."""
    matrix = torch.eye(4)
    matrix[:3, :3] = axis_angle_to_matrix(torch.tensor(rotation))
    matrix[:3, 3] = torch.tensor(centimetres)
    points = [{"x": 0.5, "y": 0.5, "z": 0.0} for _ in range(478)]
    for corner, x in ((33, 0.3), (133, 0.4), (263, 0.7), (362, 0.6)):
        points[corner] = {"x": x, "y": 0.4, "z": 0.0}
    for upper in (161, 160, 159, 158, 157, 388, 387, 386, 385, 384):
        points[upper] = {"x": 0.5, "y": 0.4, "z": 0.0}
    return {
        "faceLandmarks": [points],
        "faceBlendshapes": [{"categories": [{"categoryName": n, "score": s} for n, s in scores.items()]}],
        "facialTransformationMatrixes": [{"data": matrix.T.flatten().tolist()}],
    }


# -- the mapping ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def follow(browser: Browser, avatar: Avatar) -> Iterator[Any]:
    """Call with frames of one thirtieth of a second; gives the parameters after the last one."""
    page = browser.new_page()
    web = files("spatialavatar.export") / "web"
    page.add_script_tag(content="".join((web / name).read_text() for name in ("engine.js", "webcam.js")))
    page.evaluate(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const { info, arrays } = SpatialAvatarEngine.read(bytes.buffer);
            globalThis.follow = (frames, settling) => {
                info.driving.settling.rates = settling;
                const follower = new SpatialAvatarWebcam.Follower(info, arrays);
                frames.forEach((frame, k) => follower.update(frame, k / 30, 1));
                return follower.params;
            };
        }""",
        b64encode(web_binary(avatar)).decode(),
    )
    yield lambda frames, settling=(0, 0): page.evaluate("(given) => follow(...given)", [frames, list(settling)])
    page.close()


CALM = {"eyeSquintLeft": 0.4, "eyeBlinkLeft": 0.2, "mouthPucker": 0.15, "jawOpen": 0.02, "eyeLookDownLeft": 0.3}
LIVELY = {**CALM, "jawOpen": 0.7, "mouthSmileLeft": 0.8, "browInnerUp": 0.5, "eyeLookInLeft": 0.6, "mouthPucker": 0.0}


def test_scores_and_pose_become_what_driving_makes_of_them(follow: Any, avatar: Avatar) -> None:
    def weights(scores: dict[str, float]) -> torch.Tensor:
        return rescaled_scores(torch.tensor([[scores.get(name, 0.0) for name in ARKIT_52]]))

    home, turned = (0.05, -0.1, 0.02), (0.2, 0.5, -0.1)
    motion = Motion(
        weights=weights(LIVELY),
        rotation=torch.tensor([turned]),
        translation=torch.zeros(1, 3),
        fps=30.0,
        neutral=weights(CALM)[0],
        neutral_rotation=torch.tensor(home),
    )
    expected, _ = retarget(motion.to_track(avatar.head), avatar, DriveConfig(smoothing=0.0))
    got = follow([seen(CALM, home)] * 45 + [seen(LIVELY, turned)] * 150)
    for name in ("expression", "jaw", "eyes", "rotation", "neck"):
        torch.testing.assert_close(torch.tensor(got[name]), getattr(expected, name)[0], atol=2e-3, rtol=0)


def test_moving_aside_moves_the_avatar_and_no_farther_than_driving_lets_it(follow: Any, avatar: Avatar) -> None:
    home = portrait_view(avatar)[1]
    still = [seen(CALM)] * 45
    near = follow([*still, *[seen(CALM, centimetres=(3, -2, -48))] * 90])
    far = follow([*still, *[seen(CALM, centimetres=(40, 0, -50))] * 90])
    torch.testing.assert_close(
        torch.tensor(near["translation"]) - home, torch.tensor([0.03, -0.02, 0.02]), atol=1e-3, rtol=0
    )
    assert far["translation"][0] - float(home[0]) == pytest.approx(DriveConfig().max_shift, abs=1e-6)


def test_a_turn_on_the_spot_does_not_throw_the_neck_about(follow: Any, avatar: Avatar) -> None:
    """The landmarker's origin lies in the middle of the head, which swings when the neck nods; the root joint rests."""
    nod = (0.3, 0.0, 0.0)
    root = torch.tensor([0.0, -0.132, -0.103])
    swing = 100 * (root - axis_angle_to_matrix(torch.tensor(nod)) @ root)
    place = (float(swing[0]), float(swing[1]), float(swing[2]) - 50.0)
    got = follow([*[seen(CALM)] * 45, *[seen(CALM, nod, place)] * 90])
    torch.testing.assert_close(torch.tensor(got["translation"]), portrait_view(avatar)[1], atol=0.005, rtol=0)


def test_lids_that_meet_close_the_eye_whatever_the_score(follow: Any, avatar: Avatar) -> None:
    shut = seen({**CALM, "eyeBlinkRight": 0.5})
    for upper, lower in ((161, 163), (160, 144), (159, 145), (158, 153), (157, 154)):
        shut["faceLandmarks"][0][upper] = shut["faceLandmarks"][0][lower]
    got = follow([*[seen(CALM)] * 45, *[shut] * 60])
    assert got["expression"][avatar.head.expressions.index("eyeBlinkRight")] > 0.98


def test_a_smile_during_calibration_is_forgotten_when_the_face_calms(follow: Any, avatar: Avatar) -> None:
    smile = avatar.head.expressions.index("mouthSmileLeft")
    got = follow([*[seen({"mouthSmileLeft": 0.6})] * 45, *[seen(CALM)] * 90], (0.3, 0.01))
    assert got["expression"][smile] == pytest.approx(0.0, abs=0.05)


# -- the page ---------------------------------------------------------------------------------------------------------


class _Open(SimpleHTTPRequestHandler):
    """Serves a folder to pages from anywhere, without a word."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    """Call with a folder; gives the address at which it is served."""
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Open, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def exported(avatar: Avatar, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose face tracker is the test's."""
    folder = tmp_path_factory.mktemp("webcam")
    (folder / "vision_bundle.mjs").write_text(FAKE_LIBRARY, encoding="utf-8")
    return save_html(avatar, folder / "avatar.html", mediapipe=serve(folder))


def opened(browser: Browser, path: Path, script: str = "") -> Page:
    page = browser.new_page()
    page.add_init_script(f"globalThis.seen = null; {script}")
    page.goto(path.as_uri())
    page.locator("#controls").wait_for()
    return page


def picture(page: Page) -> np.ndarray:
    """What the canvas shows (H, W, 3), in [0, 1]."""
    url = page.evaluate(
        "async () => { await spatialAvatar.render(); return document.getElementById('canvas').toDataURL(); }"
    )
    return np.asarray(Image.open(io.BytesIO(b64decode(url.partition(",")[2]))).convert("RGB")) / 255.0


def mouth_and_forehead(avatar: Avatar, size: int) -> list[tuple[slice, slice]]:
    """Where the resting avatar's lips are in the page's picture, and its forehead."""
    camera, translation = portrait_view(avatar, size)
    vertices = avatar.identity().vertices + translation
    k, head = camera.intrinsics, avatar.head
    eyes = vertices[head.part_vertices("eye_left", "eye_right")]
    pixels = []
    for points in (vertices[head.part_vertices("lips")], eyes + torch.tensor([0.0, 0.05, 0.0])):
        xy = torch.stack([points[:, 0], -points[:, 1]], 1) / -points[:, 2:] * k[0, 0] + k[:2, 2]
        low, high = xy.amin(0).int().tolist(), xy.amax(0).int().tolist()
        pixels.append((slice(low[1], high[1]), slice(low[0], high[0])))
    return pixels


def use_camera(page: Page) -> None:
    page.get_by_role("button", name="Use my camera").click()


def test_a_face_before_the_camera_moves_the_avatars_mouth(browser: Browser, exported: Path, avatar: Avatar) -> None:
    page = opened(browser, exported)
    page.evaluate("(result) => { globalThis.seen = result; }", seen(CALM))
    use_camera(page)
    page.get_by_text(FOLLOWS).wait_for()
    before = picture(page)
    page.evaluate("(result) => { globalThis.seen = result; }", seen({**CALM, "jawOpen": 0.9}))
    until(page, "spatialAvatar.params().jaw[0] > 0.2")
    changed = np.abs(picture(page) - before).mean(2)
    mouth, forehead = (changed[part].mean() for part in mouth_and_forehead(avatar, before.shape[0]))
    assert mouth > 0.03 > 10 * forehead
    page.get_by_role("button", name="Stop the camera").click()
    until(page, "spatialAvatar.params().jaw[0] === 0 && document.getElementById('video').srcObject === null")
    page.close()


def test_a_lost_face_is_said_and_the_avatar_holds_still(browser: Browser, exported: Path) -> None:
    page = opened(browser, exported)
    page.evaluate("(result) => { globalThis.seen = result; }", seen(CALM))
    use_camera(page)
    page.get_by_text(FOLLOWS).wait_for()
    page.evaluate("() => { globalThis.seen = { faceBlendshapes: [], facialTransformationMatrixes: [] }; }")
    page.get_by_text("No face is seen.").wait_for()
    assert page.evaluate("spatialAvatar.driven !== null")
    page.close()


REFUSING = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', '%s'); };"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (REFUSING % "NotAllowedError", "may not use the camera"),
        (REFUSING % "NotFoundError", "no camera"),
        (REFUSING % "NotReadableError", "perhaps to another program"),
        ("Object.defineProperty(navigator, 'mediaDevices', { value: undefined });", "opened by https"),
    ],
)
def test_without_a_camera_the_page_says_why_and_the_sliders_work(
    browser: Browser, exported: Path, script: str, message: str
) -> None:
    page = opened(browser, exported, script)
    use_camera(page)
    sync_api.expect(page.locator("#webcam-state")).to_contain_text(message)
    page.get_by_label("Open mouth").fill("0.8")
    assert page.evaluate("spatialAvatar.params().jaw[0]") > 0.2
    page.close()


def test_without_the_face_tracker_the_page_says_so_and_lets_the_camera_go(
    browser: Browser, avatar: Avatar, serve: Any, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    path = save_html(avatar, tmp_path / "avatar.html", mediapipe=serve(tmp_path / "empty"))
    script = """const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (what) => (globalThis.lent = await ask(what));"""
    page = opened(browser, path, script)
    use_camera(page)
    sync_api.expect(page.locator("#webcam-state")).to_contain_text("could not be loaded")
    assert page.evaluate("lent.getTracks().map((track) => track.readyState)") == ["ended"]
    page.get_by_label("Open mouth").fill("0.8")
    assert page.evaluate("spatialAvatar.params().jaw[0]") > 0.2
    page.close()


def test_the_page_can_reach_nobody_but_the_face_tracker(
    browser: Browser, exported: Path, serve: Any, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("reached", encoding="utf-8")
    page = opened(browser, exported)
    reach = "(url) => fetch(url).then(() => true, () => false)"
    assert page.evaluate(reach, page.locator("#webcam").get_attribute("data-library") + "/vision_bundle.mjs")
    assert not page.evaluate(reach, serve(tmp_path) + "/other.txt")
    page.close()


@pytest.mark.parametrize("address", ["ftp://example.org/x", "https://example.org/a b", "x; script-src *", '"', ""])
def test_what_is_no_web_address_is_refused(avatar: Avatar, tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="not a web address"):
        save_html(avatar, tmp_path / "avatar.html", mediapipe=address)
    assert not list(tmp_path.iterdir())


# -- MediaPipe itself -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mediapipe(repository: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library and the model; skips where there is none."""
    named = os.environ.get("SPATIALAVATAR_MEDIAPIPE")
    if named:
        return Path(named)
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("mediapipe-tasks-vision")
    package = LIBRARY.partition("/npm/")[2]
    archive = cache / f"mediapipe-tasks-vision-{package.rpartition('@')[2]}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("MediaPipe for browsers is not here: there is no npm, and SPATIALAVATAR_MEDIAPIPE is not set")
        try:
            subprocess.run([npm, "pack", package], cwd=cache, check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError):
            pytest.skip("MediaPipe for browsers could not be fetched; set SPATIALAVATAR_MEDIAPIPE to a folder with it")
    folder = tmp_path_factory.mktemp("mediapipe")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    shutil.copy(repository / "weights" / "networks" / "face_landmarker.task", folder / "package")
    return folder / "package"


@pytest.mark.slow
def test_a_clip_before_the_camera_makes_the_avatar_smile(
    browser: Browser, avatar: Avatar, examples: Path, mediapipe: Path, serve: Any, tmp_path: Path
) -> None:
    frames = list(VideoReader(examples / "clips" / "moods.mp4"))
    clip = tmp_path / "camera.mjpeg"
    with clip.open("wb") as file:
        for frame in [*frames[205:216] * 5, *frames[440:465]]:  # a calm face, then for a moment a broad smile
            Image.fromarray(frame).save(file, "jpeg", quality=90)
    path = save_html(avatar, tmp_path / "avatar.html", mediapipe=serve(mediapipe))
    smile = f"spatialAvatar.params().expression[{avatar.head.expressions.index('mouthSmileLeft')}]"
    flags = [*FLAGS, f"--use-file-for-fake-video-capture={clip}"]
    with browser.browser_type.launch(executable_path=CHROMIUM, args=flags) as filmed:
        page = opened(filmed, path)
        use_camera(page)
        page.get_by_text(FOLLOWS).wait_for(timeout=60_000)
        until(page, f"{smile} > 0.5")
        smiling = picture(page)
        until(page, f"{smile} < 0.1")
        changed = np.abs(picture(page) - smiling).mean(2)
    mouth, _ = mouth_and_forehead(avatar, changed.shape[0])
    assert changed[mouth].mean() > 0.03
