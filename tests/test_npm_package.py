"""The npm package: packed, installed into an empty project, its types and its example pages in a real browser.

It needs node and npm, and the registry for three, TypeScript and esbuild; where one is missing, the tests that need it
are skipped and say so. CI installs Chromium and may have no node.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.build_npm import build
from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, retarget
from spatialavatar.export.html import save_html
from spatialavatar.motion import read_motion

from .support.chromium import needs_chromium, until
from .support.painted_avatar import ours, painted_avatar, psnr
from .support.sounds import vowel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = pytest.mark.skipif(NODE is None or NPM is None, reason="there is no node with npm on this machine")

LIBRARIES = ("three@0.187.0", "@types/three@0.187.0", "typescript@5", "esbuild@0.28.2")
FACE = {"jawOpen": 0.7, "mouthSmileLeft": 0.6, "eyeBlinkRight": 1.0}


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed package."""
    folder = build(tmp_path_factory.mktemp("npm") / "package")
    assert NPM is not None
    (packed,) = json.loads(run(NPM, "pack", "--json", cwd=folder))
    return folder / packed["filename"]


@pytest.fixture(scope="module")
def project(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project that has installed the package and the libraries."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
    assert NPM is not None
    command = [NPM, "install", "--prefer-offline", "--no-audit", "--no-fund", str(package), *LIBRARIES]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=180)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("three, TypeScript and esbuild could not be fetched from the npm registry")
    return folder


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return painted_avatar()


@pytest.fixture(scope="module")
def site(project: Path, avatar: Avatar, examples: Path) -> Iterator[str]:
    """Address of the installed package's example pages, with an avatar and a motion beside them."""
    pages = project / "node_modules" / "spatialavatar" / "examples"
    save_html(avatar, pages / "avatar.html", speech=True)
    shutil.copy(examples / "motions" / "expressions.json", pages / "motion.json")
    (pages / "none.html").write_text("<title>no avatar</title>", encoding="utf-8")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(project))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/node_modules/spatialavatar/examples"
        server.shutdown()
        thread.join()


def over_white(url: str) -> np.ndarray:
    """A picture's data URL as (H, W, 3) on white, in [0, 1]."""
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB")) / 255.0


# -- without a browser ------------------------------------------------------------------------------------------------


def test_the_package_holds_what_it_exports(package: Path) -> None:
    folder = package.parent
    description = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    listed = run("tar", "-tzf", str(package), cwd=folder).split()
    paths = [path for entry in description["exports"].values() if isinstance(entry, dict) for path in entry.values()]
    for path in [*paths, "./core.js", "./README.md", "./LICENSE"]:
        assert f"package/{path[2:]}" in listed
    from spatialavatar import __version__

    assert description["version"] == __version__


def test_the_package_can_be_imported_where_there_is_no_page(package: Path) -> None:
    assert NODE is not None
    script = "import('./index.js').then((all) => console.log(typeof all.SpatialAvatarElement, typeof all.loadAvatar))"
    assert run(NODE, "-e", script, cwd=package.parent).split() == ["function", "function"]


USE = """
import { loadAvatar, type Expression, type SpatialAvatarElement } from "spatialavatar";
import { SpatialAvatarObject } from "spatialavatar/three";
import { Scene, WebGLRenderer } from "three";

const element: SpatialAvatarElement = document.createElement("spatial-avatar");
const smile: Expression = { mouthSmileLeft: 0.5 };
element.addEventListener("load", ({ detail }) => console.log(detail.units.length + detail.gaussians));
element.addEventListener("error", ({ detail }) => console.log(detail.message.length));
element.addEventListener("click", (event) => event.preventDefault());
element.setExpression(smile);
const picture: Promise<Blob> = element.snapshot();
const speech = await element.speak(await navigator.mediaDevices.getUserMedia({ audio: true }));
speech.ended.then(() => speech.stop());
// @ts-expect-error - no unit of that name
element.setExpression({ smile: 1 });
const avatar = new SpatialAvatarObject(await loadAvatar("me.html"));
avatar.follow({ weights: [], rotation: [0, 0, 0], translation: [0, 0, 0] });
new WebGLRenderer().render(new Scene().add(avatar), avatar.portraitCamera());
export { picture };
"""


def test_the_types_check(project: Path) -> None:
    """A program that uses them, and the declarations as source, since the compiler skips errors inside of libraries."""
    checked = project / "checked"
    checked.mkdir()
    for name in ("index", "three"):
        shutil.copy(project / "node_modules" / "spatialavatar" / f"{name}.d.ts", checked / f"{name}.ts")
    (checked / "use.ts").write_text(USE, encoding="utf-8")
    options = {
        "strict": True,
        "noEmit": True,
        "module": "nodenext",
        "target": "es2022",
        "skipLibCheck": True,
        "types": [],
    }
    (checked / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}), encoding="utf-8")
    run(str(project / "node_modules" / ".bin" / "tsc"), "--project", str(checked), cwd=project)


def test_a_bundler_takes_it(project: Path) -> None:
    (project / "entry.js").write_text('import "spatialavatar";', encoding="utf-8")
    esbuild = str(project / "node_modules" / ".bin" / "esbuild")
    run(esbuild, "entry.js", "--bundle", "--minify", "--format=esm", "--outfile=bundle.js", cwd=project)
    assert 20_000 < (project / "bundle.js").stat().st_size < 80_000


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def component(browser: Browser, site: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 600, "height": 600})
    page.goto(f"{site}/index.html")
    until(page, "document.getElementById('avatar').loaded && document.getElementById('avatar').avatar.drawn > 0")
    yield page
    page.close()


