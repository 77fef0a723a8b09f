"""Every shipped weight is listed with its hash, its licence and where it came from."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spatialavatar import hub
from spatialavatar.errors import FormatError, MissingAssetError

ROOT = Path(__file__).resolve().parents[1]
# What may ship: licences that allow commercial use, change and redistribution.
PERMISSIVE = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0"}
GENERATOR = "weights/network.safetensors"


@pytest.fixture(scope="module")
def entries() -> list[dict]:
    return hub.manifest()


def test_every_weight_file_is_listed_and_unchanged():
    script = [sys.executable, str(ROOT / "scripts" / "update_manifest.py"), "--check"]
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_hashes_and_sizes_are_those_of_the_files(entries):
    for entry in entries:
        data = (ROOT / entry["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"]), entry["path"]


def test_everything_but_the_generator_stays_light(entries):
    assert sum(entry["bytes"] for entry in entries if entry["path"] != GENERATOR) <= 60e6


def test_every_licence_is_permissive_and_its_text_ships(entries):
    for entry in entries:
        assert entry["licence"] in PERMISSIVE, entry["path"]
        text = entry["licence_text"]
        assert text.startswith("https://") or (ROOT / text).stat().st_size > 500, entry["path"]


def test_every_file_names_its_source_and_the_script_that_made_it(entries):
    for entry in entries:
        assert entry["source"], entry["path"]
        assert (ROOT / entry["script"]).is_file(), entry["path"]


def test_files_that_come_from_packages_are_pinned(entries):
    networks = [entry for entry in entries if entry["path"].startswith("weights/networks/")]
    assert networks
    assert all(re.match(r"@?[\w./-]+(==|@)\d+(\.\d+)+, ", entry["source"]) for entry in networks)


def test_the_environment_names_another_weights_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(hub.WEIGHTS_VARIABLE, str(tmp_path))
    assert hub.weights_dir() == tmp_path
    with pytest.raises(MissingAssetError, match=r"networks/modnet\.onnx is missing"):
        hub.asset("networks/modnet.onnx")


def test_a_wrong_weights_folder_is_named_in_the_error(monkeypatch, tmp_path):
    monkeypatch.setenv(hub.WEIGHTS_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(MissingAssetError, match="none, which is not a folder"):
        hub.weights_dir()


def test_a_damaged_manifest_is_refused(monkeypatch, tmp_path):
    (tmp_path / hub.MANIFEST_NAME).write_text("{")
    monkeypatch.setenv(hub.WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(FormatError, match="damaged"):
        hub.manifest()
