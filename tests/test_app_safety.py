"""Bad requests to a server that runs: each gets its sentence and its status, and nothing of it stays on the disk."""

from __future__ import annotations

import json
import pickle
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")
pytest.importorskip("spaces", reason="the page needs the extra 'app': pip install -e '.[app]'")

import httpx
import torch
from safetensors.torch import load_file, save_file

from spatialavatar.app import checks
from spatialavatar.app.backend import default_backend
from spatialavatar.app.parameters import _fetch
from spatialavatar.avatar import Avatar

from .support.avatars import make_ball_avatar
from .support.fake_backend import RunningApp, running_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="module")
def avatar_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_ball_avatar(16).save(tmp_path_factory.mktemp("avatar") / "a.safetensors").read_bytes()


@pytest.fixture(scope="module")
def lake(examples: Path) -> bytes:
    return (examples / "portraits" / "lake.jpg").read_bytes()


def upload(app: RunningApp, name: str, data: bytes) -> dict[str, Any]:
    answer = httpx.post(app.url + "gradio_api/upload", files={"files": (name, data)}, timeout=60)
    assert answer.status_code == 200, answer.text
    return file_at(answer.json()[0])


def file_at(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def call(app: RunningApp, name: str, **values: Any) -> tuple[int, str]:
    """Status and sentence of one call, with consent: of the refusal, or of the event that ends it."""
    if name in ("generate", "refine", "drive", "track"):
        values = {"consent": True, **values}
    answer = httpx.post(f"{app.url}gradio_api/call/v2/{name}", json=values, timeout=60)
    if answer.status_code != 200:
        detail = answer.json()["detail"] if "json" in answer.headers.get("content-type", "") else answer.text
        wrong = (
            [entry["message"] for entry in detail if not entry["is_valid"]] if isinstance(detail, list) else [detail]
        )
        return answer.status_code, " ".join(str(part) for part in wrong)
    event = answer.json()["event_id"]
    stream = httpx.get(f"{app.url}gradio_api/call/{name}/{event}", timeout=60).text
    last = stream.strip().rsplit("event: ", 1)[1]
    kind, _, data = last.partition("\ndata: ")
    return (200 if kind == "complete" else 500), data


def still_answers(app: RunningApp) -> bool:
    return call(app, "info")[0] == 200


BAD_VALUES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no photos": ("generate", {"photos": []}, "Give 1 to 4 photos"),
    "photos that are no list": ("generate", {"photos": 7}, "photo"),
    "photos that are nothing": ("generate", {"photos": None}, "Give 1 to 4 photos"),
    "a photo that is a number": ("generate", {"photos": [3]}, "Give a photo"),
    "a path of the server": ("generate", {"photos": ["/etc/passwd"]}, "Give a photo"),
    "a path of the server, as a file": ("generate", {"photos": [{"path": "/etc/passwd"}]}, "Give a photo"),
    "a path that climbs out": ("generate", {"photos": [{"path": "{cache}/../../secret.png"}]}, "Give a photo"),
    "a path with a zero byte": ("generate", {"photos": [{"path": "{cache}/a\0.png"}]}, "Give a photo"),
    "somebody's path that nobody has": ("export", {"avatar": {"path": "{cache}/x/a.safetensors"}}, "not here"),
    "an address of this machine": (
        "generate",
        {"photos": [{"path": "http://169.254.169.254/latest", "meta": {"_type": "gradio.FileData"}}]},
        "cannot be fetched",
    ),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_wrong_value_is_refused_before_it_queues(app: RunningApp, case: str) -> None:
    name, values, sentence = BAD_VALUES[case]
    text = json.dumps(values).replace("{cache}", str(app.cache))
    files, before = app.files(), len(app.fake.requests)
    status, answer = call(app, name, **json.loads(text))
    assert (status, sentence in answer) == (422, True), answer
    assert len(app.fake.requests) == before
    assert app.files() == files
    assert still_answers(app)


BAD_NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "negative strength": ({"strength": -1}, "strength must be a number from 0 to 3"),
    "strength in words": ({"strength": "much"}, "strength must be a number"),
    "a size that would fill the memory": ({"size": 100_000}, "size must be one of 256, 512, 768"),
    "a size that is a list": ({"size": [512]}, "size must be one of"),
    "an example that there is none of": ({"example": "../../etc"}, "example must be one of Talk"),
    "a flag that is a word": ({"relative": "yes"}, "true or false"),
    "two wrong values": ({"smoothing": 99, "strength": None}, "smoothing must be"),
}


