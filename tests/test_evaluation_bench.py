"""Running a protocol: resumed, sharded and merged, with whatever goes wrong written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from spatialavatar import cli
from spatialavatar.errors import InputError
from spatialavatar.evaluation import bench
from spatialavatar.evaluation.bench import RunOptions
from spatialavatar.evaluation.protocols import BenchConfig
from spatialavatar.evaluation.results import digest
from spatialavatar.generator import SpatialAvatar
from spatialavatar.hub import cards

from .support.painted_head import model as generator_model
from .support.small_network import TINY as TINY_NETWORK


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of three pictures; the second lacks a frame."""
    folder = tmp_path / "clips"
    for name in ("one", "two", "three", "four"):
        for index in range(4):
            if (name, index) != ("two", 2):
                path = folder / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64)).save(path)
    return folder


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of clips that were measured; "three" fails."""
    names: list[str] = []

    def measure(clip, prepared, clips, progress):
        names.append(clip.name)
        if clip.name == "three":
            raise InputError("The video three is damaged; save it again.")
        if not clip.recordings:
            raise InputError(clip.notes[0])
        psnr = 20.0 + len(clip.name)
        frames = [{"frame": 1, "psnr": psnr, "render_ms": 3.0}, {"frame": 2, "psnr": psnr + 1, "render_ms": 4.0}]
        return {
            "clip": clip.name,
            "status": "measured",
            "notes": list(clip.notes),
            "source": "frame 0",
            "fps": 30.0 if clip.name == "four" else 25.0,
            "frames": 4,
            "methods": {
                "K = 1": {"means": {"psnr": psnr + 0.5, "aspect": 2.0}, "renders_without_a_face": 0, "frames": frames}
            },
            "worst": [1],
            "files": [],
        }

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "_start_worker", lambda *_: bench._WORKER.__setitem__(slice(None), [(None, ())]))
    return names


def test_one_clip_fails_and_the_others_are_measured(clips, measured, tmp_path):
    content = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    (result,) = content["results"]
    assert (result["clips"], result["frames"]) == (3, 6)
    assert result["metrics"]["psnr"] == pytest.approx((23.5 + 23.5 + 24.5) / 3, abs=0.01)
    assert content["failed"] == {"three": "The video three is damaged; save it again."}
    page = (tmp_path / "out" / "report.html").read_text()
    for sentence in (
        "The video three is damaged",
        "1 are missing (from 2)",
        "It has 30.0 frames per second, where most clips of the set have 25.0",
    ):
        assert sentence in page
    assert "three: The video three is damaged" in (tmp_path / "out" / "table.md").read_text()


def test_a_folder_of_no_known_layout_is_named_in_the_report(clips, measured, tmp_path):
    (clips / "notes").mkdir()
    (clips / "notes" / "a.txt").write_text("")
    content = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    assert content["failed"]["notes"] == "The folder notes is laid out in no known way."


def test_a_bug_in_one_clip_does_not_stop_the_run(clips, measured, tmp_path, monkeypatch):
    fine = bench.measure

    def measure(clip, *rest):
        if clip.name == "one":
            raise ZeroDivisionError("cogs")
        return fine(clip, *rest)

    monkeypatch.setattr(bench, "measure", measure)
    content = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    assert "ZeroDivisionError: cogs" in content["failed"]["one"]
    assert content["results"][0]["clips"] == 2


def test_a_second_run_measures_only_what_is_missing_or_failed(clips, measured, tmp_path):
    first = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    (tmp_path / "out" / "clips" / "one.json").unlink()
    measured.clear()
    second = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    assert measured == ["one", "three"]
    assert second["digest"] == first["digest"]


def test_results_of_another_configuration_are_not_mixed_in(clips, measured, tmp_path):
    bench.run(clips, tmp_path / "out", BenchConfig("self"))
    with pytest.raises(InputError, match="give another --out"):
        bench.run(clips, tmp_path / "out", BenchConfig("self", stride=2))


def model_folder(tmp_path: Path, name: str, text: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(text)
    return folder


def test_results_of_another_model_are_not_mixed_in_and_those_of_its_copy_are(clips, measured, tmp_path):
    one, copy, other = (model_folder(tmp_path, name, text) for name, text in (("a", "1"), ("b", "1"), ("c", "2")))
    first = bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(model=one))
    measured.clear()
    assert bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(model=copy))["digest"] == first["digest"]
    assert measured == ["three"]  # which failed
    for more in ({"model": other}, {"model": one, "base": True}, {}):
        with pytest.raises(InputError, match="give another --out"):
            bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(**more))


def test_the_results_say_which_model_was_measured(clips, measured, tmp_path):
    model = str(model_folder(tmp_path, "a", "1"))
    line = ["bench", "self", str(clips), "--out", str(tmp_path / "out"), "--model", model, "--base"]
    assert cli.main(line) == 0
    assert f"--model {model} --base --out DIR" in (tmp_path / "out" / "table.md").read_text()


def test_a_worker_opens_the_model_that_is_asked_for(tmp_path, monkeypatch):
    from spatialavatar.evaluation import protocols

    opened = generator_model()
    network = replace(opened.config, network=replace(TINY_NETWORK, color_channels=3))
    SpatialAvatar(network, opened.head).save_pretrained(tmp_path / "model")
    monkeypatch.setattr("spatialavatar.tracking.networks.Networks", lambda **_: None)
    monkeypatch.setattr(bench, "_WORKER", [])
    for base in (False, True):
        bench._start_worker(bench._Start(BenchConfig("self"), tmp_path, (), tmp_path / "model", base), 1)
        ((prepared, _),) = bench._WORKER
        assert isinstance(prepared, protocols.Bench)
        assert (prepared.model.network is None) == base


def test_merged_shards_are_the_whole_run(clips, measured, tmp_path):
    whole = bench.run(clips, tmp_path / "whole", BenchConfig("self"))
    for number in (1, 2, 3):
        part = bench.run(clips, tmp_path / str(number), BenchConfig("self"), RunOptions(shard=(number, 3)))
        assert part["missing"] == 4 - len(part["clips"])
    merged = bench.merge([tmp_path / str(number) for number in (1, 2, 3)], tmp_path / "merged")
    assert merged["digest"] == whole["digest"]
    assert merged["results"] == whole["results"]
    assert merged["missing"] == 0
    assert (tmp_path / "merged" / "table.tex").read_text() == (tmp_path / "whole" / "table.tex").read_text()


def test_shards_of_different_runs_are_not_merged(clips, measured, tmp_path):
    bench.run(clips, tmp_path / "1", BenchConfig("self"), RunOptions(shard=(1, 2)))
    bench.run(clips, tmp_path / "2", BenchConfig("self", seed=1), RunOptions(shard=(2, 2)))
    with pytest.raises(InputError, match="another configuration or code"):
        bench.merge([tmp_path / "1", tmp_path / "2"], tmp_path / "out")


def test_the_digest_leaves_times_out_and_nothing_else(clips, measured, tmp_path):
    content = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    clip = next(clip for clip in content["clips"] if clip["clip"] == "one")
    clip["methods"]["K = 1"]["frames"][0]["render_ms"] = 99.0
    clip["seconds"] = 99.0
    assert digest(content["clips"]) == content["digest"]
    clip["methods"]["K = 1"]["frames"][0]["psnr"] += 1e-6
    assert digest(content["clips"]) != content["digest"]


TRANSFER = {"jaw": {"r": 0.9, "amplitude": 0.4, "mae": 0.08, "mae_change": 0.05, "lag": 1.0}, "blink": {"r": 0.7}}


@pytest.fixture
def transferred(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured clips have an outline and an expression transfer too."""
    fine = bench.measure

    def measure(clip, *rest):
        result = fine(clip, *rest)
        method = result["methods"]["K = 1"]
        method["transfer"] = {group: dict(figures) for group, figures in TRANSFER.items()}
        method["means"] |= {"spill": 1.0, "transfer_r": 0.8}
        method["frames"] = [frame | {"spill": 1.0, "missing": 2.0} for frame in method["frames"]]
        return result

    monkeypatch.setattr(bench, "measure", measure)


