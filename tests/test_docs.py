"""The documents agree with the code: their commands parse, their Python resolves, their generated parts are current."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import spatialavatar
from benchmarks.report import PAGES, RESULTS
from spatialavatar import Avatar, SpatialAvatar
from spatialavatar.cli import declared_commands

from .conftest import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = sorted((REPOSITORY / "docs").rglob("*.md"))
GUIDES = [path for path in DOCS if path.parent.name == "guide"]
WRITTEN = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PLACEHOLDERS = re.compile(r"[A-Z]\[|\.\.\.|\[options\]|\[[A-Z]|\{[a-z]")
"""Synopses and shortened commands, which are no command lines."""


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(REPOSITORY).as_posix() for path in paths]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The language and the content of each code block; "" for an indented one."""
    rest = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.S)
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", rest, re.M | re.S)
    rest = re.sub(r"^```.*?^```$", "", rest, flags=re.M | re.S)
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", rest, re.M):
        yield "", inspect.cleandoc("\n" + block)


def commands(text: str) -> Iterator[str]:
    """The arguments of each call of ``spatialavatar`` in the code blocks."""
    for language, block in blocks(text):
        if language not in ("", "bash"):
            continue
        for line in block.replace("\\\n", " ").split("\n"):
            line = re.sub(r"\s#.*", "", line).replace("$SLURM_ARRAY_TASK_ID", "1")
            wrapped = re.search(r"--wrap '(.*)'", line)
            line = wrapped[1] if wrapped else line
            match = re.match(r"(?:\$ )?(?:\S*/)?spatialavatar (.*)|.* -m spatialavatar (.*)", line.strip())
            if match and not PLACEHOLDERS.search(line):
                yield match[1] or match[2]


def accepts(parser: argparse.ArgumentParser, line: str) -> bool:
    """Whether the parser takes the arguments; ``--help`` counts."""
    try:
        parser.parse_args(shlex.split(line))
    except SystemExit as ended:
        return ended.code == 0
    return True


def subparser(words: list[str]) -> Any:
    """The parser of the command that the words begin with; None where there is none."""
    parser: Any = declared_commands().parser
    for word in words:
        (children,) = [one for one in parser._actions if hasattr(one, "choices") and isinstance(one.choices, dict)]
        parser = children.choices.get(word)
        if parser is None or not any(isinstance(one.choices, dict) for one in parser._actions):
            return parser
    return None


@pytest.mark.parametrize("name", names([*WRITTEN, *DOCS]))
def test_every_command_line_is_accepted_by_the_parser(name: str) -> None:
    parser = declared_commands().parser
    for line in commands((REPOSITORY / name).read_text(encoding="utf-8")):
        assert accepts(parser, line), f"{name}: spatialavatar {line}"


