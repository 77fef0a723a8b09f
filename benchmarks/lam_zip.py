"""The LAM archive in LAM's own web renderer, in headless Chromium, against our picture from the same camera.

npm pack gaussian-splat-renderer-for-lam@0.0.8 && tar xzf gaussian-splat-renderer-for-lam-0.0.8.tgz
PYTHONPATH=. python benchmarks/lam_zip.py me.safetensors package/build/gaussian-splat-renderer-for-lam.module.js OUT_DIR
"""

import functools
import http.server
import io
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.export import save_lam_zip
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.metrics import psnr
from spatialavatar.records import Camera
from tests.support.chromium import launched

SIZE, FIELD = 512, 50.0  # pixels; degrees from top to bottom, the renderer's
FACES = {
    "rest": {},
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "eyeBlinkLeft": 1.0},
    "jaw": {"jawOpen": 0.5, "browInnerUp": 0.7},
}
STILL = dict.fromkeys(ARKIT_52, 0.0)  # the renderer keeps the last weight of a missing unit
SCALED = {"jawOpen": 1.2}  # the renderer's own exaggeration of the units above
PAGE = f"""<!doctype html><body style="margin:0"><div id="here" style="width:{SIZE}px;height:{SIZE}px"></div>
<script type="module">
import {{ GaussianSplatRenderer }} from "./renderer.js";
window.weights = {{ jawOpen: 0 }};
window.shown = await GaussianSplatRenderer.getInstance(document.getElementById("here"), "/me.zip", {{
  getChatState: () => "Idle", getExpressionData: () => ({{ ...window.weights }}), backgroundColor: "0xffffff",
  loadProgress: (part) => {{ window.loaded = part; }} }});
</script>"""
DRAWN = "window.shown.viewer.renderer.info.render.frame"
# The renderer fades a scene in over some 300 frames, which take minutes without a GPU.
FADED_IN = "window.shown.viewer.splatMesh.visibleRegionFadeStartRadius = 10"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def main() -> None:
    avatar, renderer, out = Avatar.load(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    print(f"{save_lam_zip(avatar, out / 'me.zip').stat().st_size / 1e6:.2f} MB, {len(avatar.gaussians)} Gaussians")
    (out / "renderer.js").write_bytes(renderer.read_bytes())
    (out / "index.html").write_text(PAGE, encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(out)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with launched() as browser:
        page = browser.new_page(viewport={"width": SIZE, "height": SIZE})
        begun = time.perf_counter()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("window.loaded >= 1", timeout=90_000)
        print(f"loaded in {time.perf_counter() - begun:.1f} s")
        for name, units in FACES.items():
            begun = time.perf_counter()
            page.evaluate(
                f"(weights) => {{ window.weights = weights; window.until = {DRAWN} + 3; {FADED_IN} }}", STILL | units
            )
            page.wait_for_function(f"{DRAWN} >= window.until", timeout=90_000, polling=100)
            each = (time.perf_counter() - begun) / 3
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            shown = torch.from_numpy(np.asarray(picture) / 255.0).float()
            wanted, alpha = ours(avatar, {unit: SCALED.get(unit, 1.0) * weight for unit, weight in units.items()})
            pixels = torch.cat([wanted, shown, 0.5 + 4.0 * (shown - wanted)], 1).clamp(0, 1)
            Image.fromarray((pixels * 255).round().byte().numpy()).save(out / f"{name}.png")
            print(f"{name}: {psnr(shown, wanted, alpha):.1f} dB over the head's pixels, {each:.1f} s a frame")
    server.shutdown()


def ours(avatar: Avatar, units: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Our picture on white, and its coverage, from where the renderer's camera stands."""
    weights = torch.zeros(1, 52)
    for name, weight in units.items():
        weights[0, ARKIT_INDEX[name]] = weight
    expression, jaw, eyes = avatar.head.from_arkit(weights)
    low, high = skull_box(avatar)
    place = torch.tensor([0.0, 1.62, 0.0]) - 0.5 * (low + high)
    params = avatar.head.neutral().replace(expression=expression, jaw=jaw, eyes=eyes, translation=place[None])
    tilt = torch.deg2rad(torch.tensor(10.0))
    down = torch.tensor([[1, 0, 0], [0, tilt.cos(), -tilt.sin()], [0, tilt.sin(), tilt.cos()]])  # world to camera, y up
    pose = torch.eye(4)
    pose[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ down
    pose[:3, 3] = -pose[:3, :3] @ torch.tensor([0.0, 1.8, 1.0])
    focal = 0.5 * SIZE / float(torch.tan(torch.deg2rad(torch.tensor(FIELD / 2))))
    intrinsics = torch.tensor([[focal, 0.0, SIZE / 2], [0.0, focal, SIZE / 2], [0.0, 0.0, 1.0]])
    image, alpha = avatar.render(params, Camera(intrinsics, pose, SIZE, SIZE), torch.ones(3))
    return image.clamp(0, 1), alpha


if __name__ == "__main__":
    with torch.inference_mode():
        main()
