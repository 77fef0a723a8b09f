"""A visitor's files: one folder each, gone when the visitor leaves, and after two hours whatever happens."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gradio.utils import get_upload_folder

MAX_AGE = 2 * 3600.0
"""Seconds after which a file is deleted even if nobody left."""

FETCHED = "fetched-"
"""How the names of folders begin, beside those of uploads, that hold what was fetched from an address."""

_SWEEP_SECONDS = 60.0


@dataclass
class _Visitor:
    folder: Path
    uploads: dict[str, tuple[int, int]] = field(default_factory=dict)  # which file was there, by path


class Sessions:
    """Folders by gradio's session hash, and the uploads that belong to them.

    The folders lie in gradio's own cache, from where it serves files without making a copy that would outlive them, and
    have names that cannot be guessed, since a file there is open to whoever knows its address. Programs that call
    without a session share one folder, in which only age counts.
    """

    def __init__(self, uploads: set[str] | None = None, max_age: float = MAX_AGE) -> None:
        """Start without visitors.

        Args:
            uploads: the paths that visitors have uploaded, as gradio knows them (``Blocks.upload_file_set``); nothing
                else outside of the visitors' folders is ever deleted.
            max_age: seconds that a file lives at most.
        """
        self.max_age = max_age
        self._uploads = uploads if uploads is not None else set()
        self._visitors: dict[str, _Visitor] = {}
        self._lock = threading.Lock()
        self._sweeper: threading.Thread | None = None

    def folder(self, session: str | None) -> Path:
        """The visitor's folder, made on first use."""
        with self._lock:
            folder = self._visitor(session).folder
            folder.mkdir(parents=True, exist_ok=True)
            return folder

    def keep(self, session: str | None, path: str | Path) -> str:
        """Copy a file into a new place of the visitor's folder, under its own name; returns where."""
        place = self.folder(session) / secrets.token_hex(16)
        place.mkdir()
        return str(shutil.copyfile(path, place / Path(path).name))

    def note(self, session: str | None, paths: Iterable[str]) -> None:
        """Remember uploads, which gradio has put elsewhere in its cache, so that they go with the visitor too."""
        with self._lock:
            for path in paths:
                known = path in self._uploads or Path(path).parent.name.startswith(FETCHED)
                if known and (file := _identity(path)):
                    self._visitor(session).uploads[path] = file

    def close(self, session: str | None) -> None:
        """Delete all that the visitor brought and made, except uploads that another visitor brought as well."""
        with self._lock:
            visitor = self._visitors.pop(session or "", None)
            if visitor is None:
                return
            # The same picture from two visitors is one file to gradio.
            shared = {path for other in self._visitors.values() for path in other.uploads}
        shutil.rmtree(visitor.folder, ignore_errors=True)
        for path, file in visitor.uploads.items():
            # Where another visitor has just sent it anew, it is another file, and no call has told yet whose it is.
            if path not in shared and _identity(path) == file:
                with suppress(OSError):
                    Path(path).unlink()
                    Path(path).parent.rmdir()

    def sweep(self) -> None:
        """Delete what is too old, of visitors who are still here too; gradio does so with uploads."""
        with self._lock:
            visitors = list(self._visitors.values())
        oldest = time.time() - self.max_age
        for visitor in visitors:
            with suppress(OSError):
                for path in visitor.folder.iterdir():
                    if path.stat().st_mtime < oldest:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            with self._lock:
                for path in [path for path in visitor.uploads if not Path(path).exists()]:
                    del visitor.uploads[path]

    def clear(self) -> None:
        """Delete every visitor's folder."""
        for session in list(self._visitors):
            self.close(session)

    def _visitor(self, session: str | None) -> _Visitor:
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep_for_ever, daemon=True, name="sessions")
            self._sweeper.start()
            atexit.register(self.clear)
        key = session or ""
        if key not in self._visitors:
            self._visitors[key] = _Visitor(Path(get_upload_folder()) / f"visitor-{secrets.token_urlsafe(16)}")
        return self._visitors[key]

    def _sweep_for_ever(self) -> None:
        while True:
            time.sleep(_SWEEP_SECONDS)
            self.sweep()


def _identity(path: str) -> tuple[int, int] | None:
    """Tells a file from another one that takes its place; None where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_ctime_ns
