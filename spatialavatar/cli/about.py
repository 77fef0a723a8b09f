"""Commands that describe files: ``info``, ``licences``."""

from __future__ import annotations

import argparse
from pathlib import Path

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.output import Outcome, table
from spatialavatar.progress import Progress

_GROUP = "Inspect"


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(_GROUP, "info", _info, "Describe an avatar, or this installation", "info me.safetensors")
    command.add_argument(
        "avatar", type=Path, nargs="?", metavar="AVATAR", help="an avatar's file; default: describe the installation"
    )

    commands.add(_GROUP, "licences", _licences, "List every file that ships with its licence and source", "licences")


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
