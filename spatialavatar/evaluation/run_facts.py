"""What identifies an evaluation: configuration, code, weights, model and machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch

from spatialavatar import __version__, hub
from spatialavatar.evaluation.protocols import BenchConfig

_PACKAGES: Final = ("torch", "numpy", "scipy", "numba", "onnxruntime", "ai-edge-litert", "opencv-python-headless")


@dataclasses.dataclass(frozen=True)
class RunSubject:
    """The subject of an evaluation run.

    Attributes:
        dataset: its name in the tables.
        layout: of its folder; None if detected.
        only: patterns of the chosen clips.
        clips: how many there are, over all shards.
        model: folder of the model; None for the one that ships.
        base: whether the model's network is left out.
    """

    dataset: str
    layout: str | None
    only: str
    clips: int
    model: Path | None
    base: bool


def run_facts(config: BenchConfig, subject: RunSubject) -> dict[str, Any]:
    """Everything that is needed to repeat the run, JSON-ready; ``key`` is equal for runs with equal figures."""
    # Results files in the weights' folder do not count: one run would change the next one's key.
    files = [entry for entry in hub.manifest() if "/results" not in entry["path"]]
    weights = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    facts = {
        "dataset": subject.dataset,
        "layout": subject.layout or "found",
        "only": subject.only,
        "clips": subject.clips,
        "config": dataclasses.asdict(config),
        "version": __version__,
        "commit": _commit(),
        "weights": weights,
        "model_content": None if subject.model is None else _content(subject.model),  # independent of its folder
        "base": subject.base,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return {"key": key, **facts, "packages": _versions(), "machine": _machine()}


def _content(model: Path) -> str:
    """A hash of a model's configuration and tensors, and of its head model's."""
    digest = hashlib.sha256()
    for path in sorted([*model.rglob("*.json"), *model.rglob("*.safetensors")]):
        if not path.name.startswith("results"):
            digest.update(path.relative_to(model).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _commit() -> str | None:
    """The checkout's commit, with a plus sign if files differ from it; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    try:
        answers = [
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--show-toplevel", "HEAD"], ["status", "--porcelain", "--", "spatialavatar"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    top, commit = answers[0].split("\n")
    if Path(top).resolve() != root:
        return None  # a repository around an installed package
    return commit + ("+" if answers[1] else "")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }
