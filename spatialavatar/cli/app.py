"""The command that starts the web page: ``app``."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.options import Limits, add_number
from spatialavatar.cli.output import Outcome
from spatialavatar.errors import InputError, SpatialAvatarError, missing_extra
from spatialavatar.progress import Progress


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        "Make it move", "app", _app, "Serve the web page and the endpoints on this machine", "app --port 7860"
    )
    command.add_argument("--host", help="address to listen on, default: this machine only")
    add_number(command, "--port", Limits(1, 65535), "port to listen on, default: the first free one from 7860")


def _app(options: argparse.Namespace, progress: Progress) -> Outcome:
    if find_spec("gradio") is None or find_spec("spaces") is None:
        raise missing_extra("The web page", "app")
    from spatialavatar.app.server import run_app

    try:
        run_app(options.host, options.port)
    except OSError as error:
        if isinstance(error, SpatialAvatarError):
            raise
        place = f"{options.host or 'this machine'}, port {options.port or '7860 and above'}"
        raise InputError(f"The page cannot be served on {place}; give another --host or --port.") from error
    return Outcome([], {})
