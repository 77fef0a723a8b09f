"""Starts the app: as a Hugging Face Space (with or without ZeroGPU), by ``spatialavatar app``, by ``python app.py``."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

_FOLDER = "GRADIO_TEMP_DIR"  # gradio's variable for the folder of uploads and results
_RUN = "run-"


class _Stopped(BaseException):
    """A signal ends this process; no handler of errors may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_app(host: str | None = None, port: int | None = None) -> None:
    """Load the models, serve the page and the endpoints, and return when the server is stopped.

    Visitors' files lie in a folder of this run, which is deleted when the process ends by SIGINT, SIGTERM or SIGHUP.
    Files of a killed run are deleted at the next start. Where the variable ``GRADIO_TEMP_DIR`` names a
    folder, that one is used, and everything in it is deleted by age.

    Args:
        host: the address to listen on; by default ``GRADIO_SERVER_NAME``, or this machine only.
        port: the port to listen on; by default ``GRADIO_SERVER_PORT``, or the first free one from 7860.
    """
    # Set before the libraries read them: no telemetry about photos, and no CUDA in numba before ZeroGPU forks.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("NUMBA_DISABLE_CUDA", "1")
    own_folder = None if os.environ.get(_FOLDER) else _make_run_folder(Path(tempfile.gettempdir()))
    if own_folder is not None:
        os.environ[_FOLDER] = str(own_folder)
    _exit_on_signals()
    import spaces  # noqa: F401 - before torch, which it prepares for ZeroGPU

    from spatialavatar.app.backend import load_models
    from spatialavatar.app.page import build_demo, launch_options
    from spatialavatar.app.sessions import Sessions

    sessions = Sessions()
    sessions.start()
    process, number = os.getpid(), 0
    try:
        load_models()
        build_demo(sessions=sessions).launch(server_name=host, server_port=port, **launch_options())
    except _Stopped as stopped:
        number = stopped.number
    finally:
        if os.getpid() == process:  # not in a worker that ZeroGPU forked
            sessions.clear()
            if own_folder is not None:
                shutil.rmtree(own_folder, ignore_errors=True)
    if number:
        # At once: work that is still running in threads would write files anew, or abort the interpreter's own ending.
        os._exit(128 + number)


def _exit_on_signals() -> None:
    """Raise :class:`_Stopped` on SIGTERM and SIGHUP, which by default end a process without cleaning up."""
    if threading.current_thread() is not threading.main_thread():
        return
    process = os.getpid()

    def leave(number: int, _: object) -> None:
        if os.getpid() != process:  # a forked worker
            os._exit(128 + number)
        raise _Stopped(number)

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)


def _make_run_folder(parent: Path) -> Path:
    """Create this process's folder, next to those of other runs. Folders of ended runs are deleted."""
    user = os.getuid() if hasattr(os, "getuid") else "app"
    runs = parent / f"spatialavatar-{user}"
    with suppress(OSError):
        runs.mkdir(mode=0o700, exist_ok=True)
    if runs.is_symlink() or not runs.is_dir() or (hasattr(os, "getuid") and runs.stat().st_uid != os.getuid()):
        return Path(tempfile.mkdtemp(prefix="spatialavatar-"))  # the name is somebody else's
    for folder in runs.glob(f"{_RUN}*"):
        if not _is_alive(folder.name.removeprefix(_RUN)):
            shutil.rmtree(folder, ignore_errors=True)
    own = runs / f"{_RUN}{os.getpid()}"
    shutil.rmtree(own, ignore_errors=True)  # of an earlier process of the same number
    own.mkdir(mode=0o700)
    return own


def _is_alive(process: str) -> bool:
    """Whether a process of that number runs; True if that is unknown."""
    if not process.isdigit() or not hasattr(os, "getuid"):
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
