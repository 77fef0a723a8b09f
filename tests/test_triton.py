"""The Triton rasteriser: parity with the dense float64 reference and the CPU backend, and who is chosen when.

The parity tests run on a CUDA device where there is one. Where only the package triton is there, one test runs them
again in a process in which Triton interprets its kernels, and another compiles the kernels for a GPU.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spatialavatar import render
from spatialavatar.errors import InputError
from spatialavatar.render import _gsplat, _triton, choose_backend, rasterize, why_unusable

from .conftest import REPOSITORY
from .support.scenes import NAMES, Scene, leaves, loss_weights, random_scene, reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
REASON = None if INTERPRETED else _triton.why_unusable()
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")

on_device = pytest.mark.skipif(REASON is not None, reason=f"Triton cannot be used: {REASON}")
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="this process interprets the kernels")


@pytest.fixture(autouse=True)
def _interpreted_on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter, the tensors are the CPU's, which the public function would refuse."""
    if INTERPRETED and "choose" not in request.node.name:
        monkeypatch.setattr(render, "choose_backend", lambda device, backend: backend)


def wall_scene(count: int = 160, **options: int) -> tuple[Scene, int, int]:
    """Overlapping splats in one plane, dense enough that pixels stop early; one in seven is wholly opaque."""
    scene, width, height = random_scene(count, spread=0.4, seed=5, **options)
    scene["means"][:, 2] = scene["means"][:, 2].abs() * 0.05 + 1.0
    scene["opacities"] = torch.where(torch.arange(count) % 7 == 0, 1.0, 0.9)
    return scene, width, height


def wide_scene() -> tuple[Scene, int, int]:
    """Large splats beside the picture, whose Jacobian is held at the clamp."""
    scene, width, height = random_scene(40, width=24, height=20, seed=6, spread=4.0)
    scene["means"][:, 2] = scene["means"][:, 2].abs() * 0.3 + 0.5
    scene["scales"] = scene["scales"] * 4.0
    return scene, width, height


SCENES = {
    "random": functools.partial(random_scene, 60, width=32, height=32),
    "opaque": functools.partial(wall_scene, width=24, height=16),
    "opacity one": functools.partial(random_scene, 30, width=24, height=24, opacity=1.0, seed=1),
    "behind and beside the camera": functools.partial(random_scene, 60, width=32, height=24, spread=3.0, seed=2),
    "held at the clamp": wide_scene,
    "one pixel": functools.partial(random_scene, 20, width=1, height=1),
    "odd size, one channel": functools.partial(random_scene, 40, 1, 25, 17, seed=3),
    "16 channels": functools.partial(random_scene, 40, 16, 24, 16, seed=4),
    "32 channels": functools.partial(wall_scene, 100, channels=32, width=24, height=16),
    "33 channels": functools.partial(random_scene, 40, 33, 24, 24),
    "two cameras": functools.partial(random_scene, 40, width=24, height=24, cameras=2, seed=7),
}


def run(scene: Scene, width: int, height: int) -> tuple[Tensor, Tensor, Scene, dict]:
    """Colours, alphas, gradients and info of the Triton backend, on the CPU."""
    inputs = leaves({name: tensor.to(DEVICE) for name, tensor in scene.items()}, torch.float32)
    colors, alphas, info = rasterize(**inputs, width=width, height=height, backend="triton")
    color_weight, alpha_weight = (weight.to(DEVICE) for weight in loss_weights(scene, width, height))
    ((colors * color_weight).sum() + (alphas * alpha_weight).sum()).backward()
    grads = {name: inputs[name].grad.cpu() for name in (*NAMES, "backgrounds")}
    info = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in info.items()}
    return colors.detach().cpu(), alphas.detach().cpu(), grads, info


@on_device
@pytest.mark.parametrize("name", SCENES)
def test_pictures_and_gradients_equal_the_reference(name: str):
    scene, width, height = SCENES[name]()
    colors, alphas, grads, info = run(scene, width, height)
    expected_colors, expected_alphas, expected_grads = reference(scene, width, height)
    assert expected_alphas.max() > 0.1
    assert info["backend"] == "triton"
    assert (colors - expected_colors).abs().max() < 1e-5
    assert (alphas - expected_alphas).abs().max() < 1e-5
    for key, grad in grads.items():
        assert (grad - expected_grads[key]).norm() < 1e-4 * expected_grads[key].norm(), key


@on_device
def test_info_is_that_of_the_cpu_backend():
    scene, width, height = random_scene(60, width=16, height=16, spread=1.5, cameras=2)
    info = run(scene, width, height)[3]
    expected = rasterize(**scene, width=width, height=height, backend="cpu")[2]
    assert info.keys() == expected.keys()
    assert torch.equal(info["radii"], expected["radii"])
    for name in ("means2d", "depths", "conics"):
        torch.testing.assert_close(info[name], expected[name])