@pytest.mark.parametrize("name", names([*WRITTEN, *DOCS]))
def test_commands_in_sentences_exist_and_have_the_options_shown(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for inline in re.findall(r"`spatialavatar ([a-z][^`]*)`", text.replace("\n", " ")):
        parser = subparser(inline.split())
        assert parser is not None, f"{name}: spatialavatar {inline}"
        for option in re.findall(r"(?<!\S)--[a-z-]+", inline):
            assert option in parser._option_string_actions, f"{name}: {option} in spatialavatar {inline}"


def test_the_parser_sees_the_commands_of_the_readme() -> None:
    assert len(list(commands((REPOSITORY / "README.md").read_text(encoding="utf-8")))) >= 6


def python_of(text: str) -> Iterator[str]:
    for language, block in blocks(text):
        if language == "python" or (not language and re.match(r"(?:import|from) [a-z.]+", block)):
            yield block


def resolved(node: ast.expr, known: dict[str, Any]) -> Any:
    """What a name or a chain of attributes is; None if it is unknown without running the code."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value, known)
        if owner is None:
            return None
        if isinstance(owner, ModuleType) and not hasattr(owner, node.attr):
            return importlib.import_module(f"{owner.__name__}.{node.attr}")
        if node.attr in getattr(owner, "__dataclass_fields__", {}):
            return None
        return getattr(owner, node.attr)
    return None


@pytest.mark.parametrize("name", names([*WRITTEN, *DOCS]))
def test_python_snippets_compile_and_their_names_exist(name: str) -> None:
    for snippet in python_of((REPOSITORY / name).read_text(encoding="utf-8")):
        tree = ast.parse(snippet)
        known: dict[str, Any] = {"avatar": Avatar, "model": SpatialAvatar}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and node.names[0].name.startswith("spatialavatar"):
                known[node.names[0].asname or "spatialavatar"] = spatialavatar
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spatialavatar"):
                module = importlib.import_module(node.module or "")
                known |= {one.asname or one.name: getattr(module, one.name) for one in node.names}
        if not any(one is not Avatar and one is not SpatialAvatar for one in known.values()):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                resolved(node, known)
            if isinstance(node, ast.Call):
                function = resolved(node.func, known)
                if callable(function) and all(one.arg for one in node.keywords):
                    values = [None] * len(node.args)
                    if isinstance(node.func, ast.Attribute) and inspect.isfunction(function):
                        owner = resolved(node.func.value, known)
                        values = [None, *values] if inspect.isclass(owner) else values
                    inspect.signature(function).bind(*values, **{str(one.arg): None for one in node.keywords})


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the generated parts."""
    pytest.importorskip("gradio", reason="the endpoints need the extra 'app'")
    spec = importlib.util.spec_from_file_location("write_reference", REPOSITORY / "scripts" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_of_the_documents_are_current(reference: ModuleType) -> None:
    for path, text in reference.documents():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python scripts/write_reference.py"


def test_the_command_line_reference_names_every_command_and_option(reference: ModuleType) -> None:
    text = (REPOSITORY / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert "%(" not in text, "a default is not filled in"
    for members in declared_commands().groups.values():
        for name, _, _ in members:
            section = text.split(f"\n### {name}\n", 1)[1].split("\n### ", 1)[0]
            for option in subparser(name.split())._option_string_actions:
                assert f"`{option}" in section or f"`{option}`" in text.split("<!-- commands")[0], (name, option)


def test_the_architecture_shows_the_layers_that_lint_enforces() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(one for one in settings["tool"]["importlinter"]["contracts"] if one["name"] == "Layers")
    enforced = [{name.strip() for name in layer.split("|")} for layer in contract["layers"]]
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.M)
    shown = [{name for number, name in rows if int(number) == index + 1} for index in range(len(enforced))]
    assert shown == enforced


def test_relative_links_lead_to_files() -> None:
    for path in [*WRITTEN, *DOCS]:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text) + re.findall(r'src="(docs/[^"]+)"', text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_code_names_documents_that_exist() -> None:
    folders = ("spatialavatar", "scripts", "benchmarks", "configs", "tests", ".github")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.suffix in SOURCES]
    for path in [*files, REPOSITORY / "pyproject.toml", REPOSITORY / "Makefile"]:
        for target in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            assert (REPOSITORY / target).exists(), f"{path.relative_to(REPOSITORY)}: {target}"


SOURCES = {".py", ".toml", ".md", ".js", ".mjs", ".html", ".yml"}


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.relative_to(REPOSITORY / "docs").as_posix() for path in DOCS)


def test_the_readme_is_short_enough_to_read() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert len(text.split()) < 1000


@pytest.mark.parametrize("name", names(GUIDES))
def test_a_guide_page_is_short_and_starts_with_its_command(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert len(text.split()) <= 500
    assert re.match(r"# .*\n\n    \S", text)


def test_quality_figures_stand_in_the_results_only() -> None:
    for path in [REPOSITORY / "README.md", REPOSITORY / "docs" / "index.md", *GUIDES]:
        assert not re.search(r"\d dB\b", path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize("section", sorted(set(PAGES) - {"gpu"}))
def test_benchmarks_find_their_section(section: str) -> None:
    text = (RESULTS / PAGES[section]).read_text(encoding="utf-8")
    assert text.count(f"<!-- {section}: begin -->") == text.count(f"<!-- {section}: end -->") == 1


def test_every_yes_beside_other_projects_links_a_test_that_exists() -> None:
    text = (REPOSITORY / "docs" / "reference" / "peers.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "**" not in line]
    assert len(rows) > 25
    for row in rows[1:]:
        links = re.findall(r"/tests/(\w+)\.py#(\w+)\)", row[1])
        assert links or row[1].startswith("no"), row[0]
        for file, name in links:
            assert f"def {name}(" in (REPOSITORY / "tests" / f"{file}.py").read_text(encoding="utf-8"), name
