"""The page that poses and draws an avatar by itself, in a real browser, against our own rasteriser."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from spatialavatar.avatar import Avatar, default_head
from spatialavatar.driving import portrait_view
from spatialavatar.export.html import save_html, web_binary
from spatialavatar.head import build_layout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import Camera, Gaussians, HeadParams

from .chromium import needs_chromium, sync_api

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

SIZE = 256
POSES = {"ahead": [0.0, 0.0, 0.0], "aside": [0.1, 0.45, -0.05]}
FACES: dict[str, dict[str, float]] = {"rest": {}, "open": {"jawOpen": 0.7, "mouthSmileLeft": 0.6, "eyeBlinkRight": 1.0}}


def painted_avatar(resolution: int = 128) -> Avatar:
    """The default head in stripes of colour: small flat Gaussians, one a texel, with a little of everything."""
    head = default_head()
    layout = build_layout(head, resolution)
    n, random = len(layout), torch.Generator().manual_seed(3)
    shape = torch.zeros(head.shape_count)
    shape[:4] = torch.tensor([0.8, -0.6, 0.4, 0.5])
    gaussians = Gaussians(
        means=0.1 * torch.randn(n, 3, generator=random),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=random), dim=-1),
        scales=0.15 + 0.5 * torch.rand(n, 3, generator=random),
        opacities=0.3 + 0.69 * torch.rand(n, generator=random),
        colors=0.5 + 0.5 * torch.sin(layout.texels[:, None] / torch.tensor([7.0, 131.0, 1900.0])),
        space="local",
    )
    return Avatar(head, layout, shape, gaussians, head.neutral(), Camera.frontal(SIZE))


def ours(avatar: Avatar, neck: list[float], weights: dict[str, float], size: int = SIZE) -> np.ndarray:
    """Our picture (size, size, 3) in [0, 1] of what the page is asked to show."""
    camera, translation = portrait_view(avatar, size)
    coefficients = torch.zeros(1, 52)
    for name, weight in weights.items():
        coefficients[0, ARKIT_INDEX[name]] = weight
    expression, jaw, eyes = avatar.head.from_arkit(coefficients)
    params: HeadParams = replace(
        avatar.head.neutral(),
        expression=expression,
        jaw=jaw,
        eyes=eyes,
        neck=torch.tensor([neck]),
        translation=translation[None],
    )
    with torch.inference_mode():
        return avatar.render(params, camera, background=torch.ones(3))[0].clamp(0, 1).numpy()


def theirs(page: Page, neck: list[float], weights: dict[str, float], size: int = SIZE) -> np.ndarray:
    """The page's picture (size, size, 3) in [0, 1]."""
    url = page.evaluate(
        """async ([neck, weights, size]) => {
            spatialAvatar.reset();
            spatialAvatar.setPose({ neck });
            spatialAvatar.setExpression(weights);
            await spatialAvatar.render({ width: size, height: size });
            return document.getElementById("canvas").toDataURL("image/png");
        }""",
        [neck, weights, size],
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")) / 255.0


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return painted_avatar()


@pytest.fixture(scope="module")
def exported(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_html(avatar, tmp_path_factory.mktemp("web") / "avatar.html")


def opened(browser: Browser, path: Path, script: str = "") -> Page:
    page = browser.new_page()
    if script:
        page.add_init_script(script)
    page.goto(path.as_uri())
    return page


@pytest.fixture(scope="module")
def page(browser: Browser, exported: Path) -> Iterator[Page]:
    page = opened(browser, exported)
    page.locator("#controls").wait_for()
    yield page
    page.close()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("pose", POSES)
def test_the_page_shows_what_our_rasteriser_shows(page: Page, avatar: Avatar, pose: str, face: str) -> None:
    asked: tuple[Any, ...] = POSES[pose], FACES[face]
    assert psnr(theirs(page, *asked), ours(avatar, *asked)) >= 36


def replaced_data(exported: Path, data: bytes, path: Path) -> Path:
    text = exported.read_text(encoding="utf-8")
    begin = text.index(">", text.index('id="avatar"')) + 1
    end = text.index("</script>", begin)
    path.write_text(text[:begin] + base64.b64encode(data).decode() + text[end:], encoding="utf-8")
    return path


@pytest.mark.parametrize(("fault", "said"), [("cut", "cut short"), ("bit", "damaged"), ("version", "of version 7")])
def test_bad_data_is_named_on_the_page(
    browser: Browser, avatar: Avatar, exported: Path, tmp_path: Path, fault: str, said: str
) -> None:
    data = bytearray(web_binary(avatar))
    if fault == "cut":
        del data[len(data) // 2 :]
    elif fault == "bit":
        data[-100_000] ^= 1
    else:
        data[4:8] = struct.pack("<I", 7)
    page = opened(browser, replaced_data(exported, bytes(data), tmp_path / "bad.html"))
    sync_api.expect(page.get_by_role("alert")).to_contain_text(said)
    page.close()


def test_without_webgl_the_page_says_so(browser: Browser, exported: Path) -> None:
    page = opened(browser, exported, "HTMLCanvasElement.prototype.getContext = () => null")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("WebGL 2")
    page.close()
