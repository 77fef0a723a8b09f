"""Carries Gaussians to a posed mesh in compiled passes on the rasteriser's threads, for frames without a gradient."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from spatialavatar.head import _kernels
from spatialavatar.head.binding import to_world
from spatialavatar.head.layout import UVLayout
from spatialavatar.head.model import HeadModel
from spatialavatar.records import Gaussians
from spatialavatar.render.kernels import run_ranges

carry: Final = _kernels.to_world
"""The compiled pass over Gaussians, for callers that keep the frames of the triangles."""

_GAUSSIANS_PER_TASK: Final = 8192
_TRIANGLES_PER_TASK: Final = 4096


def carried(local: Gaussians, head: HeadModel, layout: UVLayout, vertices: Tensor) -> Gaussians:
    """:func:`spatialavatar.head.binding.to_world`; compiled where nothing takes a gradient and all is on the CPU.

    Args:
        local: N Gaussians in triangle units.
        head: the head the layout was built on.
        layout: the binding; its length is N.
        vertices: (V, 3) posed vertices of one frame, world.
    """
    moved = (local.means, local.quats, local.scales)
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (*moved, vertices))
    if learns or any(t.device.type != "cpu" or t.dtype != torch.float32 for t in (*moved, vertices)):
        return to_world(local, head, layout, vertices)
    count = len(head.faces)
    frames = torch.empty(count, 9), torch.empty(count, 4), torch.empty(count)
    faces, corners = head.faces.numpy(), head.faces[layout.faces].numpy()
    posed = vertices.detach().contiguous().numpy()
    arrays = [tensor.numpy() for tensor in frames]
    run_ranges(lambda i, j: _kernels.triangle_frames(i, j, faces, posed, *arrays), count, _TRIANGLES_PER_TASK)
    sources = [tensor.detach().contiguous().numpy() for tensor in moved]
    world = tuple(torch.empty_like(tensor) for tensor in moved)
    targets = [tensor.numpy() for tensor in world]
    binding = layout.faces.numpy(), corners, layout.bary.numpy()

    def work(first: int, last: int) -> None:
        carry(first, last, *binding, posed, *arrays, *sources, *targets)

    run_ranges(work, len(layout), _GAUSSIANS_PER_TASK)
    means, quats, scales = world
    return local.replace(means=means, quats=quats, scales=scales, space="world")