@on_device
def test_planes_and_small_splats_are_left_out_as_on_the_cpu():
    scene, width, height = random_scene(100, width=24, height=16)
    limits = {"near_plane": 1.0, "far_plane": 2.5, "radius_clip": 3.0, "eps2d": 0.1}
    inputs = {name: tensor.to(DEVICE) for name, tensor in scene.items()}
    colors, _, info = rasterize(**inputs, width=width, height=height, backend="triton", **limits)
    expected, _, expected_info = rasterize(**scene, width=width, height=height, backend="cpu", **limits)
    assert 10 < (expected_info["radii"] > 0).all(-1).sum() < 60
    assert torch.equal(info["radii"].cpu(), expected_info["radii"])
    assert (colors.cpu() - expected).abs().max() < 1e-5


@on_device
def test_runs_give_the_same_bits():
    first, second = (run(*SCENES["opaque"]()) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(grad, second[2][name]) for name, grad in first[2].items())


@on_device
def test_the_picture_does_not_depend_on_tiles_and_chunks(monkeypatch: pytest.MonkeyPatch):
    scene, width, height = SCENES["opaque"]()
    colors, _, grads, _ = run(scene, width, height)
    monkeypatch.setattr(_triton, "TILE", 16)
    monkeypatch.setattr(_triton, "launch", lambda channels: _triton.Launch(4, 4, 4))
    others, _, other_grads, _ = run(scene, width, height)
    assert (colors - others).abs().max() < 1e-5
    for name, grad in grads.items():
        assert (grad - other_grads[name]).norm() < 1e-4 * grad.norm(), name


@on_device
def test_batches_and_colours_per_camera_render_like_each_of_them():
    scenes = [random_scene(30, width=24, height=16, seed=seed, cameras=2)[0] for seed in range(2)]
    batch = {name: torch.stack([scene[name] for scene in scenes]) for name in scenes[0]}
    batch["colors"] = torch.stack([batch["colors"], 2 * batch["colors"]], 1)
    inputs = leaves({name: tensor.to(DEVICE) for name, tensor in batch.items()}, torch.float32)
    colors, alphas, info = rasterize(**inputs, width=24, height=16, backend="triton")
    assert alphas.shape == (2, 2, 16, 24, 1)
    assert info["radii"].shape == (2, 2, 30, 2)
    (colors**2).sum().backward()
    for entry, scene in enumerate(scenes):
        scene["colors"] = batch["colors"][entry]
        expected_inputs = leaves(scene, torch.float32)
        expected, _, _ = rasterize(**expected_inputs, width=24, height=16, backend="cpu")
        (expected**2).sum().backward()
        assert (colors[entry].cpu() - expected).abs().max() < 1e-5
        for name in NAMES:
            grad, expected_grad = inputs[name].grad[entry].cpu(), expected_inputs[name].grad
            assert (grad - expected_grad).norm() < 1e-4 * expected_grad.norm(), name


@on_device
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
def test_a_bad_gaussian_is_left_out_and_the_others_are_not_touched(name: str):
    scene, width, height = random_scene(40, width=24, height=16)
    kept = {key: value[10:] if key in NAMES[:5] else value for key, value in scene.items()}
    scene[name][:5] = float("nan")
    scene[name][5:10] = float("inf")
    colors, _, grads, _ = run(scene, width, height)
    expected, _, expected_grads, _ = run(kept, width, height)
    assert torch.equal(colors, expected)
    assert (grads[name][:10] == 0).all()
    assert torch.equal(grads[name][10:], expected_grads[name])


@on_device
@pytest.mark.parametrize("count", [0, 5])
def test_nothing_to_see_is_the_background(count: int):
    scene, width, height = random_scene(count, width=24, height=16)
    scene["means"][:, 2] = -5.0
    colors, alphas, grads, _ = run(scene, width, height)
    assert (alphas == 0).all()
    assert torch.equal(colors, scene["backgrounds"][:, None, None].expand_as(colors))
    assert all((grads[name] == 0).all() for name in NAMES)


@not_interpreted
@on_device
def test_a_head_equals_the_cpu_backend():
    from benchmarks.rasterize import head_scene

    names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")
    scene = dict(zip(names, head_scene(58_173, 512, 3)))
    scene["backgrounds"] = torch.ones(1, 3)
    colors, _, grads, _ = run(scene, 512, 512)
    inputs = leaves(scene, torch.float32)
    expected, alphas, _ = rasterize(**inputs, width=512, height=512, backend="cpu")
    color_weight, alpha_weight = loss_weights(scene, 512, 512)
    ((expected * color_weight).sum() + (alphas * alpha_weight).sum()).backward()
    # A pixel at the edge of a threshold may fall on either side: few may differ, not none.
    assert ((colors - expected).abs().amax(-1) < 1e-4).float().mean() >= 0.9999
    for name in NAMES:
        assert (grads[name] - inputs[name].grad).norm() < 1e-3 * inputs[name].grad.norm(), name


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run python in the checkout, in a process in which Triton has not been imported."""
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(REPOSITORY), kept.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "PYTHONPATH": path, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )


@not_interpreted
def test_the_interpreted_kernels_are_right():
    triton = pytest.importorskip("triton")
    if _version(triton.__version__) < (3, 7) and _version(np.__version__) >= (2, 4):
        pytest.skip("Triton's interpreter before 3.7 does not support numpy 2.4")
    # numpy warns of every NaN that the kernels' masks discard.
    options = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning"]
    elsewhere = "not choose and not keeps and not why_unusable and not import"
    result = _python("-m", "pytest", *options, "-k", elsewhere, __file__, TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert int(result.stdout.rsplit(" passed", 1)[0].split()[-1]) >= len(SCENES)


COMPILE = """
import sys
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction, mangle_type
from spatialavatar.render import _triton
from spatialavatar.render._scene import Scene, Settings

