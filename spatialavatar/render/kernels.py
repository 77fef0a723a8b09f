"""The parts of the CPU kernels for compiled passes of other packages.

``kernel`` compiles a function; ``run_tasks`` and ``run_ranges`` run compiled functions on the rasteriser's threads,
whose number ``thread_count`` returns and ``kernel_threads`` sets. The geometry functions are the rasteriser's, so that
a pass computes the same bits. ``float32`` vectors have eight lanes.
"""

from spatialavatar.render._jit import kernel
from spatialavatar.render._kernels import _rotation as quat_rotation
from spatialavatar.render._kernels import _rotation_vjp as quat_rotation_vjp
from spatialavatar.render._kernels import _splat_axes as splat_axes
from spatialavatar.render._kernels import _view as to_view
from spatialavatar.render._pool import kernel_threads, run_ranges, thread_count
from spatialavatar.render._pool import run as run_tasks
from spatialavatar.render._simd import horizontal_sum, lane_numbers, load, select, splat, store

__all__ = [
    "horizontal_sum",
    "kernel",
    "kernel_threads",
    "lane_numbers",
    "load",
    "quat_rotation",
    "quat_rotation_vjp",
    "run_ranges",
    "run_tasks",
    "select",
    "splat",
    "splat_axes",
    "store",
    "thread_count",
    "to_view",
]
