"""Checks of input and output paths, made before any work is done."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from spatialavatar.errors import InputError, OutputError

PathLike = str | os.PathLike[str]


def check_writable(path: PathLike) -> None:
    """Check that a file can be created at ``path``.

    Raises:
        OutputError: the folder is missing or not writable, or ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"The output {path} is a folder; give a file name.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it or write elsewhere.")
    probe = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError("the file is write-protected")
    except OSError as error:
        raise OutputError(
            f"The output {path} cannot be written ({error.strerror or error}); write elsewhere."
        ) from error


def existing_file(path: PathLike, kind: str) -> Path:
    """The path of an input file that exists.

    Args:
        path: the file.
        kind: expected kind, for the error sentence, for instance "photo".

    Raises:
        InputError: there is no such file, or it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {kind}; give a file.")
    if not path.is_file():
        raise InputError(f"There is no {kind} at {path}; check the name.")
    return path
