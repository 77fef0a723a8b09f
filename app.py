"""Starts the web page, as a Hugging Face Space (with or without ZeroGPU) and on any machine: ``python app.py``."""

from __future__ import annotations

import os

# Set before they are read: faces are nobody's telemetry, and numba must not touch CUDA ahead of ZeroGPU's fork.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NUMBA_DISABLE_CUDA", "1")

import spaces  # noqa: F401 - before torch, which it prepares for ZeroGPU

from spatialavatar_app.backend import load_models
from spatialavatar_app.page import build_demo, launch_options

if __name__ == "__main__":
    load_models()
    build_demo().launch(**launch_options())
