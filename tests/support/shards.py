"""Tracks of the ball, and training shards of given tracks."""

from __future__ import annotations

from pathlib import Path

import torch

from spatialavatar.records import Camera, Evidence, HeadMotion, Pictures, Track
from spatialavatar.training.shards import join, write_person

from .ball_head import make_ball_head

HEAD = make_ball_head()


def ball_track(frames: int = 3, head_id: str = "ball", **changes: object) -> Track:
    generator = torch.Generator().manual_seed(frames)
    params = HEAD.neutral(frames).replace(translation=torch.tensor([[0.0, 0.0, -0.7]]).expand(frames, 3))
    picture = torch.linspace(0, 255, 24).to(torch.uint8).expand(frames, 24, 24)
    params = params.replace(expression=torch.rand(frames, 2, generator=generator))
    track = Track(
        motion=HeadMotion(params, 25.0, head_id, torch.ones(frames)),
        camera=Camera.frontal(24),
        evidence=Evidence(torch.rand(frames, 478, 2, generator=generator), torch.zeros(frames, 52)),
        pictures=Pictures(picture[..., None].expand(-1, -1, -1, 3), picture, picture // 60),
    )
    return track.with_motion(**changes)


def write_shard(folder: Path, number: int = 0, **people: list[Track]) -> Path:
    folder.mkdir(exist_ok=True)
    parts = []
    for name, tracks in people.items():
        parts.append(folder / f"{name}.part")
        write_person(parts[-1], name, "video" if len(tracks) == 1 else "cameras", tracks)
    path = folder / f"shard-{number:05d}.tar"
    join(parts, path)
    for part in parts:
        part.unlink()
    return path
