"""A painted mean head: its photos, its clip, and the base avatar built from one photo."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from spatialavatar.generator import BaseConfig, BaseResult, GeneratorConfig, SpatialAvatar, build_base
from spatialavatar.head import HeadModel
from spatialavatar.hub import weights_dir
from spatialavatar.records import Camera, HeadMotion, Pictures, Track
from spatialavatar.render.mesh import rasterize_mesh

SIZE = 256


CONFIG = BaseConfig()


@lru_cache
def model() -> SpatialAvatar:
    """The shipped head on a quarter of the texels, for speed."""
    return SpatialAvatar(GeneratorConfig(resolution=128), HeadModel.load(weights_dir() / "head"))


@lru_cache
def base() -> BaseResult:
    return build_base(model().head, model().layout, [painted_track(0.15)], CONFIG)


def paint(points: np.ndarray) -> np.ndarray:
    """A smooth colour that differs everywhere, left from right too."""
    x, y, z = points.T
    return 0.5 + 0.3 * np.stack([np.sin(30 * x), np.sin(25 * y + 20 * x), np.sin(30 * z - 10 * x)], 1)


@lru_cache
def painted_track(yaw: float = 0.0, gain: float = 1.0, hair: float = 0.0) -> Track:
    """A photo of the painted mean head; ``hair`` metres are added to its scalp along the normals."""
    head = model().head
    params = head.neutral().replace(
        rotation=torch.tensor([[0.0, yaw, 0.0]]), translation=torch.tensor([[0.0, 0.0, -0.76]])
    )
    camera = Camera.frontal(SIZE)
    offsets = None
    if hair:
        centre = head.template[head.part_vertices("scalp")].mean(0)
        outward = torch.nn.functional.normalize(head.template - centre, dim=-1)
        offsets = hair * outward * head.part_vertices("scalp")[:, None]
    vertices = camera.to_camera(head.vertices(params, offsets)[0]).numpy()
    fragments = rasterize_mesh(vertices, head.faces.numpy(), camera.intrinsics.numpy(), SIZE, SIZE)
    colors = paint(head.template.numpy())[head.faces.numpy()[fragments.face]]
    covered = fragments.face >= 0
    picture = np.where(covered[..., None], (colors * fragments.bary[..., None]).sum(-2) * gain, 0.2)
    pictures = Pictures(
        images=torch.from_numpy((picture * 255).round().astype(np.uint8))[None],
        mattes=torch.from_numpy((covered * 255).astype(np.uint8))[None],
    )
    return Track(HeadMotion(params, 0.0, head.id, torch.ones(1)), camera, pictures=pictures)


@lru_cache
def clip(gain: float = 1.0) -> Track:
    """Two views of the painted head: every example has one source, so that few bases are made."""
    tracks = [painted_track(yaw, gain) for yaw in (-0.3, 0.3)]
    pictures = Pictures(*(torch.cat([getattr(t.pictures, name) for t in tracks]) for name in ("images", "mattes")))
    params = tracks[0].params
    fields = ("expression", "rotation", "translation", "neck", "jaw", "eyes")
    params = params.replace(**{name: torch.cat([getattr(t.params, name) for t in tracks]) for name in fields})
    params = params.replace(expression=torch.rand(2, params.expression.shape[1]) * 0.1)
    confidence = torch.cat([track.confidence for track in tracks])
    return tracks[0].with_motion(params=params, confidence=confidence).replace(pictures=pictures)
