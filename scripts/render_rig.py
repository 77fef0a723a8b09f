"""Render avatars as a rig of calibrated cameras would film them: data of which every camera is known exactly.

    python scripts/render_rig.py me.safetensors --motions examples/motions/talk.json --out rigs
    spatialavatar shards rigs --out shards/rigs                    # phase 2 of training (docs/guide/train.md)
    spatialavatar bench multi-view rigs --out bench                # the protocol of calibrated cameras

Photos may stand for avatars: they are generated first, without polish. Each avatar becomes a folder in the layout that
GaussianAvatars uses for NeRSemble: pictures, exact mattes, ``transforms_train.json`` with every camera but the last
yaw, ``transforms_val.json`` with that one. The cameras stand around the resting head and look at its middle; the rest
of a motion (turns, expressions) is the head's. A folder that is finished is not rendered again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.driving import DriveConfig, motion_track, retarget
from spatialavatar.errors import InputError, SpatialAvatarError
from spatialavatar.files import write_text
from spatialavatar.media import is_image
from spatialavatar.pipeline import generate
from spatialavatar.provenance import save_png
from spatialavatar.records import Camera, HeadParams, Track, as_uint8_image
from spatialavatar.render import render
from spatialavatar.threads import one_torch_thread

YAWS = (-40.0, -20.0, 0.0, 20.0, 40.0)
_CV_TO_GL = np.diag([1.0, -1.0, -1.0, 1.0])
_TRAIN, _VAL = "transforms_train.json", "transforms_val.json"


def turned_camera(camera: Camera, centre: Tensor, yaw: float, pitch: float) -> Camera:
    """The camera moved on a ball about ``centre``.

    Args:
        camera: where it starts.
        centre: (3,) world, metres; where it appears in the picture stays.
        yaw: degrees about the world's vertical axis; positive moves it to the picture's right.
        pitch: degrees; positive moves it up.
    """
    a, b = np.deg2rad(yaw), np.deg2rad(pitch)
    about_y = np.array([[np.cos(a), 0.0, np.sin(a)], [0.0, 1.0, 0.0], [-np.sin(a), 0.0, np.cos(a)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(b), np.sin(b)], [0.0, -np.sin(b), np.cos(b)]])
    pose, middle = np.eye(4), centre.double().numpy()
    pose[:3, :3] = about_y @ about_x
    pose[:3, 3] = middle - pose[:3, :3] @ middle
    # Moving the camera by a pose is moving the world by its inverse.
    moved = camera.world_to_camera.double() @ torch.from_numpy(np.linalg.inv(pose))
    return camera.replace(world_to_camera=moved.float())


def instants_of(avatar: Avatar, tracks: Sequence[Track], count: int, size: int) -> tuple[HeadParams, Camera, Tensor]:
    """Parameters at ``count`` instants, evenly over each motion; the frontal camera; the head's middle (3,), metres.

    Raises:
        InputError: there are fewer instants than motions, or than frames.
    """
    if count < len(tracks):
        raise InputError(f"{len(tracks)} motions need as many instants at least; you gave {count}.")
    chosen, camera = [], None
    for track, share in zip(tracks, np.array_split(np.arange(count), len(tracks))):
        params, camera = retarget(track, avatar, DriveConfig(size=size))
        if len(share) > len(params):
            raise InputError(f"A motion of {len(params)} frames has no {len(share)} instants; give a longer one.")
        # Not the ends, where a performance rests.
        places = (np.arange(len(share)) + 0.5) / len(share) * len(params)
        chosen.append(params[torch.from_numpy(places.astype(int))])
    assert camera is not None
    low, high = skull_box(avatar)
    params = HeadParams.cat(chosen)
    return params, camera, params.translation.median(0).values + 0.5 * (low + high)


def render_rig(
    avatar: Avatar,
    tracks: Sequence[Track],
    out: Path,
    *,
    yaws: Sequence[float] = YAWS,
    above: float | None = 25.0,
    instants: int = 8,
    size: int = 512,
    background: float = 0.5,
) -> Path:
    """Write one avatar's folder; its lists of frames come last, so that half of one is never read as a rig.

    Args:
        avatar: who is filmed.
        tracks: motions; the instants are shared out among them.
        out: the folder.
        yaws: degrees of the cameras around the head; the last one's pictures are held out.
        above: degrees over the face from which one more camera looks down; None for none.
        instants: rendered.
        size: pixels a side.
        background: grey behind the head.

    Raises:
        InputError: there are too few cameras, or too few frames for the instants.
        OutputError: the folder cannot be written.
    """
    if len(yaws) + (above is not None) < 2 or not yaws:
        raise InputError("A rig has two cameras at least; give more yaws.")
    places = [(yaw, 0.0) for yaw in yaws]
    if above is not None:
        places.insert(-1, (0.0, above))
    params, frontal, centre = instants_of(avatar, tracks, instants, size)
    identity, frames = avatar.identity(), []
    with torch.inference_mode(), one_torch_thread():
        for instant in range(len(params)):
            gaussians = avatar.pose(params[instant], identity)
            for number, (yaw, pitch) in enumerate(places):
                camera = turned_camera(frontal, centre, yaw, pitch)
                image, alpha = render(gaussians, camera, background=torch.full((3,), background))
                name = f"{instant:05d}_{number:02d}.png"
                save_png(out / "images" / name, as_uint8_image(image))
                save_png(out / "fg_masks" / name, as_uint8_image(alpha))
                frames.append(_entry(name, instant, number, camera))
    held_out = len(places) - 1
    for name, part in ((_VAL, [held_out]), (_TRAIN, range(held_out))):
        listed = [frame for frame in frames if frame["camera_index"] in part]
        write_text(out / name, json.dumps({"frames": listed}, indent=1))
    return out


def _entry(name: str, instant: int, number: int, camera: Camera) -> dict[str, object]:
    """One frame as the lists have it; camera to world with OpenGL's axes."""
    matrix = np.linalg.inv(camera.world_to_camera.double().numpy()) @ _CV_TO_GL
    intrinsics = camera.intrinsics.tolist()
    return {
        "file_path": f"images/{name}",
        "fg_mask_path": f"fg_masks/{name}",
        "timestep_index": instant,
        "camera_index": number,
        "transform_matrix": matrix.tolist(),
        "fl_x": intrinsics[0][0],
        "fl_y": intrinsics[1][1],
        "cx": intrinsics[0][2],
        "cy": intrinsics[1][2],
        "w": camera.width,
        "h": camera.height,
    }


