"""Folders from and to the Hub, against a Hub that runs in this process: what arrives, what is pushed, how it fails."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from spatialavatar import cli, hub
from spatialavatar.avatar import AVATAR_FILE, Avatar
from spatialavatar.errors import FormatError, MissingAssetError, OutputError
from spatialavatar.generator import GeneratorConfig, SpatialAvatar
from spatialavatar.generator.network import NetworkConfig
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.hub import weights
from spatialavatar.hub.constants import PAPER_ID
from spatialavatar.hub.papers import fetch_model_of, paper_facts
from spatialavatar.training.config import read_training_config

from .support.avatars import make_ball_avatar
from .support.ball_head import make_ball_head
from .support.fake_hub import OWNER_TOKEN, READER_TOKEN, FakeHub, running_hub

MODEL = "owner/model"
CONFIG = GeneratorConfig(resolution=48)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub without repositories, an empty cache, and nobody logged in."""
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODEL_ID", "MODEL_REVISION", weights.WEIGHTS_VARIABLE):
            monkeypatch.delenv(name, raising=False)
        forget_weights()
        yield running
    forget_weights()


def forget_weights() -> None:
    """What a process fetches once it fetches again."""
    weights._snapshot.cache_clear()
    weights._snapshot_or.cache_clear()


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return make_ball_avatar()


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small model's repository, with a manifest."""
    folder = SpatialAvatar(CONFIG, make_ball_head()).save_pretrained(tmp_path_factory.mktemp("model"))
    files = read_folder(folder)
    entries = [
        {"path": f"weights/{name}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    ]
    return {**files, "MANIFEST.json": json.dumps({"files": entries}).encode()}


@pytest.fixture(scope="module")
def avatar_files(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return read_folder(avatar.save_pretrained(tmp_path_factory.mktemp("avatar")))


def read_folder(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Fetching


def test_a_model_is_fetched_from_the_hub(fake: FakeHub, model_files: dict[str, bytes]) -> None:
    fake.add(MODEL, model_files)
    model = SpatialAvatar.from_pretrained(MODEL)
    assert model.config == CONFIG
    assert model.head.id == "ball"


def test_a_models_network_is_pushed_and_fetched_with_it(fake: FakeHub) -> None:
    network = replace(NetworkConfig.small(), unet_channels=(4, 8), image_size=64)
    model = SpatialAvatar(GeneratorConfig(resolution=48, network=network), make_ball_head())
    model.push_to_hub(MODEL, token=OWNER_TOKEN)
    again = SpatialAvatar.from_pretrained(MODEL)
    assert again.config == model.config
    assert model.network is not None
    assert again.network is not None
    assert torch.equal(again.network.unet.stem.weight, model.network.unet.stem.weight.half().float())


def test_an_avatar_is_fetched_without_the_files_that_loading_does_not_need(
    fake: FakeHub, avatar: Avatar, avatar_files: dict[str, bytes]
) -> None:
    fake.add("owner/ann", {**avatar_files, "footage.mp4": b"x" * 1000})
    again = Avatar.from_pretrained("owner/ann", head=avatar.head)
    assert torch.equal(again.gaussians.means, avatar.gaussians.means)
    assert not [request for request in fake.requests if "footage" in request or "preview" in request]


def test_an_avatar_is_compared_with_its_manifest(fake: FakeHub, avatar: Avatar, avatar_files: dict[str, bytes]) -> None:
    data = avatar_files[AVATAR_FILE]
    entry = {"path": AVATAR_FILE, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    unfetched = {"path": "footage.mp4", "bytes": 3, "sha256": "0" * 64}
    fake.add("owner/ann", {**avatar_files, "MANIFEST.json": json.dumps({"files": [entry, unfetched]}).encode()})
    assert Avatar.from_pretrained("owner/ann", head=avatar.head).layout.id == avatar.layout.id
    entry["sha256"] = "1" * 64
    fake.add("owner/bob", {**avatar_files, "MANIFEST.json": json.dumps({"files": [entry]}).encode()})
    with pytest.raises(FormatError, match="not the file that its manifest lists"):
        Avatar.from_pretrained("owner/bob", head=avatar.head)


def test_an_unknown_option_is_an_error(avatar: Avatar, tmp_path: Path) -> None:
    path = avatar.save(tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="revison"):
        Avatar.from_pretrained(path, head=avatar.head, revison="main")  # type: ignore[call-arg]


def test_a_pinned_revision_is_not_moved_by_later_commits(
    fake: FakeHub, avatar: Avatar, avatar_files: dict[str, bytes], tmp_path: Path
) -> None:
    repo = fake.add("owner/ann", avatar_files)
    first = repo.refs["v1"] = repo.refs["main"]
    other = Avatar(**{**vars(avatar), "shape": avatar.shape + 1})
    repo.commit(read_folder(other.save_pretrained(tmp_path / "other")))
    for pin in (first, "v1"):
        assert torch.equal(Avatar.from_pretrained("owner/ann", revision=pin, head=avatar.head).shape, avatar.shape)
    assert torch.equal(Avatar.from_pretrained("owner/ann", head=avatar.head).shape, other.shape)


def test_what_was_fetched_once_loads_without_the_hub(
    fake: FakeHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add(MODEL, model_files)
    SpatialAvatar.from_pretrained(MODEL)
    before = len(fake.requests)
    assert SpatialAvatar.from_pretrained(MODEL, local_files_only=True).config == CONFIG
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert SpatialAvatar.from_pretrained(MODEL).config == CONFIG
    assert len(fake.requests) == before


def test_what_was_never_fetched_does_not_load_offline(fake: FakeHub, model_files: dict[str, bytes]) -> None:
    fake.add(MODEL, model_files)
    with pytest.raises(MissingAssetError, match=r"nor whole in the cache.*hf download owner/model"):
        SpatialAvatar.from_pretrained(MODEL, local_files_only=True)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no Hub repository called owner/nothing, or it is private"),
        ({"token": READER_TOKEN}, "no Hub repository called owner/nothing, or it is private"),
    ],
)
def test_a_repository_that_is_not_there_is_named(fake: FakeHub, options: dict, words: str) -> None:
    with pytest.raises(MissingAssetError, match=words):
        Avatar.from_pretrained("owner/nothing", **options)


def test_a_private_repository_needs_its_owners_token(
    fake: FakeHub, avatar: Avatar, avatar_files: dict[str, bytes]
) -> None:
    fake.add("owner/ann", avatar_files, private=True)
    with pytest.raises(MissingAssetError, match="private"):
        Avatar.from_pretrained("owner/ann", token=READER_TOKEN, head=avatar.head)
    assert len(Avatar.from_pretrained("owner/ann", token=OWNER_TOKEN, head=avatar.head).gaussians) > 0


def test_a_gated_repository_says_to_ask_for_access(fake: FakeHub, model_files: dict[str, bytes]) -> None:
    fake.add(MODEL, model_files, gated=True)
    with pytest.raises(MissingAssetError, match="owner/model is gated; ask for access"):
        SpatialAvatar.from_pretrained(MODEL)
    assert SpatialAvatar.from_pretrained(MODEL, token=READER_TOKEN).config == CONFIG


def test_an_unknown_revision_is_named(fake: FakeHub, model_files: dict[str, bytes]) -> None:
    fake.add(MODEL, model_files)
    with pytest.raises(MissingAssetError, match="no revision v9"):
        SpatialAvatar.from_pretrained(MODEL, revision="v9")


def test_a_malformed_id_is_refused_before_anything_is_asked(fake: FakeHub) -> None:
    with pytest.raises(MissingAssetError, match="nor a Hub id of the form org/name"):
        SpatialAvatar.from_pretrained("a/b/c/d")
    assert fake.requests == []


def test_a_file_that_arrives_cut_short_is_refused_and_kept_from_the_cache(
    fake: FakeHub, model_files: dict[str, bytes]
) -> None:
    repo = fake.add(MODEL, model_files, cut_short="head/head.safetensors")
    with pytest.raises(MissingAssetError, match="cut short; try again"):
        SpatialAvatar.from_pretrained(MODEL)
    repo.cut_short = None
    assert SpatialAvatar.from_pretrained(MODEL).config == CONFIG


@pytest.mark.parametrize("change", ["bytes", "sha256"])
def test_a_file_that_the_manifest_does_not_list_like_that_is_refused(
    fake: FakeHub, model_files: dict[str, bytes], change: str
) -> None:
    data = model_files["head/head.safetensors"]
    other = data + b" " if change == "bytes" else data[:-1] + bytes([data[-1] ^ 1])
    fake.add(MODEL, {**model_files, "head/head.safetensors": other})
    with pytest.raises(FormatError, match=r"head/head.safetensors of owner/model is not the file that its manifest"):
        SpatialAvatar.from_pretrained(MODEL)


def test_a_listed_file_that_is_missing_is_named(fake: FakeHub, model_files: dict[str, bytes]) -> None:
    fake.add(MODEL, {name: data for name, data in model_files.items() if name != "README.md"})
    with pytest.raises(FormatError, match=r"owner/model lacks README\.md"):
        SpatialAvatar.from_pretrained(MODEL)


def test_a_manifest_that_reaches_outside_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"files": [{"path": "../secret"}]}))
    with pytest.raises(FormatError, match="outside"):
        hub.verify(tmp_path, "someone/model")


def test_a_hub_that_is_down_is_told_apart_from_a_wrong_name(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingAssetError, match="the Hub is out of reach"):
        Avatar.from_pretrained("owner/ann")
    with pytest.raises(MissingAssetError, match="the Hub is out of reach"):
        paper_facts()


def test_a_push_to_a_hub_that_is_down_says_so(avatar: Avatar, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OutputError, match=r"owner/ann cannot be pushed .*check the connection"):
        avatar.push_to_hub("owner/ann", token=OWNER_TOKEN)


def test_the_shipped_weights_load_in_a_process_that_has_no_sockets() -> None:
    code = """
import sys
def refuse(event, _):
    if event.startswith("socket."):  # making, connecting, resolving: Python raises an audit event first
        raise OSError("no sockets here")
sys.addaudithook(refuse)
from spatialavatar import SpatialAvatar
model = SpatialAvatar.from_pretrained(sys.argv[1])
print(model.head.id, len(model.layout))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(hub.weights_dir())], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("open-")


# MODEL_ID


def test_model_id_chooses_other_weights_than_the_shipped_ones(
    fake: FakeHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = fake.add(MODEL, model_files)
    repo.refs["v1"] = repo.refs["main"]
    monkeypatch.setenv("MODEL_ID", MODEL)
    monkeypatch.setenv("MODEL_REVISION", "v1")
    assert SpatialAvatar.from_pretrained(hub.weights_dir()).head.id == "ball"


def test_with_the_hub_out_of_reach_the_shipped_weights_do(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_ID", "owner/nothing")
    with pytest.warns(UserWarning, match=r"owner/nothing.* are used instead"):
        assert (hub.weights_dir() / "head" / "head.json").is_file()
    before = len(fake.requests)
    assert hub.weights_dir().name == "weights"
    assert len(fake.requests) == before  # once a process is often enough


def test_without_weights_on_disk_the_revision_of_this_release_is_fetched(
    fake: FakeHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo = fake.add(hub.DEFAULT_MODEL_ID, model_files)
    repo.refs[hub.DEFAULT_REVISION] = repo.refs["main"]
    repo.commit({"head/head.safetensors": b"of a later release"})
    monkeypatch.setattr(weights, "_PACKAGE", tmp_path / "spatialavatar")
    assert SpatialAvatar.from_pretrained(hub.weights_dir()).head.id == "ball"


def test_with_nothing_on_disk_and_no_hub_the_error_says_what_to_do(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "_PACKAGE", tmp_path / "spatialavatar")
    with pytest.raises(MissingAssetError, match="cannot be fetched; clone the repository"):
        hub.weights_dir()


# Strictness


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(surprise=1), "has the unknown key surprise"),
        (lambda c: c.pop("resolution"), "lacks resolution"),
        (lambda c: c["base"]["surfels"].pop("opacity"), "lacks opacity"),
        (lambda c: c["base"].update(glow=2), "has the unknown key glow"),
        (lambda c: c.update(version=99), "version 99"),
        (lambda c: c.update(format="transformers"), "not the configuration of a SpatialAvatar model"),
    ],
)
def test_a_key_too_few_or_too_many_in_the_configuration_is_an_error(tmp_path: Path, change, words: str) -> None:
    folder = SpatialAvatar(CONFIG, make_ball_head()).save_pretrained(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=words):
        SpatialAvatar.from_pretrained(folder)


def test_weights_that_the_model_would_not_use_are_an_error(tmp_path: Path) -> None:
    folder = SpatialAvatar(CONFIG, make_ball_head()).save_pretrained(tmp_path)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(FormatError, match=r"does not use: model\.safetensors"):
        SpatialAvatar.from_pretrained(folder)


# Pushing


def test_a_pushed_avatar_is_private_and_comes_back_the_same(fake: FakeHub, avatar: Avatar) -> None:
    address = avatar.push_to_hub("owner/ann", token=OWNER_TOKEN)
    repo = fake.repos["owner/ann"]
    assert repo.private
    assert address == f"{fake.url}/owner/ann/commit/{repo.refs['main']}"
    assert {AVATAR_FILE, "config.json", "preview.png", "README.md"} <= repo.commits[repo.refs["main"]].keys()
    again = Avatar.from_pretrained("owner/ann", token=OWNER_TOKEN, head=avatar.head)
    assert torch.equal(again.gaussians.colors, avatar.gaussians.colors)


def test_a_second_push_is_a_second_commit(fake: FakeHub, avatar: Avatar) -> None:
    first = avatar.push_to_hub("owner/ann", token=OWNER_TOKEN)
    second = Avatar(**{**vars(avatar), "shape": avatar.shape + 1}).push_to_hub("owner/ann", token=OWNER_TOKEN)
    assert first != second
    assert first.rpartition("/")[2] in fake.repos["owner/ann"].commits


def test_a_pushed_model_comes_back_with_every_file_it_was_loaded_with(
    fake: FakeHub, model_files: dict[str, bytes]
) -> None:
    fake.add(MODEL, {**model_files, "networks/extra.onnx": b"network"})
    SpatialAvatar.from_pretrained(MODEL).push_to_hub("owner/copy", token=OWNER_TOKEN)
    repo = fake.repos["owner/copy"]
    assert not repo.private
    pushed = repo.commits[repo.refs["main"]]
    assert pushed["networks/extra.onnx"] == b"network"
    assert b'from_pretrained("owner/copy", revision="main")' in pushed["README.md"]


def test_an_avatar_goes_to_a_public_repository_only_when_told_to(fake: FakeHub, avatar: Avatar) -> None:
    repo = fake.add("owner/ann", {"README.md": b""})
    with pytest.raises(OutputError, match="is public; pass private=False"):
        avatar.push_to_hub("owner/ann", token=OWNER_TOKEN)
    assert len(repo.commits) == 1
    avatar.push_to_hub("owner/ann", token=OWNER_TOKEN, private=False)
    assert len(repo.commits) == 2


@pytest.mark.parametrize(
    ("token", "words"),
    [(False, "you must be logged in"), (READER_TOKEN, "may not write to owner/ann"), (OWNER_TOKEN, "")],
)
def test_a_push_that_is_not_allowed_says_why(fake: FakeHub, avatar: Avatar, token: str | bool, words: str) -> None:
    repo_id = "owner/ann" if words else "someone-else/ann"
    with pytest.raises(OutputError, match=words or "may not write to someone-else/ann"):
        avatar.push_to_hub(repo_id, token=token)
    assert fake.repos == {}


# Cards


def card_of(files: dict[str, bytes]) -> tuple[dict, str]:
    """Front matter and text."""
    _, head, text = files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head), text


def code_of(text: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def test_paper_model_and_space_find_each_other(repository: Path) -> None:
    for path in ("weights/README.md", "README.md"):
        assert f"https://arxiv.org/abs/{PAPER_ID}" in (repository / path).read_text(encoding="utf-8")
    space, _ = card_of({"README.md": (repository / "README.md").read_bytes()})
    assert hub.DEFAULT_MODEL_ID in space["models"]
    data, _ = card_of(read_folder(repository / "weights"))
    assert data["library_name"] == "spatialavatar"
    assert data["pipeline_tag"] == "image-to-3d"


def test_the_shipped_card_is_the_one_that_the_code_writes(repository: Path) -> None:
    card = SpatialAvatar.from_pretrained(repository / "weights").card()
    written = (repository / "weights" / "README.md").read_text(encoding="utf-8")
    assert written == card, "run python scripts/write_model_card.py"


def test_the_shipped_configuration_is_this_releases(repository: Path) -> None:
    config = SpatialAvatar.from_pretrained(repository / "weights").config
    trained = read_training_config(repository / "configs" / "open.toml").network
    assert config == GeneratorConfig(network=trained, prior=PriorConfig()), "run python scripts/write_model_card.py"


def test_an_avatars_card_names_the_model_and_not_the_paper(avatar_files: dict[str, bytes]) -> None:
    data, text = card_of(avatar_files)
    assert data["base_model"] == hub.DEFAULT_MODEL_ID
    assert "arxiv" not in json.dumps(data) + text
    assert "consent" in text.lower()


def test_the_code_of_the_models_card_runs(
    fake: FakeHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from spatialavatar import pipeline

    seen = {}

    def generate(photos, *, model=None, progress=None):
        seen.update(photos=photos, model=model)
        return make_ball_avatar()

    repo = fake.add(hub.DEFAULT_MODEL_ID, model_files)
    repo.refs[hub.DEFAULT_REVISION] = repo.refs["main"]
    # In this order: the package's name is looked up lazily, and the patch of it keeps what it finds for its undoing.
    monkeypatch.setattr("spatialavatar.generate", generate)
    monkeypatch.setattr(pipeline, "generate", generate)
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    exec(code_of(card_of(model_files)[1]), variables)
    assert seen["model"].head.id == "ball"
    assert variables["image"].shape == (96, 96, 3)
    assert (tmp_path / "me.safetensors").is_file()


def test_the_code_of_an_avatars_card_runs(
    fake: FakeHub, avatar: Avatar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from spatialavatar.motion import Motion, write_motion

    avatar.push_to_hub("owner/ann", token=OWNER_TOKEN, private=False)
    monkeypatch.setattr("spatialavatar.avatar.default_head", lambda: avatar.head)
    monkeypatch.chdir(tmp_path)
    write_motion(Motion(torch.zeros(3, 52), torch.zeros(3, 3), torch.zeros(3, 3), 25.0), tmp_path / "motion.json")
    repo = fake.repos["owner/ann"]
    exec(code_of(card_of(repo.commits[repo.refs["main"]])[1]), {})
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_the_code_of_the_documentation_runs(
    fake: FakeHub,
    avatar: Avatar,
    model_files: dict[str, bytes],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    avatar.push_to_hub("owner/your-avatar", token=OWNER_TOKEN)
    model = fake.add(hub.DEFAULT_MODEL_ID, model_files)
    model.refs["v0.1.0"] = model.refs["main"]
    commit = fake.repos["owner/your-avatar"].refs["main"]
    text = (repository / "docs" / "guide" / "hub.md").read_text(encoding="utf-8")
    for name, real in {"you/": "owner/", "org/": "owner/", "1f3c...": commit, "hf_...": OWNER_TOKEN}.items():
        text = text.replace(name, real)
    calls = r"^    (?:from spatialavatar import|model|avatar)\b.*"
    code = "\n".join(line.strip() for line in re.findall(calls, text, re.MULTILINE))
    assert code.count("push_to_hub") == 3
    SpatialAvatar(CONFIG, make_ball_head()).save_pretrained(tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", OWNER_TOKEN)
    monkeypatch.setattr("spatialavatar.avatar.default_head", lambda: avatar.head)
    exec(code, {})
    pushed = fake.repos["owner/model"]
    assert "head/head.safetensors" in pushed.commits[pushed.refs["main"]]


def test_measured_results_become_the_cards_model_index(tmp_path: Path) -> None:
    folder = SpatialAvatar(CONFIG, make_ball_head()).save_pretrained(tmp_path / "model")
    results = [{"dataset": "five-clips", "protocol": "self, K = 1", "metrics": {"psnr": 23.75, "lpips": 0.1}}]
    (folder / "results.json").write_text(json.dumps({"results": results, "command": "spatialavatar bench self clips"}))
    other = [{"dataset": "five-clips", "protocol": "refined", "metrics": {"psnr": 27.5}}]
    (folder / "results-refined.json").write_text(json.dumps({"results": other}))
    data, text = card_of({"README.md": SpatialAvatar.from_pretrained(folder).card().encode()})
    figures = {
        (entry["task"]["name"], metric["type"]): metric["value"]
        for entry in data["model-index"][0]["results"]
        for metric in entry["metrics"]
    }
    assert figures == {("self, K = 1", "psnr"): 23.75, ("self, K = 1", "lpips"): 0.1, ("refined", "psnr"): 27.5}
    assert "| five-clips | self, K = 1 | 23.75 | 0.1 |" in text
    assert "| five-clips | refined | 27.5 |  |" in text
    assert "* `spatialavatar bench self clips`" in text


@pytest.mark.parametrize("content", ["[]", "{}", '{"results": [{"dataset": "x"}]}', '{"results": 3}', "{"])
def test_results_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    folder = SpatialAvatar(CONFIG, make_ball_head()).save_pretrained(tmp_path / "model")
    (folder / "results.json").write_text(content)
    with pytest.raises(FormatError, match=r"results\.json is not an evaluation's result"):
        SpatialAvatar.from_pretrained(folder).card()


def test_without_results_the_card_has_no_figures(model_files: dict[str, bytes]) -> None:
    data, text = card_of(model_files)
    assert "model-index" not in data
    assert "Not evaluated yet" in text


# Papers


def linked(repo_id: str, library: str | None) -> dict:
    return {"id": repo_id, "private": False, "downloads": 7, "likes": 3, "tags": [library] if library else []}


@pytest.fixture
def paper(fake: FakeHub, model_files: dict[str, bytes], avatar_files: dict[str, bytes]) -> FakeHub:
    """A paper that a foreign model, an avatar and a model of ours are linked to."""
    fake.add("others/model", {"config.json": b"{}"})
    fake.add("owner/ann", avatar_files)
    fake.add(MODEL, model_files)
    fake.papers[PAPER_ID] = {
        "id": PAPER_ID,
        "title": "SpatialAvatar-0",
        "authors": [{"name": "A. Author", "hidden": False}],
        "publishedAt": "2026-06-14T00:00:00.000Z",
        "summary": "A head\nfrom photos.",
        "upvotes": 5,
        "linkedModels": [
            linked("others/model", None),
            linked("owner/ann", "spatialavatar"),
            linked(MODEL, "spatialavatar"),
        ],
        "linkedSpaces": [linked("owner/space", None)],
        "linkedDatasets": [],
    }
    return fake


def test_a_paper_tells_what_is_linked_to_it(paper: FakeHub) -> None:
    facts = paper_facts(f"https://arxiv.org/abs/{PAPER_ID}v2")
    assert (facts["id"], facts["title"], facts["summary"]) == (PAPER_ID, "SpatialAvatar-0", "A head from photos.")
    assert [model["id"] for model in facts["linked_models"]] == ["others/model", "owner/ann", MODEL]
    assert [space["id"] for space in facts["linked_spaces"]] == ["owner/space"]
    assert facts["linked_datasets"] == []


def test_a_paper_leads_to_the_first_model_that_is_ours(paper: FakeHub) -> None:
    model_id, folder = fetch_model_of(PAPER_ID)
    assert model_id == MODEL
    assert SpatialAvatar.from_pretrained(folder).config == CONFIG


def test_a_paper_without_a_model_of_ours_says_so(paper: FakeHub) -> None:
    paper.papers[PAPER_ID]["linkedModels"].pop()
    with pytest.raises(MissingAssetError, match="papers info"):
        fetch_model_of(PAPER_ID)


def test_an_unknown_paper_is_named(fake: FakeHub) -> None:
    with pytest.raises(MissingAssetError, match=r"no paper 1234\.56789"):
        paper_facts("1234.56789")


# The command line


def test_drive_takes_an_avatar_of_the_hub(
    fake: FakeHub, avatar: Avatar, avatar_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spatialavatar.motion import Motion, write_motion

    fake.add("owner/ann", avatar_files)
    monkeypatch.setattr("spatialavatar.avatar.default_head", lambda: avatar.head)
    motion, out = tmp_path / "still.json", tmp_path / "out.mp4"
    write_motion(Motion(torch.zeros(2, 52), torch.zeros(2, 3), torch.zeros(2, 3), 25.0), motion)
    assert cli.main(["drive", "owner/ann", "--motion", str(motion), "-o", str(out), "--size", "64", "-q"]) == 0
    assert out.is_file()


def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(
    fake: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["drive", "ann/me.safetensors", "--motion", "m.json", "-q"]) == 1
    assert "There is no avatar at ann/me.safetensors" in capsys.readouterr().err
    assert fake.requests == []


def test_papers_info_is_one_object_without_nulls(paper: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["papers", "info", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == paper_facts(PAPER_ID)
    assert "null" not in out


def test_papers_info_reads_like_a_page(paper: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["papers", "info", PAPER_ID]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["SpatialAvatar-0", "A. Author", "2026-06-14", f"https://arxiv.org/abs/{PAPER_ID}"]
    assert "  owner/model   7 downloads, 3 likes" in lines
    assert "No linked datasets." in lines


def test_papers_info_of_an_unknown_paper_fails_with_a_sentence(
    fake: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["papers", "info", "1234.56789", "-q"]) == 1
    assert capsys.readouterr() == ("", "spatialavatar: The Hub has no paper 1234.56789; check the id.\n")


def test_papers_load_prints_where_the_loaded_model_is(paper: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["papers", "load", PAPER_ID, "-q"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert SpatialAvatar.from_pretrained(folder).config == CONFIG
    assert cli.main(["papers", "load", PAPER_ID, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["folder"], facts["head"]) == (MODEL, str(folder), "ball")
    assert facts["revision"] == paper.repos[MODEL].refs["main"]


@pytest.fixture
def push(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Pushes the avatar to owner/ann by the command line, with flags; gives what was printed."""
    monkeypatch.setattr("spatialavatar.avatar.default_head", lambda: avatar.head)
    path = str(avatar.save(tmp_path / "a.safetensors"))

    def pushed(*flags: str) -> tuple[str, str]:
        assert cli.main(["push", path, "owner/ann", "--token", OWNER_TOKEN, *flags]) == 0
        return capsys.readouterr()

    return pushed


@pytest.mark.parametrize("public", [[], ["--public"]])
def test_push_uploads_privately_unless_told_otherwise(
    fake: FakeHub, push: Callable[..., tuple[str, str]], public: list[str]
) -> None:
    out, _ = push("-q", *public)
    assert out.startswith(f"{fake.url}/owner/ann/commit/")
    assert fake.repos["owner/ann"].private == (not public)


@pytest.mark.parametrize("public", [[], ["--public"]])
def test_push_takes_the_web_page_along_and_says_where_it_is(
    fake: FakeHub, push: Callable[..., tuple[str, str]], public: list[str]
) -> None:
    out, err = push("--page", "--json", *public)
    repo = fake.repos["owner/ann"]
    assert json.loads(out)["page"] == f"{fake.url}/owner/ann/resolve/{repo.refs['main']}/avatar.html"
    assert repo.commits[repo.refs["main"]]["avatar.html"].startswith(b"<!doctype html>")
    assert ("cannot be embedded" in err) == (not public)


def test_the_command_line_says_in_one_line_that_the_shipped_weights_are_used(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_ID", "owner/nothing")
    assert cli.main(["licences", "-q"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: ")
    assert line.endswith("are used instead.")
