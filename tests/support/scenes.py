"""Random scenes for the rasterisers, and the reference results."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from . import raster_ref

Scene = dict[str, Tensor]


NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats")


def random_scene(
    count: int = 200,
    channels: int = 3,
    width: int = 48,
    height: int = 40,
    seed: int = 0,
    spread: float = 1.0,
    opacity: float | None = None,
    cameras: int = 1,
) -> tuple[Scene, int, int]:
    """Gaussians before, around and behind tilted cameras; a tenth of them opaque."""
    generator = torch.Generator().manual_seed(seed)
    uniform = functools.partial(torch.rand, generator=generator)
    normal = functools.partial(torch.randn, generator=generator)
    depth = uniform(count) * 4.0 - 0.3
    sideways = (uniform(count, 2) - 0.5) * torch.tensor([2.4, 1.8]) * spread
    opacities = (uniform(count) * 1.1).clamp(0.002, 1.0) if opacity is None else torch.full((count,), opacity)
    bottom = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    scene = {
        "means": torch.cat([sideways, depth[:, None]], -1),
        "quats": normal(count, 4),
        "scales": torch.exp(normal(count, 3) * 0.6 - 2.6),
        "opacities": opacities,
        "colors": normal(count, channels),
        "viewmats": torch.eye(4) + 0.05 * bottom * normal(cameras, 4, 4),
        "Ks": torch.tensor([[width * 1.1, 0, width * 0.47], [0, width * 1.05, height * 0.55], [0, 0, 1.0]]).repeat(
            cameras, 1, 1
        ),
        "backgrounds": uniform(cameras, channels),
    }
    return scene, width, height


def opaque_scene() -> tuple[Scene, int, int]:
    """A wall of overlapping splats, dense enough that pixels stop early; one in seven is wholly opaque."""
    scene, width, height = random_scene(700, width=32, height=32, seed=5, spread=0.6)
    scene["means"][:, 2] = scene["means"][:, 2].abs() * 0.05 + 1.0
    scene["scales"] = scene["scales"] * 0.4
    scene["opacities"] = torch.where(torch.arange(700) % 7 == 0, 1.0, 0.9)
    return scene, width, height


def wide_scene() -> tuple[Scene, int, int]:
    """Large splats far beside the picture, whose Jacobian is held at the clamp in x, in y and in both."""
    scene, width, height = random_scene(120, seed=6, spread=4.0)
    scene["means"][:, 2] = scene["means"][:, 2].abs() * 0.3 + 0.5
    scene["scales"] = scene["scales"] * 4.0
    return scene, width, height


SCENES = {
    "random": random_scene,
    "opaque": opaque_scene,
    "opacity one": functools.partial(random_scene, 60, opacity=1.0, seed=1),
    "behind and beside the camera": functools.partial(random_scene, 150, spread=3.0, seed=2),
    "held at the clamp": wide_scene,
    "one pixel": functools.partial(random_scene, 20, width=1, height=1),
    "odd size, one channel": functools.partial(random_scene, 80, 1, 33, 17, seed=3),
    "odd size, four channels": functools.partial(random_scene, 80, 4, 31, 45, seed=4),
    "32 channels": functools.partial(random_scene, 100, 32, 40, 24),
    "33 channels": functools.partial(random_scene, 60, 33, 40, 40),
    "two cameras": functools.partial(random_scene, 100, cameras=2, seed=7),
}


def loss_weights(scene: Scene, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Fixed random gradients of the colours (C, H, W, D) and alphas (C, H, W, 1)."""
    generator = torch.Generator().manual_seed(99)
    cameras, channels = scene["backgrounds"].shape
    return tuple(torch.randn(cameras, height, width, size, generator=generator) for size in (channels, 1))


def leaves(scene: Scene, dtype: torch.dtype) -> Scene:
    """A copy whose tensors collect gradients."""
    return {name: tensor.to(dtype).clone().requires_grad_() for name, tensor in scene.items()}


def reference(scene: Scene, width: int, height: int) -> tuple[Tensor, Tensor, Scene]:
    """The same of the dense float64 reference."""
    inputs = leaves(scene, torch.float64)
    views = [
        raster_ref.rasterize(
            *(inputs[name] for name in NAMES[:5]),
            inputs["viewmats"][camera],
            inputs["Ks"][camera],
            width,
            height,
            background=inputs["backgrounds"][camera],
        )
        for camera in range(len(scene["viewmats"]))
    ]
    colors, alphas = (torch.stack(parts) for parts in zip(*views))
    color_weight, alpha_weight = loss_weights(scene, width, height)
    ((colors * color_weight).sum() + (alphas * alpha_weight).sum()).backward()
    return colors.detach(), alphas.detach(), {name: inputs[name].grad for name in (*NAMES, "backgrounds")}
