"""Small folders laid out like the published data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, grey: int = 128, size: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (grey, grey, grey)).save(path)
    return path


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def gaussian_avatars(root: Path) -> None:
    """Three cameras, six time steps: 0 to 3 train, camera 2 held out (val), steps 4 and 5 test."""
    parts: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for step in range(6):
        for camera in range(3):
            name = f"images/{step:05d}_{camera:02d}.png"
            picture(root / name)
            picture(root / name.replace("images", "fg_masks"))
            turn = np.deg2rad((-40.0, 0.0, 30.0)[camera])
            pose = np.eye(4)
            pose[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
            pose[:3, 3] = pose[:3, 2]  # one metre from the origin, which it looks at along its own -z
            part = "test" if step > 3 else "val" if camera == 2 else "train"
            parts[part].append(
                {
                    "timestep_index": step,
                    "camera_index": camera,
                    "file_path": name,
                    "fg_mask_path": name.replace("images", "fg_masks"),
                    "transform_matrix": pose.tolist(),
                    "fl_x": 100.0,
                    "fl_y": 100.0,
                    "cx": 32.0,
                    "cy": 32.0,
                    "w": 64,
                    "h": 64,
                }
            )
    for part, frames in parts.items():
        write_json(root / f"transforms_{part}.json", {"frames": frames})
