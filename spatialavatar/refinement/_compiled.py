"""Autograd functions around the compiled passes of a refinement step, on the CPU threads of the rasteriser."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialavatar.head.carrying import carry
from spatialavatar.refinement import _kernels
from spatialavatar.render.kernels import run_ranges, run_tasks

_ROWS_PER_TASK = 32
_GAUSSIANS_PER_TASK = 4096


class Compare(torch.autograd.Function):
    """:func:`spatialavatar.refinement.losses.compare`; the last argument is its constants."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        *args, ctx.window, constants = args
        color, alpha, image, matte, weight, background = (t.detach().contiguous().numpy() for t in args)
        height, width = alpha.shape
        stride = -8 * (-width // 8)
        planes, differences, sums = np.empty((12, height, stride), np.float32), np.empty(height), np.empty(height)

        def composite_planes(first: int, last: int) -> None:
            _kernels.composite_planes(first, last, color, alpha, image, matte, weight, background, planes, differences)

        run_ranges(composite_planes, height, _ROWS_PER_TASK)
        windows, partials = _summed(planes, ctx.window), np.empty((9, height, stride), np.float32)

        def similarity(first: int, last: int) -> None:
            _kernels.similarity(first, last, width, windows, *constants, partials, sums)

        run_ranges(similarity, height, _ROWS_PER_TASK)
        ctx.save_for_backward(*args[:2])
        ctx.arrays = planes, partials, weight, background
        count = 3 * height * width
        return args[0].new_tensor(differences.sum() / count), args[0].new_tensor(1.0 - sums.sum() / count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, l1_grad: Tensor, ssim_grad: Tensor) -> tuple[Tensor | None, ...]:
        color, alpha = ctx.saved_tensors
        planes, partials, weight, background = ctx.arrays
        color_grad, alpha_grad = torch.empty_like(color), torch.empty_like(alpha)
        # The window is symmetric and thus its own transpose: the partials are filtered by it again.
        spread = _summed(partials, ctx.window)
        each = (np.float32(float(l1_grad) / color.numel()), np.float32(-float(ssim_grad) / color.numel()))

        def gradients(first: int, last: int) -> None:
            grads = color_grad.numpy(), alpha_grad.numpy()
            _kernels.picture_gradients(first, last, planes, spread, weight, background, *each, *grads)

        run_ranges(gradients, len(alpha), _ROWS_PER_TASK)
        return color_grad, alpha_grad, None, None, None, None, None, None


def _summed(planes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Planes (P, H, S) summed over the window, of (W,) weights along each axis, zero beyond the border."""
    summed = np.empty_like(planes)

    def task(plane: int) -> None:
        cv2.sepFilter2D(planes[plane], -1, window, window, dst=summed[plane], borderType=cv2.BORDER_CONSTANT)

    run_tasks(task, len(planes))
    return summed


class ToWorld(torch.autograd.Function):
    """:meth:`spatialavatar.refinement.deformation.Deformer.to_world`, for frames without a gradient."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        *local, triangle, corners, bary, frame = args
        local = [t.detach().contiguous() for t in local]
        binding = triangle.numpy(), corners.numpy().reshape(-1, 3), bary.numpy()[..., 0]
        posed = (frame.vertices, frame.rotation, frame.quat, frame.scale)
        world = tuple(torch.empty_like(t) for t in local)
        arrays = [t.numpy() for t in (*posed, *local, *world)]
        run_ranges(lambda i, j: carry(i, j, *binding, *arrays), len(triangle), _GAUSSIANS_PER_TASK)
        ctx.binding, ctx.posed = binding[0], posed[1:]
        return world

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grads = tuple(grad.contiguous() for grad in grads)
        local = tuple(torch.empty_like(grad) for grad in grads)
        arrays = [t.numpy() for t in (*ctx.posed, *grads, *local)]
        count = len(ctx.binding)
        run_ranges(lambda i, j: _kernels.to_world_gradients(i, j, ctx.binding, *arrays), count, _GAUSSIANS_PER_TASK)
        return (*local, None, None, None, None)


class Aspect(torch.autograd.Function):
    """:func:`spatialavatar.refinement.anti_spike.aspect_penalty`: value and gradients in one pass."""

    @staticmethod
    def forward(ctx: Any, quats: Tensor, scales: Tensor, *constants: Any) -> Tensor:
        means, chosen, camera, limit = constants
        grads = torch.zeros_like(quats), torch.zeros_like(scales)
        excess = np.empty(len(chosen))
        viewmat = camera.world_to_camera.double().numpy()
        focal = float(camera.intrinsics[0, 0]), float(camera.intrinsics[1, 1])
        gaussians = [t.detach().contiguous().numpy() for t in (means, quats, scales)]
        out = excess, *(grad.numpy() for grad in grads)

        def task(first: int, last: int) -> None:
            _kernels.aspects(first, last, chosen.numpy(), *gaussians, viewmat, *focal, limit, *out)

        run_ranges(task, len(chosen), _GAUSSIANS_PER_TASK)
        ctx.grads, ctx.count = grads, len(chosen)
        return quats.new_tensor(excess.mean())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(g * (grad / ctx.count) for g in ctx.grads), None, None, None, None)
