"""Render avatars with a rig of calibrated cameras: a data set with exact cameras.

    python scripts/render_rig.py me.safetensors --motions examples/motions/talk.json --out rigs
    spatialavatar shards rigs --out shards/rigs                    # phase 2 of training (docs/guide/train.md)
    spatialavatar bench multi-view rigs --out bench                # the protocol of calibrated cameras

Photos are accepted in place of avatars, which are then generated without polish. Each avatar becomes a folder in the
layout that GaussianAvatars uses for NeRSemble: pictures, exact mattes, ``transforms_train.json`` with all cameras
except the last yaw, and ``transforms_val.json`` with that one. The cameras are placed around the resting head and look
at its middle; the head moves. A finished folder is not rendered again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import Avatar, skull_box
from spatialavatar.driving import DriveConfig, motion_track, portrait_view, retarget
from spatialavatar.errors import InputError, SpatialAvatarError
from spatialavatar.files import write_text
from spatialavatar.media import is_image
from spatialavatar.pipeline import generate
from spatialavatar.provenance import save_png
from spatialavatar.records import Camera, HeadParams, Track, as_uint8_image
from spatialavatar.render import render
from spatialavatar.synthetic.sets import rig_entry
from spatialavatar.threads import one_torch_thread

YAWS = (-40.0, -20.0, 0.0, 20.0, 40.0)
_TRAIN, _VAL = "transforms_train.json", "transforms_val.json"


def turned_camera(camera: Camera, centre: Tensor, yaw: float, pitch: float) -> Camera:
    """Return the camera rotated about ``centre``.

    Args:
        camera: the initial camera.
        centre: (3,) world, metres; its position in the picture does not change.
        yaw: degrees about the world's vertical axis; positive moves it to the picture's right.
        pitch: degrees; positive moves it up.
    """
    a, b = np.deg2rad(yaw), np.deg2rad(pitch)
    about_y = np.array([[np.cos(a), 0.0, np.sin(a)], [0.0, 1.0, 0.0], [-np.sin(a), 0.0, np.cos(a)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(b), np.sin(b)], [0.0, -np.sin(b), np.cos(b)]])
    pose, middle = np.eye(4), centre.double().numpy()
    pose[:3, :3] = about_y @ about_x
    pose[:3, 3] = middle - pose[:3, :3] @ middle
    # A motion of the camera equals the inverse motion of the world.
    moved = camera.world_to_camera.double() @ torch.from_numpy(np.linalg.inv(pose))
    return camera.replace(world_to_camera=moved.float())


def instants_of(avatar: Avatar, tracks: Sequence[Track], count: int, size: int) -> tuple[HeadParams, Camera, Tensor]:
    """Return parameters at ``count`` instants, evenly over each motion, the frontal camera, and the head's middle (3,).

    Raises:
        InputError: there are fewer instants than motions, or than frames.
    """
    if count < len(tracks):
        raise InputError(f"{len(tracks)} motions need as many instants at least; you gave {count}.")
    config, chosen = DriveConfig(size=size), []
    for track, share in zip(tracks, np.array_split(np.arange(count), len(tracks))):
        params, _ = retarget(track, avatar, config)
        if len(share) > len(params):
            raise InputError(f"A motion of {len(params)} frames has no {len(share)} instants; give a longer one.")
        # Not the ends, where the face is at rest.
        places = (np.arange(len(share)) + 0.5) / len(share) * len(params)
        chosen.append(params[torch.from_numpy(places.astype(int))])
    low, high = skull_box(avatar)
    params = HeadParams.cat(chosen)
    camera, _ = portrait_view(avatar, config.size, config.framing)
    return params, camera, params.translation.median(0).values + 0.5 * (low + high)


class RigConfig(NamedTuple):
    """Cameras and pictures of a rig.

    Attributes:
        yaws: of the cameras around the head, degrees; the pictures of the last camera are held out.
        above: elevation of one more camera above the face, degrees; None for none.
        instants: number of rendered instants.
        size: pixels a side.
        background: grey level behind the head.
    """

    yaws: Sequence[float] = YAWS
    above: float | None = 25.0
    instants: int = 8
    size: int = 512
    background: float = 0.5


def render_rig(avatar: Avatar, tracks: Sequence[Track], out: Path, config: RigConfig | None = None) -> Path:
    """Write one avatar's folder; the lists of frames are written last, so that an incomplete folder is never a rig.

    Args:
        avatar: the avatar.
        tracks: motions; the instants are divided among them.
        out: the folder.
        config: cameras and pictures.

    Raises:
        InputError: there are too few cameras, or too few frames for the instants.
        OutputError: the folder cannot be written.
    """
    config = config or RigConfig()
    if len(config.yaws) + (config.above is not None) < 2 or not config.yaws:
        raise InputError("A rig has two cameras at least; give more yaws.")
    places = [(yaw, 0.0) for yaw in config.yaws]
    if config.above is not None:
        places.insert(-1, (0.0, config.above))
    params, frontal, centre = instants_of(avatar, tracks, config.instants, config.size)
    identity, frames = avatar.identity(), []
    with torch.inference_mode(), one_torch_thread():
        for instant in range(len(params)):
            gaussians = avatar.pose(params[instant], identity)
            for number, (yaw, pitch) in enumerate(places):
                camera = turned_camera(frontal, centre, yaw, pitch)
                image, alpha = render(gaussians, camera, background=torch.full((3,), config.background))
                name = f"{instant:05d}_{number:02d}.png"
                save_png(out / "images" / name, as_uint8_image(image))
                save_png(out / "fg_masks" / name, as_uint8_image(alpha))
                frames.append(rig_entry(name, instant, number, camera))
    held_out = len(places) - 1
    for name, part in ((_VAL, [held_out]), (_TRAIN, range(held_out))):
        listed = [frame for frame in frames if frame["camera_index"] in part]
        write_text(out / name, json.dumps({"frames": listed}, indent=1))
    return out


def avatar_of(path: Path) -> Avatar:
    """Load an avatar file, or generate the avatar of a photo."""
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
            render_rig(avatar, tracks, out, RigConfig(options.yaws, above, options.instants, options.size))
            print(f"{out}: {options.instants} instants, {len(options.yaws) + (above is not None)} cameras")
    except SpatialAvatarError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