def test_the_digest_stays_that_of_versions_without_outline_and_transfer(clips, measured, tmp_path, request):
    before = bench.run(clips, tmp_path / "before", BenchConfig("self"))
    request.getfixturevalue("transferred")
    after = bench.run(clips, tmp_path / "after", BenchConfig("self"))
    assert after["digest"] == before["digest"]
    assert after["digest_all"] != before["digest_all"]
    after["clips"][0]["methods"]["K = 1"]["transfer"]["jaw"]["r"] += 1e-6
    assert digest(after["clips"], added=True) != after["digest_all"]


@pytest.mark.usefixtures("transferred")
def test_each_group_of_the_expression_is_in_results_table_and_page_of_merged_shards(clips, tmp_path):
    for number in (1, 2):
        bench.run(clips, tmp_path / str(number), BenchConfig("self"), RunOptions(shard=(number, 2)))
    content = bench.merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert content["results"][0]["transfer"]["jaw"] == {"clips": 3, **TRANSFER["jaw"]}
    row = "| self, K = 1: jaw | 3 | 0.900 | 0.40 | 0.080 | 0.050 | 1.00 |"
    assert row in (tmp_path / "merged" / "table.md").read_text()
    assert "<td>self, K = 1: jaw</td><td>3</td><td>0.900</td>" in (tmp_path / "merged" / "report.html").read_text()


@pytest.mark.parametrize("value", [5, {"jaw": 5}, {"jaw": {"r": "high"}}, [1]])
def test_a_damaged_transfer_is_one_sentence(clips, measured, tmp_path, capsys, value):
    bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(only="one"))
    path = tmp_path / "out" / "clips" / "one.json"
    clip = json.loads(path.read_text())
    clip["methods"]["K = 1"]["transfer"] = value
    path.write_text(json.dumps(clip))
    assert cli.main(["bench", "merge", str(tmp_path / "out"), "--out", str(tmp_path / "merged")]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "one.json are damaged; delete the file" in sentence


def test_only_matching_clips_are_measured(clips, measured, tmp_path):
    bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(only="t*"))
    assert measured == ["three", "two"]
    with pytest.raises(InputError, match=r"No clip in .* matches 'x"):
        bench.run(clips, tmp_path / "none", BenchConfig("self"), RunOptions(only="x*"))
    measured.clear()
    bench.run(clips, tmp_path / "two", BenchConfig("self"), RunOptions(only="o*,two"))
    assert measured == ["one", "two"]


