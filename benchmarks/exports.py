"""Exported files read back and rendered, against our own preview: size and likeness of each form at three poses.

PSNR covers the pixels of the head alone.

PYTHONPATH=. python benchmarks/exports.py me.safetensors OUT_DIR     # also writes the files and the pictures
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import table
from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.export import held_pose, save_glb, save_html, save_lam_zip, save_ply, save_splat, save_spz
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.metrics import psnr
from spatialavatar.provenance import save_png
from spatialavatar.records import Camera, HeadParams
from tests.support.splat_readers import picture, read_ply, read_splat, read_spz

SIZE, DISTANCE = 512, 0.6
FORMS = {
    "ply": (save_ply, read_ply, True),
    "ply, degree 3": (partial(save_ply, sh_degree=3), read_ply, True),
    "splat": (save_splat, read_splat, True),
    "spz": (save_spz, read_spz, False),
}
FACES = {
    "rest": ({}, 0.0),
    "jaw": ({"jawOpen": 0.6, "browInnerUp": 0.7}, 25.0),
    "smile": ({"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "eyeBlinkLeft": 1.0}, -25.0),
}


def main() -> None:
    avatar, out = Avatar.load(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    poses = {name: held_pose(avatar, units, yaw) for name, (units, yaw) in FACES.items()}
    rows = []
    for form, (save, read, y_down) in FORMS.items():
        values, strips = [], []
        for name, params in poses.items():
            path = save(avatar, out / f"{name}.{form.split(',')[0]}", params)
            image, alpha = picture(read(path), DISTANCE, SIZE, y_down=y_down)
            shown, wanted = image + 1.0 - alpha[..., None], ours(avatar, params)
            values.append(psnr(shown.clamp(0, 1), wanted, alpha))
            strips.append(torch.cat([wanted, shown, 0.5 + 8.0 * (shown - wanted)], 1))
        pixels = (torch.cat(strips).clamp(0, 1) * 255).round().byte().numpy()
        save_png(out / f"{form.replace(', ', '-').replace(' ', '')}.png", np.ascontiguousarray(pixels))
        rows.append([form, f"{path.stat().st_size / 1e6:.2f}", *(f"{value:.1f}" for value in values)])
    for form, save, name in (
        ("glb", save_glb, "head.glb"),
        ("html", save_html, "head.html"),
        ("lam-zip", save_lam_zip, "head.zip"),
        ("the avatar's own file", Avatar.save, "head.safetensors"),
    ):
        rows.append([form, f"{save(avatar, out / name).stat().st_size / 1e6:.2f}", *["-"] * len(poses)])
    print(f"{len(avatar.gaussians)} Gaussians, {SIZE} x {SIZE}\n")
    print(table(["form", "MB", *(f"{name}, dB" for name in poses)], rows))
    print("\nmorph targets against the head, largest distance of a vertex in mm:")
    for units in ({"jawOpen": 1.0}, {"jawOpen": 0.5}, FACES["jaw"][0], FACES["smile"][0]):
        print(f"  {units}: {1e3 * morph_error(avatar, units):.2f}")


def ours(avatar: Avatar, params: HeadParams) -> torch.Tensor:
    """Render the content of the files on white."""
    low, high = skull_box(avatar)
    place = torch.tensor([0.0, 0.0, -DISTANCE]) - 0.5 * (low + high)
    return avatar.render(params.replace(translation=place[None]), Camera.frontal(SIZE), torch.ones(3))[0].clamp(0, 1)


def morph_error(avatar: Avatar, units: dict[str, float]) -> float:
    """Return the distance of the sum of the morphs from the posed head, metres: a jaw rotates, a morph is linear."""
    head, identity = avatar.head, avatar.identity()

    def posed(weights: torch.Tensor) -> torch.Tensor:
        expression, jaw, eyes = head.from_arkit(weights[None])
        return head.pose(identity, head.neutral().replace(expression=expression, jaw=jaw, eyes=eyes))[0]

    rest = posed(torch.zeros(52))
    summed = rest.clone()
    weights = torch.zeros(52)
    for name, value in units.items():
        weights[ARKIT_52.index(name)] = value
        summed += value * (posed(torch.eye(52)[ARKIT_52.index(name)]) - rest)
    return float((summed - posed(weights)).norm(dim=1).max())


if __name__ == "__main__":
    with torch.inference_mode():
        main()
