"""Starts the app: as a Hugging Face Space (with or without ZeroGPU), by ``spatialavatar app``, by ``python app.py``."""

from __future__ import annotations

import os


def run_app(host: str | None = None, port: int | None = None) -> None:
    """Load the models, serve the page and the endpoints, and return when the server is stopped.

    Args:
        host: the address to listen on; by default ``GRADIO_SERVER_NAME``, or this machine only.
        port: the port to listen on; by default ``GRADIO_SERVER_PORT``, or the first free one from 7860.
    """
    # Set before the libraries read them: no telemetry about photos, and no CUDA in numba before ZeroGPU forks.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("NUMBA_DISABLE_CUDA", "1")
    import spaces  # noqa: F401 - before torch, which it prepares for ZeroGPU

    from spatialavatar.app.backend import load_models
    from spatialavatar.app.page import build_demo, launch_options

    load_models()
    build_demo().launch(server_name=host, server_port=port, **launch_options())
