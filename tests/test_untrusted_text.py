"""What strangers wrote into avatars and models does not act where it is shown; what photos are called stays local."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from spatialavatar import cli
from spatialavatar.avatar import Avatar
from spatialavatar.diagnostics import avatar_facts
from spatialavatar.errors import FormatError
from spatialavatar.generator import GeneratorConfig, SpatialAvatar
from spatialavatar.hub.cards import AvatarFacts, avatar_card
from spatialavatar.text import for_code, for_json, for_markdown, for_terminal

from .support.avatars import make_ball_avatar
from .support.ball_head import make_ball_head

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u009b31m"
HOSTILE = {
    "photos": "<script>alert(1)</script>",
    "bytes": 7,
    "head": "another",
    "avatar": "\u202etxt.exe",
    ESCAPE: ESCAPE,
    "notes": ["line\nhead  forged", {"deep": ESCAPE}],
}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An avatar file with hostile facts, whose head model is at hand."""
    monkeypatch.setattr("spatialavatar.avatar.default_head", make_ball_head)
    return replace(make_ball_avatar(), info=HOSTILE).save(tmp_path / "a.safetensors")


def test_an_avatars_info_replaces_none_of_its_facts(hostile: Path) -> None:
    facts = avatar_facts(hostile)
    assert (facts["avatar"], facts["bytes"], facts["head"]) == ("a.safetensors", hostile.stat().st_size, "ball")


@pytest.mark.parametrize("form", [[], ["--json"], ["-q"]])
def test_an_avatars_info_reaches_no_terminal_as_control_characters(
    hostile: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", str(hostile), *form]) == 0
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\x9b\u202e")
    assert not [line for line in out.splitlines() if line.startswith("head  forged")]
    if form == ["--json"]:
        assert json.loads(out)[ESCAPE] == ESCAPE


def test_an_avatars_info_is_no_html_in_its_card(hostile: Path) -> None:
    card = Avatar.load(hostile, make_ball_head()).card()
    assert "<script" not in card
    assert "made from | photos |" in card


def test_a_heads_name_is_text_in_a_card() -> None:
    facts = AvatarFacts(head="x|<img src=a>`[b](c)", gaussians=1, resolution=2, photos=1, refined=False)
    card = avatar_card(facts, "a.safetensors")
    assert "<img" not in card
    assert r"x\|&lt;img src=a&gt;\`\[b\](c)" in card


def test_a_manifest_is_text_in_a_models_card(tmp_path: Path) -> None:
    entry = {"path": "weights/a`|b", "what": "<script>x</script>|y\nz", "licence": "[MIT](javascript:x)", "bytes": 1}
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"files": [entry]}))
    card = SpatialAvatar(GeneratorConfig(resolution=16), make_ball_head(), tmp_path).card()
    row = next(line for line in card.splitlines() if "script" in line)
    assert row == (r"| `a'/b` | &lt;script&gt;x&lt;/script&gt;\|y z | not known | \[MIT\](javascript:x) | not known |")


@pytest.mark.parametrize("change", [{"command": {"a": 1}}, {"source": {"url": [1]}}, {"source": 3}, {"results": None}])
def test_results_of_another_kind_give_one_sentence(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"command": "x", "source": {}, "results": []} | change))
    with pytest.raises(FormatError, match="not an evaluation's result"):
        SpatialAvatar(GeneratorConfig(resolution=16), make_ball_head(), tmp_path).card()


@pytest.mark.parametrize("text", ["Grüße, 你好 👋", "a_b-c.d/e", "tab\there"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert for_terminal(text) == for_json(text) == text
    assert for_markdown(text) == for_code(text) == " ".join(text.split())


# -- the names of photos ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def private_photo(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small face, of which the tracker warns by name, in a folder whose name contains private data."""
    path = tmp_path_factory.mktemp("home") / "ann-private" / "astronaut.png"
    path.parent.mkdir()
    path.write_bytes((examples / "portraits" / "astronaut.png").read_bytes())
    return path


def test_the_apps_avatar_names_no_folder_of_its_photos(private_photo: Path, tmp_path: Path) -> None:
    """Through the real backend, which is given paths as text, as the page gives them."""
    from spatialavatar.app.backend import GenerateRequest, generate_steps

    request = GenerateRequest(photos=[str(private_photo)], folder=str(tmp_path))
    *_, last = generate_steps(request)
    with safe_open(last.files["avatar"], framework="pt") as file:
        metadata = file.metadata()
    assert "astronaut.png" in json.loads(metadata["spatialavatar"])["info"]["warnings"][0]
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert b"ann-private" not in path.read_bytes(), path


def test_a_model_and_the_package_make_the_same_avatar_of_a_photo(private_photo: Path) -> None:
    from spatialavatar import generate
    from spatialavatar.media import read_image
    from spatialavatar.pipeline import default_model

    model = default_model().without_network()
    whole = generate(private_photo, model=model, polish=2, bust=False, scene=False).gaussians
    same = model.generate(read_image(private_photo), polish=2, bust=False).gaussians
    bare = model.generate(read_image(private_photo), polish=0, bust=False).gaussians
    assert whole.colors.equal(same.colors)
    assert whole.means.equal(same.means)
    assert not whole.colors.equal(bare.colors)


def test_a_model_polishes_as_much_as_the_package_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from spatialavatar.refinement import polish

    from .support.painted_head import model, painted_track

    iterations = []
    monkeypatch.setattr(polish, "polish", lambda avatar, tracks, config, **_: iterations.append(config.iterations))
    model().generate(painted_track(), bust=False)
    assert iterations == [polish.PolishConfig().iterations]
