"""Atomic writing of files: a crash, a full disk or a cancelled run leaves no partial file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spatialavatar.errors import OutputError


def make_folder(folder: str | Path) -> Path:
    """Create the folder where it is missing, and return its path.

    Raises:
        OutputError: it cannot be created.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise OutputError(f"The folder {folder} cannot be made ({_reason(error)}); choose another place.") from error
    return folder


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, which is renamed to ``path`` when the block ends without an error.

    The temporary name keeps the suffix, since writers choose their format by it. It is random, so that threads and
    processes can write the same file at the same time: the last one wins.

    Raises:
        OutputError: the folder cannot be created or written, the target is a folder, or the disk is full.
    """
    path = Path(path)
    # Not the target's own name, which can be as long as the file system allows.
    temporary = path.parent / f".{secrets.token_hex(8)}.part{path.suffix if len(path.suffix) < 32 else ''}"
    try:
        _check_target(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner may read
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{path} cannot be written ({_reason(error)}); choose another place or free some space."
        ) from error
    finally:
        with suppress(OSError):  # a parent that is not a folder has nothing to clean up
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; it appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_not_an_input(output: str | Path, *inputs: str | Path | None) -> None:
    """Refuse to write over a file that the same call reads.

    Raises:
        OutputError: ``output`` is one of the inputs, under this or another name.
    """
    for path in inputs:
        if path is not None and _same_file(output, path):
            raise OutputError(f"{output} is an input of this command; give another name for the result.")


def _same_file(first: str | Path, second: str | Path) -> bool:
    """Whether both paths lead to one file; False where either is none."""
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):
        return False


def _check_target(path: Path) -> None:
    """Refuse a path that no file can have.

    Raises:
        OSError: the path is a folder, or has no name or an impossible one.
    """
    if not path.name or "\0" in str(path):
        raise OSError("it is not a file name")
    if path.is_dir():
        raise IsADirectoryError("it is a folder")


def _reason(error: Exception) -> str:
    """The cause as text, without a path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
