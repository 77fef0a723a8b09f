"""Check and measure every rasteriser backend on a CUDA machine, in one call.

python benchmarks/gpu_check.py              # parity, speed, start-up, profile: minutes
python benchmarks/gpu_check.py --golden     # also rewrite tests/data/gsplat_golden.npz (needs gsplat)
python benchmarks/gpu_check.py --tune       # also time other tiles, chunks and warps of the Triton kernels
python benchmarks/gpu_check.py --report     # also put the tables into docs/results/speed.md

Writes gpu_check.json and gpu_check.md into --output. Exits with 1 where two backends disagree, and with 0 and a
sentence where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.rasterize import PAPER_COUNT, head_scene  # noqa: E402
from benchmarks.report import machine, table, write_section  # noqa: E402
from spatialavatar.render import Renderer, _triton, rasterize, why_unusable  # noqa: E402
from tests.support.scenes import NAMES, SCENES, Scene, leaves, loss_weights  # noqa: E402

GOLDEN = ROOT / "tests" / "data" / "gsplat_golden.npz"
DEVICE = "cuda"
GPU_RENDERERS: tuple[Renderer, ...] = ("gsplat", "triton")

PIXEL_TOLERANCE = 1e-4
PIXELS_WITHIN = 0.9999
GRADIENT_TOLERANCE = 1e-3
SLOWDOWN = 1.5  # aim: Triton's time over gsplat's
FRAMES_PER_SECOND = 265  # aim: paper's layout, 512², RGB

Case = tuple[Scene, int, int]
Result = dict[str, Tensor]


def head_case(count: int, size: int, channels: int = 3) -> Case:
    """The benchmark's head on a grey background."""
    names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")
    scene = dict(zip(names, head_scene(count, size, channels)))
    return {**scene, "backgrounds": torch.full((1, channels), 0.5)}, size, size


def parity_cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    """Every scene of the CPU backend's tests, and heads."""
    yield from SCENES.items()
    for count, size, channels in ((14_000, 256, 3), (PAPER_COUNT, 512, 3), (PAPER_COUNT, 512, 32)):
        yield f"head, {count:,}, {size}², {channels} channels", lambda c=count, s=size, d=channels: head_case(c, s, d)


def result_of(case: Case, backend: Renderer) -> Result:
    """Pictures, info and gradients (``grad_...``) of a fixed random loss, on the CPU."""
    scene, width, height = case
    device = "cpu" if backend == "cpu" else DEVICE
    inputs = leaves({name: tensor.to(device) for name, tensor in scene.items()}, torch.float32)
    colors, alphas, info = rasterize(**inputs, width=width, height=height, backend=backend)
    color_weight, alpha_weight = (weight.to(device) for weight in loss_weights(scene, width, height))
    ((colors * color_weight).sum() + (alphas * alpha_weight).sum()).backward()
    result = {"colors": colors, "alphas": alphas, **{name: info[name] for name in ("radii", "means2d", "conics")}}
    result |= {f"grad_{name}": inputs[name].grad for name in NAMES}
    return {name: tensor.detach().cpu() for name, tensor in result.items()}


def disagreement(ours: Result, theirs: Result) -> dict[str, float]:
    """Share of pixels within the tolerance, mean difference, share of equal radii, relative error of each gradient."""
    difference = torch.maximum(
        (ours["colors"] - theirs["colors"]).abs().amax(-1), (ours["alphas"] - theirs["alphas"]).abs()[..., 0]
    )
    seen = (ours["radii"] > 0).all(-1) & (theirs["radii"] > 0).all(-1)
    measures = {
        "pixels_within": float((difference < PIXEL_TOLERANCE).double().mean()),
        "mean_difference": float(difference.double().mean()),
        "radii_equal": float((ours["radii"] == theirs["radii"])[seen].double().mean()) if seen.any() else 1.0,
    }
    for name in (key for key in ours if key.startswith("grad_")):
        scale = theirs[name].double().norm().clamp(min=1e-30)
        measures[name] = float((ours[name].double() - theirs[name].double()).norm() / scale)
    return measures


def agrees(measures: dict[str, float]) -> bool:
    """Whether two backends differ by no more than rounding, the few pixels at the edge of a threshold aside."""
    gradients = [value for name, value in measures.items() if name.startswith("grad_")]
    return measures["pixels_within"] >= PIXELS_WITHIN and all(value <= GRADIENT_TOLERANCE for value in gradients)


