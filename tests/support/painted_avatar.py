"""A striped avatar on the default head, and pictures of it by the web page and by the rasteriser."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from spatialavatar.avatar import Avatar, default_head
from spatialavatar.driving import portrait_view
from spatialavatar.generator.network.heads import ResidualHead
from spatialavatar.head import build_layout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.records import Camera, Gaussians, HeadParams
from spatialavatar.refinement.expression_bases import ExpressionBases, ExpressionInputs

if TYPE_CHECKING:
    from playwright.sync_api import Page


SIZE = 256


FEATURES = 32  # of a residual, as networks have


def painted_avatar(resolution: int = 128) -> Avatar:
    """The default head in stripes of colour: small flat Gaussians, one a texel, with a little of everything."""
    head = default_head()
    layout = build_layout(head, resolution)
    n, random = len(layout), torch.Generator().manual_seed(3)
    shape = torch.zeros(head.shape_count)
    shape[:4] = torch.tensor([0.8, -0.6, 0.4, 0.5])
    gaussians = Gaussians(
        means=0.1 * torch.randn(n, 3, generator=random),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=random), dim=-1),
        scales=0.15 + 0.5 * torch.rand(n, 3, generator=random),
        opacities=0.3 + 0.69 * torch.rand(n, generator=random),
        colors=0.5 + 0.5 * torch.sin(layout.texels[:, None] / torch.tensor([7.0, 131.0, 1900.0])),
        space="local",
    )
    return Avatar(head, layout, shape, gaussians, head.neutral(), Camera.frontal(SIZE))


def ours(avatar: Avatar, neck: list[float], weights: dict[str, float], size: int = SIZE) -> np.ndarray:
    """The rasteriser's picture (size, size, 3) in [0, 1] of a head turn and ARKit weights."""
    camera, translation = portrait_view(avatar, size)
    coefficients = torch.zeros(1, 52)
    for name, weight in weights.items():
        coefficients[0, ARKIT_INDEX[name]] = weight
    expression, jaw, eyes = avatar.head.from_arkit(coefficients)
    params: HeadParams = replace(
        avatar.head.neutral(),
        expression=expression,
        jaw=jaw,
        eyes=eyes,
        neck=torch.tensor([neck]),
        translation=translation[None],
    )
    with torch.inference_mode():
        return avatar.render(params, camera, background=torch.ones(3))[0].clamp(0, 1).numpy()


def theirs(page: Page, neck: list[float], weights: dict[str, float], size: int = SIZE) -> np.ndarray:
    """The page's picture (size, size, 3) in [0, 1]."""
    script = "([neck, weights]) => { spatialAvatar.setPose({ neck }); spatialAvatar.setExpression(weights); }"
    return scripted(page, script, [neck, weights], size)


def scripted(page: Page, script: str, value: object, size: int = SIZE) -> np.ndarray:
    """The page's picture (size, size, 3) in [0, 1] after a function was called with a value."""
    url = page.evaluate(
        f"""async ([value, size]) => {{
            spatialAvatar.reset();
            ({script})(value);
            await spatialAvatar.render({{ width: size, height: size }});
            return document.getElementById("canvas").toDataURL("image/png");
        }}""",
        [value, size],
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")) / 255.0


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def with_residual(avatar: Avatar, strength: float, hidden: int = 64) -> Avatar:
    """The avatar with a random network's residual of the size that networks have; strength is that of its weights."""
    random = torch.Generator().manual_seed(5)
    head = ResidualHead(FEATURES, avatar.head.expression_count + 12, hidden, 3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(strength * torch.randn(parameter.shape, generator=random))
    count = len(avatar.layout)
    features, weight = (torch.randn(count, FEATURES, generator=random), torch.rand(count, generator=random))
    return replace(avatar, residual=head.of_person(features, weight))


@torch.no_grad()
def with_bases(avatar: Avatar, strength: float) -> Avatar:
    """The avatar with random changes by expression in the form that a refinement learns; strength is their size."""
    random = torch.Generator().manual_seed(6)
    params = avatar.head.neutral(20)
    clip = params.replace(expression=torch.rand(params.expression.shape, generator=random))
    bases = ExpressionBases(ExpressionInputs(clip, avatar.head, 8, skull=False), avatar, None)
    for tensor in bases.tensors.values():
        tensor.copy_(strength * torch.randn(tensor.shape, generator=random))
    return replace(avatar, residual=bases.residual(None))
