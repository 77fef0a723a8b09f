"""The rasteriser: parity with a dense float64 reference, determinism, and manners under bad input."""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.records import Camera, Gaussians
from spatialavatar.render import _cpu, _gsplat, _kernels, _pool, choose_backend, rasterize, render, warmup
from spatialavatar.render.kernels import kernel
from spatialavatar.threads import one_torch_thread

from .support import raster_ref
from .support.scenes import NAMES, SCENES, Scene, leaves, loss_weights, random_scene, reference, wide_scene


def run(scene: Scene, width: int, height: int) -> tuple[Tensor, Tensor, Scene]:
    """Colours, alphas and gradients of the CPU backend."""
    inputs = leaves(scene, torch.float32)
    colors, alphas, _ = rasterize(**inputs, width=width, height=height)
    color_weight, alpha_weight = loss_weights(scene, width, height)
    ((colors * color_weight).sum() + (alphas * alpha_weight).sum()).backward()
    return colors.detach(), alphas.detach(), {name: inputs[name].grad for name in (*NAMES, "backgrounds")}


@functools.cache
def both(name: str) -> tuple[tuple[Tensor, Tensor, Scene], tuple[Tensor, Tensor, Scene]]:
    """Ours and the reference's results of a scene."""
    scene, width, height = SCENES[name]()
    return run(scene, width, height), reference(scene, width, height)


@pytest.mark.parametrize("name", SCENES)
def test_pictures_equal_the_reference(name: str):
    (colors, alphas, _), (expected_colors, expected_alphas, _) = both(name)
    assert expected_alphas.max() > 0.1
    assert (colors - expected_colors).abs().max() < 1e-5
    assert (alphas - expected_alphas).abs().max() < 1e-5


@pytest.mark.parametrize("name", SCENES)
def test_gradients_equal_the_reference(name: str):
    (_, _, grads), (_, _, expected) = both(name)
    for key, grad in grads.items():
        error = (grad - expected[key]).norm() / expected[key].norm()
        assert error < 1e-4, f"{key}: {error:.1e}"


def test_the_hard_scenes_are_hard():
    stopped = (both("opaque")[1][1] > 1 - 1e-3).float().mean()
    assert stopped > 0.1
    scene, width, height = wide_scene()
    x, _, z = (scene["means"] @ scene["viewmats"][0, :3, :3].T + scene["viewmats"][0, :3, 3]).unbind(-1)
    beside = (x / z).abs() > (0.53 + 0.15) / 1.1
    _, _, info = rasterize(**scene, width=width, height=height)
    assert (beside & (info["radii"][0] > 0).all(-1)).sum() > 10


def test_gradients_equal_finite_differences():
    # Splats so wide and faint that no pixel meets a threshold, where the true derivative jumps.
    scene, width, height = random_scene(20, width=16, height=12, seed=8, spread=0.4, opacity=0.1)
    scene["means"][:, 2] = scene["means"][:, 2].abs() + 1.0
    scene["scales"] = 2.0 + scene["scales"]
    scene["colors"] = scene["colors"].abs() + 0.2
    _, alphas, grads = run(scene, width, height)
    assert alphas.min() > 0.5
    weights = loss_weights(scene, width, height)

    def loss(name: str, moved: Tensor) -> float:
        colors, alphas, _ = rasterize(**{**scene, name: moved}, width=width, height=height)
        return float(sum((part.double() * weight).sum() for part, weight in zip((colors, alphas), weights)))

    for name in NAMES:
        direction = torch.sign(grads[name]) * scene[name].abs().mean()
        step = 1e-2 * direction
        slope = (loss(name, scene[name] + step) - loss(name, scene[name] - step)) / 2e-2
        assert slope == pytest.approx(float((grads[name] * direction).sum()), rel=5e-3), name


def test_the_picture_does_not_depend_on_the_tile_size(monkeypatch: pytest.MonkeyPatch):
    scene, width, height = random_scene(400, width=100, height=70)
    pictures = []
    for size in (8, 16, 32, 64):
        monkeypatch.setattr(_cpu, "tile_size", lambda channels, size=size: size)
        pictures.append(run(scene, width, height))
    for colors, alphas, grads in pictures[1:]:
        assert torch.equal(colors, pictures[0][0])
        assert torch.equal(alphas, pictures[0][1])
        for name, grad in grads.items():  # the sum over tiles is taken in other portions
            torch.testing.assert_close(grad, pictures[0][2][name], rtol=1e-3, atol=1e-5 * float(grad.abs().max()))


