"""Speed and memory of the CPU rasteriser on an avatar and a head-like scene; writes docs/results/speed.md.

python benchmarks/rasterize.py            # a minute
python benchmarks/rasterize.py --full     # every size; some minutes
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar.render import _pool, rasterize, warmup  # noqa: E402
from tests.support import raster_ref  # noqa: E402

PAPER_COUNT = 58_173  # Gaussians of the paper's layout
CROP = 64


def head_scene(count: int, size: int, channels: int) -> list[Tensor]:
    """A head's worth of flat Gaussians on an ellipsoid that fills 57 % of the picture, denser on the face.

    Returns:
        means, quats, scales, opacities, colors, viewmats, Ks as :func:`spatialavatar.render.rasterize` takes them.
    """
    generator = torch.Generator().manual_seed(0)
    side = int(count**0.5) + 1
    index = torch.arange(count)
    # A UV grid that covers the ellipsoid: the columns crowd towards the front.
    theta = torch.pi * (0.04 + 0.92 * (index // side + 0.5) / side)
    turn = 2 * torch.pi * ((index % side + 0.5) / side - 0.5)
    phi, stretch = turn - 0.45 * torch.sin(turn), 1 - 0.45 * torch.cos(turn)
    radii = torch.tensor([0.078, 0.115, 0.098])
    sin, cos = torch.sin(theta), torch.cos(theta)
    means = torch.stack([sin * torch.sin(phi), cos, sin * torch.cos(phi)], -1) * radii
    across = torch.stack([torch.cos(phi), torch.zeros(count), -torch.sin(phi)], -1) * radii
    down = torch.stack([cos * torch.sin(phi), -sin, cos * torch.cos(phi)], -1) * radii
    spacing = torch.stack(
        [sin * stretch * across.norm(dim=-1) * 2 * torch.pi / side, down.norm(dim=-1) * 0.92 * torch.pi / side], -1
    )
    mean_spacing = spacing.prod(-1, keepdim=True).sqrt()
    in_plane = (spacing / mean_spacing).clamp(0.6, 1.6) * mean_spacing
    scales = torch.cat([in_plane, 0.2 * mean_spacing], -1)
    axis_x = torch.nn.functional.normalize(across, dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(axis_x, down), dim=-1)
    frames = torch.stack([axis_x, torch.linalg.cross(normal, axis_x), normal], -1)
    opacities = (0.9 + 0.05 * torch.randn(count, generator=generator)).clamp(0.05, 0.99)
    colors = torch.rand(count, channels, generator=generator)
    viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    viewmat[2, 3] = 1.0
    focal = 2150.0 * size / 512
    K = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return [means, quaternions(frames), scales, opacities, colors, viewmat[None], K[None]]


def avatar_scene(size: int) -> list[Tensor]:
    """A real head: the avatar of an example portrait, as the drive shows it, in the order of :func:`head_scene`."""
    from spatialavatar import generate
    from spatialavatar.driving import portrait_view

    avatar = generate([ROOT / "examples" / "portraits" / "street.jpg"])
    camera, home = portrait_view(avatar, size)
    gaussians = avatar.pose(avatar.head.neutral().replace(translation=home[None]))
    values = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors]
    return [*values, camera.world_to_camera[None], camera.intrinsics[None]]


def quaternions(rotations: Tensor) -> Tensor:
    """(N, 3, 3) to wxyz (N, 4): the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix."""
    r = rotations.unbind(-2)
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in r)
    matrix = torch.stack(
        [
            torch.stack([a + e + i, h - f, c - g, d - b], -1),
            torch.stack([h - f, a - e - i, b + d, c + g], -1),
            torch.stack([c - g, b + d, e - a - i, f + h], -1),
            torch.stack([d - b, c + g, f + h, i - a - e], -1),
        ],
        -2,
    )
    return torch.linalg.eigh(matrix)[1][..., -1]


class Times(NamedTuple):
    """Milliseconds: median wall time, and least CPU time of the process."""

    median: float
    cpu: float


def measure(step: Callable[[], None], seconds: float = 3.0) -> Times:
    """Run ``step`` for about ``seconds``, and at least five times after one that does not count."""
    step()
    wall, cpu, stop = [], [], time.perf_counter() + seconds
    while time.perf_counter() < stop or len(wall) < 5:
        start, start_cpu = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return Times(1e3 * statistics.median(wall), 1e3 * min(cpu))


def passes(scene: list[Tensor], size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """The forward pass alone, and forward and backward."""
    inputs = [tensor.clone().requires_grad_() for tensor in scene[:5]]
    weight = torch.ones(1, size, size, scene[4].shape[-1])

    def forward() -> None:
        with torch.no_grad():
            rasterize(*inputs, *scene[5:], size, size)

    def both() -> None:
        rasterize(*inputs, *scene[5:], size, size)[0].backward(weight)

    return forward, both


def speed_table(full: bool) -> str:
    """Every scene on one thread and on two."""
    cases = [(PAPER_COUNT, 512, 3), (PAPER_COUNT, 512, 32), (14_000, 512, 3), (200_000, 512, 3), (PAPER_COUNT, 1024, 3)]
    if full:
        cases = list(itertools.product((14_000, PAPER_COUNT, 200_000), (256, 512, 1024), (3, 32)))
    scenes = [("avatar", avatar_scene(512), 512)]
    scenes += [("ellipsoid", head_scene(count, size, channels), size) for count, size, channels in cases]
    rows = []
    for (name, scene, size), threads in itertools.product(scenes, (1, 2)):
        os.environ[_pool.THREADS_VARIABLE] = str(threads)
        forward, both = (measure(step) for step in passes(scene, size))
        cells = [f"{value:.1f}" for value in (*forward, *both)]
        count, channels = scene[4].shape
        rows.append([name, f"{count:,}", f"{size}²", channels, threads, *cells, f"{1e3 / forward.median:.0f}"])
        print(*rows[-1], sep="\t", flush=True)
    header = [
        "scene",
        "Gaussians",
        "picture",
        "channels",
        "threads",
        "forward",
        "CPU",
        "forward + backward",
        "CPU",
    ]
    return table([*header, "frames/s"], rows)


def reference_table() -> str:
    """Ours against the dense PyTorch reference, both in float32, on one crop of the scene and one thread."""
    os.environ[_pool.THREADS_VARIABLE] = "1"
    scene = head_scene(PAPER_COUNT, 512, 3)
    scene[6] = scene[6] - torch.tensor([[0.0, 0, 256 - CROP / 2], [0, 0, 256 - CROP / 2], [0, 0, 0]])
    seen = (rasterize(*scene, CROP, CROP)[2]["radii"][0] > 0).all(-1)
    scene = [tensor[seen] for tensor in scene[:5]] + scene[5:]
    inputs = [tensor.clone().requires_grad_() for tensor in scene[:5]]

    def reference() -> None:
        with torch.no_grad():
            raster_ref.rasterize(*inputs, scene[5][0], scene[6][0], CROP, CROP)

    def reference_both() -> None:
        raster_ref.rasterize(*inputs, scene[5][0], scene[6][0], CROP, CROP)[0].sum().backward()

    ours = [measure(step).cpu for step in passes(scene, CROP)]
    theirs = [measure(step).cpu for step in (reference, reference_both)]
    rows = [
        ["this package", *(f"{value:.1f}" for value in ours), "1", "1"],
        ["dense PyTorch", *(f"{value:.0f}" for value in theirs), *(f"{t / o:.0f}" for t, o in zip(theirs, ours))],
    ]
    header = ["", "forward", "forward + backward", "forward, ratio", "forward + backward, ratio"]
    return f"The middle {CROP}² pixels, {int(seen.sum()):,} Gaussians, one thread, CPU time:\n\n" + table(header, rows)


def peak_memory() -> float:
    """Most memory that this process has held so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held before it started this process
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