def test_the_latex_table_can_be_pasted(clips, measured, tmp_path):
    bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(name="a_b & c"))
    text = (tmp_path / "out" / "table.tex").read_text()
    assert r"PSNR, dB $\uparrow$" in text
    assert "self, K = 1 & 23.83" in text
    assert text.count("{tabular}") == 2


def test_the_page_escapes_what_folders_are_called(measured, tmp_path):
    path = tmp_path / "clips" / "<b>&1" / "0.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(path)
    bench.run(tmp_path / "clips", tmp_path / "out", BenchConfig("self"))
    assert "<b>&1" not in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "clips" / "_b__1.json").is_file()


def test_the_model_card_is_made_from_the_results(clips, measured, tmp_path):
    content = bench.run(clips, tmp_path / "out", BenchConfig("self"))
    rows = cards._results(tmp_path / "out")
    figures = {(row.metric_type, row.metric_value) for row in cards._evaluations(rows)}
    assert figures == {("psnr", 23.83), ("aspect", 2.0)}
    assert content["command"] in cards._metrics(rows)


def test_the_command_prints_the_table_or_json(clips, measured, tmp_path, capsys):
    line = ["bench", "self", str(clips), "--out", str(tmp_path / "out")]
    assert cli.main(line) == 0
    captured = capsys.readouterr()
    assert "| self, K = 1 | 23.83 |" in captured.out
    assert "three: The video three is damaged" in captured.err
    assert cli.main([*line, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == "spatialavatar.evaluation/1"
    assert "clips" not in facts
    assert cli.main(["bench", "merge", str(tmp_path / "out"), "--out", str(tmp_path / "merged"), "-q"]) == 0
    assert str(tmp_path / "merged" / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--shard", "3"], ["--shard", "3/2"], ["--region", "nose"], ["--stride", "0"]])
def test_wrong_options_are_one_sentence(clips, measured, tmp_path, capsys, words):
    assert cli.main(["bench", "self", str(clips), "--out", str(tmp_path / "out"), *words]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_clips_are_measured_by_several_processes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "clips" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "clips" / name).write_bytes(b"no video")
    content = bench.run(tmp_path / "clips", tmp_path / "out", BenchConfig("self"), RunOptions(jobs=2))
    assert sorted(content["failed"]) == ["a", "b"]
    assert "a.mp4 is not a video that can be read" in content["failed"]["a"]
    assert content["results"] == []


DAMAGED = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "a list": "[]",
    "long number": '{"run": {"clips": 1' + "0" * 5000 + "}}",
    "no run": "{}",
    "text for numbers": '{"run": {"key": 5}}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_results_are_one_sentence(clips, measured, tmp_path, capsys, content):
    bench.run(clips, tmp_path / "out", BenchConfig("self"))
    (tmp_path / "out" / "results.json").write_text(content)
    assert cli.main(["bench", "merge", str(tmp_path / "out"), "--out", str(tmp_path / "merged")]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "results.json are damaged; delete the file" in sentence


@pytest.mark.parametrize("name", ["methods", "notes", "seconds", "memory_gb", "files", "status", "worst", "fps"])
@pytest.mark.parametrize("value", ["5", "null", '{"a": [[]]}', "1e308", '"\\ud800"', '[["x"]]'])
def test_a_damaged_clip_never_is_an_unexpected_error(clips, measured, tmp_path, capsys, name, value):
    bench.run(clips, tmp_path / "out", BenchConfig("self"), RunOptions(only="one"))
    path = tmp_path / "out" / "clips" / "one.json"
    clip = json.loads(path.read_text())
    clip[name] = "VALUE"
    path.write_text(json.dumps(clip).replace('"VALUE"', value))
    cli.main(["bench", "merge", str(tmp_path / "out"), "--out", str(tmp_path / "merged"), "-q"])
    assert "should not have" not in capsys.readouterr().err


def test_results_of_a_folder_without_clips_are_merged(clips, measured, tmp_path):
    bench.run(clips, tmp_path / "out", BenchConfig("self"))
    for path in (tmp_path / "out" / "clips").iterdir():
        path.unlink()
    (tmp_path / "out" / "clips").rmdir()
    assert bench.merge([tmp_path / "out"], tmp_path / "merged")["missing"] == 4


def test_a_file_where_the_results_go_is_one_sentence(clips, measured, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert cli.main(["bench", "self", str(clips), "--out", str(tmp_path / "out")]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "cannot be made" in sentence


def test_the_command_line_names_every_protocol():
    from spatialavatar.cli import evaluation
    from spatialavatar.evaluation.protocols import PROTOCOL_NAMES, PROTOCOLS

    assert tuple(PROTOCOLS) == PROTOCOL_NAMES == evaluation._PROTOCOLS
