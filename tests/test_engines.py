"""The GLB in the programs that people open it with: three.js and Blender."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialavatar.export import save_glb
from spatialavatar.export.glb import MESHES, MORPHS
from tests.support.blender_check import in_blender
from tests.support.chromium import needs_chromium
from tests.support.painted_avatar import painted_avatar
from tests.support.three_check import in_three

BONES = ["root", "neck", "jaw", "eye_left", "eye_right"]


@pytest.fixture(scope="module")
def glb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_glb(painted_avatar(), tmp_path_factory.mktemp("engines") / "head.glb")


@needs_chromium
def test_three_js_shows_the_glb_and_moves_jaw_and_neck(glb: Path, tmp_path: Path) -> None:
    found = in_three(glb, tmp_path)
    assert sorted(found["meshes"]) == sorted(["head", *MESHES])
    assert found["bones"] == BONES
    assert set(found["morphs"]) == set(MORPHS)
    assert found["covered"] > 4000
    assert found["opened"] > 200
    assert found["turned"] > 1000


def test_blender_reads_bones_and_shape_keys_and_opens_the_jaw(glb: Path) -> None:
    found = in_blender(glb)
    assert found["bones"] == BONES
    assert set(found["keys"]["head"]) == set(MORPHS)
    for way in ("turned", "opened"):
        assert found[way]["teeth_lower"] < -0.01  # metres; downwards
        assert found[way]["teeth_upper"] == 0.0
