"""Render a sheet of random identities (columns) and expressions (rows) of a head model.

    python scripts/render_head_sheet.py docs/images/head_sheet.jpg

The sheet is for looking at: goblins, sheared chins, lids that eyeballs cut, teeth through lips.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from spatialavatar.head import HeadModel  # noqa: E402
from spatialavatar.head.arkit import ARKIT_INDEX  # noqa: E402
from spatialavatar.records import Camera, HeadParams  # noqa: E402
from spatialavatar.render.mesh import rasterize_mesh, vertex_normals  # noqa: E402

_BOTH = ("Left", "Right")
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "jaw open": {"jawOpen": 0.8},
    "smile": {f"{unit}{side}": w for side in _BOTH for unit, w in (("mouthSmile", 0.9), ("mouthUpperUp", 0.5))},
    "blink": {f"eyeBlink{side}": 1.0 for side in _BOTH},
    "pucker": {"mouthPucker": 1.0, "browInnerUp": 0.7},
    "angry, looking left": {
        **{
            f"{unit}{side}": w
            for side in _BOTH
            for unit, w in (("browDown", 1.0), ("noseSneer", 0.6), ("mouthFrown", 0.6))
        },
        "eyeLookOutLeft": 1.0,
        "eyeLookInRight": 1.0,
    },
}
_COLOURS = {
    "scalp": (122, 98, 84),
    "lips": (186, 104, 100),
    "mouth": (110, 38, 40),
    "tongue": (184, 92, 94),
    "teeth_upper": (240, 235, 224),
    "teeth_lower": (240, 235, 224),
}
_SKIN, _SCLERA, _IRIS, _PUPIL = (218, 176, 154), (240, 238, 236), (86, 112, 140), (14, 12, 12)
_BACKGROUND = 64
_IRIS_ANGLE, _PUPIL_ANGLE = 29.4, 9.6  # degrees from the eyeball's pole
_DISTANCE = 1.05  # metres


def face_colours(head: HeadModel) -> NDArray[np.float64]:
    """(F, 3) plain colours by part; the eyes get irises and pupils."""
    parts = head.face_parts.numpy()
    palette = np.array([_COLOURS.get(name, _SKIN) for name in head.parts], dtype=np.float64)
    colours = palette[parts]
    joints = head.identity(torch.zeros(head.shape_count)).joints.numpy()
    middles = head.template.numpy()[head.faces.numpy()].mean(1)
    for name, joint in (("eye_left", 3), ("eye_right", 4)):
        mine = parts == head.parts.index(name)
        offset = middles[mine] - joints[joint]
        angle = np.degrees(np.arctan2(np.linalg.norm(offset[:, :2], axis=1), offset[:, 2]))
        colours[mine] = np.select(
            [angle[:, None] < _PUPIL_ANGLE, angle[:, None] < _IRIS_ANGLE], [_PUPIL, _IRIS], default=_SCLERA
        )
    return colours


def render(head: HeadModel, params: HeadParams, colours: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """(size, size, 3) shaded picture, two by two samples a pixel."""
    camera = Camera.frontal(2 * size, 1800.0)
    vertices = head.vertices(params)[0]
    cam = camera.to_camera(vertices).numpy()
    seen = rasterize_mesh(cam, head.faces.numpy(), camera.intrinsics.numpy(), camera.width, camera.height)
    inside = seen.face >= 0
    corners = head.faces.numpy()[seen.face[inside]]
    normals = (vertex_normals(vertices.numpy(), head.faces.numpy())[corners] * seen.bary[inside][..., None]).sum(1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    light = np.array([0.32, 0.48, 0.82])
    shade = 0.32 + 0.68 * np.abs(normals @ light / np.linalg.norm(light))
    image = np.full((camera.height, camera.width, 3), float(_BACKGROUND))
    image[inside] = colours[seen.face[inside]] * shade[:, None]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).clip(0, 255).astype(np.uint8)


def sheet(head: HeadModel, identities: int, size: int, yaw: float, seed: int) -> NDArray[np.uint8]:
    """The whole sheet, RGB."""
    rng = np.random.default_rng(seed)
    colours = face_colours(head)
    columns = []
    for _ in range(identities):
        shape = torch.from_numpy(rng.normal(size=head.shape_count)).float()
        column = []
        for weights in EXPRESSIONS.values():
            arkit = torch.zeros(1, len(ARKIT_INDEX))
            for name, weight in weights.items():
                arkit[0, ARKIT_INDEX[name]] = weight
            expression, jaw, eyes = head.from_arkit(arkit)
            params = head.neutral().replace(
                shape=shape,
                expression=expression,
                jaw=jaw,
                eyes=eyes,
                rotation=torch.tensor([[0.0, np.radians(yaw), 0.0]]).float(),
                translation=torch.tensor([[0.0, 0.01, -_DISTANCE]]),
            )
            column.append(render(head, params, colours, size))
        columns.append(np.concatenate(column, 0))
    return np.concatenate(columns, 1)


def main() -> None:
    """Render the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("--head", type=Path, default=ROOT / "weights" / "head", help="folder of the head file")
    parser.add_argument("--identities", type=int, default=12)
    parser.add_argument("--size", type=int, default=150, help="pixels of one picture")
    parser.add_argument("--yaw", type=float, default=18.0, help="degrees the heads are turned to their left")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    picture = sheet(HeadModel.load(arguments.head), arguments.identities, arguments.size, arguments.yaw, arguments.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out), picture[..., ::-1])
    print(f"{arguments.out}: {arguments.identities} identities x {', '.join(EXPRESSIONS)}")


if __name__ == "__main__":
    main()
