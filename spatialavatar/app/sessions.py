"""Visitors' files: one folder each, deleted when the visitor leaves, and after two hours in any case.

They all lie in gradio's upload folder, from where gradio serves files without making a copy that would outlive them:

    <sha256>/<name>        an upload; the folder is named by its content
    tmp*                   an upload that is still arriving, or was aborted
    fetched-<key>/<name>   a file that was fetched from an address
    visitor-<token>/ results of one visitor
    work-<token>/          temporary folders of the work in progress
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gradio.utils import get_upload_folder

MAX_AGE: Final = 2 * 3600.0
"""Seconds after which a file is deleted, even if its visitor is still there."""
MAX_UPLOAD_AGE: Final = 600.0
"""Seconds without a change after which an upload that has not arrived is deleted."""
FETCHED: Final = "fetched-"
"""Prefix of the folders that hold what was fetched from an address."""

_VISITOR: Final = "visitor-"
_ARRIVING: Final = "tmp"
_SWEEP_SECONDS: Final = 60.0


@functools.cache
def _work_name(process: int) -> str:
    return f"work-{secrets.token_urlsafe(16)}"


def work_folder() -> str:
    """The folder for the temporary folders of this process; its name cannot be guessed."""
    folder = Path(get_upload_folder()) / _work_name(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


@dataclass
class _Visitor:
    folder: Path
    uploads: dict[str, tuple[int, int]] = field(default_factory=dict)  # identity of the file that was seen, by path


class Sessions:
    """The visitors' folders by gradio's session hash, and the uploads that belong to them.

    The names of the folders cannot be guessed, because anyone with a file's address can download it. Programs that
    call without a session share one folder, in which only age counts.
    """

    def __init__(self, uploads: set[str] | None = None, max_age: float = MAX_AGE) -> None:
        """Start without visitors.

        Args:
            uploads: the paths of the uploads, as gradio lists them (``Blocks.upload_file_set``).
            max_age: seconds after which a file is deleted.
        """
        self.max_age = max_age
        self.uploads = uploads if uploads is not None else set()
        self._root = get_upload_folder()
        self._visitors: dict[str, _Visitor] = {}
        self._lock = threading.Lock()
        self._sweeper: threading.Thread | None = None

    def start(self) -> None:
        """Delete what an earlier run has left and is too old, and sweep every minute from now on."""
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep_for_ever, daemon=True, name="sessions")
            self._sweeper.start()
            atexit.register(self.clear)

    def folder(self, session: str | None) -> Path:
        """The visitor's folder, made on first use."""
        with self._lock:
            folder = self._visitor(session).folder
            folder.mkdir(parents=True, exist_ok=True)
            return folder

    def keep(self, session: str | None, path: str | Path) -> str:
        """Copy a file into a new place of the visitor's folder, under its own name; returns the new path."""
        place = self.folder(session) / secrets.token_hex(16)
        place.mkdir()
        return str(shutil.copyfile(path, place / Path(path).name))

    def note(self, session: str | None, paths: Iterable[str]) -> None:
        """Remember uploads, which gradio has put elsewhere in its folder, to delete them with the visitor's files."""
        with self._lock:
            for path in paths:
                known = path in self.uploads or Path(path).parent.name.startswith(FETCHED)
                if known and (file := _identity(path)):
                    self._visitor(session).uploads[path] = file

    def close(self, session: str | None) -> None:
        """Delete all that the visitor brought and made, except uploads that another visitor brought as well."""
        with self._lock:
            visitor = self._visitors.pop(session or "", None)
            if visitor is None:
                return
            # Gradio stores the same picture from two visitors as one file.
            shared = {path for other in self._visitors.values() for path in other.uploads}
        shutil.rmtree(visitor.folder, ignore_errors=True)
        for path, file in visitor.uploads.items():
            # With a different identity the path holds a newer upload, whose visitor's call has not arrived yet.
            if path not in shared and _identity(path) == file:
                with suppress(OSError):
                    Path(path).unlink()
                    Path(path).parent.rmdir()

    def sweep(self) -> None:
        """Delete old files of all visitors in gradio's upload folder, and empty folders."""
        now = time.time()
        for folder, _, names in os.walk(self._root, topdown=False):
            for name in names:
                with suppress(OSError):
                    path = Path(folder) / name
                    arriving = folder == self._root and name.startswith(_ARRIVING)
                    if now - path.stat().st_mtime > (MAX_UPLOAD_AGE if arriving else self.max_age):
                        path.unlink()
            with suppress(OSError):
                if folder != self._root and now - os.stat(folder).st_mtime > _SWEEP_SECONDS:
                    os.rmdir(folder)  # only where it is empty
        with self._lock:
            for visitor in self._visitors.values():
                for path in [path for path in visitor.uploads if not Path(path).exists()]:
                    del visitor.uploads[path]

    def clear(self) -> None:
        """Delete the files of all visitors, and this process's work in progress and unfinished uploads."""
        for session in list(self._visitors):
            self.close(session)
        folder = Path(self._root)
        shutil.rmtree(folder / _work_name(os.getpid()), ignore_errors=True)
        for path in list(self.uploads):
            with suppress(OSError):
                Path(path).unlink()
                Path(path).parent.rmdir()
        for path in folder.glob(f"{_ARRIVING}*"):
            with suppress(OSError):
                path.unlink()
        for path in folder.glob(f"{FETCHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _visitor(self, session: str | None) -> _Visitor:
        self.start()
        key = session or ""
        if key not in self._visitors:
            self._visitors[key] = _Visitor(Path(self._root) / f"{_VISITOR}{secrets.token_urlsafe(16)}")
        return self._visitors[key]

    def _sweep_for_ever(self) -> None:
        while True:
            with suppress(OSError):
                self.sweep()
            time.sleep(_SWEEP_SECONDS)


def _identity(path: str) -> tuple[int, int] | None:
    """Identity of a file, to detect its replacement; None if there is no file."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_ctime_ns
