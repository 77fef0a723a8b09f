"""Commands that describe: ``info`` and ``licences`` files, ``schema`` results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.output import Outcome, table
from spatialavatar.cli.schemas import RESULTS, schema_of
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

_GROUP = "Inspect"


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(_GROUP, "info", _info, "Describe an avatar, or this installation", "info me.safetensors")
    command.add_argument(
        "avatar", type=Path, nargs="?", metavar="AVATAR", help="an avatar's file; default: describe the installation"
    )

    commands.add(_GROUP, "licences", _licences, "List every file that ships with its licence and source", "licences")

    command = commands.add(
        _GROUP, "schema", _schema, "Print the JSON schema of what a command prints with --json", "schema generate"
    )
    command.add_argument("name", nargs="?", metavar="COMMAND", help="such as generate; default: every command")


def _info(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar import diagnostics

    if options.avatar:
        facts = diagnostics.avatar_facts(options.avatar)
        return Outcome([options.avatar], facts, table(facts))
    facts = diagnostics.installation_facts()
    return Outcome([facts["version"]], facts, table(facts))


def _licences(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.hub import licences

    files = licences()
    text = "\n\n".join(f"{row['path']}: {row['what']}\n  {row['licence']}; {row['source']}" for row in files)
    return Outcome([row["path"] for row in files], {"files": files}, text)


def _schema(options: argparse.Namespace, progress: Progress) -> Outcome:
    if options.name is None:
        facts = {name: schema_of(name) for name in RESULTS}
    elif options.name in RESULTS:
        facts = schema_of(options.name)
    else:
        raise InputError(f"There is no command {options.name!r}; choose one of {', '.join(RESULTS)}.")
    return Outcome(list(RESULTS) if options.name is None else [options.name], facts, json.dumps(facts, indent=2))