compiled = set()

def run(self, *args, grid, warmup, **options):
    warps = {"num_warps": options.pop("num_warps", 4)}
    values = {**dict(zip(self.arg_names, args)), **options}
    constants = {p.name: values[p.name] for p in self.params if p.is_constexpr}
    types = {name: "constexpr" if name in constants else mangle_type(values[name]) for name in self.arg_names}
    source = triton.compiler.ASTSource(self, types, constants)
    assert triton.compile(source, target=GPUTarget("cuda", 120, 32), options=warps).asm["cubin"]
    compiled.add(self.fn.__name__)

JITFunction.run = run
for channels in (3, 32):
    means = torch.zeros(1, 3, requires_grad=True)
    scene = Scene(means, torch.zeros(1, 4), torch.zeros(1, 3), torch.zeros(1), torch.zeros(1, channels),
                  torch.eye(4)[None], torch.eye(3)[None])
    image, _, _ = _triton.rasterize(scene, Settings(16, 16))
    image.sum().backward()
print(*sorted(compiled))
"""


@not_interpreted
def test_the_kernels_compile_for_a_gpu_that_is_not_there(tmp_path: Path):
    pytest.importorskip("triton")
    result = _python("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    kernels = ["blend_backward", "blend_forward", "list_tiles", "project_backward", "project_forward", "sum_slots"]
    assert result.stdout.split() == kernels, result.stderr


def _usable(monkeypatch: pytest.MonkeyPatch, **reasons: str | None) -> None:
    """Replace the reasons why the GPU backends cannot run."""
    for module, name in ((_gsplat, "gsplat"), (_triton, "triton")):
        monkeypatch.setattr(module, "why_unusable", lambda reason=reasons[name]: reason)


def test_choose_takes_the_fastest_that_works_for_cuda_tensors(monkeypatch: pytest.MonkeyPatch):
    _usable(monkeypatch, gsplat=None, triton=None)
    assert choose_backend("cuda") == "gsplat"
    assert choose_backend("cuda", "triton") == "triton"
    _usable(monkeypatch, gsplat="it is not built", triton=None)
    assert choose_backend("cuda") == "triton"
    assert choose_backend("cpu") == "cpu"
    _usable(monkeypatch, gsplat="it is not built", triton="there is no C compiler")
    with pytest.warns(UserWarning, match="not built.*no C compiler"):
        assert choose_backend("cuda") == "cpu"


def test_choose_refuses_triton_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    _usable(monkeypatch, gsplat=None, triton="there is no C compiler")
    with pytest.raises(InputError, match=r"triton backend cannot be used: there is no C compiler; move the tensors"):
        choose_backend("cuda", "triton")
    _usable(monkeypatch, gsplat=None, triton=None)
    with pytest.raises(InputError, match="it renders CUDA tensors and these are not"):
        choose_backend("cpu", "triton")


def _fail() -> None:
    raise RuntimeError("no PTX today")


@pytest.mark.parametrize(
    ("interpret", "compiler", "warmup", "reason"),
    [
        (True, "/usr/bin/cc", None, "TRITON_INTERPRET is set"),
        (False, None, None, "needs a C compiler"),
        (False, "/usr/bin/cc", lambda device: _fail(), "do not run on this device (RuntimeError)"),
        (False, "/usr/bin/cc", lambda device: None, None),
    ],
)
def test_what_keeps_triton_from_running_is_named(
    interpret: bool,
    compiler: str | None,
    warmup: Callable[[torch.device], None] | None,
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
):
    knobs = types.SimpleNamespace(runtime=types.SimpleNamespace(interpret=interpret))
    monkeypatch.setitem(sys.modules, "triton", types.SimpleNamespace(knobs=knobs))
    monkeypatch.setattr(_triton.shutil, "which", lambda name: compiler)
    monkeypatch.setattr(_triton, "warmup", warmup)
    monkeypatch.delenv("CC", raising=False)
    found = _triton._trial.__wrapped__(0)
    assert found is None if reason is None else reason in found


def test_why_unusable_names_a_missing_package_or_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert why_unusable("triton") == "no CUDA device is there"
    monkeypatch.setitem(sys.modules, "triton", None)
    assert _triton._trial.__wrapped__(0) == "the package triton is not installed"


def test_importing_the_renderer_does_not_import_triton():
    code = "import sys, spatialavatar.render, spatialavatar.render._triton as t; print('triton' in sys.modules)"
    assert _python("-c", code).stdout.split() == ["False"]
