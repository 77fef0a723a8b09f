"""The process around a command: signals, pipes, full disks and file names; and numbers on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spatialavatar import cli, pipeline
from spatialavatar.cli.output import Outcome

RUN = "import sys\nfrom spatialavatar import cli\nsys.exit(cli.main())"
# Stands in for a command that writes a file for a minute, as drive does; without torch, which takes seconds to import.
SLOW = """
import sys, time
from pathlib import Path
from spatialavatar import cli
from spatialavatar.cli import about
from spatialavatar.cli.output import Outcome
from spatialavatar.files import atomic_output
def info(options, progress):
    with atomic_output(options.avatar) as temporary:
        print("started", flush=True)
        time.sleep(60)
    return Outcome([], {})
about._info = info
sys.exit(cli.main())
"""


def command(*words: str | bytes, code: str = RUN) -> list[str | bytes]:
    return [sys.executable, "-c", code, *words]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_removes_temporary_files_and_exits_with_its_status(name: str, status: int, tmp_path: Path) -> None:
    if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN:
        pytest.skip(f"this run was started with {name} ignored, which its children inherit")
    line = command("info", str(tmp_path / "a.safetensors"), code=SLOW)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(getattr(signal, name))
        _, error = process.communicate(timeout=20)
    assert process.returncode == status
    assert error.splitlines() == ["spatialavatar: interrupted"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_signal_that_the_parent_ignores_stays_ignored(tmp_path: Path) -> None:
    ignored = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code = ignored + SLOW.replace("time.sleep(60)", "time.sleep(0.5)")
    line = command("info", str(tmp_path / "a.safetensors"), code=code)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_signal_handlers_are_those_of_before_after_a_command() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cli.main(["licences", "-q"])
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("words", [["licences"], ["licences", "--json"], ["--help"], ["drive", "--help"]])
def test_a_reader_that_closes_the_pipe_ends_the_command_in_silence(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command(*words), stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["licences"], ["--help"]])
def test_results_on_a_full_disk_are_one_sentence(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "spatialavatar: The results cannot be printed (No space left on device); redirect the output elsewhere."
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_notes_that_cannot_be_printed_do_not_stop_the_work(tmp_path: Path) -> None:
    code = """
import sys
from spatialavatar import cli
from spatialavatar.cli import about
from spatialavatar.cli.output import Outcome
def info(options, progress):
    for stage in ("One", "Two"):
        progress(0.5, stage)
    options.avatar.touch()
    return Outcome([options.avatar], {}, notes=["Three."])
about._info = info
sys.exit(cli.main())
"""
    path = tmp_path / "a.safetensors"
    with open("/dev/full", "w") as full:
        line = command("info", str(path), code=code)
        done = subprocess.run(line, stderr=full, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert path.is_file()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(stream: str) -> None:
    close = {"stdout": "1>&-", "stderr": "2>&-"}[stream]
    line = f"{sys.executable} -c 'import sys; from spatialavatar import cli; sys.exit(cli.main())' licences -q {close}"
    assert subprocess.run(line, shell=True, stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of other systems refuse such names")
@pytest.mark.parametrize("flags", [[], ["-q"], ["--json"]])
def test_a_file_name_that_is_no_utf8_is_printed_as_its_bytes(flags: list[str]) -> None:
    code = """
