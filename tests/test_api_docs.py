"""What docs/reference/endpoints.md shows is what runs: its snippets, one after the other, on a server that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

import httpx

from spatialavatar.app import checks
from spatialavatar.app.admission import MAX_WAITING
from spatialavatar.app.endpoints import documentation
from spatialavatar.app.requests import DriveRequest, ExportRequest, GenerateRequest, RefineRequest, TrackRequest
from spatialavatar.pipeline import MAX_PHOTOS
from spatialavatar.tracking.photos import GOOD_FACE, MIN_FACE

from .conftest import REPOSITORY
from .support.fake_backend import RunningApp, running_app

ADDRESS = "http://127.0.0.1:7860/"
WORK = {GenerateRequest, RefineRequest, DriveRequest, TrackRequest, ExportRequest}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture
def here(tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the snippets name."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(examples / "portraits" / "lake.jpg", "me.jpg")
    for name in ("me.mp4", "driver.mp4"):
        shutil.copy(examples / "clips" / "moods.mp4", name)
    return tmp_path


def snippets(section: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / "reference" / "endpoints.md").read_text(encoding="utf-8")
    part = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", part, re.M | re.S)


def at(app: RunningApp, snippet: str) -> str:
    return snippet.replace(ADDRESS, app.url).replace(ADDRESS.rstrip("/"), app.url.rstrip("/"))


def test_the_python_snippets_use_every_endpoint(app: RunningApp, here: Path) -> None:
    app.fake.requests.clear()
    first, second = snippets("Python", "python")
    names: dict[str, Any] = {}
    exec(compile(at(app, first), "docs/reference/endpoints.md", "exec"), names)
    assert {type(request) for request in app.fake.requests} == WORK
    assert Path(names["ply"]).name == "avatar.ply"
    app.fake.endless = True
    try:
        exec(compile(at(app, second), "docs/reference/endpoints.md", "exec"), names)
    finally:
        app.fake.endless = False
        names["client"].close()
    assert app.fake.stopped


def test_the_tables_of_endpoints_are_those_that_are_served() -> None:
    text = (REPOSITORY / "docs" / "reference" / "endpoints.md").read_text(encoding="utf-8")
    table = text.split("<!-- endpoints: begin -->\n", 1)[1].split("\n<!-- endpoints: end -->", 1)[0]
    assert table.strip() == documentation(), "run python scripts/write_reference.py"


def test_documents_name_the_face_sizes_that_are_checked() -> None:
    sizes = f"{MIN_FACE} pixels"
    for name in ("README.md", "docs/reference/limits.md", "docs/results/tracking.md"):
        text = " ".join((REPOSITORY / name).read_text(encoding="utf-8").split())
        assert sizes in text, name
    assert f"{GOOD_FACE} give" in (REPOSITORY / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")


def test_limits_are_documented_as_they_are_checked() -> None:
    text = (REPOSITORY / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
    rows = {
        "photo": f"{checks.MAX_PHOTO_BYTES // checks.MEGABYTE} MB; 1 to {MAX_PHOTOS} photos",
        "video": f"{checks.MAX_VIDEO_BYTES // checks.MEGABYTE} MB, {checks.MAX_VIDEO_SECONDS:.0f} seconds",
        "motion file": f"{checks.MAX_MOTION_BYTES // checks.MEGABYTE} MB, {60 * checks.MAX_VIDEO_SECONDS:,.0f} frames",
        "avatar": f"{checks.MAX_AVATAR_BYTES // checks.MEGABYTE} MB",
    }
    for name, limit in rows.items():
        assert re.search(rf"^\| {name} \|.*\| {re.escape(limit)} \|$", text, re.M), name
    assert f"while {MAX_WAITING} others wait" in text


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
def test_the_curl_snippet_uses_every_endpoint(app: RunningApp, here: Path) -> None:
    app.fake.requests.clear()
    (script,) = snippets("curl", "bash")
    command = ["bash", "-xeuo", "pipefail", "-c", at(app, script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert {type(request) for request in app.fake.requests} == WORK
    assert '"photos": 4' in run.stdout
    assert (here / "me.safetensors").stat().st_size > 1000


def test_the_mcp_snippet_uses_every_endpoint(app: RunningApp, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mcp")
    app.fake.requests.clear()
    (script,) = snippets("MCP", "python")

    def address(name: str) -> str:
        data = Path(name).read_bytes()
        path = httpx.post(app.url + "gradio_api/upload", files={"files": (name, data)}, timeout=60).json()[0]
        return f"{app.url}gradio_api/file={path}"

    exec(
        compile(at(app, script), "docs/reference/endpoints.md", "exec"),
        {"photo": address("me.jpg"), "clip": address("me.mp4")},
    )
    assert {type(request) for request in app.fake.requests} == WORK
    assert "avatar.ply" in capsys.readouterr().out
