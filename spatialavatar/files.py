"""Writing files so that a crash, a full disk or a cancelled run leaves nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spatialavatar.errors import OutputError


def make_folder(folder: str | Path) -> Path:
    """The folder, made where it is missing.

    Raises:
        OutputError: it cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another place.") from error
    return folder


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the name ``path`` only when the block ends without an error.

    The temporary name keeps the suffix, since writers choose their format by it.

    Raises:
        OutputError: the folder cannot be made or written, the target is a folder, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner may read
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written ({reason}); choose another place or free some space.") from error
    finally:
        with suppress(OSError):  # a parent that is no folder has nothing to clean up
            temporary.unlink(missing_ok=True)