def check_parity(renderers: list[Renderer]) -> list[dict[str, Any]]:
    """Compare every GPU backend with the CPU's, and with each other, on every case."""
    rows = []
    for name, make in parity_cases():
        case = make()
        results: dict[Renderer, Result] = {"cpu": result_of(case, "cpu")}
        for renderer in renderers:
            row: dict[str, Any] = {"case": name, "renderer": renderer}
            try:
                results[renderer] = result_of(case, renderer)
            except Exception as error:
                rows.append({**row, "against": "cpu", "agrees": False, "error": f"{type(error).__name__}: {error}"})
                print(*rows[-1].values(), sep="\t", flush=True)
                continue
            for other in results:
                if other != renderer:
                    measures = disagreement(results[renderer], results[other])
                    rows.append({**row, "against": other, "agrees": agrees(measures), **measures})
                    print(*list(rows[-1].values())[:6], sep="\t", flush=True)
    return rows


def timed(step: Callable[[], None], seconds: float = 1.0) -> list[float]:
    """Milliseconds of ``step`` between two CUDA events, run for about ``seconds`` and at least ten times."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    times, stop = [], time.perf_counter() + seconds
    while len(times) < 10 or time.perf_counter() < stop:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def passes(case: Case, renderer: Renderer) -> tuple[Callable[[], None], Callable[[], None]]:
    """The forward pass alone, and forward and backward."""
    scene, width, height = case
    inputs = {name: tensor.to(DEVICE) for name, tensor in scene.items() if name != "backgrounds"}
    for name in NAMES[:5]:
        inputs[name].requires_grad_()
    weight = torch.ones(1, height, width, scene["colors"].shape[-1], device=DEVICE)

    def forward() -> None:
        with torch.no_grad():
            rasterize(**inputs, width=width, height=height, backend=renderer)

    def both() -> None:
        rasterize(**inputs, width=width, height=height, backend=renderer)[0].backward(weight)

    return forward, both


def measure(case: Case, renderer: Renderer) -> dict[str, Any]:
    """Median and least milliseconds of both passes, and the most memory in use, MiB; or the error."""
    try:
        forward, both = passes(case, renderer)
        torch.cuda.reset_peak_memory_stats()
        times = {"forward": timed(forward), "forward_backward": timed(both)}
    except Exception as error:
        torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {error}"}
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **medians,
        "backward": medians["forward_backward"] - medians["forward"],
        **{f"best_{name}": min(values) for name, values in times.items()},
        "memory": torch.cuda.max_memory_allocated() / 2**20,
    }


def measure_speed(renderers: list[Renderer], quick: bool) -> list[dict[str, Any]]:
    """Every count, size and number of channels."""
    cases = itertools.product((14_000, PAPER_COUNT, 200_000), (256, 512, 1024), (3, 32))
    rows = []
    for count, size, channels in [(PAPER_COUNT, 512, 3), (PAPER_COUNT, 512, 32)] if quick else cases:
        case = head_case(count, size, channels)
        for renderer in renderers:
            row = {"count": count, "size": size, "channels": channels, "renderer": renderer}
            rows.append({**row, **measure(case, renderer)})
            print(*rows[-1].values(), sep="\t", flush=True)
    return rows


FIRST_PICTURE = """
import sys, time
sys.path[:0] = [{root!r}]
import torch
from benchmarks.gpu_check import PAPER_COUNT, head_case, passes
forward, both = passes(head_case(PAPER_COUNT, 512), "triton")
start = time.perf_counter()
forward()
torch.cuda.synchronize()
middle = time.perf_counter()
both()
torch.cuda.synchronize()
print(middle - start, time.perf_counter() - middle)
"""


def measure_start_up() -> list[dict[str, Any]]:
    """Seconds to Triton's first picture and first gradient in a fresh process, its cache empty and then full."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for state in ("empty", "full"):
            result = subprocess.run(
                [sys.executable, "-c", FIRST_PICTURE.format(root=str(ROOT))],
                env={**os.environ, "TRITON_CACHE_DIR": cache},
                capture_output=True,
                text=True,
            )
            if result.returncode:
                rows.append({"cache": state, "error": result.stderr.strip().splitlines()[-1]})
            else:
                forward, both = (float(value) for value in result.stdout.split()[-2:])
                rows.append({"cache": state, "forward": forward, "forward_backward": both})
            print(*rows[-1].values(), sep="\t", flush=True)
    return rows