@pytest.mark.parametrize("case", BAD_NUMBERS)
def test_a_wrong_setting_is_refused_before_it_queues(app: RunningApp, case: str, avatar_bytes: bytes) -> None:
    values, sentence = BAD_NUMBERS[case]
    avatar = upload(app, "a.safetensors", avatar_bytes)
    before = len(app.fake.requests)
    status, answer = call(app, "drive", avatar=avatar, **values)
    assert (status, sentence in answer) == (422, True), answer
    assert len(app.fake.requests) == before


@pytest.mark.parametrize("iterations", [-300, 0, 1.5, 10**9, True])
def test_an_impossible_number_of_steps_is_refused(app: RunningApp, iterations: Any, avatar_bytes: bytes) -> None:
    avatar = upload(app, "a.safetensors", avatar_bytes)
    status, answer = call(app, "refine", avatar=avatar, video=avatar, iterations=iterations)
    assert (status, "number of steps must be a whole number from 20 to 5000" in answer) == (422, True), answer


def test_more_than_four_photos_are_refused(app: RunningApp, lake: bytes) -> None:
    photo = upload(app, "lake.jpg", lake)
    assert call(app, "generate", photos=[photo] * 6) == (422, "Give 1 to 4 photos of one person; these are 6.")


def bad_avatars(good: bytes) -> dict[str, bytes]:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, ("/tmp/spatialavatar-was-here", "w"))

    return {
        "a pickle": pickle.dumps(Bomb()),
        "a header that claims two gigabytes": struct.pack("<Q", 2 << 30) + good[8:],
        "a file that is cut": good[: len(good) // 2],
        "another kind of safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{}              ",
        "a header that is no table": struct.pack("<Q", 2) + b"[]",
    }


@pytest.mark.parametrize("kind", list(bad_avatars(b"" * 9)))
def test_a_file_that_is_no_avatar_is_refused_from_its_header(app: RunningApp, kind: str, avatar_bytes: bytes) -> None:
    avatar = upload(app, "me.safetensors", bad_avatars(avatar_bytes)[kind])
    status, answer = call(app, "export", avatar=avatar)
    assert (status, answer) == (
        422,
        "The file me.safetensors is not an avatar; give a .safetensors file that was made here.",
    )
    assert not Path("/tmp/spatialavatar-was-here").exists()
    assert still_answers(app)


def test_an_avatar_with_nan_is_refused(tmp_path: Path) -> None:
    from spatialavatar.pipeline import default_model

    model = default_model()
    ball = make_ball_avatar(16)
    source = tmp_path / "nan.safetensors"
    avatar = Avatar(
        head=model.head,
        layout=model.layout,
        shape=torch.zeros(model.head.shape_count),
        gaussians=ball.gaussians.replace(
            **{
                name: getattr(ball.gaussians, name)[:1].repeat(len(model.layout), *([1] * (value.ndim - 1)))
                for name, value in vars(ball.gaussians).items()
                if isinstance(value, torch.Tensor)
            }
        ),
        reference=model.head.neutral(),
        camera=ball.camera,
    )
    avatar.save(source)
    tensors = load_file(source)
    tensors["means"][7] = float("nan")
    from safetensors import safe_open

    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, source, metadata)
    from spatialavatar.app.service import Service

    with pytest.raises(Exception, match="not finite"):
        list(Service(default_backend()).steps("export", avatar=str(source)))


def test_markup_in_a_file_name_is_removed_from_the_message(app: RunningApp) -> None:
    name = "<img src=x onerror=alert(1)>.jpg"
    photo = upload(app, name, b"not a photo")
    status, answer = call(app, "generate", photos=[photo])
    assert status == 422
    assert "is not a photo" in answer
    assert not set("<>") & set(answer)


def test_a_video_without_pictures_is_refused(app: RunningApp, avatar_bytes: bytes) -> None:
    avatar = upload(app, "a.safetensors", avatar_bytes)
    video = upload(app, "clip.mp4", b"\0" * 5000)
    status, answer = call(app, "refine", avatar=avatar, video=video)
    assert (status, "not a video that can be read" in answer) == (422, True), answer


