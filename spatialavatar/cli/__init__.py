"""The command line: ``spatialavatar COMMAND``.

Results (paths and ids, or JSON with ``--json``) go to stdout, progress and notes to stderr. A failure is one sentence
on stderr and exit status 1; ``--debug`` shows the traceback instead. Ctrl-C, SIGTERM and SIGHUP remove temporary files
and exit with 128 and the signal's number.

One module per group of commands: its ``declare`` adds the commands and their arguments, and for each command there is a
function that does the work and returns an :class:`~spatialavatar.cli.output.Outcome`. torch and the networks are
imported inside those functions, so that ``--help`` and a typing mistake do not wait for them.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from spatialavatar.cli import about, app, avatars, evaluation, exports, hub, live, motions, synthetic, training
from spatialavatar.cli.commands import Commands
from spatialavatar.cli.output import ProgressBar, fail
from spatialavatar.cli.process import (
    INTERRUPTED,
    PIPE_CLOSED,
    Termination,
    catch_termination,
    mute_native_libraries,
    print_error,
    standard_output,
    stderr_is_terminal,
)
from spatialavatar.errors import SpatialAvatarError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        The exit status: 0; 1 after an error; 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP; 141 where the reader of
        the results is gone. argparse itself exits with 2 on a wrong command line.
    """
    parser = declared_commands().parser
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        return 2
    debug = False
    with catch_termination() as termination:
        try:
            with standard_output():
                options = parser.parse_args(arguments)
            debug = options.debug
            if arguments is None and not debug:
                mute_native_libraries()
            _run(options)
        except KeyboardInterrupt:
            return _interrupted(termination)
        except BrokenPipeError:
            if debug:
                raise
            return PIPE_CLOSED
        except Exception as error:
            if debug:
                raise
            return fail(_sentence(error))
    return termination.status or 0


def declared_commands() -> Commands:
    """Every command of the program; the order of the modules is that of the help page."""
    commands = Commands()
    for group in (avatars, exports, motions, live, app, evaluation, training, synthetic, hub, about):
        group.declare(commands)
    return commands


def _run(options: argparse.Namespace) -> None:
    """Do the work of the parsed line and print its result."""
    if options.quiet or not stderr_is_terminal():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with warnings.catch_warnings(), ProgressBar(options.quiet) as progress:
        warnings.showwarning = lambda message, *_, **__: print_error(f"note: {message}")
        outcome = options.run(options, progress)
    with standard_output():
        outcome.show("json" if options.json else "quiet" if options.quiet else "text", notes=not options.quiet)


def _interrupted(termination: Termination) -> int:
    print_error("spatialavatar: interrupted")
    return termination.status or INTERRUPTED


def _sentence(error: Exception) -> str:
    if isinstance(error, SpatialAvatarError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory; use smaller pictures, a smaller --size, or a machine with more."
    if isinstance(error, OSError) and error.strerror:
        name = f"{str(error.filename)[:80]}: " if error.filename else ""
        return f"{name}{error.strerror}; give another name or place, or free some space."
    if isinstance(error, UnicodeEncodeError) and "surrogate" in error.reason:
        return "The name of a file is not UTF-8 and cannot be stored; rename the file."
    kind = type(error).__name__
    return f"Something went wrong that should not have ({kind}: {error}); run again with --debug and report it."