def profile(renderer: Renderer, channels: int) -> list[dict[str, Any]]:
    """Profile a forward and backward pass of the paper's layout at 512², microseconds on the device.

    The profiler needs permissions that a container may lack; the result is then empty.
    """
    _, both = passes(head_case(PAPER_COUNT, 512, channels), renderer)
    both()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    try:
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(10):
                both()
            torch.cuda.synchronize()
    except RuntimeError as error:
        print(f"no profile: {error}")
        return []
    kernels = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    return [
        {"kernel": event.key[:80], "microseconds": event.self_device_time_total / 10, "calls": event.count / 10}
        for event in kernels[:20]
    ]


@contextlib.contextmanager
def launched(tile: int, how: _triton.Launch) -> Iterator[None]:
    """Set another tile and launch of the Triton backend."""
    kept = _triton.TILE, _triton.launch
    _triton.TILE, _triton.launch = tile, lambda channels: how
    try:
        yield
    finally:
        _triton.TILE, _triton.launch = kept


def tune() -> list[dict[str, Any]]:
    """Time other launches of the blending kernels, fastest backward first."""
    rows = []
    for channels, blocks, chunks, warps in ((3, (4,), (4, 8, 16), (1, 2, 4)), (32, (16, 32), (16, 32), (2, 4, 8))):
        case = head_case(PAPER_COUNT, 512, channels)
        for tile, *how in itertools.product((8, 16), blocks, chunks, warps):
            with launched(tile, _triton.Launch(*how)):
                row = {"channels": channels, "tile": tile, "block": how[0], "chunk": how[1], "warps": how[2]}
                rows.append({**row, **measure(case, "triton")})
            print(*rows[-1].values(), sep="\t", flush=True)
    return sorted(rows, key=lambda row: (row["channels"], row.get("forward_backward", float("inf"))))


GOLDEN_CASES: dict[str, tuple[Callable[[], Case], int, int]] = {
    "random": (SCENES["random"], 1, 1),
    "opaque": (SCENES["opaque"], 1, 1),
    "head_128": (lambda: head_case(3_000, 128), 1, 1),
    "head_512": (lambda: head_case(PAPER_COUNT, 512), 4, 20),
}
"""Scene, and of how many pixels (in each direction) and how many Gaussians one is kept."""


def golden_record(name: str, backend: Renderer) -> Result:
    """Return the golden record of a case, rendered by ``backend``."""
    make, pixel_step, gaussian_step = GOLDEN_CASES[name]
    result = result_of(make(), backend)
    kept = {key: result[key][:, ::pixel_step, ::pixel_step] for key in ("colors", "alphas")}
    kept |= {key: result[key][:, ::gaussian_step] for key in ("radii", "means2d", "conics")}
    for key in (key for key in result if key.startswith("grad_")):
        kept[key] = result[key] if key == "grad_viewmats" else result[key][::gaussian_step]
    return kept


def write_golden(path: Path, backend: Renderer = "gsplat") -> None:
    """Write the golden records of all cases, rendered by ``backend``."""
    records = {
        f"{name}/{key}": tensor.numpy() for name in GOLDEN_CASES for key, tensor in golden_record(name, backend).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **records)


def read_golden(path: Path, name: str) -> Result:
    """Read the golden record of a case, written by :func:`write_golden`."""
    with np.load(path) as records:
        return {key.split("/")[1]: torch.from_numpy(records[key]) for key in records if key.split("/")[0] == name}


def milliseconds(row: dict[str, Any], name: str) -> str:
    """Format a time, or a dash after an error."""
    return f"{row[name]:.2f}" if name in row else "-"


def speed_table(rows: list[dict[str, Any]]) -> str:
    """Times of each backend, and the ratio to gsplat's where it ran."""
    cells = []
    for row in rows:
        same = [
            r for r in rows if r["renderer"] == "gsplat" and all(r[k] == row[k] for k in ("count", "size", "channels"))
        ]
        ratios = [
            f"{row[name] / same[0][name]:.2f}" if same and name in same[0] and name in row else "-"
            for name in ("forward", "backward")
        ]
        cells.append(
            [
                row["renderer"],
                f"{row['count']:,}",
                f"{row['size']}²",
                row["channels"],
                *(milliseconds(row, name) for name in ("forward", "backward", "forward_backward")),
                *ratios,
                f"{1e3 / row['forward']:.0f}" if "forward" in row else row["error"][:60],
                f"{row['memory']:.0f}" if "memory" in row else "-",
            ]
        )
    header = ["backend", "Gaussians", "picture", "channels", "forward", "backward", "both"]
    return table([*header, "forward / gsplat", "backward / gsplat", "frames/s", "MiB"], cells)


