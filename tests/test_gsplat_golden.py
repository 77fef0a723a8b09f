"""What real gsplat rendered on a GPU, kept in a file, against the backends that run here; and the check itself.

The file is written by ``python benchmarks/gpu_check.py --golden`` on a CUDA machine with gsplat.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from spatialavatar.render import Renderer, why_unusable

needs_golden = pytest.mark.skipif(
    not gpu_check.GOLDEN.exists(),
    reason="nobody has run benchmarks/gpu_check.py --golden on a CUDA machine with gsplat yet",
)


@needs_golden
@pytest.mark.parametrize("renderer", ["cpu", "triton"])
@pytest.mark.parametrize("name", gpu_check.GOLDEN_CASES)
def test_pictures_and_gradients_are_those_of_gsplat(name: str, renderer: Renderer):
    reason = why_unusable(renderer)
    if reason is not None:
        pytest.skip(reason)
    measures = gpu_check.disagreement(
        gpu_check.golden_record(name, renderer), gpu_check.read_golden(gpu_check.GOLDEN, name)
    )
    assert gpu_check.agrees(measures), measures
    assert measures["mean_difference"] <= 1e-6
    assert measures["radii_equal"] >= 0.999


def test_a_record_comes_back_as_it_was_and_agrees_with_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(gpu_check, "GOLDEN_CASES", {"random": (gpu_check.SCENES["random"], 2, 3)})
    gpu_check.write_golden(tmp_path / "golden.npz", "cpu")
    record = gpu_check.read_golden(tmp_path / "golden.npz", "random")
    expected = gpu_check.golden_record("random", "cpu")
    assert record.keys() == expected.keys()
    assert all(torch.equal(record[name], expected[name]) for name in expected)
    assert record["colors"].shape == (1, 20, 24, 3)
    assert gpu_check.agrees(gpu_check.disagreement(record, expected))


@pytest.mark.parametrize(("name", "change"), [("colors", 1e-3), ("alphas", 1e-3), ("grad_means", 10.0)])
def test_backends_that_differ_do_not_agree(name: str, change: float):
    result = gpu_check.result_of(gpu_check.SCENES["random"](), "cpu")
    other = {**result, name: result[name] + change}
    assert not gpu_check.agrees(gpu_check.disagreement(other, result))


def test_a_pixel_on_the_edge_of_a_threshold_is_forgiven():
    result = gpu_check.result_of(gpu_check.head_case(500, 128), "cpu")
    colors = result["colors"].clone()
    colors[0, 64, 64] += 0.05
    assert gpu_check.agrees(gpu_check.disagreement({**result, "colors": colors}, result))
    colors[0, 40:90, 64] += 0.05
    assert not gpu_check.agrees(gpu_check.disagreement({**result, "colors": colors}, result))


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_check.py"])
    assert gpu_check.main() == 0
    assert "no CUDA device" in capsys.readouterr().out
