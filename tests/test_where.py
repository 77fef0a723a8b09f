"""What visitors read about where the work is done."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

from spatialavatar.app import backend, where

from .conftest import REPOSITORY


def test_a_machine_without_a_gpu_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    monkeypatch.setattr("spatialavatar.render.why_unusable", lambda renderer: "it is not here")
    assert "this machine's processor" in where.what_runs_where()
    assert "no GPU is used" in where.what_runs_where()


def test_an_unreachable_model_is_named_and_the_app_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def unreachable() -> Path:
        warnings.warn("there is no Hub", stacklevel=1)
        return REPOSITORY / "weights"

    monkeypatch.setenv("MODEL_ID", "someone/else")
    monkeypatch.setattr(where, "_notices", [])
    monkeypatch.setattr(backend, "weights_dir", unreachable)
    monkeypatch.setattr(backend, "default_model", lambda: loaded.append("model"))
    monkeypatch.setattr(backend, "warmup", lambda: loaded.append("kernels"))
    backend.load_models()
    assert loaded == ["model", "kernels"]
    assert "someone/else could not be fetched" in where.what_runs_where()


def test_neither_the_library_nor_the_app_package_imports_gradio() -> None:
    code = (
        "import sys, spatialavatar.app, spatialavatar.cli, spatialavatar.driving, spatialavatar.pipeline;"
        "import spatialavatar.refinement;"
        "assert not {'gradio', 'spaces'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