@needs_chromium
@pytest.mark.parametrize("face", [{}, FACE], ids=["rest", "face"])
def test_the_component_shows_what_our_rasteriser_shows(component: Page, avatar: Avatar, face: dict[str, float]) -> None:
    url = component.evaluate(
        """async ([face, neck]) => {
            const avatar = document.getElementById("avatar");
            avatar.reset();
            avatar.avatar.setPose({ neck });
            avatar.setExpression(face);
            await avatar.avatar.render({ width: 256, height: 256 });
            return avatar.canvas.toDataURL();
        }""",
        [face, [0.1, 0.45, -0.05]],
    )
    assert psnr(over_white(url), ours(avatar, [0.1, 0.45, -0.05], face)) >= 36


@needs_chromium
def test_the_component_plays_a_motion_file_as_driving_has_it(component: Page, avatar: Avatar, examples: Path) -> None:
    component.evaluate("document.getElementById('avatar').setAttribute('motion', 'motion.json')")
    until(component, "document.getElementById('avatar').avatar.driven !== null")
    found = torch.tensor(component.evaluate("document.getElementById('avatar').avatar.params().expression"))
    track = read_motion(examples / "motions" / "expressions.json", avatar.head)
    expected, _ = retarget(track, avatar, DriveConfig(smoothing=0))
    assert float((expected.expression - found).abs().amax(1).min()) < 1e-4  # one of the frames
    component.evaluate("document.getElementById('avatar').removeAttribute('motion')")
    until(component, "document.getElementById('avatar').avatar.driven === null")


@needs_chromium
def test_the_component_speaks_a_sound_and_rests_at_its_end(component: Page) -> None:
    component.locator("#avatar").click()  # without one, browsers play no sound
    peak, rests, refused = component.evaluate(
        """async (samples) => {
            const avatar = document.getElementById("avatar");
            const buffer = new AudioBuffer({ length: samples.length, sampleRate: 16000 });
            buffer.copyToChannel(Float32Array.from(samples), 0);
            const { ended } = await avatar.speak(buffer);
            let peak = 0, over = false;
            ended.then(() => (over = true));
            while (!over) {
                peak = Math.max(peak, ...(avatar.avatar.driven?.expression ?? []));
                await new Promise(requestAnimationFrame);
            }
            const refused = await avatar.speak("hello").catch((error) => error.message);
            return [peak, avatar.avatar.driven === null, refused];
        }""",
        vowel(0.6).tolist(),
    )
    assert peak > 0.1
    assert rests
    assert refused == "Give an AudioBuffer, a file or a MediaStream to speak."


@needs_chromium
@pytest.mark.parametrize(("src", "words"), [("none.html", "holds no avatar"), ("missing.html", "cannot be fetched")])
def test_the_component_says_what_is_wrong_with_its_source(component: Page, src: str, words: str) -> None:
    message = component.evaluate(
        """(src) => new Promise((resolve) => {
            const one = document.createElement("spatial-avatar");
            one.addEventListener("error", ({ detail }) => resolve(detail.message));
            one.setAttribute("src", src);
            document.body.append(one);
        })""",
        src,
    )
    assert words in message


@pytest.fixture(scope="module")
def scene(browser: Browser, site: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 256, "height": 256})
    page.goto(f"{site}/three.html")
    until(page, "globalThis.scene !== undefined")
    page.evaluate("globalThis.held = true")
    yield page
    page.close()


def drawn(scene: Page, script: str, argument: Any = None) -> np.ndarray:
    """The scene's picture after a script."""
    picture = f"""(argument) => {{
        ({script})(argument);
        renderer.render(globalThis.scene, camera);
        return renderer.domElement.toDataURL();
    }}"""
    return over_white(scene.evaluate(picture, argument))


@needs_chromium
@pytest.mark.parametrize("face", [{}, FACE], ids=["rest", "face"])
def test_a_scene_of_three_shows_what_our_rasteriser_shows(scene: Page, avatar: Avatar, face: dict[str, float]) -> None:
    script = "(face) => { ring.visible = false; avatar.reset(); avatar.setExpression(face); }"
    assert psnr(drawn(scene, script, face), ours(avatar, [0.0] * 3, face)) >= 36


@needs_chromium
def test_objects_of_the_scene_hide_and_are_hidden(scene: Page) -> None:
    blue = np.array([0x3B, 0x6E, 0xA5]) / 255

    def ring(script: str) -> np.ndarray:
        return np.abs(drawn(scene, script) - blue).max(2) < 0.02

    alone = ring("() => { ring.visible = true; avatar.visible = false; avatar.reset(); }")
    together = ring("() => { avatar.visible = true; }")
    assert together.sum() > 0.2 * alone.sum()  # the part before the head
    assert together.sum() < 0.9 * alone.sum()  # the part behind it


@needs_chromium
def test_a_scaled_object_at_another_place_looks_the_same(scene: Page) -> None:
    """The camera is a child of the object, so that both move together."""
    before = drawn(scene, "() => { ring.visible = false; avatar.visible = true; avatar.reset(); }")
    after = drawn(scene, "() => { avatar.position.set(1, -2, 3); avatar.rotation.set(0.3, 1, 0); }")
    assert np.abs(before - after).mean() < 0.001
