"""Where the work runs, in sentences for the page and for ``/info``."""

from __future__ import annotations

import os

_notices: list[str] = []


def on_zero_gpu() -> bool:
    """Whether this is the main process of a ZeroGPU Space, where CUDA is emulated."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def add_notice(sentence: str) -> None:
    """Add a sentence for visitors, for instance that the requested weights are not used."""
    if sentence not in _notices:
        _notices.append(sentence)


def what_runs_where() -> str:
    """A few sentences about where the work of this app runs, with the notices."""
    return " ".join([_machine(), *_notices])


def _machine() -> str:
    if on_zero_gpu():
        return (
            "Faces are tracked and avatars made on this server's CPU. Rendering and sharpening use a GPU that is "
            "borrowed for the time of the work, which counts against your Hugging Face quota."
        )
    import torch

    from spatialavatar.render import best_device

    if best_device().type == "cuda":
        name = torch.cuda.get_device_name()
        return f"Faces are tracked and avatars made on this machine's processor; frames are rendered on its {name}."
    cores = os.cpu_count() or 1
    return (
        f"Everything runs on this machine's processor ({cores} {'core' if cores == 1 else 'cores'}); "
        "no GPU is used, so making a video takes longer than playing it."
    )
