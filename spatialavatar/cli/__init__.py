"""The command line: ``spatialavatar COMMAND``.

Results (paths and ids, or JSON with ``--json``) go to stdout, progress and notes to stderr. A failure is one sentence
on stderr and exit status 1; ``--debug`` shows the traceback instead.

One module per group of commands: its ``declare`` adds the commands and their arguments, and for each command there is a
function that does the work and returns an :class:`~spatialavatar.cli.output.Outcome`. torch and the networks are
imported inside those functions: ``--help`` and a typing mistake must not wait for them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from spatialavatar.cli import about, app, avatars, evaluation, exports, hub, motions, training
from spatialavatar.cli.commands import Commands
from spatialavatar.cli.output import ProgressBar, fail
from spatialavatar.errors import SpatialAvatarError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        The exit status: 0, 1 after an error, 130 after an interrupt; argparse itself exits with 2 on a wrong line.
    """
    parser = declared_commands().parser
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    if arguments is None and not options.debug:
        _mute_native_libraries()
    if options.quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with warnings.catch_warnings(), ProgressBar(options.quiet) as progress:
            warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
            outcome = options.run(options, progress)
        outcome.show("json" if options.json else "quiet" if options.quiet else "text", notes=not options.quiet)
    except KeyboardInterrupt:
        print("spatialavatar: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            raise
        return fail(_sentence(error))
    return 0


def declared_commands() -> Commands:
    """Every command of the program; the order of the modules is that of the help page."""
    commands = Commands()
    for group in (avatars, exports, motions, app, evaluation, training, hub, about):
        group.declare(commands)
    return commands


def _sentence(error: Exception) -> str:
    if isinstance(error, SpatialAvatarError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory; use smaller pictures, a smaller --size, or a machine with more."
    kind = type(error).__name__
    return f"Something went wrong that should not have ({kind}: {error}); run again with --debug and report it."


def _mute_native_libraries() -> None:
    """Keep Python's stderr, and send nowhere what the networks' runtimes print to the process's own from C++."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
