"""What others read of the project: requirements.txt and the head of README.md a Space, CITATION.cff who cites it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from spatialavatar import __version__, examples
from spatialavatar.errors import MissingAssetError
from spatialavatar.examples import PORTRAITS
from spatialavatar.hub.constants import PAPER_ID

from .conftest import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# As of 2026-08; other versions end in a configuration error.
ZERO_GPU_TORCH = {"2.8.0", "2.9.1", "2.10.0", "2.11.0"}
ZERO_GPU_PYTHON = {"3.10", "3.12"}
BROUGHT_BY_THE_PLATFORM = {"gradio", "spaces", "huggingface-hub"}


def requirements(lines: list[str]) -> dict[str, str]:
    """Versions by name of lines such as ``numpy>=1.26``."""
    found = [re.match(r"([A-Za-z0-9._-]+)\s*(.*)", line) for line in lines if line.strip() and line[0] != "#"]
    return {match[1].lower().replace("_", "-"): match[2].strip() for match in found if match}


@pytest.fixture(scope="module")
def installed_by_the_space() -> dict[str, str]:
    return requirements((REPOSITORY / "requirements.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def front() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((REPOSITORY / "README.md").read_text(encoding="utf-8").split("---")[1])


def test_the_space_installs_nothing_that_the_platform_provides(installed_by_the_space: dict[str, str]) -> None:
    assert not set(installed_by_the_space) & BROUGHT_BY_THE_PLATFORM


def test_the_space_installs_the_dependencies_of_the_package(
    installed_by_the_space: dict[str, str],
) -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = project.split("\ndependencies = [", 1)[1].split("\n]", 1)[0]
    needed = requirements(re.findall(r'"([^"]+)"', block))
    for name, wanted in needed.items():
        if name not in BROUGHT_BY_THE_PLATFORM | {"torch"}:
            assert installed_by_the_space.get(name) == wanted, name


def test_torch_and_python_are_supported_by_zero_gpu(
    installed_by_the_space: dict[str, str], front: dict[str, Any]
) -> None:
    assert installed_by_the_space["torch"].removeprefix("==") in ZERO_GPU_TORCH
    assert front["python_version"] in ZERO_GPU_PYTHON


@pytest.mark.slow
@pytest.mark.parametrize("python", sorted(ZERO_GPU_PYTHON))
def test_the_requirements_resolve_beside_the_platforms_packages(
    python: str, front: dict[str, Any], tmp_path: Path
) -> None:
    if importlib.util.find_spec("uv") is None:
        pytest.skip("needs uv: pip install uv")
    platform = tmp_path / "platform.txt"
    platform.write_text(f"gradio[oauth,mcp]=={front['sdk_version']}\nspaces\nhuggingface_hub\n")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", python]
    try:
        run = subprocess.run(
            [*command, "requirements.txt", str(platform)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index is slow today")
    if run.returncode != 0 and "No solution found" not in run.stderr:
        pytest.skip(f"the package index cannot be reached: {run.stderr[-200:]}")
    assert run.returncode == 0, run.stderr
    assert requirements(run.stdout.splitlines())["torch"].split()[0].removeprefix("==") in ZERO_GPU_TORCH


def test_the_readme_configures_a_space_that_can_be_duplicated(front: dict[str, Any]) -> None:
    assert (front["sdk"], front["app_file"], front["license"]) == ("gradio", "app.py", "apache-2.0")
    assert re.fullmatch(r"\d+\.\d+\.\d+", front["sdk_version"])
    assert len(front["short_description"]) <= 60
    assert front["models"]
    assert front["tags"]
    assert front["startup_duration_timeout"] == "1h"
    assert front["thumbnail"].startswith("https://")
    assert (REPOSITORY / front["thumbnail"].rpartition("/main/")[2]).is_file()
    # It would fail the build of every copy for as long as no model is published: weights/ has what is needed.
    assert "preload_from_hub" not in front


def test_the_page_runs_on_the_gradio_of_the_space(front: dict[str, Any]) -> None:
    try:
        installed = version("gradio")
    except PackageNotFoundError:
        pytest.skip("the page needs the extra 'app': pip install -e '.[app]'")
    assert installed.split(".")[0] == front["sdk_version"].split(".")[0]


def test_the_wheel_carries_the_app_and_the_examples_with_their_licences() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    included = wheel["only-include"]
    assert {"spatialavatar", "weights", "examples/motions"} <= set(included)
    assert wheel["sources"] == {"weights": "spatialavatar/_weights", "examples": "spatialavatar/_examples"}
    portraits = {Path(path) for path in included if path.startswith("examples/portraits/") and "LICENCE" not in path}
    assert {path.name for path in portraits} <= set(PORTRAITS.values())
    assert all(f"examples/portraits/{path.stem}.LICENCE.txt" in included for path in portraits)


def test_examples_are_found_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spatialavatar" / "_examples" / "motions").mkdir(parents=True)
    carried = tmp_path / "spatialavatar" / "_examples" / "motions" / "talk.json"
    carried.write_text("{}")
    monkeypatch.setattr(examples, "_PACKAGE", tmp_path / "spatialavatar")
    assert examples.example_motion("Talk") == carried
    assert examples.portraits() == {}
    with pytest.raises(MissingAssetError, match=r"portraits/lake\.jpg"):
        examples.example("portraits/lake.jpg")


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["references"][0]["url"].endswith(PAPER_ID)
