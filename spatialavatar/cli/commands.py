"""The list of commands: how each is declared, and the page that ``spatialavatar --help`` prints."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from spatialavatar import __version__
from spatialavatar.cli.output import Outcome
from spatialavatar.cli.process import print_error
from spatialavatar.progress import Progress

Run = Callable[[argparse.Namespace, Progress], Outcome]
"""One command: takes the parsed line and a progress callback, does the work, returns what to print."""

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
            group: its heading.
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
        command.set_defaults(run=run, command=name)
        return command


def _subcommands(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse's own method swallows a write error."""
        print(self.format_help(), end="", file=file or sys.stdout)

    def error(self, message: str) -> NoReturn:
        """Print the error in the command line and exit with status 2."""
        print_error(f"{self.prog}: {' '.join(message.split())}; run '{self.prog} --help'.")
        sys.exit(2)


class _Page(_Parser):
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
                lines += textwrap.wrap(f"{name:<15}{summary}", 96, initial_indent="  ", subsequent_indent=" " * 17)
                lines.append(f"{'':17}{_PROMPT}{example}")
            parts.append("\n".join(lines))
        parts.append(
            "Every command takes:\n"
            "  --json        print one JSON object\n"
            "  -q, --quiet   print only paths or ids, one a line\n"
            "  --debug       show the traceback of an error\n"
            "  -h, --help    show the command's arguments"
        )
        parts.append(
            "Results go to stdout, progress and notes to stderr.\n"
            "Exit status: 0 done, 1 failed, 2 wrong command line, 130 interrupted, 143 terminated."
        )
        return "\n\n".join(parts) + "\n"
