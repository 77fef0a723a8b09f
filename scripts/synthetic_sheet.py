"""Draw the sheet of docs/guide/synthetic.md: one synthetic head of each of some styles, from four sides.

python scripts/synthetic_sheet.py docs/images/synthetic.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from spatialavatar.synthetic import SynthesisConfig, phone_camera, synthesize
from spatialavatar.synthetic.views import render_drawn

STYLES = (
    "crop",
    "long wavy",
    "receding",
    "bob",
    "afro",
    "slick back",
    "tail",
    "long curly",
    "side part",
    "tucked",
    "short curls",
    "buzz",
)
YAWS = (0.0, 60.0, 120.0, 180.0)
BACKGROUND = np.array([0.93, 0.93, 0.93])


def main() -> None:
    """Render and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="picture to write")
    parser.add_argument("--size", type=int, default=200, help="pixels a head, default: %(default)s")
    parser.add_argument("--seed", type=int, default=200, help="of the first head, default: %(default)s")
    parser.add_argument("--columns", type=int, default=3, help="heads a row, default: %(default)s")
    options = parser.parse_args()
    strips = []
    for number, style in enumerate(STYLES):
        head = synthesize(options.seed + number, config=SynthesisConfig(style=style, hats=0.1))
        scene = head.gaussians()
        cameras = [phone_camera(yaw, 4.0, size=2 * options.size) for yaw in YAWS]
        views = [render_drawn(scene, camera, BACKGROUND).image for camera in cameras]
        strips.append(np.hstack(views))
    rows = [np.hstack(strips[i : i + options.columns]) for i in range(0, len(strips), options.columns)]
    sheet = Image.fromarray(np.round(255.0 * np.vstack(rows)).astype(np.uint8))
    sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS).save(options.out, quality=85)


if __name__ == "__main__":
    main()
