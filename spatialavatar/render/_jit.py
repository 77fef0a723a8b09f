"""How this package compiles its kernels: numba, without the interpreter lock, cached on disk.

Mathematics is exact IEEE in the written order (no ``fastmath``): with explicit vectors there is nothing to win by
regrouping, NaN and infinity must be met as such, and two kernels that compute the same value must get the same bits.

``parallel=True`` is never used: numba's only threading layer that is present everywhere aborts the process when two
Python threads enter it. The kernels release the lock instead and :mod:`spatialavatar.render._pool` runs them on
Python threads.

numba checks a cache entry against the time stamp of the file that defines the kernel, not of the files that it imports
from: after an edit of ``_simd.py`` alone, touch ``_kernels.py``.
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
    """Whether a file can be made in ``folder``, which may have to be made first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _choose_cache_dir() -> None:
    """Point numba at a writable folder where the environment names none and this package's own is read-only.

    The last resort is a private folder that ends with the process: a shared one of a known name could hold another
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
"""Decorator for a compiled function that Python calls."""

inlined = partial(kernel, forceinline=True)
"""Decorator for one that only kernels call; LLVM puts it into each of them."""
