"""The decorators that compile kernels: numba, without the interpreter lock, cached on disk.

Arithmetic is exact IEEE in the written order (no ``fastmath``). Explicit vectors gain nothing from regrouping, NaN and
infinity must keep their meaning, and two kernels that compute the same value must produce the same bits.

``parallel=True`` is never used, because the only threading layer of numba that every platform has aborts the process
when two Python threads enter it. The kernels release the lock instead, and :mod:`spatialavatar.render._pool` runs them
on Python threads.

numba compares a cache entry with the time stamp of the file that defines the kernel, not with those of imported files:
after an edit of ``_simd.py`` alone, touch ``_kernels.py``.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numba
from numba import config


def _is_writable(folder: Path) -> bool:
    """Return whether a file can be created in ``folder``; create the folder if needed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _choose_cache_dir() -> None:
    """Set numba's cache to a writable folder if the environment sets none and the package's folder is read-only.

    The last resort is a private folder that is deleted at exit: a shared folder with a known name could contain another
    user's code.
    """
    if config.CACHE_DIR or _is_writable(Path(__file__).parent / "__pycache__"):
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "spatialavatar" / "numba"
    if not (folder.is_absolute() and _is_writable(folder)):
        folder = Path(tempfile.mkdtemp(prefix="spatialavatar-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config.CACHE_DIR = str(folder)


_choose_cache_dir()

kernel = partial(numba.njit, nogil=True, cache=True, error_model="numpy")
"""Decorator of compiled functions that Python calls."""

inlined = partial(kernel, forceinline=True)
"""Decorator of functions that only kernels call; LLVM inlines them."""
