"""The published schemas of ``--json``; tests/conftest.py checks the results of every other test against them."""

from __future__ import annotations

import json

import jsonschema
import pytest

from spatialavatar import cli
from spatialavatar.cli import declared_commands
from spatialavatar.cli.schemas import RESULTS, schema_of


def test_every_command_publishes_a_schema() -> None:
    names = {name for group in declared_commands().groups.values() for name, _, _ in group}
    assert set(RESULTS) == names


@pytest.mark.parametrize("command", RESULTS)
def test_a_schema_is_valid_and_every_name_in_it_is_described(command: str) -> None:
    schema = schema_of(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    for one in schema.get("anyOf", [schema]):
        assert all(value["description"] for value in one.get("properties", {}).values())


def test_the_command_prints_the_schema_that_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "papers info"]) == 0
    assert json.loads(capsys.readouterr().out) == schema_of("papers info")
    assert cli.main(["schema", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(RESULTS)


def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "fly"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_result_that_breaks_its_schema_fails_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESULTS["licences"]["properties"], "files", {"type": "string"})
    with pytest.raises(jsonschema.ValidationError):
        cli.main(["licences", "-q", "--debug"])
