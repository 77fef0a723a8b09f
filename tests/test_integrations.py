"""The content of other repositories under integrations/: the hf extension, the skill, the jobs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from spatialavatar.cli import declared_commands
from spatialavatar.motion import load_motion

from .conftest import REPOSITORY
from .test_docs import accepts, blocks, commands

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = REPOSITORY / "integrations"
JOBS = sorted((FOLDER / "jobs").glob("*.py"))
SKILL = FOLDER / "skills" / "spatialavatar" / "SKILL.md"


def module(path: Path) -> ModuleType:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(f"integration_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_hf_extension_has_the_executable_that_hf_looks_for() -> None:
    folder = FOLDER / "hf-spatialavatar"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    target, _, function = project["scripts"][folder.name].partition(":")
    assert (project["name"], target) == (folder.name, "hf_spatialavatar")
    assert callable(getattr(module(folder / f"{target}.py"), function))
    done = subprocess.run(
        [sys.executable, str(folder / f"{target}.py"), "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"spatialavatar \d+\.\d+\S*\n", done.stdout)


def test_every_command_of_the_skill_is_accepted_by_the_parser() -> None:
    lines = list(commands(SKILL.read_text(encoding="utf-8")))
    assert len(lines) >= 6
    for line in lines:
        assert accepts(declared_commands().parser, line), line


def test_the_skill_has_the_header_that_assistants_read() -> None:
    header = SKILL.read_text(encoding="utf-8").split("---\n")[1]
    fields = dict(line.split(": ", 1) for line in header.strip().split("\n"))
    assert fields["name"] == SKILL.parent.name
    assert 0 < len(fields["description"]) <= 1024


def test_the_motion_of_the_skill_is_a_motion_file(tmp_path: Path) -> None:
    (text,) = [block for language, block in blocks(SKILL.read_text(encoding="utf-8")) if language == "json"]
    (tmp_path / "take.json").write_text(text)
    assert len(load_motion(tmp_path / "take.json")) == 3


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_hf_reads_the_header_of_a_job(job: Path) -> None:
    header = pytest.importorskip(
        "huggingface_hub.cli._uv_script_header", reason="this huggingface_hub reads no headers of jobs"
    )
    found = header.parse_uv_script_header(job.read_text(encoding="utf-8"))
    assert found.name == f"spatialavatar-{job.stem}"
    assert found.secrets == ["HF_TOKEN"]


class FakeApi:
    """Records what a job uploads; downloads nothing."""

    def __init__(self, calls: list[tuple[str, Any]]) -> None:
        self.calls = calls

    def create_repo(self, repo_id: str, **_: Any) -> None:
        self.calls.append(("create", repo_id))

    def snapshot_download(self, repo_id: str, **_: Any) -> None:
        self.calls.append(("download", repo_id))

    def upload_folder(self, repo_id: str, folder_path: Path, path_in_repo: str, **_: Any) -> None:
        self.calls.append(("upload", (repo_id, str(folder_path), path_in_repo)))


def test_the_bench_job_runs_a_command_that_the_parser_accepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[str, Any]] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeApi(calls))
    monkeypatch.setattr(subprocess, "run", lambda words, check: calls.append(("run", words)))
    given = ["bench.py", "--data", "you/clips", "--protocol", "self", "--model", "you/heads", "--push", "you/results"]
    monkeypatch.setattr(sys, "argv", given)
    module(FOLDER / "jobs" / "bench.py").main()
    words = dict(calls)["run"][3:]
    assert words[:3] == ["bench", "self", str(tmp_path)]
    declared_commands().parser.parse_args(words)
    assert dict(calls)["upload"] == ("you/results", "results", "self")


def test_the_training_job_trains_the_configuration_of_the_shards_and_pushes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import spatialavatar
    from spatialavatar.training import launcher

    (tmp_path / "open.toml").write_text('out = "runs/open"\nshards = ["shards"]\n')
    calls: list[tuple[str, Any]] = []
    pushed = tmp_path / "runs" / "pushed" / "run"
    pushed.mkdir(parents=True)
    (pushed / "checkpoint.pt").write_bytes(b"state")  # of a job before this one

    class Scheduler:
        def __init__(self, **given: Any) -> None:
            calls.append(("schedule", given["path_in_repo"]))

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            calls.append(("stop", None))

    def train(config: Any, progress: Any) -> Any:
        calls.append(("train", (Path(config.out) / "checkpoint.pt").read_bytes()))
        return SimpleNamespace(model=Path("runs/open/model"))

    model = SimpleNamespace(push_to_hub=lambda repo: calls.append(("push", repo)))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeApi(calls))
    monkeypatch.setattr(huggingface_hub, "CommitScheduler", Scheduler)
    monkeypatch.setattr(launcher, "train", train)
    monkeypatch.setattr(spatialavatar, "SpatialAvatar", SimpleNamespace(from_pretrained=lambda _: model))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--shards", "you/s", "--config", "open.toml", "--push", "you/heads"])
    module(FOLDER / "jobs" / "train.py").main()
    assert [name for name, _ in calls] == ["create", "download", "schedule", "train", "stop", "push"]
    assert dict(calls)["train"] == b"state"


def test_the_table_of_integrations_names_every_folder() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w-]+)/", text, re.M))
    assert named == {path.name for path in FOLDER.iterdir() if path.is_dir()}


def test_the_image_gets_every_file_that_the_wheel_is_built_from() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"  # nothing is sent but what is named
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    needed = [*settings["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"], "pyproject.toml"]
    needed += [settings["project"]["readme"], *settings["project"]["license-files"]]
    assert {path.split("/")[0] for path in needed} <= sent
