"""What runs on which machine, in words for the page and for ``/info``."""

from __future__ import annotations

import os

_notices: list[str] = []


def on_zero_gpu() -> bool:
    """Whether this process is the main one of a ZeroGPU Space, in which a GPU is only pretended."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def also_say(sentence: str) -> None:
    """Add a sentence that visitors should read, for instance that other weights are used than were asked for."""
    if sentence not in _notices:
        _notices.append(sentence)


def what_runs_where() -> str:
    """A few sentences about where the work of this app is done, and with what."""
    return " ".join([_machine(), *_notices])


def _machine() -> str:
    if on_zero_gpu():
        return (
            "Faces are found and avatars made on this server's processor; pictures are rendered and avatars sharpened "
            "on a GPU that is borrowed for as long as it takes and counts against your Hugging Face quota."
        )
    import torch

    from spatialavatar.render import best_device

    if best_device().type == "cuda":
        name = torch.cuda.get_device_name()
        return f"Faces are found and avatars made on this machine's processor; pictures are rendered on its {name}."
    cores = os.cpu_count() or 1
    return (
        f"Everything runs on this machine's processor ({cores} {'core' if cores == 1 else 'cores'}); "
        "no GPU is used, so a video takes longer than it plays."
    )