import sys
from spatialavatar import cli
from spatialavatar.cli import about
from spatialavatar.cli.output import Outcome
about._info = lambda options, progress: Outcome([options.avatar], {"avatar": options.avatar})
sys.exit(cli.main())
"""
    line = command("info", b"caf\xe9.safetensors", *flags, code=code)
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    if "--json" in flags:
        assert os.fsencode(json.loads(done.stdout.decode("utf-8"))["avatar"]) == b"caf\xe9.safetensors"
    else:
        assert done.stdout == b"caf\xe9.safetensors\n"


def test_a_wrong_command_line_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["export", "a.safetensors"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("required: --format; run 'spatialavatar export --help'.")


NUMBERS = {
    "generate a.jpg": ["--polish"],
    "refine a.safetensors a.mp4": ["--iterations", "--minutes", "--size", "--holdout"],
    "demo": ["--size"],
    "drive a.safetensors --motion a.json": ["--seconds", "--strength", "--smoothing", "--size", "--fps"],
    "export a.safetensors --format ply": ["--yaw", "--pitch", "--roll"],
    "app": ["--port"],
    "bench self clips": ["--stride", "--sources", "--polish", "--iterations", "--train-frames", "--seed", "--jobs"],
    "shards clips --out out": ["--frames", "--max-frames", "--per-shard"],
}


@pytest.mark.parametrize(("line", "name"), [(line, name) for line, names in NUMBERS.items() for name in names])
def test_a_number_out_of_its_limits_is_refused_in_one_sentence(
    line: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("nan", "inf", "-inf", "-1e9", "-999999", "1e300", "9" * 30, "9" * 5000, "", "many", "0x10"):
        try:
            status = cli.main([*line.split(), f"{name}={value}"])
        except SystemExit as error:
            status = error.code
        assert status in (1, 2), value
        captured = capsys.readouterr()
        assert captured.out == ""
        (sentence,) = captured.err.splitlines()
        assert name in sentence
        assert "Traceback" not in sentence
        assert "should not have" not in sentence
        assert len(sentence) < 200
    assert list(tmp_path.iterdir()) == []


def test_every_number_of_every_command_has_limits() -> None:
    for family in cli.declared_commands()._children.values():
        for command_name, parser in family.choices.items():
            for action in parser._actions:
                if action.type in (int, float):
                    assert action.choices, f"{command_name} {action.option_strings}"


@pytest.mark.parametrize("shard", ["0/1", "2/1", "1/0", "-1/2", "1/", "a/b", "\u0661/\u0661", "1/" + "9" * 5000])
def test_a_shard_that_is_none_is_refused_in_one_sentence(shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "self", "clips", f"--shard={shard}"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "shard" in sentence
    assert "should not have" not in sentence


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "1e999", ""])
def test_an_expression_weight_that_is_no_number_is_refused(weight: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "a.safetensors", "--format", "ply", "--expression", f"jawOpen={weight}"]) == 1
    assert "as jawOpen=0.6" in capsys.readouterr().err


def test_an_outcome_with_surrogates_is_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    Outcome([], {"video": Path(os.fsdecode(b"caf\xe9.mp4"))}).show("json")
    assert os.fsencode(json.loads(capsys.readouterr().out)["video"]) == b"caf\xe9.mp4"


def test_a_command_that_ends_a_recording_by_a_signal_still_exits_with_its_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def generate(*_, **__):
        from .support.avatars import make_ball_avatar

        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:  # as the webcam does, whose recording is kept
            return make_ball_avatar()

    monkeypatch.setattr(pipeline, "generate", generate)
    path = tmp_path / "a.safetensors"
    assert cli.main(["generate", "a.jpg", "-o", str(path), "-q"]) == 143
    assert path.is_file()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(36, "File name too long", "a" * 300), "File name too long; give another name"),
        (OSError(28, "No space left on device"), "No space left on device; give another name"),
        (PermissionError(13, "Permission denied", "/root/a"), "/root/a: Permission denied; give another name"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), "not UTF-8"),
    ],
)
def test_a_file_that_the_system_refuses_is_one_sentence(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "generate", fail)
    assert cli.main(["generate", "a.jpg", "-o", str(tmp_path / "a.safetensors"), "-q"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert words in sentence
    assert "should not have" not in sentence


def test_a_port_that_is_taken_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = pytest.importorskip("spatialavatar.app.server", reason="needs the extra 'app'")

    def refuse(*_):
        raise OSError("Cannot find empty port in range: 80-80.")

    monkeypatch.setattr(server, "run_app", refuse)
    assert cli.main(["app", "--port", "80"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "port 80; give another --host or --port" in sentence