def test_a_playlist_that_names_a_file_of_the_server_is_refused(app: RunningApp) -> None:
    source = upload(app, "clip.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    status, answer = call(app, "track", source=source)
    assert status == 422
    assert "root:" not in answer


def test_an_upload_over_the_limit_is_refused(app: RunningApp) -> None:
    before = app.files()
    big = {"files": ("big.mp4", b"\0" * (checks.MAX_VIDEO_BYTES + 1))}
    answer = httpx.post(app.url + "gradio_api/upload", files=big, timeout=120)
    assert answer.status_code == 413
    assert app.files() == before


@pytest.mark.parametrize(
    ("name", "values", "status", "sentence"),
    [
        ("generate", {"foto": []}, 422, "`foto`"),
        ("generate", {}, 422, "photos"),
        ("paint", {"photos": []}, 404, "no endpoint"),
    ],
)
def test_an_unknown_endpoint_or_parameter_is_named(
    app: RunningApp, name: str, values: dict[str, Any], status: int, sentence: str
) -> None:
    answered, answer = call(app, name, **values)
    assert (answered, sentence in answer) == (status, True), answer


def test_the_queue_and_its_checks_cannot_be_bypassed(app: RunningApp) -> None:
    before = len(app.fake.requests)
    answer = httpx.post(app.url + "gradio_api/run/generate", json={"data": [["/etc/passwd"]]}, timeout=60)
    assert answer.status_code in (404, 500)
    assert len(app.fake.requests) == before


def test_files_of_others_and_of_the_server_cannot_be_read(app: RunningApp) -> None:
    for path in ("/etc/passwd", str(app.cache), f"{app.cache}/../../../../etc/passwd"):
        assert httpx.get(f"{app.url}gradio_api/file={path}").status_code in (403, 404)


def test_work_that_fails_leaves_no_file(app: RunningApp, lake: bytes) -> None:
    app.fake.error = MemoryError()
    try:
        photo = upload(app, "lake.jpg", lake)
        before = app.files()
        status, answer = call(app, "generate", photos=[photo])
    finally:
        app.fake.error = None
    assert status == 500
    assert "not enough memory" in answer
    assert app.files() == before
    assert not Path(app.fake.last.folder).exists()


def test_a_fetch_stops_at_the_largest_file_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(b"\0" * 10_000)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    async def anywhere(host: str) -> str:
        return "127.0.0.1"

    monkeypatch.setattr("spatialavatar.app.parameters.async_validate_url", anywhere)
    server = HTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/clip.mp4"
    try:
        with pytest.raises(ValueError, match="too large"):
            asyncio.run(_fetch(address, tmp_path / "clip.mp4", 100_000))
    finally:
        server.shutdown()
        server.server_close()
    assert not list(tmp_path.iterdir())


def test_a_sweep_deletes_old_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spatialavatar.app.sessions import Sessions

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    source = tmp_path / "a.txt"
    source.write_text("a")
    sessions = Sessions(max_age=0.2)
    old = Path(sessions.keep(None, source))
    time.sleep(0.3)
    new = Path(sessions.keep(None, source))
    sessions.sweep()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_number_of_400_digits_is_refused_in_one_sentence(app: RunningApp, avatar_bytes: bytes) -> None:
    avatar = upload(app, "a.safetensors", avatar_bytes)
    status, sentence = call(app, "drive", avatar=avatar, smoothing=10**400)
    assert status == 422
    assert "The smoothing must be a number from" in sentence


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "1", None])
@pytest.mark.parametrize("whole", [False, True])
def test_a_value_that_is_no_number_within_bounds_is_refused(value: Any, whole: bool) -> None:
    assert checks.number(value, "strength", 0, 2, whole) == (
        f"The strength must be {'a whole number' if whole else 'a number'} from 0 to 2."
    )


@pytest.mark.parametrize("check", [checks.avatar, checks.motion])
def test_a_file_with_a_long_header_is_refused_before_the_header_is_parsed(tmp_path: Path, check: Any) -> None:
    header = json.dumps({"__metadata__": {"spatialavatar": "[" + "{}," * 2_500_000 + "{}]"}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    tracemalloc.start()
    try:
        assert "The file a.safetensors is not a" in check(str(tmp_path / "a.safetensors"))
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