START_UP = """
import sys, time
sys.path[:0] = [{root!r}, {folder!r}]
import torch
import rasterize
torch.set_num_threads(2)
scene = rasterize.head_scene(rasterize.PAPER_COUNT, 512, 3)
before = rasterize.peak_memory()
start = time.perf_counter()
forward, both = rasterize.passes(scene, 512)
{step}()
print(time.perf_counter() - start, rasterize.peak_memory() - before)
"""


def start_up_table() -> str:
    """Time and memory of the first picture in a fresh process, with an empty cache of compiled code and a full one."""
    rows = []
    for step, label in (("forward", "forward"), ("both", "forward + backward")):
        code = START_UP.format(root=str(ROOT), folder=str(Path(__file__).parent), step=step)
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache, _pool.THREADS_VARIABLE: "2"}
            for state in ("empty", "full"):
                result = subprocess.run(
                    [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
                )
                seconds, mebibytes = (float(value) for value in result.stdout.split())
                rows.append([label, state, f"{seconds:.2f} s", f"{mebibytes:.0f} MiB"])
                print(*rows[-1], sep="\t")
    return table(["first picture", "cache of compiled code", "time", "memory on top of PyTorch"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every count, size and channel number")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warmup()
    text = f"""
## Rasteriser

`python benchmarks/rasterize.py{" --full" if arguments.full else ""}`, on {machine()}; PyTorch {torch.__version__}.
An avatar of an example portrait in motion, and a head-like ellipsoid of flat Gaussians that covers about 57 % of
the picture. Wall times are medians; "CPU" is the least CPU time of the process over all its threads,
which other load disturbs less. Frames per second are those of the median.

{speed_table(arguments.full)}

{reference_table()}

The first {PAPER_COUNT:,}-Gaussian picture of a process, 512², two threads:

{start_up_table()}
"""
    write_section("rasterizer", text)


if __name__ == "__main__":
    main()
