"""The generator's configuration: ranges, and files of earlier releases."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from spatialavatar.errors import FormatError, InputError
from spatialavatar.generator import BaseConfig, GeneratorConfig
from spatialavatar.generator.config import SharpeningConfig, SurfelConfig, VisibilityConfig
from spatialavatar.generator.config_files import FLAT_KEYS
from spatialavatar.generator.model import read_config
from spatialavatar.generator.network import NetworkConfig
from spatialavatar.training.config import read_training_config


def flat_base() -> dict[str, Any]:
    """The default constants as one table, as files before version 3 have them."""
    return {key: getattr(getattr(BaseConfig(), group), name) for key, (group, name) in FLAT_KEYS.items()}


def written(folder: Path, **changes: Any) -> Path:
    """A ``config.json`` of today with some entries changed; None removes one."""
    values = {"format": "spatialavatar.generator", "version": 3, **asdict(GeneratorConfig()), **changes}
    path = folder / "config.json"
    path.write_text(json.dumps({name: value for name, value in values.items() if value != "absent"}))
    return path


@pytest.mark.parametrize(
    ("group", "name", "value", "words"),
    [
        ("sharpening", "rounds", 10**9, r"SharpeningConfig\.rounds is 1000000000; give a whole number from 0 to 50"),
        ("sharpening", "rounds", 3.0, "give a whole number"),
        ("sharpening", "rounds", True, "give a whole number"),
        ("sharpening", "step", "much", "step is 'much'"),
        ("graph", "neighbours", 10**6, "neighbours is 1000000"),
        ("fill", "border_rounds", -1, "border_rounds is -1"),
        ("visibility", "zbuffer_scale", 1000, "zbuffer_scale is 1000"),
        ("visibility", "facing", [0.45, 0.12], r"facing is \(0.45, 0.12\); give two increasing numbers"),
        ("visibility", "matte", [0.8], "give two increasing numbers"),
        ("silhouette", "reach", [-1e9, 130.0], "reach is"),
    ],
)
def test_a_constant_out_of_range_is_refused_in_one_sentence(
    tmp_path: Path, group: str, name: str, value: Any, words: str
) -> None:
    base = asdict(BaseConfig())
    base[group][name] = value
    with pytest.raises(InputError, match=words):
        read_config(written(tmp_path, base=base))


def test_a_constant_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="step is nan; give a number from 0 to 2"):
        SharpeningConfig(step=float("nan"))


def test_a_group_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="surfels in the base of"):
        read_config(written(tmp_path, base={**asdict(BaseConfig()), "surfels": 7}))
    with pytest.raises(InputError, match="give a table"):
        BaseConfig(surfels={"opacity": 0.5})  # type: ignore[arg-type]


def test_every_constant_has_a_unit_and_a_range() -> None:
    for group in fields(BaseConfig):
        for entry in fields(getattr(BaseConfig(), group.name)):
            assert {"unit", "range"} <= set(entry.metadata), f"{group.name}.{entry.name}"


def without_later_constants(base: BaseConfig) -> BaseConfig:
    """``base`` with the values that later constants have in a model of an earlier release."""
    return replace(
        base,
        visibility=replace(base.visibility, occluder_margin=0.0, rim_margin=0.0),
        mirror=replace(base.mirror, facing=(-1.0, -0.9), seam_rounds=0),
        silhouette=replace(base.silhouette, symmetry=0.0),
    )


def test_a_configuration_of_version_1_is_read(tmp_path: Path) -> None:
    base = flat_base() | {"opacity": 0.5, "carve_margin": 2.0}
    path = written(tmp_path, version=1, encoder="none", network="absent", base=base)
    expected = BaseConfig(surfels=SurfelConfig(opacity=0.5))
    expected = without_later_constants(replace(expected, carving=replace(expected.carving, margin=2.0)))
    assert read_config(path).base == expected


def test_a_configuration_of_version_2_is_read(tmp_path: Path) -> None:
    network = asdict(NetworkConfig())
    del network["visibility_damping"]
    path = written(tmp_path, version=2, base=flat_base(), network=network | {"restraint": 0.25})
    base = without_later_constants(BaseConfig())
    assert read_config(path) == GeneratorConfig(base=base, network=NetworkConfig(visibility_damping=0.25))


def test_a_flat_table_that_lacks_a_constant_is_refused(tmp_path: Path) -> None:
    base = flat_base()
    del base["depth_tolerance"]
    with pytest.raises(FormatError, match=r"visibility in the base of .* lacks depth_tolerance"):
        read_config(written(tmp_path, version=2, base=base, network=asdict(NetworkConfig())))


def test_old_keys_in_a_training_configuration_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    lines = ('out = "run"', 'shards = ["x"]', "[base]", "sharpening_rounds = 1", "facing = [0.2, 0.4]")
    path.write_text("\n".join([*lines, "[base.surfels]", "opacity = 0.5", "[network]", "restraint = 0.5"]))
    config = read_training_config(path)
    assert config.network.visibility_damping == 0.5
    assert config.base == BaseConfig(
        sharpening=SharpeningConfig(rounds=1),
        visibility=VisibilityConfig(facing=(0.2, 0.4)),
        surfels=SurfelConfig(opacity=0.5),
    )


def test_loading_the_shipped_model_imports_no_symbolic_mathematics() -> None:
    code = (
        "import sys; from spatialavatar.generator import SpatialAvatar; from spatialavatar.hub import weights_dir; "
        "before = 'sympy' in sys.modules; SpatialAvatar.from_pretrained(weights_dir()); "
        "sys.exit('sympy' in sys.modules and not before)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