def parity_table(rows: list[dict[str, Any]]) -> str:
    """One line per pair of backends and case."""
    cells = []
    for row in rows:
        pair = [row["case"], row["renderer"], row["against"], "yes" if row["agrees"] else "**no**"]
        if "error" in row:
            cells.append([*pair, row["error"][:80], "-", "-"])
            continue
        worst = max(value for name, value in row.items() if name.startswith("grad_"))
        share, mean = 100 * row["pixels_within"], row["mean_difference"]
        cells.append([*pair, f"{share:.4f} %", f"{mean:.1e}", f"{worst:.1e}"])
    header = ["scene", "backend", "against", "agree", f"pixels within {PIXEL_TOLERANCE:g}", "mean difference"]
    return table([*header, "worst gradient, relative"], cells)


def verdict(speed: list[dict[str, Any]]) -> list[str]:
    """Return sentences about the measured aims."""
    sentences = []
    paper = {
        row["renderer"]: row for row in speed if (row["count"], row["size"], row["channels"]) == (PAPER_COUNT, 512, 3)
    }
    ours, theirs = paper.get("triton", {}), paper.get("gsplat", {})
    if "forward" in ours:
        rate = 1e3 / ours["forward"]
        sentences.append(f"Triton renders {rate:.0f} frames/s (aim: {FRAMES_PER_SECOND}).")
    for name in ("forward", "backward"):
        if name in ours and name in theirs:
            sentences.append(f"Triton's {name} takes {ours[name] / theirs[name]:.2f} x gsplat's (aim: {SLOWDOWN}).")
    return sentences


def markdown(report: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    parts = [
        "## Rasteriser on a GPU",
        f"`python benchmarks/gpu_check.py`, on {report['gpu']} ({report['machine']}); {report['versions']}. "
        "Milliseconds between CUDA events, medians; backward is both passes less the forward one.",
        " ".join([*(f"{name}: {state}." for name, state in report["renderers"].items()), *report["verdict"]]),
        speed_table(report["speed"]),
        "Agreement of pictures and gradients:",
        parity_table(report["parity"]),
    ]
    if report["start_up"]:
        cells = [
            [
                row["cache"],
                *(f"{row[k]:.2f} s" if k in row else row["error"][:60] for k in ("forward", "forward_backward")),
            ]
            for row in report["start_up"]
        ]
        header = ["cache of compiled code", "Triton's first picture", "then the first with gradients"]
        parts += [f"A fresh process, {PAPER_COUNT:,} Gaussians, 512²:", table(header, cells)]
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "outputs", help="folder of the two files")
    parser.add_argument("--quick", action="store_true", help="time the paper's layout at 512² only")
    parser.add_argument("--tune", action="store_true", help="time other tiles, chunks and warps")
    parser.add_argument("--golden", action="store_true", help=f"rewrite {GOLDEN.relative_to(ROOT)}")
    parser.add_argument("--report", action="store_true", help="rewrite the section of docs/results/speed.md")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so there is nothing to check; run this on a machine with one.")
        return 0
    reasons = {renderer: why_unusable(renderer) for renderer in GPU_RENDERERS}
    renderers = [renderer for renderer, reason in reasons.items() if reason is None]
    for renderer, reason in reasons.items():
        print(f"{renderer}: {reason or 'usable'}", flush=True)
    if arguments.golden and "gsplat" in renderers:
        write_golden(GOLDEN)
        print(f"wrote {GOLDEN}", flush=True)
    speed = measure_speed(renderers, arguments.quick)
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "machine": machine(),
        "versions": f"PyTorch {torch.__version__}, compute capability {torch.cuda.get_device_capability()}",
        "renderers": {renderer: reason or "usable" for renderer, reason in reasons.items()},
        "parity": check_parity(renderers),
        "speed": speed,
        "verdict": verdict(speed),
        "start_up": measure_start_up() if "triton" in renderers else [],
        "profile": {f"{r}, {d} channels": profile(r, d) for r, d in itertools.product(renderers, (3, 32))},
        "tune": tune() if arguments.tune and "triton" in renderers else [],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "gpu_check.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (arguments.output / "gpu_check.md").write_text(markdown(report) + "\n", encoding="utf-8")
    if arguments.report:
        write_section("gpu", markdown(report))
    print(markdown(report))
    return 0 if renderers and all(row["agrees"] for row in report["parity"]) else 1


if __name__ == "__main__":
    sys.exit(main())
