"""A short, dense reference of the rasteriser in float64: every Gaussian against every pixel, gradients by autograd.

Written from the published formulas of EWA splatting, with gsplat's constants. Slow and simple on purpose.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_matrices(quats: Tensor) -> Tensor:
    """(N, 4) wxyz of any length to (N, 3, 3)."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    eps2d: float = 0.3,
) -> tuple[Tensor, Tensor, Tensor]:
    """Means on the picture (N, 2), blurred covariances (N, 2, 2) and depths (N,)."""
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (means @ rotation.T + translation).unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    slope_x = (x / z).clamp(-(cx + 0.15 * width) / fx, (width - cx + 0.15 * width) / fx)
    slope_y = (y / z).clamp(-(cy + 0.15 * height) / fy, (height - cy + 0.15 * height) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * slope_x / z], -1),
            torch.stack([zero, fy / z, -fy * slope_y / z], -1),
        ],
        -2,
    )
    axes = jacobian @ rotation @ rotation_matrices(quats) * scales[:, None, :]
    covariance = axes @ axes.transpose(-1, -2) + eps2d * torch.eye(2, dtype=means.dtype)
    return torch.stack([fx * x / z + cx, fy * y / z + cy], -1), covariance, z


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    *,
    background: Tensor | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
) -> tuple[Tensor, Tensor]:
    """One camera: colour (H, W, D) and alpha (H, W, 1), in the dtype of the input."""
    mean2d, covariance, depth = project(means, quats, scales, viewmat, K, width, height, eps2d)
    # The order comes from the depths rounded to float32, as every float32 rasteriser sees them.
    order = torch.argsort(depth.detach().float(), stable=True)
    seen = (depth >= near_plane) & (depth <= far_plane) & (opacities >= 1 / 255)
    order = order[seen[order]]
    mean2d, conic = mean2d[order], torch.linalg.inv(covariance[order])

    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([column, row], -1).reshape(-1, 1, 2).to(means) + 0.5
    delta = pixels - mean2d
    sigma = 0.5 * torch.einsum("pni,nij,pnj->pn", delta, conic, delta)
    alpha = (opacities[order] * torch.exp(-sigma)).clamp(max=0.999)
    alpha = torch.where(alpha >= 1 / 255, alpha, torch.zeros_like(alpha))
    with torch.no_grad():  # a pixel stops before the splat that would take its transmittance to 1e-4
        alive = torch.cumprod(1 - alpha, dim=1) > 1e-4
    alpha = torch.where(alive, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    color = (alpha * before) @ colors[order]
    final = after[:, -1:] if len(order) else torch.ones(height * width, 1).to(means)
    if background is not None:
        color = color + final * background
    return color.reshape(height, width, -1), (1 - final).reshape(height, width, 1)