def test_runs_and_thread_counts_give_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    scene, width, height = random_scene(6000, width=100, height=70)
    results = []
    for threads in ("1", "1", "2", "5"):
        monkeypatch.setenv(_pool.THREADS_VARIABLE, threads)
        results.append(run(scene, width, height))
    for colors, alphas, grads in results[1:]:
        assert torch.equal(colors, results[0][0])
        assert torch.equal(alphas, results[0][1])
        assert all(torch.equal(grad, results[0][2][name]) for name, grad in grads.items())


def test_six_threads_at_once_get_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(_pool.THREADS_VARIABLE, "3")
    scene, width, height = random_scene(500, width=64, height=48)
    colors, _, grads = run(scene, width, height)
    with ThreadPoolExecutor(6) as pool:
        for other, _, other_grads in pool.map(lambda _: run(scene, width, height), range(24)):
            assert torch.equal(colors, other)
            assert all(torch.equal(grads[name], other_grads[name]) for name in grads)


def _render_in_child(queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)  # torch's own OpenMP threads do not survive a fork; ours must
    colors, _, grads = run(*random_scene(200))
    queue.put((colors.sum().item(), grads["means"].sum().item()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_renders(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(_pool.THREADS_VARIABLE, "3")
    colors, _, grads = run(*random_scene(200))  # the parent's pool is there
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_render_in_child, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=30) == (colors.sum().item(), grads["means"].sum().item())
    child.join(timeout=30)
    assert child.exitcode == 0


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own, which may then crash."""
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_values_that_are_not_numbers_do_no_harm():
    code = """
import torch
from spatialavatar.render import rasterize
from tests.support.scenes import NAMES, random_scene
for name in (*NAMES, "Ks"):
    for value in (float("nan"), float("inf"), -float("inf"), 0.0, 1e30, -1e30):
        scene, width, height = random_scene(50)
        scene[name].view(-1)[::5] = value
        inputs = {key: tensor.requires_grad_() for key, tensor in scene.items()}
        colors, alphas, _ = rasterize(**inputs, width=width, height=height)
        assert bool(torch.isfinite(alphas).all()), (name, value)
        (colors.sum() + alphas.sum()).backward()
print("fine")
"""
    result = _python(code)
    assert result.stdout.strip() == "fine", result.stderr


def test_a_bad_gaussian_is_left_out_and_the_others_are_not_touched():
    scene, width, height = random_scene(100)
    kept = {key: value[10:] if key in NAMES[:5] else value for key, value in scene.items()}
    for name in ("means", "quats", "scales", "opacities"):
        bad = {key: value.clone() for key, value in scene.items()}
        bad[name][:10] = float("nan")
        assert torch.equal(run(bad, width, height)[0], run(kept, width, height)[0]), name


def test_nothing_to_see_is_the_background():
    for count in (0, 5):
        scene, width, height = random_scene(count)
        scene["means"][:, 2] = -5.0
        colors, alphas, grads = run(scene, width, height)
        assert (alphas == 0).all()
        assert torch.equal(colors, scene["backgrounds"][:, None, None].expand_as(colors))
        assert all((grads[name] == 0).all() for name in NAMES)


def test_info_describes_each_gaussian_on_the_picture():
    scene, width, height = random_scene(100)
    _, _, info = rasterize(**scene, width=width, height=height)
    mean2d, covariance, depth = raster_ref.project(
        *(scene[name].double() for name in NAMES[:3]), scene["viewmats"][0].double(), scene["Ks"][0].double(), 48, 40
    )
    seen = (info["radii"][0] > 0).all(-1)
    assert 30 < seen.sum() < 100
    assert not seen[depth < 0.01].any()
    conic = torch.linalg.inv(covariance)
    torch.testing.assert_close(info["means2d"][0][seen], mean2d[seen].float())
    torch.testing.assert_close(info["depths"][0][seen], depth[seen].float())
    expected = torch.stack([conic[:, 0, 0], conic[:, 0, 1], conic[:, 1, 1]], -1)
    torch.testing.assert_close(info["conics"][0][seen], expected[seen].float())
    extent = torch.sqrt(2 * torch.log(255 * scene["opacities"].double()))
    radii = torch.ceil(extent[:, None] * torch.stack([covariance[:, 0, 0], covariance[:, 1, 1]], -1).sqrt())
    assert torch.equal(info["radii"][0][seen], radii[seen].int())
    assert (info["width"], info["height"], info["backend"]) == (width, height, "cpu")


def test_small_splats_are_left_out_when_asked():
    scene, width, height = random_scene(100)
    radii = rasterize(**scene, width=width, height=height)[2]["radii"].amax(-1)
    clipped = rasterize(**scene, width=width, height=height, radius_clip=6.0)[2]["radii"].amax(-1)
    assert torch.equal(clipped, torch.where(radii <= 6, 0, radii))
    assert (clipped < radii).any()


def test_near_and_far_planes_bound_the_depth():
    scene, width, height = random_scene(100)
    info = rasterize(**scene, width=width, height=height, near_plane=1.0, far_plane=2.0)[2]
    depth = info["depths"][(info["radii"] > 0).all(-1)]
    assert len(depth) > 10
    assert depth.min() >= 1.0
    assert depth.max() <= 2.0


def test_batches_of_gaussians_render_like_each_of_them():
    scenes = [random_scene(50, seed=seed, cameras=2)[0] for seed in range(3)]
    batch = {name: torch.stack([scene[name] for scene in scenes]) for name in scenes[0]}
    colors, alphas, info = rasterize(**batch, width=48, height=40)
    assert colors.shape == (3, 2, 40, 48, 3)
    assert alphas.shape == (3, 2, 40, 48, 1)
    assert info["radii"].shape == (3, 2, 50, 2)
    for index, scene in enumerate(scenes):
        assert torch.equal(colors[index], rasterize(**scene, width=48, height=40)[0])


def test_colours_may_depend_on_the_camera():
    scene, width, height = random_scene(60, cameras=2)
    shared = rasterize(**scene, width=width, height=height)[0]
    scene["colors"] = torch.stack([scene["colors"], scene["colors"] * 2])
    scene["backgrounds"][1] *= 2
    colors = rasterize(**scene, width=width, height=height)[0]
    assert torch.equal(colors[0], shared[0])
    torch.testing.assert_close(colors[1], shared[1] * 2)


def test_render_is_rasterize_for_a_record_and_a_camera():
    scene, width, height = random_scene(60)
    gaussians = Gaussians(*(scene[name] for name in NAMES[:5]), space="world")
    camera = Camera(scene["Ks"][0], scene["viewmats"][0], width, height)
    image, alpha = render(gaussians, camera, scene["backgrounds"][0].tolist())
    colors, alphas, _ = rasterize(**scene, width=width, height=height)
    assert torch.equal(image, colors[0])
    assert torch.equal(alpha, alphas[0, ..., 0])


def test_local_gaussians_are_refused():
    scene, width, height = random_scene(5)
    gaussians = Gaussians(*(scene[name] for name in NAMES[:5]), space="local")
    with pytest.raises(InputError, match="pose the avatar first"):
        render(gaussians, Camera(scene["Ks"][0], scene["viewmats"][0], width, height))


@pytest.mark.parametrize("name", [*NAMES, "Ks", "backgrounds"])
def test_a_wrong_shape_is_refused_by_name(name: str):
    scene, width, height = random_scene(5)
    scene[name] = torch.cat([scene[name], scene[name]], -1)[..., : scene[name].shape[-1] + 1]
    if name == "colors":
        scene[name] = scene[name][:-1]
    with pytest.raises(InputError, match=name):
        rasterize(**scene, width=width, height=height)


def test_an_empty_picture_is_refused():
    scene, _, _ = random_scene(5)
    with pytest.raises(InputError, match="0 x 10"):
        rasterize(**scene, width=0, height=10)


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="vulkan"):
        choose_backend("cpu", "vulkan")


def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_gsplat, "why_unusable", lambda: "its CUDA extension is not built")
    for device, backend in (("cuda", "gsplat"), ("cpu", "gsplat")):
        with pytest.raises(InputError, match="not built"):
            choose_backend(device, backend)
    monkeypatch.setattr(_gsplat, "why_unusable", lambda: None)
    with pytest.raises(InputError, match="CUDA tensors"):
        choose_backend("cpu", "gsplat")
    assert choose_backend("cuda") == "gsplat"
    assert choose_backend("cuda", "cpu") == "cpu"
    assert choose_backend("cpu") == "cpu"


@pytest.mark.skipif(_gsplat.why_unusable() is not None, reason="gsplat cannot be used here")
def test_gsplat_renders_the_same():
    scene, width, height = random_scene(400, width=96, height=80)
    colors, _, grads = run(scene, width, height)
    inputs = {name: tensor.detach().cuda().requires_grad_() for name, tensor in scene.items()}
    other, alphas, info = rasterize(**inputs, width=width, height=height, backend="gsplat")
    color_weight, alpha_weight = loss_weights(scene, width, height)
    ((other * color_weight.cuda()).sum() + (alphas * alpha_weight.cuda()).sum()).backward()
    assert ((colors - other.cpu()).abs().amax(-1) < 1e-4).float().mean() >= 0.9999
    assert info["backend"] == "gsplat"
    for name, grad in grads.items():
        assert (grad - inputs[name].grad.cpu()).norm() < 1e-3 * grad.norm(), name


def test_importing_the_renderer_does_not_import_gsplat():
    code = "import sys, spatialavatar.render; print('gsplat' in sys.modules, 'numba' in sys.modules)"
    assert _python(code).stdout.split() == ["False", "False"]


def test_the_kernels_are_vector_code():
    warmup()
    for cached in (_kernels.raster_forward, _kernels.raster_backward):
        afresh = kernel(cache=False)(cached.py_func)  # numba keeps no LLVM of what it loads from its cache
        afresh.compile(cached.signatures[0])
        (llvm,) = afresh.inspect_llvm().values()
        assert llvm.count("<8 x float>") > 50


def test_a_head_of_58_thousand_gaussians_is_fast_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(_pool.THREADS_VARIABLE, "1")
    count = 58173
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    inputs = [
        directions * torch.tensor([0.08, 0.11, 0.09]) + torch.tensor([0.0, 0.0, 1.0]),
        torch.randn(count, 4, generator=generator),
        torch.full((count, 3), 0.0008),
        torch.full((count,), 0.9),
        torch.rand(count, 3, generator=generator),
    ]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    K = torch.tensor([[[2150.0, 0, 256], [0, 2150, 256], [0, 0, 1]]])
    forward, backward = [], []
    for _ in range(4):
        start = time.thread_time()
        colors, _, _ = rasterize(*inputs, torch.eye(4)[None], K, 512, 512)
        middle = time.thread_time()
        loss = colors.sum()
        loss.backward()
        forward.append(middle - start)
        backward.append(time.thread_time() - middle)
    assert min(forward) < 0.15
    assert min(forward) + min(backward) < 0.4


def test_the_pool_passes_an_exception_on_and_goes_on_working(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(_pool.THREADS_VARIABLE, "3")

    def fail(index: int) -> None:
        if index == 4:
            raise ValueError("four")

    with pytest.raises(ValueError, match="four"):
        _pool.run(fail, 10)
    done: list[int] = []
    _pool.run(done.append, 10)
    assert sorted(done) == list(range(10))


def test_the_pool_uses_as_many_threads_as_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(_pool.THREADS_VARIABLE, "3")
    meeting = threading.Barrier(3, timeout=30)
    _pool.run(lambda _: meeting.wait(), 3)
    monkeypatch.delenv(_pool.THREADS_VARIABLE)
    assert _pool.thread_count() == torch.get_num_threads()


def test_kernels_of_a_thread_get_the_threads_that_it_asks_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(_pool.THREADS_VARIABLE, raising=False)
    outside, elsewhere = _pool.thread_count(), []
    with one_torch_thread(), _pool.kernel_threads(3):
        with _pool.kernel_threads(2):
            assert _pool.thread_count() == 2
        assert _pool.thread_count() == 3
        other = threading.Thread(target=lambda: elsewhere.append(_pool.thread_count()))
        other.start()
        other.join()
        monkeypatch.setenv(_pool.THREADS_VARIABLE, "4")
        assert _pool.thread_count() == 4
        monkeypatch.delenv(_pool.THREADS_VARIABLE)
    assert elsewhere != [3]
    assert _pool.thread_count() == outside
