"""The list of commands: how each is declared, and the page that ``spatialavatar --help`` prints."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spatialavatar import __version__
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError
from spatialavatar.progress import Progress

if TYPE_CHECKING:
    from spatialavatar.generator import SpatialAvatar

Run = Callable[[argparse.Namespace, Progress], Outcome]
"""One command: takes the parsed line and a progress callback, does the work, returns what there is to say."""

_PROMPT = "$ spatialavatar "


class Commands:
    """The commands of the program, in the groups and in the order in which they are declared."""

    def __init__(self) -> None:
        self.parser = _Page(prog="spatialavatar", commands=self)
        self.parser.add_argument("--version", action="version", version=f"spatialavatar {__version__}")
        self.groups: dict[str, list[tuple[str, str, str]]] = {}
        self._children: dict[str, Any] = {"": _subcommands(self.parser)}
        self._common = argparse.ArgumentParser(add_help=False)
        how = self._common.add_argument_group("output")
        how.add_argument("--json", action="store_true", help="the result as one JSON object")
        how.add_argument("-q", "--quiet", action="store_true", help="only the paths or ids, one a line; no progress")
        how.add_argument("--debug", action="store_true", help="the traceback of an error instead of one sentence")

    def add(self, group: str, name: str, run: Run, summary: str, example: str) -> argparse.ArgumentParser:
        """Declare a command; its arguments are added to the parser that is returned.

        Args:
            group: the heading under which it stands.
            name: one word, or two for a command of a family, such as "papers info".
            run: does it.
            summary: one line, without a full stop.
            example: what to type after the program's name.
        """
        self.groups.setdefault(group, []).append((name, summary, example))
        family, _, leaf = name.rpartition(" ")
        if family not in self._children:
            parent = self._children[""].add_parser(family, description=f"{group}.")
            self._children[family] = _subcommands(parent)
        command = self._children[family].add_parser(
            leaf,
            parents=[self._common],
            help=summary,
            description=f"{summary}.",
            epilog=f"example:\n  {_PROMPT}{example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command


def shard(text: str) -> tuple[int, int]:
    """What ``--shard I/N`` says.

    Raises:
        InputError: it is not of that form.
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit()):
        raise InputError(f"The shard {text!r} is not of the form i/n, for instance 1/4.")
    return int(number), int(count)


def add_model(command: argparse.ArgumentParser) -> None:
    """Declare the options that :func:`chosen_model` reads."""
    command.add_argument("--model", metavar="REPO_OR_FOLDER", help="another generator than the one that ships")
    command.add_argument("--revision", help="of the model on the Hub: a branch, a tag, or better a commit")
    command.add_argument("--base", action="store_true", help="leave the model's trained network out, if it has one")


def chosen_model(options: argparse.Namespace) -> SpatialAvatar | None:
    """The model that the options name; None for the one that ships, as it is."""
    if not (options.model or options.base):
        return None
    from spatialavatar import pipeline

    return pipeline.chosen_model(options.model or None, revision=options.revision, base=options.base)


def _subcommands(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser)


class _Page(argparse.ArgumentParser):
    """The program's own parser; its help is a page of groups, each command with an example."""

    def __init__(self, *, prog: str, commands: Commands) -> None:
        super().__init__(prog=prog)
        self._page_of = commands

    def format_help(self) -> str:
        """The page."""
        parts = [
            f"SpatialAvatar {__version__}: one to four photos in, an animatable 3D Gaussian head out.\n\n"
            "usage: spatialavatar COMMAND ..."
        ]
        for group, members in self._page_of.groups.items():
            lines = [f"{group}:"]
            for name, summary, example in members:
                lines += textwrap.wrap(f"{name:<13}{summary}", 96, initial_indent="  ", subsequent_indent=" " * 15)
                lines.append(f"{'':15}{_PROMPT}{example}")
            parts.append("\n".join(lines))
        parts.append(
            "Every command takes:\n"
            "  --json        print one JSON object\n"
            "  -q, --quiet   print only paths or ids, one a line\n"
            "  --debug       show the traceback of an error\n"
            "  -h, --help    show the command's arguments"
        )
        parts.append(
            "Results go to stdout, progress and notes to stderr. Status: 0 done, 1 failed, 2 wrong command line."
        )
        return "\n\n".join(parts) + "\n"
