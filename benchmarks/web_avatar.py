"""The web page of an avatar against our rasteriser, in Chromium without a GPU: PSNR, speed, size, load time.

As its worker draws (#cpu, what it chooses without a GPU) and as WebGL 2 does, which SwiftShader plays there (#gpu).

PYTHONPATH=. python benchmarks/web_avatar.py me.safetensors OUT_DIR [--residual STRENGTH]

With --residual the avatar gets a random network's residual: what it costs is that of any, what it shows is noise.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from spatialavatar.avatar import Avatar
from spatialavatar.export import save_html
from tests.support.chromium import launched
from tests.support.painted_avatar import ours, psnr, theirs, with_residual

SIZE = 512
POSES = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, -0.5, 0.0], [0.3, 0.0, 0.1], [-0.25, 0.2, -0.1]]
FACES = [
    {},
    {"jawOpen": 0.8, "browInnerUp": 0.7},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "eyeBlinkLeft": 1.0, "eyeLookInRight": 0.5},
]
SPEED = """async () => {
    const sums = {}, start = performance.now();
    let frames = 0;
    while (performance.now() - start < 5000) {
        spatialAvatar.setPose({ neck: [0, 0.4 * Math.sin(frames / 5), 0] }); // so that a residual changes too
        await spatialAvatar.render({ width: 512, height: 512 });
        frames++;
        const stats = spatialAvatar.stats();
        for (const name of ["pose", "project", "sort", "draw"]) sums[name] = (sums[name] || 0) + stats[name];
    }
    const fps = 1000 * frames / (performance.now() - start);
    return { fps, ...Object.fromEntries(Object.entries(sums).map(([name, value]) => [name, value / frames])) };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--residual", type=float, metavar="STRENGTH", help="of the random weights; 0.02 is to be seen")
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    avatar = Avatar.load(options.avatar)
    if options.residual is not None:
        plain, avatar = avatar, with_residual(avatar, options.residual)
        changes = [psnr(ours(plain, [0.0] * 3, face, SIZE), ours(avatar, [0.0] * 3, face, SIZE)) for face in FACES]
        print("without the residual, dB:", *(f"{change:.1f}" for change in changes))
    path = save_html(avatar, out / "avatar.html")
    print(f"page: {path.stat().st_size / 1e6:.2f} MB, {len(avatar.gaussians)} Gaussians")
    wanted = {(p, f): ours(avatar, neck, face, SIZE) for p, neck in enumerate(POSES) for f, face in enumerate(FACES)}
    with launched() as browser:
        for how in ("cpu", "gpu"):
            print(f"#{how}")
            page = browser.new_page(viewport={"width": 1000, "height": 640})
            start = time.perf_counter()
            page.goto(f"{path.resolve().as_uri()}#{how}")
            page.get_by_text("splats").wait_for()
            print(f"first picture after {time.perf_counter() - start:.2f} s")
            page.screenshot(path=out / f"page_{how}.png")
            values = []
            for (p, f), picture in wanted.items():
                drawn = theirs(page, POSES[p], FACES[f], SIZE)
                values.append(psnr(drawn, picture))
                difference = np.clip(0.5 + 4 * (drawn - picture), 0, 1)
                strip = np.concatenate([drawn, picture, difference], 1)
                Image.fromarray((strip * 255).round().astype(np.uint8)).save(out / f"{how}_pose{p}_face{f}.png")
            print(
                f"PSNR over {len(values)}: min {min(values):.1f}, mean {np.mean(values):.1f}, max {max(values):.1f} dB"
            )
            print({name: round(value, 2) for name, value in page.evaluate(SPEED).items()})
            page.close()


if __name__ == "__main__":
    main()
