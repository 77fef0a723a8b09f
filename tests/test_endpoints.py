"""The endpoints, called by gradio's client and by an MCP client on a server that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, ValidationError
from PIL import Image

from spatialavatar.app.assistants import ASSISTANTS
from spatialavatar.app.endpoints import ENDPOINTS
from spatialavatar.app.sessions import Sessions
from spatialavatar.errors import NoFaceError
from spatialavatar.head.arkit import ARKIT_52
from spatialavatar.media import VideoReader
from spatialavatar.motion import load_motion

from .support.fake_backend import RunningApp, running_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[Client]:
    app.fake.endless, app.fake.error = False, None
    with app.client() as client:
        yield client


@pytest.fixture
def photo(examples: Path) -> Any:
    return handle_file(str(examples / "portraits" / "lake.jpg"))


@pytest.fixture
def clip(examples: Path) -> Any:
    return handle_file(str(examples / "clips" / "moods.mp4"))


@pytest.fixture
def avatar(client: Client, photo: Any) -> Any:
    return handle_file(client.predict(photos=[photo], consent=True, api_name="/generate")[0])


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def test_six_endpoints_are_public_and_every_value_has_a_type_and_a_name(client: Client) -> None:
    served = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    texts = {f"/{function.__name__}" for function in ASSISTANTS}  # the MCP server's resources and prompts
    endpoints = {name: endpoint for name, endpoint in served.items() if name not in texts}
    assert set(served) - set(endpoints) == texts
    assert set(endpoints) == {"/generate", "/refine", "/drive", "/track", "/export", "/info"}
    signatures = {
        name: [(p["parameter_name"], p["python_type"]["type"], p["parameter_has_default"]) for p in e["parameters"]]
        for name, e in endpoints.items()
    }
    assert signatures["/generate"] == [
        ("photos", "list[filepath]", False),
        ("consent", "bool", False),
        ("scene", "bool", True),
        ("bust", "bool", True),
    ]
    assert signatures["/refine"][0] == ("avatar", "filepath", False)
    assert [name for name, _, _ in signatures["/drive"]] == [
        *("avatar", "consent", "motion", "example", "strength", "smoothing", "relative", "size", "head_pose"),
        *("pose", "mouth", "brows", "lids", "gaze", "scene", "background", "audio", "text", "voice", "liveliness"),
        *("bust", "picture"),
    ]
    assert all(p["label"] for e in endpoints.values() for p in (*e["parameters"], *e["returns"]))


def test_generate_returns_an_avatar_file_a_picture_and_facts(app: RunningApp, client: Client, photo: Any) -> None:
    avatar, picture, facts = client.predict(photos=[photo, photo], consent=True, api_name="/generate")
    assert len(app.fake.last.photos) == 2
    assert Path(avatar).suffix == ".safetensors"
    assert Image.open(picture).size == (8, 8)
    assert facts["warnings"] == ["Made of lake.jpg, lake.jpg."]


def test_refine_returns_an_avatar(app: RunningApp, client: Client, avatar: Any, clip: Any) -> None:
    better, _, facts = client.predict(avatar=avatar, video=clip, consent=True, iterations=50, api_name="/refine")
    assert Path(better).suffix == ".safetensors"
    assert (facts["iterations"], app.fake.last.size, app.fake.last.frames) == (50, 256, 50)


def test_drive_uses_an_example_without_a_motion(app: RunningApp, client: Client, avatar: Any) -> None:
    video, facts = client.predict(avatar=avatar, consent=True, example="Look around", size=256, api_name="/drive")
    assert len(list(VideoReader(video))) == facts["frames"] == 2
    assert Path(app.fake.last.motion).name == "look_around.json"
    assert app.fake.last.smoothing == 0.0


def test_drive_smooths_a_video_and_not_a_motion_file(app: RunningApp, client: Client, avatar: Any, clip: Any) -> None:
    client.predict(avatar=avatar, consent=True, motion=clip, strength=0.5, size=256, api_name="/drive")
    assert (Path(app.fake.last.motion).name, app.fake.last.smoothing) == ("moods.mp4", 1.0)
    assert app.fake.last.strength == 0.5


def test_drive_passes_scene_and_background_on(app: RunningApp, client: Client, avatar: Any, photo: Any) -> None:
    values = {"avatar": avatar, "consent": True, "example": "Talk", "size": 256, "api_name": "/drive"}
    client.predict(**values, scene="photo", background="blur", mouth=0.5)
    assert (app.fake.last.scene, app.fake.last.background, app.fake.last.parts.mouth) == ("photo", "blur", 0.5)
    assert app.fake.last.bust
    client.predict(**values, bust=False)
    assert not app.fake.last.bust
    client.predict(**values, picture=photo)
    assert Path(app.fake.last.background).name == "lake.jpg"
    with pytest.raises(ValidationError, match="safetensors"):
        client.predict(**values, picture=avatar)
    for wrong in ({"scene": "moon"}, {"background": "/etc/hostname"}, {"background": 3}):
        with pytest.raises(ValidationError, match="must be"):
            client.predict(**values, **wrong)


def test_track_and_export_return_the_requested_format(client: Client, avatar: Any, clip: Any) -> None:
    motion, _ = client.predict(source=clip, consent=True, form="csv", api_name="/track")
    assert Path(motion).suffix == ".csv"
    ply, facts = client.predict(avatar=avatar, api_name="/export")
    assert (Path(ply).name, facts["gaussians"]) == ("avatar.ply", 4)


def test_info_describes_the_app_or_an_avatar(client: Client, avatar: Any) -> None:
    assert client.predict(api_name="/info")["photos"] == 4
    assert client.predict(avatar=avatar, api_name="/info") == {"avatar": "avatar.safetensors"}


def test_a_domain_error_reaches_the_client_as_its_sentence(app: RunningApp, client: Client, photo: Any) -> None:
    app.fake.error = NoFaceError("There is no face in lake.jpg; give a portrait.")
    with pytest.raises(AppError, match=r"There is no face in lake\.jpg; give a portrait\."):
        client.predict(photos=[photo], consent=True, api_name="/generate")


def test_stopping_a_job_frees_the_worker(app: RunningApp, client: Client, photo: Any) -> None:
    app.fake.endless = True
    job = client.submit(photos=[photo], consent=True, api_name="/generate")
    assert wait_for(job.outputs)
    requested = time.monotonic()
    job.cancel()
    assert wait_for(lambda: app.fake.stopped and app.fake.stopped[-1] > requested)
    app.fake.endless = False
    assert client.predict(photos=[photo], consent=True, api_name="/generate")[2]["warnings"]


def test_two_clients_at_once_get_their_own_results(app: RunningApp, examples: Path) -> None:
    portraits = sorted((examples / "portraits").glob("*.*g"))[:3]
    with app.client() as one, app.client() as other:
        jobs = [
            (path.name, (one, other)[i % 2].submit(photos=[handle_file(str(path))], consent=True, api_name="/generate"))
            for i, path in enumerate(portraits * 2)
        ]
        for name, job in jobs:
            assert job.result(timeout=60)[2]["warnings"] == [f"Made of {name}."]


def test_uploads_and_results_are_deleted_when_the_visitor_leaves(app: RunningApp, examples: Path) -> None:
    before = wait_for(lambda: not app.visitors_results() and app.files())
    with app.client() as client:
        photo = handle_file(str(examples / "portraits" / "street.jpg"))
        client.predict(photos=[photo], consent=True, api_name="/generate")
        client.predict(source=handle_file(str(examples / "clips" / "moods.mp4")), consent=True, api_name="/track")
        assert len(app.files() - before) >= 4
    assert wait_for(lambda: app.files() <= before), app.files() - before


def test_leaving_keeps_a_file_that_another_visitor_sent_too(app: RunningApp, clip: Any) -> None:
    with app.client() as one:
        one.predict(source=clip, consent=True, api_name="/track")
        with app.client() as other:
            other.predict(source=clip, consent=True, api_name="/track")
        wait_for(lambda: len(app.visitors_results()) == 1)
        assert any(path.name == "moods.mp4" for path in app.files())


def test_leaving_keeps_a_file_that_was_uploaded_again_since(tmp_path: Path) -> None:
    upload = tmp_path / "hash" / "lake.jpg"
    upload.parent.mkdir()
    upload.write_bytes(b"first")
    sessions = Sessions({str(upload)})
    sessions.note("one", [str(upload)])
    (tmp_path / "again").write_bytes(b"first")
    (tmp_path / "again").rename(upload)
    sessions.close("one")
    assert upload.exists()
    sessions.note("other", [str(upload)])
    sessions.close("other")
    assert not upload.parent.exists()


def mcp(app: RunningApp, use: Callable[[Any], Any]) -> Any:
    """What ``use`` gives for a session with the app's MCP server."""
    client = pytest.importorskip("mcp.client.streamable_http")
    from mcp import ClientSession

    async def run() -> Any:
        async with (
            client.streamablehttp_client(app.url + "gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await use(session)

    return asyncio.run(run())


def test_the_endpoints_are_mcp_tools_with_described_parameters(app: RunningApp) -> None:
    tools = {tool.name.rpartition("_")[2]: tool for tool in mcp(app, lambda session: session.list_tools()).tools}
    assert set(tools) == {"generate", "refine", "drive", "track", "export", "info"}
    for tool in tools.values():
        assert tool.description
        assert all(value.get("description") for value in tool.inputSchema["properties"].values()), tool.name
    assert tools["drive"].inputSchema["required"] == ["avatar", "consent"]


def test_an_mcp_client_reads_the_resources_and_a_motion_that_drives(app: RunningApp, tmp_path: Path) -> None:
    async def use(session: Any) -> Any:
        named = [str(one.uri) for one in (await session.list_resources()).resources]
        templates = [one.uriTemplate for one in (await session.list_resource_templates()).resourceTemplates]
        texts = [(await session.read_resource(uri)).contents[0].text for uri in named]
        talk = (await session.read_resource("spatialavatar://motions/talk")).contents[0].text
        return dict(zip(named, texts)), templates, talk

    resources, templates, talk = mcp(app, use)
    assert set(resources) == {"spatialavatar://guide", "spatialavatar://units"}
    assert templates == ["spatialavatar://motions/{name}"]
    assert resources["spatialavatar://units"].split() == list(ARKIT_52)
    assert all(f"`{endpoint.name}`" in resources["spatialavatar://guide"] for endpoint in ENDPOINTS)
    (tmp_path / "talk.json").write_text(talk)
    assert len(load_motion(tmp_path / "talk.json")) == 5


def test_an_mcp_client_gets_the_prompts_filled_in(app: RunningApp) -> None:
    async def use(session: Any) -> Any:
        names = [one.name for one in (await session.list_prompts()).prompts]
        given = {"avatar": "http://x/a.safetensors", "performance": "winks"}
        return names, (await session.get_prompt("animate_avatar", given)).messages[0].content.text

    names, text = mcp(app, use)
    assert names == ["create_avatar", "animate_avatar"]
    assert "http://x/a.safetensors" in text
    assert "winks" in text


def test_an_mcp_client_can_pass_a_result_to_the_next_tool(app: RunningApp, examples: Path) -> None:
    picture = (examples / "portraits" / "lake.jpg").read_bytes()
    path = httpx.post(app.url + "gradio_api/upload", files={"files": ("lake.jpg", picture)}).json()[0]

    async def progress(done: float, total: float | None, message: str | None) -> None:
        """Without one, gradio gives all results as one text."""

    async def use(session: Any) -> Any:
        names = {tool.name.rpartition("_")[2]: tool.name for tool in (await session.list_tools()).tools}
        given = {"photos": [f"{app.url}gradio_api/file={path}"], "consent": True}
        made = await session.call_tool(names["generate"], given, progress_callback=progress)
        assert not made.isError, made.content
        given = {"avatar": made.content[0].text, "consent": True, "size": 256}
        return await session.call_tool(names["drive"], given, progress_callback=progress)

    driven = mcp(app, use)
    assert not driven.isError, driven.content
    assert driven.content[0].text.endswith("driven.mp4")
