"""Write the generated parts of the documents from their sources.

    python scripts/write_reference.py            # rewrite them
    python scripts/write_reference.py --check    # only list what is out of date; exit status 1

| document | source |
|---|---|
| docs/reference/cli.md | the parsers of the command line |
| docs/reference/endpoints.md | ``spatialavatar.app.endpoints`` |
| docs/results/quality.md | weights/results-*.json, which the model's card is made from too |
| docs/architecture.md | the import-linter contracts in pyproject.toml, and the first sentence of each module |

A generated part stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.
The text around it is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from spatialavatar.app.endpoints import documentation  # noqa: E402
from spatialavatar.cli import declared_commands  # noqa: E402
from spatialavatar.cli.schemas import RESULTS  # noqa: E402
from spatialavatar.evaluation.report import means_table  # noqa: E402

COMMON = {"--help", "--json", "--quiet", "--debug"}
"""Options of every command, described once."""


def command_line() -> str:
    """Every command: its synopsis, its arguments and an example."""
    commands = declared_commands()
    parts = []
    for group, members in commands.groups.items():
        parts.append(f"## {group}")
        for name, summary, example in members:
            parser = _parser_of(commands.parser, name)
            expand = parser._get_formatter()._expand_help
            actions = [one for one in parser._actions if not COMMON & {*one.option_strings}]
            positional = [one for one in actions if not one.option_strings]
            synopsis = " ".join([f"spatialavatar {name}", *map(_positional, positional), *_tail(actions)])
            parts.append(f"### {name}\n\n{summary}.\n\n    {synopsis}")
            if actions:
                rows = [f"| {_names(one)} | {_meaning(expand(one) if one.help else '')} |" for one in actions]
                parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
            parts.append(f"Example:\n\n    spatialavatar {example}")
    return "\n\n".join(parts)


def _parser_of(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    for word in name.split():
        (children,) = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        parser = children.choices[word]
    return parser


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return {"+": f"{name} [{name} ...]", "?": f"[{name}]", "*": f"[{name} ...]"}.get(str(action.nargs), name)


def _tail(actions: list[argparse.Action]) -> list[str]:
    """The required options in full, and one word for the others."""
    optional = [one for one in actions if one.option_strings]
    required = [f"{one.option_strings[-1]} {_value(one)}" for one in optional if one.required]
    return required + (["[options]"] if len(optional) > len(required) else [])


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return ", ".join(f"`{f'{name} {_value(action)}'.strip()}`" for name in action.option_strings)


def _meaning(text: str) -> str:
    text = text.replace("|", r"\|")
    return re.sub(r"docs/([a-z/-]+)/([a-z-]+)\.md", r"[\2](../\1/\2.md)", text)


def results() -> str:
    """A table of the JSON object of each command."""
    parts = []
    for command, schema in RESULTS.items():
        parts.append(f"## {command}")
        for one in schema.get("anyOf", [schema]):
            if not one.get("properties"):
                parts.append(
                    f"{one.get('description', 'no value')[:1].upper()}{one.get('description', 'no value')[1:]}."
                )
                continue
            rows = ["| name | type | always | meaning |", "|---|---|---|---|"]
            for name, value in one["properties"].items():
                always = "yes" if name in one["required"] else ""
                rows.append(f"| `{name}` | {value['type']} | {always} | {value.get('description', '')} |")
            parts.append("\n".join(rows))
    return "\n\n".join(parts)


def quality(name: str) -> Callable[[], str]:
    """The means of one evaluation, with the command that made them."""

    def text() -> str:
        content = json.loads((ROOT / "weights" / f"results-{name}.json").read_text(encoding="utf-8"))
        means = {one["protocol"]: one["metrics"] for one in content["results"]}
        clips = content["results"][0]
        counts = (
            f"{clips['clips']} {'people' if 'k-source' in clips['protocol'] else 'clips'}, {clips['frames']} targets"
        )
        run = content["run"]
        return (
            f"    {content['command']}\n\n{means_table(means)}\n\n"
            f"{counts}; code of commit {run['commit'][:7]}; digest {content['digest']}."
        )

    return text


def contracts() -> list[dict[str, Any]]:
    """The import-linter contracts about layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [one for one in settings["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]


def layers() -> str:
    """The layers of the package, from top to bottom, with what each module is for."""
    rows = ["| layer | module | purpose |", "|---:|---|---|"]
    names = [[name.strip() for name in layer.split("|")] for layer in contracts()[0]["layers"]]
    for number, layer in enumerate(reversed(names)):
        rows[2:2] = [f"| {len(names) - number} | `{name}` | {_purpose(name)} |" for name in layer]
    return "\n".join(rows)


def tracker_layers() -> str:
    """The layers inside ``tracking``."""
    return "\n".join(f"    {layer}" for layer in contracts()[1]["layers"])


def _purpose(name: str) -> str:
    path = ROOT / "spatialavatar" / f"{name}.py"
    path = path if path.exists() else ROOT / "spatialavatar" / name / "__init__.py"
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.sub(r"docs/([a-z/-]+\.md)", r"[\1](\1)", " ".join(first.split()).replace("``", "`"))


DOCUMENTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/reference/cli.md": {"commands": command_line},
    "docs/reference/json.md": {"results": results},
    "docs/reference/endpoints.md": {"endpoints": documentation},
    "docs/results/quality.md": {f"results-{name}": quality(name) for name in ("self", "refined", "london", "sources")},
    "docs/architecture.md": {"layers": layers, "tracker-layers": tracker_layers},
}


def documents() -> Iterator[tuple[Path, str]]:
    """Every document with a generated part, and what it has to contain."""
    for name, sections in DOCUMENTS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for section, write in sections.items():
            begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
            before, rest = text.split(begin)
            text = f"{before}{begin}\n\n{write().strip(chr(10))}\n\n{end}{rest.split(end)[1]}"
        yield ROOT / name, text


def main() -> int:
    """Rewrite the documents, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, list what is out of date")
    options = parser.parse_args()
    stale = [(path, text) for path, text in documents() if path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        print(path.relative_to(ROOT))
        if not options.check:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
