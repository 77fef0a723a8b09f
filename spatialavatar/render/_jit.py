"""How this package compiles its kernels: numba, without the interpreter lock, cached on disk.

``parallel=True`` is never used: numba's only threading layer that is present everywhere aborts the process when two
Python threads enter it. The kernels release the lock instead and :mod:`spatialavatar.render._pool` runs them on
Python threads.

numba checks a cache entry against the time stamp of the file that defines the kernel, not of the files that it imports
from: after an edit of ``_simd.py`` alone, touch ``_kernels.py``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import config

FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""Floating-point freedoms of the kernels. ``nnan`` and ``ninf`` stay off: NaN and infinity are met and handled."""


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in ``folder``, which may have to be made first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _choose_cache_dir() -> None:
    """Point numba at a writable folder when its own choice, ``__pycache__`` beside this file, is not."""
    if config.CACHE_DIR or _is_writable(Path(__file__).parent / "__pycache__"):
        return
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    candidates = [Path.home() / ".cache" / "spatialavatar", Path(tempfile.gettempdir()) / f"spatialavatar-{user}"]
    for candidate in candidates:
        if _is_writable(candidate / "numba"):
            config.CACHE_DIR = str(candidate / "numba")
            return


_choose_cache_dir()


def kernel(*, fastmath: bool = True, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator for a nogil kernel; ``inline`` forces LLVM to inline it into its callers."""
    return numba.njit(
        nogil=True,
        cache=True,
        error_model="numpy",
        fastmath=set(FASTMATH) if fastmath else False,
        forceinline=inline,
    )
