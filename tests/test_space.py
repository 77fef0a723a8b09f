"""What a Hugging Face Space reads: requirements.txt and the head of README.md."""

from __future__ import annotations

from pathlib import Path


def test_the_space_installs_nothing_that_the_platform_brings(repository: Path) -> None:
    lines = (repository / "requirements.txt").read_text().splitlines()
    names = {line.split("==")[0].split(">=")[0].strip() for line in lines if line and not line.startswith("#")}
    assert not names & {"gradio", "spaces", "huggingface_hub", "huggingface-hub"}
    assert {"torch", "numpy", "ai-edge-litert", "onnxruntime"} <= names


def test_the_readme_configures_the_space(repository: Path) -> None:
    front = (repository / "README.md").read_text(encoding="utf-8").split("---")[1]
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines() if ": " in line and line[0] != " ")
    assert fields["sdk"] == "gradio"
    assert fields["app_file"] == "app.py"
    assert fields["license"] == "apache-2.0"
    assert len(fields["short_description"]) <= 60