def avatar_of(path: Path) -> Avatar:
    """An avatar file, or the avatar of a photo."""
    return generate(path, polish=0) if is_image(path) else Avatar.load(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path, nargs="+", metavar="AVATAR", help="avatar files, or photos")
    parser.add_argument("--motions", type=Path, nargs="+", required=True, help="motion files, saved tracks or videos")
    parser.add_argument("--out", type=Path, required=True, help="gets a folder for each person")
    parser.add_argument("--yaws", type=float, nargs="+", default=YAWS, help="degrees; the last camera is held out")
    parser.add_argument("--above", type=float, default=25.0, help="degrees of the camera above; 0 for none")
    parser.add_argument("--instants", type=int, default=8, help="rendered, evenly over the motions")
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    options = parser.parse_args(arguments)
    tracks: list[Track] = []
    try:
        for path in options.people:
            out = options.out / path.stem
            if (out / _TRAIN).is_file():
                continue
            avatar = avatar_of(path)
            tracks = tracks or [motion_track(motion, avatar.head) for motion in options.motions]
            above = options.above or None
            render_rig(
                avatar, tracks, out, yaws=options.yaws, above=above, instants=options.instants, size=options.size
            )
            print(f"{out}: {options.instants} instants, {len(options.yaws) + (above is not None)} cameras")
    except SpatialAvatarError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
